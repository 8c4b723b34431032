# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enters the guests of a sandbox host from outside it, as somebody on the home network would: through the forwards of the host."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.playbook import CHECKOUT
from tools.sandbox.names import INTERNET, Identity, Settings
from tools.sandbox.verbs import Sandbox

LIMIT_S = 60


@dataclass(frozen=True)
class Login:
    """One guest, asked for its name by ssh. port: of the host; error: empty when the right guest answered; seconds: how long that took."""

    name: str
    segment: str
    address: str
    port: int
    accelerator: str
    image: str
    seconds: float
    error: str


def guests(name: str) -> list[dict[str, Any]]:
    """The guests of a sandbox host, as its last run of the playbook left them."""
    path = Identity.of().state_dir / "guests" / f"{name}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["guests"]
    return found


def through_forwards(name: str) -> list[Login]:
    """Each running guest that has a port, entered from the container that stands for the Internet."""
    return [_login(name, guest) for guest in guests(name) if guest["state"] == "running" and guest["ssh_port"]]


def ssh(name: str, port: int, user: str, known_hosts: Path) -> list[str]:
    """The command line of ssh to that port of a sandbox host, as seen from outside; what it shall run is appended."""
    sandbox = Sandbox(Identity.of(), Settings.read(os.environ))
    address = sandbox.connection(name)["address"]
    relay = shlex.join([sys.executable, "-m", "tools.sandbox", "relay", INTERNET, address, str(port)])
    options = {
        "ProxyCommand": relay,
        "IdentityFile": str(Identity.of().state_dir / "guest_key"),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "StrictHostKeyChecking": "accept-new",
        "BatchMode": "yes",
        "ConnectTimeout": "30",
        "LogLevel": "ERROR",
    }
    return ["ssh", "-F", "none", *(word for key, value in options.items() for word in ("-o", f"{key}={value}")), "-p", str(port), f"{user}@{address}"]


def _login(name: str, guest: dict[str, Any]) -> Login:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        argv = [*ssh(name, guest["ssh_port"], guest["user"], Path(scratch, "known_hosts")), "hostname"]
        try:
            done = subprocess.run(argv, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            answer, error = done.stdout.strip(), done.stderr.strip() or f"ssh ended with {done.returncode}"
        except subprocess.TimeoutExpired:
            answer, error = "", f"no answer within {LIMIT_S} s"
    if answer == guest["name"]:
        error = ""
    elif answer:
        error = f"{answer!r} answered"
    address = guest["addresses"][0] if guest["addresses"] else ""
    return Login(guest["name"], guest["segment"], address, guest["ssh_port"], guest["accelerator"], guest["image"] or "", time.monotonic() - started, error)
