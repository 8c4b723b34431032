# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a certificate says, from its DER bytes (RFC 5280). No I/O.

Python's ssl tells it of certificates that it trusts only, and it is the others of which a person needs to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from ipaddress import ip_address

# Tags, X.690.
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_UTF16, _UTF32 = 0x1E, 0x1C
# Object identifiers as they are encoded: 2.5.4.3, 2.5.4.10, 2.5.4.11, 2.5.29.17.
_COMMON_NAME, _ORGANIZATION, _UNIT, _SUBJECT_ALT_NAME = b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b", b"\x55\x1d\x11"


@dataclass(frozen=True)
class Certificate:
    """names: those that a client may expect of the server. subject, issuer: the common name, else what stands for it. Times with a zone."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    def days(self, now: datetime) -> int:
        """Whole days that are left; negative when it has ended."""
        return (self.not_after - now).days


def read(der: bytes) -> Certificate:
    """ValueError when it is none."""
    try:
        return _read(der)
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("cannot be read as a certificate (RFC 5280)") from error


def _read(der: bytes) -> Certificate:
    parts = [part for part in _elements(_first(_first(der))) if part[0] != _VERSION]
    _serial, _algorithm, issuer, validity, subject, *rest = parts
    not_before, not_after = (_time(tag, value) for tag, value in _elements(validity[1]))
    names = next((tuple(_names(value)) for tag, value in rest if tag == _EXTENSIONS), ())
    return Certificate(_name(subject[1]), _name(issuer[1]), names, not_before, not_after)


def _first(data: bytes) -> bytes:
    """Content of the first element."""
    for _tag, content in _elements(data):
        return content
    raise ValueError("is empty where a certificate is not")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element, one after the other."""
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[place : place + count], "big")
            place += count
        if place + length > len(data):
            raise ValueError("ends too early for a certificate")
        yield tag, data[place : place + length]
        place += length


def _name(data: bytes) -> str:
    """The most telling attribute of a Name."""
    found: dict[bytes, str] = {}
    for _set, relative in _elements(data):
        for _sequence, pair in _elements(relative):
            (_oid, kind), (tag, value) = _elements(pair)
            encoding = {_UTF16: "utf-16-be", _UTF32: "utf-32-be"}.get(tag, "utf-8")
            found[kind] = value.decode(encoding, "replace")
    return next((found[kind] for kind in (_COMMON_NAME, _UNIT, _ORGANIZATION) if kind in found), ", ".join(found.values()) or "(no name)")


def _time(tag: int, value: bytes) -> datetime:
    """UTCTime has two digits of the year: 50 to 99 are of the last century (RFC 5280, 4.1.2.5.1)."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("has a time that is none of RFC 5280's")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _names(data: bytes) -> Iterator[str]:
    """DNS names and addresses of the subject's alternative names; of other extensions nothing."""
    for _sequence, extension in _elements(_first(data)):
        (_oid, kind), *_critical, (_octets, value) = _elements(extension)
        if kind != _SUBJECT_ALT_NAME:
            continue
        for tag, name in _elements(_first(value)):
            if tag == _DNS_NAME:
                yield name.decode("ascii", "replace")
            elif tag == _IP_ADDRESS:
                yield str(ip_address(name))
