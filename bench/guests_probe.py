# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches, on the host, when guests get leases and answer SSH. It runs there as one file; who made the guests makes no difference to it.

``python3 guests_probe.py STATUS COUNT LIMIT``: the status file of a libvirt network's leases, how many guests, and seconds until it gives up.
Prints ``ready``, then a JSON document with the times (seconds since the epoch) of each new lease and of each greeting of an SSH server.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

PAUSE_SECONDS = 0.25
# An emulated guest takes its time between accepting a connection and greeting.
GREETING_SECONDS = 5


def main(status: Path, count: int, limit: float) -> None:
    # A lease outlives its guest: only one that was not there before, or was given anew, is news.
    old = {lease["mac-address"]: lease["expiry-time"] for lease in leases(status)}
    print("ready", flush=True)
    deadline = time.monotonic() + limit
    leased: dict[str, float] = {}
    greeted: list[float] = []
    while len(greeted) < count and time.monotonic() < deadline:
        for lease in leases(status):
            mac = lease["mac-address"]
            if mac not in leased and old.get(mac) != lease["expiry-time"]:
                leased[mac] = time.time()
                threading.Thread(target=wait_for_greeting, args=(lease["ip-address"], deadline, greeted), daemon=True).start()
        time.sleep(PAUSE_SECONDS)
    print(json.dumps({"leased": sorted(leased.values()), "greeted": sorted(greeted)}), flush=True)


def leases(status: Path) -> list[dict[str, Any]]:
    """What libvirt's lease helper has written; nothing while there is no lease, or while it writes."""
    try:
        return list(json.loads(status.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return []


def wait_for_greeting(address: str, deadline: float, greeted: list[float]) -> None:
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, 22), GREETING_SECONDS) as connection:
                if connection.recv(4) == b"SSH-":
                    greeted.append(time.time())
                    return
        except OSError:
            pass
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
