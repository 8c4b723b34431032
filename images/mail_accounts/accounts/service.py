# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of passwords, asked for in lines of JSON: {"address", "old", "new"} -> {"ok": true} or {"ok": false, "error": code, "text": for the user}."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Optional, Protocol

from .old_schemes import UnknownScheme
from .store import Store

LEAST = 10
LONGEST = 1024
LINE = 16384
SECONDS = 20
# Wrong old passwords of an address within so many seconds, before it has to wait.
TRIES, WITHIN = 5, 900
ADDRESSES = 10000

TEXTS = {
    "wrong": "The current password is not right.",
    "short": f"The new password needs at least {LEAST} characters.",
    "long": f"The new password may have at most {LONGEST} bytes.",
    "same": "The new password is the current one.",
    "characters": "The new password has characters that cannot be typed in a mail program.",
    "later": "Too many wrong passwords. Try again in a quarter of an hour.",
    "scheme": "This password can be changed by an administrator only.",
    "away": "Passwords cannot be changed now. Try again later.",
    "request": "That is no request to change a password.",
}


class Refused(Exception):
    """code: a key of TEXTS."""

    def __init__(self, code: str) -> None:
        super().__init__(TEXTS[code])
        self.code = code


class Hashes(Protocol):
    """The module schemes."""

    def make(self, password: str) -> str:
        """A hash, as it is stored."""

    def matches(self, stored: str, password: str) -> bool:
        """UnknownScheme where the hash cannot be read."""


class Tries:
    """Failures by address, for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.times: dict[str, list[float]] = {}

    def check(self, address: str) -> None:
        """Refused where there were too many."""
        since = self.clock() - WITHIN
        recent = [moment for moment in self.times.pop(address, []) if moment > since]
        if recent:
            self.times[address] = recent
        if len(recent) >= TRIES:
            raise Refused("later")

    def failed(self, address: str) -> None:
        while len(self.times) >= ADDRESSES:
            del self.times[next(iter(self.times))]
        self.times.setdefault(address, []).append(self.clock())


def check_new(old: str, new: str) -> None:
    """The rules for a new password. Refused where it breaks one."""
    if len(new) < LEAST:
        raise Refused("short")
    if len(new.encode()) > LONGEST:
        raise Refused("long")
    if new == old:
        raise Refused("same")
    if any(ord(character) < 32 or ord(character) == 127 for character in new):
        raise Refused("characters")


class Service:
    def __init__(self, store: Store, hashes: Hashes, tries: Optional[Tries] = None) -> None:
        self.store = store
        self.hashes = hashes
        self.tries = tries or Tries()
        # One check at a time: each takes 64 MiB.
        self.worker = ThreadPoolExecutor(max_workers=1)

    def change(self, address: str, old: str, new: str) -> None:
        """Refused where it must not be; sqlite3.Error where it cannot be."""
        self.tries.check(address)
        check_new(old, new)
        stored = self.store.hash_of(address)
        try:
            right = stored is not None and len(old.encode()) <= LONGEST and self.hashes.matches(stored, old)
        except UnknownScheme as error:
            raise Refused("scheme") from error
        if stored is None or not right:
            self.tries.failed(address)
            raise Refused("wrong")
        if not self.store.replace(address, stored, self.hashes.make(new)):
            # Somebody else has just changed it, or shut the login.
            raise Refused("wrong")

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to a request. What is logged names the address, and no password."""
        try:
            request = json.loads(line)
            if request == {"health": True}:
                self.store.heal()
                return {"ok": True}
            address, old, new = _words(request)
        except sqlite3.Error as error:
            log(f"the file of passwords cannot be written: {error}")
            return _refusal("away")
        except (ValueError, Refused):
            return _refusal("request")
        try:
            self.change(address, old, new)
        except Refused as error:
            log(f"password of <{address}> not changed: {error.code}")
            return _refusal(error.code)
        except sqlite3.Error as error:
            log(f"password of <{address}> not changed: {error}")
            return _refusal("away")
        log(f"password of <{address}> changed")
        return {"ok": True}

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        try:
            line = await asyncio.wait_for(reader.readline(), SECONDS)
            answer = await asyncio.get_running_loop().run_in_executor(self.worker, self.answer, line)
            writer.write(json.dumps(answer).encode() + b"\n")
            await asyncio.wait_for(writer.drain(), SECONDS)
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            pass  # who asked is gone, or asks no end of it
        finally:
            writer.close()


def _words(request: Any) -> tuple[str, str, str]:
    if not isinstance(request, dict):
        raise Refused("request")
    values = [request.get(key) for key in ("address", "old", "new")]
    if not all(isinstance(value, str) for value in values) or not request["address"].isprintable():
        raise Refused("request")
    address, old, new = (str(value) for value in values)
    return address.lower(), old, new


def _refusal(code: str) -> dict[str, Any]:
    return {"ok": False, "error": code, "text": TEXTS[code]}


def log(text: str) -> None:
    print(text, flush=True)
