# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashes of passwords as Dovecot stores them, {SCHEME} and what follows, that the standard library can check. They come from other servers."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import hashlib
import hmac
from collections.abc import Mapping
from typing import Callable

# Whether the value after the braces is that of the password. ValueError where it cannot be read.
Check = Callable[[str, str], bool]


class UnknownScheme(Exception):
    """The stored hash cannot be checked here."""


def matches(stored: str, password: str, checks: Mapping[str, Check]) -> bool:
    """UnknownScheme where the hash cannot be read."""
    scheme, _brace, value = stored.lstrip("{").partition("}")
    check = checks.get(scheme.upper())
    if check is None:
        raise UnknownScheme(scheme)
    try:
        # At its end it would not count, neither for crypt(3) nor for HMAC.
        return "\0" not in password and check(value, password)
    except ValueError as error:
        raise UnknownScheme(scheme) from error


def _crypt(value: str, password: str) -> bool:
    """crypt(3), which the standard library of newer Pythons no longer has."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    found = library.crypt(password.encode(), value.encode())
    if found is None or found.startswith(b"*"):
        raise ValueError(value[:4])
    return hmac.compare_digest(found, value.encode())


def _pbkdf2(value: str, password: str) -> bool:
    """$1$salt$rounds$hex: SHA-1, salt as it stands."""
    _empty, _version, salt, rounds, digest = value.split("$")
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", password.encode(), salt.encode(), int(rounds)).hex(), digest)


def _scram(value: str, password: str) -> bool:
    """rounds,salt,stored key,server key (RFC 5802, section 3), in Base64."""
    rounds, salt, stored, _server = value.split(",")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    return hmac.compare_digest(hashlib.sha256(client).digest(), base64.b64decode(stored))


CHECKS: dict[str, Check] = {
    "BLF-CRYPT": _crypt,
    "SHA512-CRYPT": _crypt,
    "SHA256-CRYPT": _crypt,
    "CRYPT": _crypt,
    "PBKDF2": _pbkdf2,
    "SCRAM-SHA-256": _scram,
}
