# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is made of, as one key: the same input gives the same key on every machine, so a tag that is there needs no work. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

DIGITS = 12
# Repository of every image that this collection makes on a host.
PREFIX = "hybridlab/"


@dataclass(frozen=True)
class Entry:
    """A file, directory or link of a build context.

    path:       relative, with slashes
    kind:       ``file``, ``directory`` or ``link``
    executable: whether its owner may run it; other bits of the mode depend on the checkout's umask, and are set the same in every context
    content:    SHA-256 of a file (64 hexadecimal digits), target of a link
    """

    path: str
    kind: str
    executable: bool = False
    content: str = ""


def context_key(entries: Iterable[Entry], args: Mapping[str, str], base: Optional[str]) -> str:
    """Of a build: all files by name, mode and bytes, the build arguments, and the reference of the image it starts from. Times do not count."""
    parts = [f"{entry.kind}\0{entry.path}\0{int(entry.executable)}\0{entry.content}" for entry in sorted(entries, key=lambda entry: entry.path)]
    parts += [f"arg\0{name}\0{value}" for name, value in sorted(args.items())]
    return _key([*parts, f"base\0{base or ''}"])


def rootfs_key(checksum: str) -> str:
    """Of an imported tar. checksum: SHA-256 of the file."""
    return _key([f"rootfs\0{checksum}"])


def reference(name: str, key: str) -> str:
    """What the engine knows the image by."""
    return f"{PREFIX}{name}:{key}"


def _key(parts: Iterable[str]) -> str:
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        # The length keeps apart what only looks alike when it is joined.
        state.update(len(data).to_bytes(8, "big") + data)
    return state.hexdigest()[:DIGITS]
