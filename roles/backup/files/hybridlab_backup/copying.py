# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directory trees by rsync: all that a file is (owner, mode, times, ACLs, extended attributes, holes, hard links), unchanged files as hard links."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from .errors import BackupError, DiskFull

# -a = links, devices, owners, modes, times; -H hard links, -A ACLs, -X extended attributes, -S holes.
# A filter of our own switches rsync's off: system.* are the ACLs, which -A keeps. SELinux's label belongs to the place: a volume's files take
# that of the volume, and a label from another host would carry that host's categories.
FLAGS = ("-aHAXS", "--numeric-ids", "--delete", "--filter=-x system.*", "--filter=-x security.selinux")

# For the estimate: rsync 3.5 looks for directories with extended attributes where a dry run did not make them.
_ESTIMATE = ("-aHS", "--numeric-ids", "--dry-run", "--out-format=%i %n")

# rsync(1), EXIT VALUES: some files vanished while they were read, which is what files of a running service do.
VANISHED = 24

# rsync(1), --itemize-changes: a file that is transferred, and one that is copied from the generation before because its attributes changed.
_WRITTEN = (">f", "cf")


def mirror(source: Path, target: Path, links: Sequence[Path] = ()) -> None:
    """Make ``target`` equal to the directory ``source``; files that one of ``links`` has unchanged become hard links to it."""
    target.mkdir(parents=True, exist_ok=True)
    done = _rsync(source, target, links, FLAGS)
    if done.returncode not in (0, VANISHED):
        raise _failure(source, target, done)


def copy_file(source: Path, target: Path) -> None:
    """One file, into a directory that exists."""
    done = subprocess.run(["rsync", *FLAGS, "--", str(source), str(target)], capture_output=True, text=True, errors="backslashreplace", check=False)
    if done.returncode != 0:
        raise _failure(source, target, done)


def changed_bytes(source: Path, links: Sequence[Path], nowhere: Path) -> int:
    """How much ``mirror`` would write; holes are not counted. nowhere: a directory that does not exist, on the target's disk."""
    done = _rsync(source, nowhere, links, _ESTIMATE)
    if done.returncode not in (0, VANISHED):
        raise _failure(source, nowhere, done)
    names = [line.partition(" ")[2] for line in done.stdout.splitlines() if line[:2] in _WRITTEN]
    return sum(_allocated(os.path.join(os.fsencode(source), _unescaped(name))) for name in names)  # noqa: PTH118 - the name may be no text


def _unescaped(name: str) -> bytes:
    """rsync(1), --8-bit-output: what is not printable stands as a backslash, '#' and three octal digits."""
    return re.sub(rb"\\#([0-7]{3})", lambda octal: bytes([int(octal.group(1), 8)]), os.fsencode(name))


def _allocated(path: bytes) -> int:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0
    return min(status.st_size, status.st_blocks * 512)


def _rsync(source: Path, target: Path, links: Sequence[Path], options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    argv = ["rsync", *options, *(f"--link-dest={link}" for link in links if link.is_dir()), "--", f"{source}/", f"{target}/"]
    # The locale decides what rsync takes for printable.
    return subprocess.run(argv, capture_output=True, text=True, errors="backslashreplace", check=False, env={**os.environ, "LC_ALL": "C"})


def _failure(source: Path, target: Path, done: subprocess.CompletedProcess[str]) -> BackupError:
    words = "; ".join(done.stderr.strip().splitlines()[-4:])
    if "No space left on device" in done.stderr or _full(target):
        return DiskFull(f"{target}: the disk is full ({words}). Older generations are untouched. Use a larger disk, or lower platform_backup.keep")
    return BackupError(f"rsync of {source} to {target} ended with {done.returncode}: {words}")


def _full(path: Path) -> bool:
    """rsync's receiver may die without saying why."""
    at: Optional[Path] = next((place for place in (path, *path.parents) if place.exists()), None)
    found = os.statvfs(at or "/")
    return found.f_bavail * found.f_frsize < found.f_frsize * 16
