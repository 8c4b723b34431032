# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name server for tests: it answers from a mapping, with every fault that a zone of a test asks for.

A zone is ``{name: [(type, value), ...]}``. Types: A, AAAA, MX (``(preference, name)``), TXT and SPF (a text, or a list of texts), PTR, NS, CNAME,
and TIMEOUT (without a value): whatever is not named before it gets no answer. What is in no zone does not exist.

    python3 dns_server.py ADDRESS FILE.json
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any, Optional

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SPF": 99}
NAMES = {number: name for name, number in TYPES.items()}
NXDOMAIN = 3
TTL = 1
LINKS_MAX = 8


def encode_name(name: str) -> bytes:
    labels = [label.encode("latin-1", "replace") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([min(len(label), 63)]) + label[:63] for label in labels) + b"\0"


def decode_name(data: bytes, place: int) -> tuple[str, int]:
    labels = []
    while data[place]:
        labels.append(data[place + 1 : place + 1 + data[place]].decode("latin-1"))
        place += 1 + data[place]
    return ".".join(labels), place + 1


def encode_value(kind: str, value: Any) -> bytes:
    if kind == "A":
        return socket.inet_pton(socket.AF_INET, value)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, value)
    if kind == "MX":
        return struct.pack(">H", int(value[0])) + encode_name(value[1])
    if kind in ("TXT", "SPF"):
        texts = [value] if isinstance(value, str) else value
        pieces = [text.encode("latin-1", "replace") for text in texts]
        cut = [piece[start : start + 255] for piece in pieces for start in range(0, max(len(piece), 1), 255)]
        return b"".join(bytes([len(piece)]) + piece for piece in cut)
    return encode_name(value)


class Zone:
    """What there is, by names in lower case."""

    def __init__(self, rows: dict[str, list[Any]]) -> None:
        self.rows = {name.lower().rstrip("."): found for name, found in rows.items()}

    def exists(self, name: str) -> bool:
        return name in self.rows or any(other.endswith("." + name) for other in self.rows)

    def find(self, name: str, kind: str) -> Optional[list[tuple[str, str, Any]]]:
        """(owner, type, value) of what answers, links followed. None: no answer at all."""
        found: list[tuple[str, str, Any]] = []
        for _link in range(LINKS_MAX):
            rows = self.rows.get(name, [])
            links = [row[1] for row in rows if row[0] == "CNAME"]
            if links and kind != "CNAME":
                found.append((name, "CNAME", links[0]))
                name = links[0].lower().rstrip(".")
                continue
            own = [(name, kind, row[1]) for row in rows if row[0] == kind]
            if not own and any(row[0] == "TIMEOUT" for row in rows):
                return None
            return found + own
        return found


def answer(zone: Zone, query: bytes) -> Optional[bytes]:
    """The reply to a query; None: silence."""
    number, _flags, questions = struct.unpack(">HHH", query[:6])
    if questions != 1:
        return None
    asked, end = decode_name(query, 12)
    kind = NAMES.get(struct.unpack(">H", query[end : end + 2])[0], "")
    name = asked.lower()
    found = zone.find(name, kind)
    if found is None:
        return None
    code = 0 if found or zone.exists(name) else NXDOMAIN
    records = b""
    for owner, what, value in found:
        data = encode_value(what, value)
        records += encode_name(asked if owner == name else owner) + struct.pack(">HHIH", TYPES[what], 1, TTL, len(data)) + data
    return struct.pack(">HHHHHH", number, 0x8580 | code, 1, len(found), 0, 0) + query[12 : end + 4] + records


def serve(zone: Zone, address: str, port: int = 53) -> socket.socket:
    """Answer from a thread of its own until the socket is closed."""
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    link.bind((address, port))

    def loop() -> None:
        while True:
            try:
                query, client = link.recvfrom(4096)
            except OSError:
                return
            reply = answer(zone, query)
            if reply is not None:
                link.sendto(reply, client)

    threading.Thread(target=loop, daemon=True).start()
    return link


if __name__ == "__main__":
    serve(Zone(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))), sys.argv[1])
    threading.Event().wait()
