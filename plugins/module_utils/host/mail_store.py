# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two SQLite files of the mail accounts on this host. A change of both is one transaction: readers see all of it or nothing.

The journal is a file beside the database (``journal_mode=DELETE``): containers read through mounts that they cannot write to, and a
write-ahead log would need that. A change is live as soon as it is written; nothing has to be told.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import Found, Password, Plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import (
    COLUMNS,
    KEYS,
    SCHEMA_DIRECTORY,
    SCHEMA_PASSWORDS,
    SCHEMA_VERSION,
    no_rows,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# Numeric, the same in every image: the container that changes passwords, and the groups of those who read.
ACCOUNTS_USER, DIRECTORY_GROUP, PASSWORDS_GROUP = 5007, 5020, 5021
BUSY_SECONDS = 15.0
ATTEMPTS = 5
_FILE_MODE, _DIRECTORY_MODE = 0o640, 0o2770


class Store:
    """The files below ``root`` (``platform_mail.directory``). busy_seconds: how long to wait for another who writes."""

    def __init__(self, root: str, busy_seconds: float = BUSY_SECONDS) -> None:
        self.directory = Path(root) / "accounts" / "directory.sqlite"
        self.passwords = Path(root) / "passwords" / "passwords.sqlite"
        self.busy_seconds = busy_seconds

    def read(self) -> Found:
        """What the files hold; empty where they are not there yet. ResourceError for a damaged, busy or newer one."""
        if not _has_content(self.directory) or not _has_content(self.passwords):
            return Found()
        with self._connection() as connection:
            return _read(connection)

    def change(self, make: Callable[[Found], Plan], values: Callable[[Plan], Mapping[str, str]], now: str) -> Plan:
        """Write the plan that ``make`` makes of what is there. Returns it.

        values: hashes of the plan's new passwords, by address. They are made before anything is locked, for they take their time.
        now:    UTC, ISO 8601
        """
        planned = make(self.read())
        if not planned.changed and not self.wrong_files():
            return planned
        hashes: dict[str, str] = {}
        self._make_files()
        for _attempt in range(ATTEMPTS):
            missing = set(planned.new_passwords) - set(hashes)
            if missing:
                hashes.update(values(planned))
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                again = make(_read(connection))
                if set(again.new_passwords) <= set(hashes):
                    _write(connection, again, hashes, now)
                    connection.execute("COMMIT")
                    return again
                connection.execute("ROLLBACK")
            planned = again
        raise ResourceError(
            f"{self.directory}: somebody else went on changing the accounts, {ATTEMPTS} times. Nothing was changed. Run again when that has ended"
        )

    def finish_removal(self, address: str) -> None:
        """The files of a removed mailbox are put away."""
        with self._connection() as connection:
            connection.execute("DELETE FROM main.removals WHERE address = ?", (address,))

    def save_copies(self) -> None:
        """Whole copies beside the files, for the backup: what it copies itself may be of two moments. A damaged file replaces no copy (ResourceError)."""
        folder = self.directory.parent.parent / "copies"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.directory, self.passwords):
            copy = folder / path.name
            if _has_content(path) and not (copy.exists() and copy.stat().st_mtime_ns == path.stat().st_mtime_ns):
                self._copy(path, copy)

    def _copy(self, path: Path, copy: Path) -> None:
        changed = path.stat().st_mtime_ns
        beside = copy.with_name(f".{copy.name}.new")
        beside.unlink(missing_ok=True)
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with self._guarded(path), _closing(sqlite3.connect(str(path), timeout=self.busy_seconds)) as source, _closing(sqlite3.connect(str(beside))) as made:
            source.backup(made)
            found = made.execute("PRAGMA quick_check").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(str(found))
        os.utime(beside, ns=(changed, changed))
        beside.replace(copy)

    def wrong_files(self) -> list[str]:
        """Which of the files and their directories are missing, or have another owner or mode than they should."""
        return [str(path) for path, owner, group, mode in self._modes() if not _is_right(path, owner, group, mode)]

    def _modes(self) -> list[tuple[Path, int, int, int]]:
        return [
            (self.directory.parent, 0, DIRECTORY_GROUP, _DIRECTORY_MODE),
            (self.passwords.parent, 0, PASSWORDS_GROUP, _DIRECTORY_MODE),
            (self.directory, 0, DIRECTORY_GROUP, _FILE_MODE),
            (self.passwords, ACCOUNTS_USER, PASSWORDS_GROUP, _FILE_MODE),
        ]

    def _make_files(self) -> None:
        for path, owner, group, mode in self._modes():
            if mode == _DIRECTORY_MODE:
                path.mkdir(parents=True, exist_ok=True)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            if not _is_right(path, owner, group, mode):
                if os.geteuid() == 0:
                    os.chown(path, owner, group)
                path.chmod(mode)
        for path, schema in ((self.directory, SCHEMA_DIRECTORY), (self.passwords, SCHEMA_PASSWORDS)):
            with self._guarded(path), _closing(sqlite3.connect(str(path), timeout=self.busy_seconds, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE").fetchone()
                connection.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # The first file is the main database: with ":memory:" in its place a commit would not be atomic over both (sqlite.org, ATTACH).
        opened = str(self.directory)
        with self._guarded(self.directory), _closing(sqlite3.connect(opened, timeout=self.busy_seconds, isolation_level=None)) as connection:
            connection.execute("ATTACH ? AS passwords", (str(self.passwords),))
            for schema in ("main", "passwords"):
                connection.execute(f"PRAGMA {schema}.synchronous = EXTRA")
            _check_version(connection, self.directory)
            yield connection

    @contextmanager
    def _guarded(self, path: Path) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                who = f"Who it is: fuser -v {self.directory} {self.passwords}"
                raise ResourceError(f"{path}: another process held it for more than {self.busy_seconds:g} s. Nothing was changed. {who}") from error
            raise ResourceError(f"{path}: {error}. Nothing was changed. See to room and rights: df {path.parent}; ls -l {path.parent}") from error
        except sqlite3.DatabaseError as error:
            raise ResourceError(
                f"{path}: {error}: the file, or {self.passwords}, is damaged. Take both from {self.directory.parent.parent}/copies or from "
                "the last backup, or move it away and run playbooks/mail.yml: "
                "the accounts come from the model then, and passwords that their owners had changed are lost"
            ) from error


@contextmanager
def _closing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Closed without a commit, whatever happens: what was begun is rolled back."""
    try:
        yield connection
    finally:
        connection.close()


def _has_content(path: Path) -> bool:
    """Not so where a run ended between the making of the file and its schema."""
    return path.exists() and path.stat().st_size > 0


def _is_right(path: Path, owner: int, group: int, mode: int) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    owned = os.geteuid() != 0 or (found.st_uid, found.st_gid) == (owner, group)
    return owned and found.st_mode & 0o7777 == mode


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    row = connection.execute("SELECT value FROM main.meta WHERE key = 'schema'").fetchone()
    if row is None or row[0] != SCHEMA_VERSION:
        found = "none" if row is None else row[0]
        raise ResourceError(
            f"{path}: found schema {found}, and this version writes {SCHEMA_VERSION}. Nothing was changed. "
            "Use the version of this collection that wrote it, or a newer one"
        )


def _read(connection: sqlite3.Connection) -> Found:
    rows = no_rows()
    for table, columns in COLUMNS.items():
        key = KEYS[table]
        rows[table] = {row[:key]: row for row in connection.execute(f"SELECT {', '.join(columns)} FROM main.{table}")}
    passwords = connection.execute("SELECT address, hash, active, changed_at FROM passwords.passwords")
    return Found(rows, {address: Password(stored, bool(active), changed_at) for address, stored, active, changed_at in passwords})


def _write(connection: sqlite3.Connection, planned: Plan, hashes: Mapping[str, str], now: str) -> None:
    for table, columns in COLUMNS.items():
        where = " AND ".join(f"{column} = ?" for column in columns[: KEYS[table]])
        connection.executemany(f"DELETE FROM main.{table} WHERE {where}", planned.removed.get(table, []))
        marks = ", ".join("?" for _column in columns)
        connection.executemany(f"INSERT OR REPLACE INTO main.{table} VALUES ({marks})", planned.stored.get(table, []))
    active = {row[0]: row[5] for row in connection.execute("SELECT * FROM main.mailboxes")}
    new = [(address, hashes[address], active[address], now) for address in planned.new_passwords]
    connection.executemany("DELETE FROM passwords.passwords WHERE address = ?", [(address,) for address in planned.dropped])
    connection.executemany("INSERT OR REPLACE INTO passwords.passwords VALUES (?, ?, ?, ?)", new)
    connection.executemany("UPDATE passwords.passwords SET active = ? WHERE address = ?", [(int(works), address) for address, works in planned.active.items()])
