# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of ours, found by what stands in their command line and ended by their id."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def command_line(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def all_processes() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def processes_with(text: str) -> list[int]:
    """Ids of the processes whose command line holds ``text``, without this one and its ancestors."""
    ours = set(ancestors())
    return [pid for pid in all_processes() if pid not in ours and text in command_line(pid)]


def inside(directory: Path) -> list[int]:
    """Ids of the processes whose root or working directory is ``directory`` or lies below it."""
    found = []
    for pid in all_processes():
        for link in ("root", "cwd"):
            with contextlib.suppress(OSError):
                place = (PROC / str(pid) / link).readlink()
                if place == directory or directory in place.parents:
                    found.append(pid)
                    break
    return found


def same_sessions(pids: Iterable[int]) -> list[int]:
    """Ids of the processes in the sessions that the given ones lead."""
    leaders = set(pids)
    found = []
    for pid in all_processes():
        with contextlib.suppress(OSError):
            if os.getsid(pid) in leaders:
                found.append(pid)
    return found


def ancestors() -> list[int]:
    """This process and its parents up to the first."""
    chain, pid = [], os.getpid()
    while pid > 0:
        chain.append(pid)
        try:
            stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(stat.rsplit(")", 1)[1].split()[1])
    return chain


def in_namespace(path: Path) -> list[int]:
    """Ids of the processes whose network namespace is the one bound at ``path``."""
    if not path.exists():
        return []
    wanted, found = path.stat(), []
    for pid in all_processes():
        with contextlib.suppress(OSError):
            own = (PROC / str(pid) / "ns/net").stat()
            if (own.st_dev, own.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(pid)
    return found


def _alive(pid: int) -> bool:
    try:
        return (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def end(pids: Iterable[int], first: signal.Signals, seconds: float) -> None:
    """Sends ``first`` to each, waits up to ``seconds``, and kills those that are left."""
    left = list(pids)
    for number in (first, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            left = [pid for pid in left if _alive(pid)]
            time.sleep(0.05)
        if not left:
            return
