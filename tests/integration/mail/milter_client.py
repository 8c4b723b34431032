# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mail offered to a milter, as Postfix does it: the verdict, and the mail with the headers that the milter changed.

The standard library alone, so that it runs wherever the milter's socket is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

VERSION, ACTIONS = 6, 0x3F
ADD, INSERT, CHANGE, LAST = "h", "i", "m", "yrtacd"
CHUNK_BYTES = 65535


@dataclass
class Verdict:
    """reply: ``accept``, or what the client would read (``554 5.7.1 ...``). headers: after the milter, as (name, value)."""

    reply: str
    headers: list[tuple[str, str]]
    body: bytes
    changes: list[tuple[str, bytes]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def message(self) -> bytes:
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return head.replace("\r\n", "\n").replace("\n", "\r\n").encode("latin-1") + b"\r\n" + self.body


def split(mail: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Headers, with their folds, and the body of a mail with CRLF."""
    head, _gap, body = mail.partition(b"\r\n\r\n")
    lines: list[str] = []
    for line in head.decode("latin-1").split("\r\n"):
        if line[:1] in " \t" and lines:
            lines[-1] += "\n" + line
        else:
            lines.append(line)
    pairs = [line.partition(":") for line in lines]
    return [(name, value.lstrip(" ")) for name, _colon, value in pairs], body


class Link:
    """A connection to a milter."""

    def __init__(self, path: str, timeout: float) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def send(self, command: bytes, body: bytes = b"") -> None:
        self.socket.sendall(struct.pack(">I", 1 + len(body)) + command + body)

    def receive(self) -> tuple[str, bytes]:
        head = self.file.read(4)
        if len(head) < 4:
            raise OSError("the milter closed the connection")
        data = self.file.read(struct.unpack(">I", head)[0])
        return chr(data[0]), data[1:]

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def commands(headers: list[tuple[str, str]], body: bytes, envelope: Envelope) -> Iterator[tuple[bytes, bytes]]:
    """What Postfix sends up to a mail's end."""
    family = b"6" if ":" in envelope.client else b"4"
    yield b"C", envelope.name.encode() + b"\0" + family + struct.pack(">H", 2525) + envelope.client.encode() + b"\0"
    yield b"H", envelope.helo.encode("latin-1") + b"\0"
    macros = {"i": envelope.queue, "{client_addr}": envelope.client}
    if envelope.login is not None:
        macros.update({"{auth_authen}": envelope.login, "{auth_type}": "PLAIN"})
    yield b"D", b"M" + b"".join(f"{name}\0{value}\0".encode() for name, value in macros.items())
    yield b"M", f"<{envelope.sender}>\0".encode("latin-1")
    for recipient in envelope.recipients:
        yield b"R", f"<{recipient}>\0".encode("latin-1")
    yield b"T", b""
    for name, value in headers:
        yield b"L", f"{name}\0{value}\0".encode("latin-1")
    yield b"N", b""
    for start in range(0, len(body), CHUNK_BYTES):
        yield b"B", body[start : start + CHUNK_BYTES]
    yield b"E", b""


@dataclass
class Envelope:
    """client: its address; name: its name by DNS; login: of who has logged in."""

    sender: str
    recipients: tuple[str, ...] = ("user@here.example",)
    client: str = "192.0.2.1"
    name: str = "unknown"
    helo: str = "client.example"
    login: Optional[str] = None
    queue: str = "4ABCDEF"


def apply(headers: list[tuple[str, str]], kind: str, data: bytes) -> None:
    """One change of the milter, as Postfix makes it. An index counts the headers of that name from 1, but for an insertion: all, from 0."""
    if kind == ADD:
        name, value = data.decode("latin-1").split("\0")[:2]
        headers.append((name, value.lstrip(" ")))
        return
    index = struct.unpack(">I", data[:4])[0]
    name, value = data[4:].decode("latin-1").split("\0")[:2]
    if kind == INSERT:
        headers.insert(min(index, len(headers)), (name, value.lstrip(" ")))
        return
    places = [place for place, (found, _value) in enumerate(headers) if found.lower() == name.lower()]
    if value and index > len(places):
        headers.append((name, value))
    elif value:
        headers[places[index - 1]] = (name, value)
    elif index <= len(places):
        del headers[places[index - 1]]


def offer(path: str, mail: bytes, envelope: Envelope, timeout: float = 90) -> Verdict:
    """Offer a mail on the milter's socket. Raises OSError."""
    headers, body = split(mail)
    link = Link(path, timeout)
    changes = []
    try:
        link.send(b"O", struct.pack(">III", VERSION, ACTIONS, 0))
        link.receive()
        for command, data in commands(headers, body, envelope):
            link.send(command, data)
        while True:
            kind, data = link.receive()
            if kind in LAST:
                break
            changes.append((kind, data))
        link.send(b"Q")
    finally:
        link.close()
    for change, what in changes:
        if change in (ADD, INSERT, CHANGE):
            apply(headers, change, what)
    said = data.rstrip(b"\0").decode("latin-1")
    reply = {"a": "accept", "c": "accept", "r": "550 5.7.1 Command rejected", "t": "451 4.7.1 Service unavailable", "d": "discard"}.get(kind, said)
    return Verdict(reply, headers, body, changes)
