# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a playbook that only reads, and takes what one of its tasks said, for tools.mail_status and tools.mail_dns."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from tools import playbook


def parser(name: str, description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"python -m tools.{name}", description=description)
    made.add_argument("-i", "--inventory", default="inventories/lab", help="directory of the inventory")
    made.add_argument("-e", "--extra-vars", action="append", default=[], help="as ansible-playbook takes them")
    made.add_argument("--json", action="store_true", help="everything, by host, for programs")
    return made


def results(name: str, task: str, key: str, options: argparse.Namespace, *arguments: str) -> Mapping[str, Any]:
    """What the task returned under the key, by host. LookupError with Ansible's own words when a host did not answer, or has no mail system."""
    given = [argument for value in options.extra_vars for argument in ("-e", value)]
    outcome = playbook.run(name, options.inventory, *given, *arguments)
    found = {one.host: one.result[key] for one in outcome.tasks if one.name == task and key in one.result and not one.result.get("skipped")}
    if outcome.rc != 0:
        raise LookupError(outcome.failures() or outcome.output[-2000:].strip())
    if not found:
        raise LookupError(f"{options.inventory} has no platform_mail, or no host in group kvm_hosts")
    return found
