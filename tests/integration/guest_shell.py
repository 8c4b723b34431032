# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands inside the guests of a sandbox host, and models with other guests."""

from __future__ import annotations

import copy
import json
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import yaml

from tests.integration.lab import CommandFailed, Lab
from tools import guest_login
from tools.playbook import CHECKOUT

GUESTS = CHECKOUT / "inventories/sandbox/group_vars/all/guests.yml"


def declared() -> list[dict[str, Any]]:
    """The guests of inventories/sandbox, as the file has them."""
    found: list[dict[str, Any]] = yaml.safe_load(GUESTS.read_text(encoding="utf-8"))["platform_guests"]
    return found


def changed_guests(tmp_path: Path, change: Callable[[dict[str, dict[str, Any]]], Optional[dict[str, dict[str, Any]]]]) -> list[str]:
    """Arguments that run a playbook with a changed copy of the model's guests. change: is given them by name; what it returns is taken instead, if anything."""
    guests = {guest["name"]: guest for guest in copy.deepcopy(declared())}
    guests = change(guests) or guests
    path = tmp_path / "guests.json"
    path.write_text(json.dumps({"platform_guests": list(guests.values())}), encoding="utf-8")
    return ["-e", f"@{path}"]


def inside(lab: Lab, guest: str, command: str) -> str:
    """Standard output of a shell command as root in a guest, entered from outside by its forward; CommandFailed with its words when it fails."""
    found = next(entry for entry in guest_login.guests(lab.name) if entry["name"] == guest)
    argv = guest_login.ssh(lab.name, found["ssh_port"], found["user"], Path("/dev/null"))
    done = subprocess.run(
        [*argv, shlex.join(["sudo", "-n", "sh", "-euc", command])],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(f"{guest}: {command} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def eventually(question: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer; AssertionError with the last one when none comes in time. A command that fails counts as no answer."""
    end = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < end:
        try:
            last = question()
        except CommandFailed as error:
            last = error
        else:
            if last:
                return last
        time.sleep(1)
    raise AssertionError(f"not within {seconds} s; the last answer was {last!r}")
