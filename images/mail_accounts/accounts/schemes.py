# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashes of passwords: new ones are ARGON2ID, as Dovecot checks it; those that are stored may be older."""

from __future__ import annotations

# Debian's python3-argon2: in the image alone, so the types of the checkout do not know it.
from argon2 import PasswordHasher  # type: ignore[import-not-found,unused-ignore]
from argon2.exceptions import InvalidHash, VerificationError  # type: ignore[import-not-found,unused-ignore]

from . import old_schemes

# A check takes this much memory (KiB) and some tenths of a second, here and in Dovecot.
_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)


def make(password: str) -> str:
    return "{ARGON2ID}" + str(_HASHER.hash(password))


def matches(stored: str, password: str) -> bool:
    """old_schemes.UnknownScheme where the hash cannot be read."""
    return old_schemes.matches(stored, password, {**old_schemes.CHECKS, "ARGON2ID": _argon2, "ARGON2I": _argon2})


def _argon2(value: str, password: str) -> bool:
    try:
        return bool(_HASHER.verify(value, password))
    except VerificationError:
        return False
    except InvalidHash as error:
        raise ValueError(value[:9]) from error
