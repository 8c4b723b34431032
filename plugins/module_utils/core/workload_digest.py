# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of what workloads are made of."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

DIGITS = 12


def digest(value: Any) -> str:
    """The first 12 hexadecimal digits of SHA-256 of bytes, or of the canonical JSON of anything else. For what is no secret: names show it."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def secret_check(key: bytes, name: str, value: bytes) -> str:
    """By what an unchanged secret is known again: HMAC-SHA-256 of its name and value, 32 hexadecimal digits.

    key: random, and of one host alone. A bare digest, salted or slow, would let everybody who sees it try a list of weak passwords at leisure;
         it stands in a label, and labels come into listings, logs and backups. Without the key, which stays in a file of root's, there is nothing to try.
         A host that lost its key rotates each secret once.
    """
    return hmac.new(key, name.encode() + b"\0" + value, hashlib.sha256).hexdigest()[:32]
