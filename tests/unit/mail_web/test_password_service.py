# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service that changes passwords, on a real file and a real socket. New hashes are PBKDF2 here: ARGON2ID comes with the image."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import SCHEMA_PASSWORDS

from images.mail_accounts.accounts import old_schemes
from images.mail_accounts.accounts.service import LINE, TRIES, WITHIN, Service, Tries
from images.mail_accounts.accounts.store import Store

ANN, OLD, NEW = "ann@example.com", "correct hörse", "battery staple 7"
# By `doveadm pw` of Dovecot 2.3.19, of OLD.
BY_DOVECOT = (
    "{BLF-CRYPT}$2y$05$lCGTxIZJTHCibJIJ6v1oeOOMWobN9vpJipS0S12bSeg3jWhvt6MQi",
    "{SHA512-CRYPT}$6$kwDak5YD9srtkWKM$gcZV/Y7K6ZDIww0qo8KHdBtd9n8dQHhrzoisZyx9ryuFBqrSk7x4gIdOJSopubjfTEBjqQU7/wveVQL3y8NoV0",
    "{SHA256-CRYPT}$5$Vi0pS55YsY3s97UQ$qk2CEfVmxX1vehlVOjLRnJ4OeooNVkV5yWBK.jWB464",
    "{CRYPT}$2y$05$c3xGDT.8onerSirNvHH36uUvw019j59s8SNg7RWNlW.4RaM8oQQJO",
    "{PBKDF2}$1$Yzh/RlZBsYDlpxhr$5000$d0ab2e2299780d88dda9e549156cef68a7164748",
    "{SCRAM-SHA-256}4096,fLc9TF6t5uoffHsoaU1fPg==,vmOjuwnBSVJj0uMyxizB43vHcBJUMxtF4lkMGZdANHk=,ey6cX6gAI3luZhWhE/vIDBasczuhw8oMB2IXmVV2xOg=",
)


class Hashes:
    def make(self, password: str) -> str:
        return "{PBKDF2}$1$salt$10$" + hashlib.pbkdf2_hmac("sha1", password.encode(), b"salt", 10).hex()

    def matches(self, stored: str, password: str) -> bool:
        return old_schemes.matches(stored, password, old_schemes.CHECKS)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA_PASSWORDS)
        rows = [(ANN, Hashes().make(OLD), 1, ""), ("off@example.com", Hashes().make(OLD), 0, ""), ("odd@example.com", "{CRAM-MD5}00", 1, "")]
        database.executemany("INSERT INTO passwords VALUES (?, ?, ?, ?)", rows)
    return path


def stored(file: Path, address: str = ANN) -> str:
    with sqlite3.connect(file) as database:
        return str(database.execute("SELECT hash FROM passwords WHERE address = ?", (address,)).fetchone()[0])


def asked(service: Service, address: Any = ANN, old: Any = OLD, new: Any = NEW) -> str:
    """ok, or the code of the refusal."""
    answer = service.answer(json.dumps({"address": address, "old": old, "new": new}).encode() + b"\n")
    assert answer["ok"] or answer["text"]
    return "ok" if answer["ok"] else str(answer["error"])


@pytest.mark.parametrize("value", BY_DOVECOT)
def test_hashes_of_dovecot(value: str) -> None:
    assert old_schemes.matches(value, OLD, old_schemes.CHECKS)
    assert not old_schemes.matches(value, "correct horse", old_schemes.CHECKS)
    assert not old_schemes.matches(value, OLD + "\0", old_schemes.CHECKS)


@pytest.mark.parametrize("value", ["{CRAM-MD5}00", "{PLAIN}x", "plain", "{PBKDF2}$1$salt", "{SCRAM-SHA-256}many", "{CRYPT}$9$none", "{CRYPT}"])
def test_a_hash_that_cannot_be_read_is_no_match(value: str) -> None:
    with pytest.raises(old_schemes.UnknownScheme):
        old_schemes.matches(value, OLD, old_schemes.CHECKS)


