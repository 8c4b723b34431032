# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations on the disk: ``<time>`` is whole, ``<time>.partial`` is being made, ``<time>.deleting`` is being removed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from .errors import BackupError, UsageError
from .gaps import Gap, concerned, from_json
from .journal import Log, stamp
from .manifest import BOOT, NAME, read_header

_WHOLE = re.compile(r"\d{8}T\d{6}Z\Z")


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Generations:
    def __init__(self, target: Path) -> None:
        self.target = target

    def whole(self) -> list[Path]:
        """Oldest first."""
        return self._named(_WHOLE) if self.target.is_dir() else []

    def last(self) -> Optional[Path]:
        found = self.whole()
        return found[-1] if found else None

    def last_good(self) -> Optional[Path]:
        """The newest that lacks nothing."""
        return next((path for path in reversed(self.whole()) if gaps_of(path) == []), None)

    def good_for(self, services: Optional[Sequence[str]]) -> Path:
        """The newest that has all of these services, of everything where it is None. UsageError where there is none."""
        rows = [(path, gaps_of(path)) for path in reversed(self.whole())]
        for path, gaps in rows:
            if gaps is not None and not concerned(gaps, services):
                return path
        newest = self.find("latest")
        lacking = "; ".join(str(gap) for gap in concerned(rows[0][1] or [], services)) or "its manifest can't be read"
        raise UsageError(f"no generation has all that is asked for. The newest, {newest.name}, lacks: {lacking}. Name the one to be taken by --generation")

    def find(self, name: str) -> Path:
        """By its name, or ``latest``. UsageError where there is none."""
        found = {path.name: path for path in self.whole()}
        if name == "latest" and found:
            return found[max(found)]
        if name in found:
            return found[name]
        known = f"There are: {', '.join(found)}" if found else f"There is none in {self.target}: is the disk attached and mounted?"
        raise UsageError(f"generation {name!r}: there is no such one. {known}")

    def begin(self) -> Path:
        """A directory for a new generation, named by now; never one that is there already."""
        last = self.last()
        if last is not None:
            while stamp() == last.name:
                time.sleep(0.1)
            if stamp() < last.name:
                raise BackupError(f"{last}: is from the future, now is {stamp()}. Set the clock; if it is right, give that generation an earlier name")
        path = self.target / f"{stamp()}.partial"
        while path.exists():
            time.sleep(0.1)
            path = self.target / f"{stamp()}.partial"
        path.mkdir(mode=0o700)
        (path / BOOT).write_text(boot_id(), encoding="ascii")
        return path

    def leftovers(self) -> list[Path]:
        """What earlier runs did not finish and whose files reached the disk: written since the last boot, for after a power cut a file may
        have its size and its time, and not its content."""
        return [path for path in self._named(re.compile(r"\d{8}T\d{6}Z\.partial\Z")) if _booted(path) == boot_id()]

    def finish(self, partial: Path) -> Path:
        """Flush everything to the disk, then give the generation its name."""
        (partial / BOOT).unlink()
        flush(partial)
        whole = partial.with_suffix("")
        partial.rename(whole)
        handle = os.open(self.target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return whole

    def sweep(self, log: Log, keep: tuple[Path, ...] = ()) -> None:
        """Remove what no run uses: partial generations (without those of ``keep``), those that are half removed, probes."""
        for path in self._named(re.compile(r"\d{8}T\d{6}Z\.(?:partial|deleting)\Z|\.probe\..*")):
            if path not in keep:
                log.say(f"removing {path.name}")
                remove(path)

    def retain(self, count: int, log: Log) -> None:
        """Remove the oldest beyond ``count``, but never the last good one."""
        good = self.last_good()
        for path in self.whole()[:-count]:
            if path != good:
                log.say(f"removing generation {path.name}: {count} are kept")
                self.discard(path)

    def discard(self, path: Path) -> None:
        """Remove a generation. A removal that is cut short leaves nothing that looks whole."""
        doomed = path.with_name(f"{path.name}.deleting")
        path.rename(doomed)
        remove(doomed)

    def _named(self, pattern: re.Pattern[str]) -> list[Path]:
        return sorted(path for path in self.target.iterdir() if pattern.match(path.name) and not path.is_symlink())


def gaps_of(generation: Path) -> Optional[list[Gap]]:
    """What a generation lacks; None where its manifest can't be read."""
    try:
        return from_json(read_header(generation / NAME).get("gaps", ()))
    except (OSError, ValueError, TypeError):
        return None


def _booted(path: Path) -> Optional[str]:
    try:
        return (path / BOOT).read_text(encoding="ascii")
    except OSError:
        return None


def remove(path: Path) -> None:
    """A whole tree. The manifest goes first: what is left then is no generation to anybody."""
    (path / NAME).unlink(missing_ok=True)
    shutil.rmtree(path)


def flush(path: Path) -> None:
    """Write all that the kernel holds back for the file system of ``path``."""
    subprocess.run(["sync", "--file-system", str(path)], check=True)
