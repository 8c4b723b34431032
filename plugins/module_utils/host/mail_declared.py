# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which declared password was set last, for `update_passwords: always`: nothing on a host can compare one with an ARGON2ID hash.

Kept as scrypt, which is as hard to guess as what it stands for, in a file that only root can read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import Password, is_hash
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files

# 16 MiB and some 50 ms each (RFC 7914, 2).
_COST, _BLOCK, _PARALLEL, _LENGTH = 2**14, 8, 1, 32


class DeclaredPasswords:
    """The record at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = json.loads(files.read_text(path) or "{}")

    def other(self, given: Mapping[str, str], found: Mapping[str, Password]) -> set[str]:
        """Addresses whose stored password is not the given one, or was changed since that was set."""
        return {address for address, value in given.items() if address in found and not self._same(address, value, found[address])}

    def remember(self, given: Mapping[str, str], changed_at: str) -> None:
        """``given`` were stored at ``changed_at``."""
        for address, value in given.items():
            if not is_hash(value):
                salt = os.urandom(16)
                self.records[address] = {"salt": salt.hex(), "digest": _digest(value, salt), "changed_at": changed_at}
        files.write_text(self.path, json.dumps(self.records, sort_keys=True) + "\n", 0o600)

    def _same(self, address: str, value: str, stored: Password) -> bool:
        if is_hash(value):
            return value == stored.hash
        record = self.records.get(address)
        return record is not None and record["changed_at"] == stored.changed_at and record["digest"] == _digest(value, bytes.fromhex(record["salt"]))


def _digest(value: str, salt: bytes) -> str:
    return hashlib.scrypt(value.encode("utf-8"), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=_LENGTH).hex()
