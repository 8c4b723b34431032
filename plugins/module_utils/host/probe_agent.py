# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The far end of a probe: opens and answers connections from where it runs.

Its text is sent to a Python interpreter in a namespace or on a guest, so it stands alone: standard library only, nothing imported from here.
It reads one JSON request a line (``id``, ``op`` and the operation's arguments) and writes one JSON answer a line, in any order.
It ends when its input ends. Times are in seconds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

# How often a datagram without an answer is sent again.
RESEND_S = 0.4

_REFUSED = frozenset((errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM))
_ETH_P_ARP = 0x0806
_SIOCGIFHWADDR = 0x8927  # linux/sockios.h
_SO_BINDTODEVICE = 25  # asm-generic/socket.h
_MAGIC = b"\x63\x82\x53\x63"  # RFC 2131, section 3
_ECHO_REPLY, _ECHO_REQUEST = 0, 8


class _Answer:
    """Result of a connection: open, refused (somebody said no) or timeout (nobody said anything)."""

    @staticmethod
    def of(error: OSError) -> dict[str, Any]:
        if isinstance(error, socket.timeout):  # TimeoutError itself from Python 3.10 on
            return {"result": "timeout"}
        if error.errno in _REFUSED:
            return {"result": "refused", "why": os.strerror(error.errno or 0)}
        if error.errno == errno.ETIMEDOUT:
            return {"result": "timeout"}
        return {"result": "error", "why": str(error)}


def listen(protocol: str, address: str) -> dict[str, Any]:
    """Echo on a free port, for as long as this program runs."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    server = socket.socket(socket.AF_INET, kind)
    server.bind((address, 0))
    if protocol == "tcp":
        server.listen(64)
    threading.Thread(target=_echo_tcp if protocol == "tcp" else _echo_udp, args=(server,), daemon=True).start()
    return {"port": server.getsockname()[1]}


def _echo_tcp(server: socket.socket) -> None:
    while True:
        client, _peer = server.accept()
        threading.Thread(target=_echo_client, args=(client,), daemon=True).start()


def _echo_client(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        while data := client.recv(4096):
            client.sendall(data)


def _echo_udp(server: socket.socket) -> None:
    while True:
        with contextlib.suppress(OSError):
            data, peer = server.recvfrom(4096)
            server.sendto(data, peer)


def tcp(address: str, port: int, timeout: float, token: str = "") -> dict[str, Any]:
    """Opens a connection; with a ``token``, it also has to come back."""
    ends = time.monotonic() + timeout
    try:
        with socket.create_connection((address, port), timeout) as connection:
            connection.sendall(token.encode() + b"\n" if token else b"")
            received = b""
            while token and token.encode() not in received:
                connection.settimeout(max(0.01, ends - time.monotonic()))
                data = connection.recv(4096)
                if not data:
                    return {"result": "error", "why": "connected, but the echo never came"}
                received += data
        return {"result": "open"}
    except OSError as error:
        return _Answer.of(error)


def udp(address: str, port: int, timeout: float, token: str) -> dict[str, Any]:
    """Sends ``token`` until it comes back."""
    answer = _exchange(address, port, token.encode(), timeout, lambda data: data == token.encode())
    return answer if "data" not in answer else {"result": "open"}


def _exchange(address: str, port: int, message: bytes, timeout: float, fits: Any) -> dict[str, Any]:
    """``{"data": answer}``, or a result that says why there is none."""
    ends = time.monotonic() + timeout
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.connect((address, port))
            while time.monotonic() < ends:
                client.send(message)
                until = min(ends, time.monotonic() + RESEND_S)
                while select.select([client], [], [], max(0.0, until - time.monotonic()))[0]:
                    data = client.recv(4096)
                    if fits(data):
                        return {"data": data}
        except OSError as error:
            return _Answer.of(error)
    return {"result": "timeout"}


def icmp(address: str, timeout: float, token: str) -> dict[str, Any]:
    """Echo request. As root by a raw socket; else by the kernel's own ping socket, where it is allowed."""
    try:
        client = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        raw = True
    except PermissionError:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        raw = False
    # The operations of one agent run at the same time; the low bits of the token tell their answers apart.
    ident = int(token[-4:], 16)
    request = _echo_request(ident, token.encode())
    ends = time.monotonic() + timeout
    with client:
        try:
            client.connect((address, 0))
            while time.monotonic() < ends:
                client.send(request)
                until = min(ends, time.monotonic() + RESEND_S)
                while select.select([client], [], [], max(0.0, until - time.monotonic()))[0]:
                    data = client.recv(4096)
                    message = data[(data[0] & 15) * 4 :] if raw else data
                    if message[0] == _ECHO_REPLY and message[8:] == request[8:]:
                        return {"result": "open"}
        except OSError as error:  # a connected socket gets the ICMP errors of its own packets as these
            return _Answer.of(error)
    return {"result": "timeout"}


def _echo_request(ident: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, ident, 1)
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, _checksum(head + payload), ident, 1) + payload


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def dns(server: str, timeout: float, name: str, kind: int = 1, group: int = 1, port: int = 53) -> dict[str, Any]:
    """Asks ``server`` for ``name`` (RFC 1035). ``rcode`` and the IPv4 ``addresses`` of an answer, whatever it says."""
    ident = os.urandom(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    query = ident + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, group)
    answer = _exchange(server, port, query, timeout, lambda data: data[:2] == ident and len(data) >= 12 and bool(data[2] & 0x80))
    if "data" not in answer:
        return answer
    data = answer["data"]
    return {"result": "open", "rcode": data[3] & 15, "addresses": _dns_addresses(data)}


