# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says and leaves behind: its log, its status, files that are whole or not there."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

STAMP = "%Y%m%dT%H%M%SZ"


def stamp(seconds: Optional[float] = None) -> str:
    """Name of a generation: the time in UTC, to the second."""
    return time.strftime(STAMP, time.gmtime(seconds))


def iso(seconds: Optional[float] = None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace ``path`` in one step that survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


class Log:
    """Lines with a time, to a file of this run and to standard output (which the systemd journal keeps)."""

    def __init__(self, path: Optional[Path]) -> None:
        self.path = path
        self._stream = None
        if path is not None:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640), "a", encoding="utf-8", errors="backslashreplace")

    def say(self, text: str) -> None:
        for line in text.splitlines() or [""]:
            if self._stream is not None:
                self._stream.write(f"{iso()} {line}\n")
                self._stream.flush()
            sys.stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class Status:
    """status.json: the last run, when one last lacked nothing, and the same of each service. Monitoring reads it."""

    def __init__(self, state: Path) -> None:
        self.path = state / "status.json"

    def read(self) -> dict[str, Any]:
        """Empty where nothing ran yet, or where the file is damaged: a status is told anew by each run."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def begin(self) -> None:
        last = self.read()
        self._write({"started": iso(), "finished": None, "ok": False, "last_good": last.get("last_good"), **_kept(last), "error": None})

    def made(self, generation: Path, size: int, files: int, services: Mapping[str, bool], error: Optional[str] = None) -> None:
        """A generation is there. services: whether it holds all of each one; error: what it lacks."""
        now, last = iso(), self.read()
        before = last.get("services") or {}
        found = {**last, "finished": now, "ok": error is None, "last_good": now if error is None else last.get("last_good")}
        found.update(bytes=size, files=files, generation=str(generation), error=error)
        found["services"] = {name: now if whole else before.get(name) for name, whole in services.items()}
        self._write(found)

    def fail(self, error: str) -> None:
        self._write({**self.read(), "finished": iso(), "ok": False, "error": error})

    def forget(self, last_good: Optional[str]) -> None:
        """The last good generation was removed; the one before it ended at ``last_good``, None where there is none."""
        self._write({**self.read(), "last_good": last_good})

    def _write(self, value: dict[str, Any]) -> None:
        write_whole(self.path, json.dumps(value, indent=1) + "\n", 0o644)


def _kept(last: dict[str, Any]) -> dict[str, Any]:
    return {"bytes": last.get("bytes", 0), "files": last.get("files", 0), "generation": last.get("generation"), "services": last.get("services") or {}}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    every = [list(head), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[place]) for row in every) for place in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in every)


def human(size: float) -> str:
    """Bytes in a unit that a person reads."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
