# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the state of an inventory's hosts through playbooks/state.yml, for tools.status and tools.capacity."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tools import playbook
from tools.state_report import KEYS

TASK = "Read the state"

# The state of each host, by the host's name in the inventory.
States = Mapping[str, Mapping[str, Any]]


def read_states(inventory: str) -> States:
    """LookupError with Ansible's own words when a host's state cannot be read."""
    outcome = playbook.run("playbooks/state.yml", inventory)
    found = {task.host: {key: task.result[key] for key in KEYS} for task in outcome.tasks if task.name == TASK and "capacity" in task.result}
    if outcome.rc != 0 or not found:
        told = [f"{task.host}: {task.result.get('msg')}" for task in outcome.tasks if task.result.get("failed") or task.result.get("unreachable")]
        raise LookupError("\n".join(told) or outcome.output[-2000:].strip() or f"{inventory} has no host in group kvm_hosts")
    return found


def main(name: str, description: str, render: Callable[[Mapping[str, Any], bool], str], judge: Callable[[States], int]) -> int:
    """The command line that both tools have. ``judge`` gives the exit code; 2 when the state could not be read."""
    parser = argparse.ArgumentParser(prog=f"python -m tools.{name}", description=description)
    parser.add_argument("-i", "--inventory", default="inventories/lab", help="directory of the inventory")
    parser.add_argument("--json", action="store_true", help="everything, by host, for programs")
    options = parser.parse_args()
    try:
        states = read_states(options.inventory)
    except LookupError as error:
        print(f"{name}: no state from {options.inventory}: {error.args[0]}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(states, indent=2, sort_keys=True))
    else:
        print("\n\n".join(render(state, sys.stdout.isatty()) for state in states.values()))
    return judge(states)
