# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network namespace for a test, so that real rules meet a real kernel and nothing else."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# linux/sched.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000


@contextmanager
def private_network() -> Iterator[None]:
    """This thread, and every process that it starts, is in a fresh network namespace until the block ends.

    /run is a fresh one too, so that named namespaces and locks are nobody else's.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(call: Any, *arguments: int) -> None:
        if call(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{call.__name__}: {os.strerror(number)}")

    directory = Path.cwd()
    homes = {kind: os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name, kind in (("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS))}
    try:
        enter(libc.unshare, _CLONE_NEWNET | _CLONE_NEWNS)
        try:
            run("mount", "--make-rprivate", "/")
            run("mount", "-t", "tmpfs", "tmpfs", "/run")
            run("ip", "link", "set", "lo", "up")
            yield
        finally:
            for kind, home in homes.items():
                enter(libc.setns, home, kind)
            os.chdir(directory)
    finally:
        for home in homes.values():
            os.close(home)


def run(*argv: str, text: str = "") -> str:
    """Output of a command that has to succeed."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout
