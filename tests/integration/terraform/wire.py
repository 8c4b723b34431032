# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of Protocol Buffers (encoding version 3) and of the plug-in protocol's values as a provider needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Union

import msgpack

Value = Union[int, bytes, str]


def encode(fields: Iterable[tuple[int, Value]]) -> bytes:
    """A message of (number, value): whole numbers as varint, everything else by its length."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(raw)) + raw
    return bytes(out)


def decode(message: bytes) -> dict[int, Any]:
    """The last value of each field, by number. Nested messages stay bytes."""
    found: dict[int, Any] = {}
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        value, position = _read_varint(message, position)
        if key & 7 == 2:
            found[key >> 3] = message[position : position + value]
            position += value
        elif key & 7 == 0:
            found[key >> 3] = value
        else:
            raise ValueError(f"wire type {key & 7} is not used by the plug-in protocol")
    return found


def dynamic(value: Any) -> bytes:
    """A DynamicValue, in its JSON form."""
    return encode([(2, json.dumps(value))])


def read_dynamic(message: bytes) -> Any:
    """The value of a DynamicValue; what Terraform does not know yet is None."""
    fields = decode(message)
    if 1 not in fields:
        return json.loads(fields[2]) if 2 in fields else None
    return msgpack.unpackb(fields[1], raw=False, ext_hook=lambda _code, _data: None)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
