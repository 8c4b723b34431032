# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI runtime in front of runc for a machine whose own bounding set lacks capabilities (a container or a small virtual machine).

``docker run --privileged`` asks for every capability the kernel knows and fails where one is not there to give. This drops, from
the bundle's ``config.json`` and from the process file of ``exec``, those that this process does not own, then becomes runc (the first argument).
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

# Linux has capabilities 0 to 40 since 5.9, in this order.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)


def bounding_set(status: str) -> int:
    """Bit mask of a ``/proc/<pid>/status``."""
    match = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match.group(1), 16) if match else 0


def drop(path: Path, pick: str) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    process = document.get(pick) if pick else document
    sets = (process or {}).get("capabilities") or {}
    bounding = bounding_set(Path("/proc/self/status").read_text(encoding="ascii"))
    owned = {f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bounding >> number & 1}
    for key, names in sets.items():
        sets[key] = [name for name in names if name in owned]
    path.write_text(json.dumps(document), encoding="utf-8")


def argument(arguments: list[str], *flags: str) -> str:
    for position, word in enumerate(arguments):
        if word in flags and position + 1 < len(arguments):
            return arguments[position + 1]
        for flag in flags:
            if word.startswith(flag + "="):
                return word.split("=", 1)[1]
    return ""


if __name__ == "__main__":
    runc, *words = sys.argv[1:]
    if "create" in words or "run" in words:
        drop(Path(argument(words, "--bundle", "-b") or ".") / "config.json", "process")
    elif "exec" in words and argument(words, "--process", "-p"):
        drop(Path(argument(words, "--process", "-p")), "")
    os.execv(runc, [runc, *words])
