# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that are not yet delivered: one file for each message and channel, written before the first attempt, removed after the success.

No URL stands in it, only the channel's name: a corrected webhook gets what waits.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .message import Message, from_json
from .metrics import write_atomically

# What is older tells nothing any more, and a webhook that is gone must not fill the disk.
AGE_SECONDS = 7 * 86400
FILES_MAX = 500


class Spool:
    """folder: of the notifier, with mode 0700."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.files = self.folder / "spool"
        self.files.mkdir(parents=True, exist_ok=True)
        for path in (self.folder, self.files):
            path.chmod(0o700)

    @contextmanager
    def limits(self) -> Iterator[dict[str, Any]]:
        """The state of the limits, for one process at a time; written back at the end."""
        path = self.folder / "limits.json"
        with (self.folder / "lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                state = json.loads(path.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                state = {}
            yield state
            write_atomically(str(path), json.dumps(state), 0o600)

    def add(self, message: Message, channel: str) -> Path:
        # The time first: names sort in the order in which things happened.
        path = self.files / f"{int(message.time * 1000):014d}-{message.id}-{channel}.json"
        write_atomically(str(path), json.dumps({"channel": channel, "message": message.to_json()}), 0o600)
        return path

    def waiting(self) -> list[Path]:
        return sorted(self.files.glob("[0-9]*.json"))

    @contextmanager
    def taken(self, path: Path) -> Iterator[Any]:
        """(channel, message) for whoever comes first; None when another process has it, or it is gone or broken."""
        try:
            stream = path.open(encoding="utf-8")
        except FileNotFoundError:
            yield None
            return
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            # Delivered and removed between open and lock.
            if os.fstat(stream.fileno()).st_nlink == 0:
                yield None
                return
            try:
                raw = json.loads(stream.read())
                found = (str(raw["channel"]), from_json(raw["message"]))
            except (ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)
                yield None
                return
            yield found

    def prune(self, now: float) -> int:
        """Remove what is too old or too much. How many that were."""
        files = self.waiting()
        old = [path for path in files if now * 1000 - int(path.name.split("-")[0]) > AGE_SECONDS * 1000]
        kept = [path for path in files if path not in old]
        doomed = [*old, *kept[: max(0, len(kept) - FILES_MAX)]]
        for path in doomed:
            path.unlink(missing_ok=True)
        return len(doomed)