def test_a_change_is_stored_with_its_time(file: Path) -> None:
    service = Service(Store(str(file)), Hashes())

    assert asked(service, address=ANN.upper()) == "ok"

    assert stored(file) == Hashes().make(NEW)
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT changed_at FROM passwords WHERE address = ?", (ANN,)).fetchone()[0].endswith("+00:00")
    assert asked(service) == "wrong"
    assert asked(service, old=NEW, new=OLD) == "ok"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"old": "no"}, "wrong"),
        ({"address": "nobody@example.com"}, "wrong"),
        ({"address": "off@example.com"}, "wrong"),
        ({"address": "odd@example.com"}, "scheme"),
        ({"new": "123456789"}, "short"),
        ({"new": OLD}, "same"),
        ({"new": "with a \t in it"}, "characters"),
        ({"new": "ü" * 513}, "long"),
        ({"new": 7}, "request"),
        ({"address": "ann@example.com\nroot"}, "request"),
        ({"address": None}, "request"),
    ],
)
def test_refusals_change_nothing(file: Path, request_: dict[str, Any], code: str) -> None:
    before = file.read_bytes()
    assert asked(Service(Store(str(file)), Hashes()), **request_) == code
    assert file.read_bytes() == before


@pytest.mark.parametrize("line", [b"", b"\n", b"no json\n", b"[]\n", b'"x"\n', b"\xff\xfe\n", b'{"address": "a", "old": "b"}\n'])
def test_what_is_no_request(file: Path, line: bytes) -> None:
    assert Service(Store(str(file)), Hashes()).answer(line)["error"] == "request"


def test_guessing_comes_to_an_end_and_goes_on_later(file: Path) -> None:
    clock = Clock()
    service = Service(Store(str(file)), Hashes(), Tries(clock))

    assert [asked(service, old="no") for _try in range(TRIES)] == ["wrong"] * TRIES
    assert asked(service) == "later" and asked(service, address="nobody@example.com") == "wrong"
    clock.now += WITHIN
    assert asked(service) == "ok"


def test_a_password_that_somebody_else_has_just_changed_stays(file: Path) -> None:
    store = Store(str(file))
    found = store.hash_of(ANN)
    assert found is not None and store.replace(ANN, found, "{PBKDF2}theirs")
    assert not store.replace(ANN, found, "{PBKDF2}ours")
    assert stored(file) == "{PBKDF2}theirs"


def test_what_a_killed_writer_left_is_healed(file: Path) -> None:
    before = stored(file)
    child = os.fork()
    if child == 0:
        database = sqlite3.connect(file, isolation_level=None)
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE passwords SET hash = 'broken'")
        many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, hex(randomblob(20)) FROM n"
        database.execute(f"CREATE TABLE filler AS {many}")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    journal = Path(f"{file}-journal")
    assert journal.exists() and b"broken" in file.read_bytes()

    assert Service(Store(str(file)), Hashes()).answer(b'{"health": true}\n') == {"ok": True}

    assert not journal.exists() and stored(file) == before


def test_a_file_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    service = Service(Store(str(tmp_path / "none.sqlite")), Hashes())
    assert asked(service) == "away" and service.answer(b'{"health": true}')["error"] == "away"
    assert not list(tmp_path.iterdir())


def test_the_socket(file: Path, tmp_path: Path) -> None:
    """One request a connection; a line without an end is not read for ever."""

    async def talk(data: bytes) -> bytes:
        path = tmp_path / "password"
        async with await asyncio.start_unix_server(Service(Store(str(file)), Hashes()).talk, path, limit=LINE):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(data)
            writer.write_eof()
            try:
                return await asyncio.wait_for(reader.read(), 10)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    request = json.dumps({"address": ANN, "old": OLD, "new": NEW}).encode() + b"\n"
    assert asyncio.run(talk(request)) == b'{"ok": true}\n'
    assert asyncio.run(talk(b"x" * (4 * LINE))) == b""
    assert stored(file) == Hashes().make(NEW)