def _dns_addresses(data: bytes) -> list[str]:
    questions, answers = struct.unpack("!HH", data[4:8])
    place = 12
    for _question in range(questions):
        place = _skip_name(data, place) + 4
    found = []
    for _answer in range(answers):
        place = _skip_name(data, place)
        kind, _group, _ttl, size = struct.unpack("!HHIH", data[place : place + 10])
        if (kind, size) == (1, 4):
            found.append(socket.inet_ntoa(data[place + 10 : place + 14]))
        place += 10 + size
    return found


def _skip_name(data: bytes, place: int) -> int:
    while data[place]:
        if data[place] & 0xC0:
            return place + 2
        place += data[place] + 1
    return place + 1


def taken(interface: str, addresses: list[str], wait: float) -> dict[str, Any]:
    """Which of ``addresses`` somebody on the link has: ARP probes (RFC 5227), sent twice within ``wait``."""
    mac = _mac(interface)
    wanted = {socket.inet_aton(address): address for address in addresses}
    found = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as link:
        link.bind((interface, _ETH_P_ARP))
        for _round in range(2):
            for address in wanted:
                body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + b"\0" * 4 + b"\0" * 6 + address
                link.send(b"\xff" * 6 + mac + struct.pack("!H", _ETH_P_ARP) + body)
            until = time.monotonic() + wait / 2
            while select.select([link], [], [], max(0.0, until - time.monotonic()))[0]:
                frame = link.recv(2048)
                sender_mac, sender = frame[22:28], frame[28:32]
                if sender in wanted and sender_mac != mac:
                    found.add(wanted[sender])
    return {"taken": sorted(found)}


def dhcp(interface: str, timeout: float) -> dict[str, Any]:
    """A whole exchange (RFC 2131) on ``interface``: discover, offer, request, acknowledgement. The lease, or a result that says why not."""
    # Without an address of its own the interface would drop the server's answers as from nowhere.
    for scope in ("all", interface):
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv4/conf/{scope}/rp_filter").write_text("0", encoding="ascii")
    mac, transaction = _mac(interface), os.urandom(4)
    ends = time.monotonic() + timeout
    with _dhcp_socket(interface) as client:
        offer = _dhcp_ask(client, _dhcp_message(1, mac, transaction), transaction, 2, ends)
        if offer is None:
            return {"result": "timeout", "why": "no offer"}
        wanted = [(50, socket.inet_aton(offer["address"])), (54, socket.inet_aton(offer["server"]))]
        lease = _dhcp_ask(client, _dhcp_message(3, mac, transaction, wanted), transaction, 5, ends)
    if lease is None:
        return {"result": "timeout", "why": f"{offer['address']} was offered by {offer['server']}, but never acknowledged"}
    return {"result": "open", **lease}


