# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of passwords. Who opens it to write also completes what a killed writer left half done (SQLite's rollback journal); readers cannot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import Optional

FILE = "/srv/passwords/passwords.sqlite"
SECONDS = 5


class Store:
    def __init__(self, file: str = FILE) -> None:
        self.file = file

    def heal(self) -> None:
        """Make the file whole. sqlite3.Error where it cannot be written."""
        with self._writing() as file:
            file.execute("SELECT count(*) FROM passwords")

    def hash_of(self, address: str) -> Optional[str]:
        """None where the address has no login, or one that is shut."""
        with self._writing() as file:
            row = file.execute("SELECT hash FROM passwords WHERE address = ? AND active = 1", (address,)).fetchone()
        return None if row is None else str(row[0])

    def replace(self, address: str, old: str, new: str) -> bool:
        """Store the hash ``new``, if ``old`` is still the one that is stored and the login is open."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._writing() as file:
            query = "UPDATE passwords SET hash = ?, changed_at = ? WHERE address = ? AND hash = ? AND active = 1"
            return file.execute(query, (new, now, address, old)).rowcount == 1

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self.file}?mode=rw", uri=True, timeout=SECONDS, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            try:
                yield file
            except BaseException:
                file.execute("ROLLBACK")
                raise
            file.execute("COMMIT")
