# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens on given ports of this host, from /proc alone: a bare host may have no program that tells."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_listeners import Listener, parse_sockets

_TABLES = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}


def read_listeners(ports: Collection[tuple[str, int]]) -> list[Listener]:
    """ports: (protocol, port). Processes are looked through only where one of the ports is taken. Needs root for those of others."""
    sockets = []
    for protocol, names in _TABLES.items():
        for path in (Path("/proc/net") / name for name in names):
            if path.exists():  # without IPv6 in the kernel there is no tcp6
                sockets += [one for one in parse_sockets(protocol, path.read_text(encoding="utf-8")) if (one.protocol, one.port) in ports]
    holders = _holders({one.inode for one in sockets}) if sockets else {}
    return [Listener(one.protocol, one.address, one.port, *holders.get(one.inode, ("", 0))) for one in sockets]


def _holders(inodes: Collection[int]) -> dict[int, tuple[str, int]]:
    """Inode -> name and number of the process with the lowest number that has the socket open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, tuple[str, int]] = {}
    for pid in sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        for target in _descriptors(pid):
            inode = wanted.get(target)
            if inode is not None and inode not in found:
                found[inode] = (_name(pid), pid)
    return found


def _descriptors(pid: int) -> Iterator[str]:
    """Where the open descriptors of a process lead. What has ended meanwhile, or is another user's, is passed over."""
    try:
        paths = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for path in paths:
        with contextlib.suppress(OSError):
            yield str(path.readlink())


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return "a program that has just ended"