def dhcp_release(interface: str, address: str, server: str) -> dict[str, Any]:
    """Gives a lease back."""
    message = _dhcp_message(7, _mac(interface), os.urandom(4), [(54, socket.inet_aton(server))], socket.inet_aton(address))
    with _dhcp_socket(interface) as client:
        client.sendto(message, (server, 67))
    return {}


def _dhcp_socket(interface: str) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(("", 68))
    return client


def _dhcp_message(kind: int, mac: bytes, transaction: bytes, options: Any = (), client_address: bytes = b"\0" * 4) -> bytes:
    head = struct.pack("!BBBB", 1, 1, 6, 0) + transaction + struct.pack("!HH", 0, 0 if kind == 7 else 0x8000)
    head += client_address + b"\0" * 12 + mac + b"\0" * 10 + b"\0" * 192 + _MAGIC
    asked = [(53, bytes([kind])), (61, b"\x01" + mac), *options]
    if kind != 7:
        asked.append((55, bytes((1, 3, 6, 15, 51, 54))))
    return head + b"".join(bytes([code, len(value)]) + value for code, value in asked) + b"\xff"


def _dhcp_ask(client: socket.socket, message: bytes, transaction: bytes, wanted: int, ends: float) -> Optional[dict[str, Any]]:
    while time.monotonic() < ends:
        client.sendto(message, ("255.255.255.255", 67))
        until = min(ends, time.monotonic() + 4)
        while select.select([client], [], [], max(0.0, until - time.monotonic()))[0]:
            data = client.recv(4096)
            if len(data) > 240 and data[0] == 2 and data[4:8] == transaction:
                options = _dhcp_options(data[240:])
                if options.get(53) == bytes([wanted]):
                    return _lease(data, options)
                if options.get(53) == b"\x06":
                    return None
    return None


def _dhcp_options(data: bytes) -> dict[int, bytes]:
    options = {}
    place = 0
    while place < len(data) and data[place] != 255:
        if data[place] == 0:
            place += 1
            continue
        size = data[place + 1]
        options[data[place]] = data[place + 2 : place + 2 + size]
        place += 2 + size
    return options


def _lease(data: bytes, options: dict[int, bytes]) -> dict[str, Any]:
    def address(code: int) -> Optional[str]:
        return socket.inet_ntoa(options[code][:4]) if code in options else None

    return {
        "address": socket.inet_ntoa(data[16:20]),
        "mask": address(1),
        "router": address(3),
        "dns": address(6),
        "domain": options.get(15, b"").rstrip(b"\0").decode("ascii", "replace") or None,
        "seconds": struct.unpack("!I", options[51])[0] if 51 in options else None,
        "server": address(54),
    }


def _mac(interface: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("256s", interface.encode())
        return fcntl.ioctl(any_socket.fileno(), _SIOCGIFHWADDR, request)[18:24]


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {operation.__name__: operation for operation in (listen, tcp, udp, icmp, dns, taken, dhcp, dhcp_release)}


def _serve(request: dict[str, Any], lock: threading.Lock) -> None:
    ident, operation = request.pop("id"), OPERATIONS[request.pop("op")]
    try:
        answer = operation(**request)
    except Exception as error:  # whatever it is, the other side waits for an answer
        answer = {"result": "error", "why": f"{type(error).__name__}: {error}"}
    with lock:
        sys.stdout.write(json.dumps({"id": ident, **answer}) + "\n")
        sys.stdout.flush()


def main() -> None:
    lock = threading.Lock()
    while line := sys.stdin.buffer.readline():
        threading.Thread(target=_serve, args=(json.loads(line), lock), daemon=True).start()


if __name__ == "__main__":
    main()
