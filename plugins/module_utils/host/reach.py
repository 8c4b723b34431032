# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at an address that never block: is an SSH server there, whose Ethernet address answers for it."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from ipaddress import IPv4Address
from typing import Optional

_PATIENCE = 10.0  # seconds for one attempt; a server under emulation takes long for its banner
_NO_ATTEMPT = "no attempt yet"
_MOST_GREETING = 8192  # bytes before and with the banner; RFC 4253 4.2 sets no limit to the lines before it

_ETHER_ARP, _ETHER_IPV4, _REQUEST, _REPLY = 0x0806, 0x0800, 1, 2  # RFC 826
_FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_BROADCAST, _NOBODY = b"\xff" * 6, b"\x00" * 6


class SshLook:
    """Attempts, one after another, to read the banner of an SSH server."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.trouble = _NO_ATTEMPT
        self._socket: Optional[socket.socket] = None
        self._begun = 0.0
        self._connected = False
        self._greeting = b""

    def look(self) -> Optional[str]:
        """The banner, such as SSH-2.0-OpenSSH_9.2; None when it is not there yet (``trouble`` says why)."""
        try:
            return self._step()
        except OSError as error:
            self._give_up(os.strerror(error.errno).lower() if error.errno else str(error))
            return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _step(self) -> Optional[str]:
        opened = self._socket or self._open()
        if not self._connected and not self._is_connected(opened):
            self._wait_on("no answer")
            return None
        if not select.select([opened], [], [], 0)[0]:
            self._wait_on("connected, but the server sent no banner")
            return None
        data = opened.recv(_MOST_GREETING + 1)
        self._greeting += data
        *lines, _unfinished = self._greeting.split(b"\n")
        banner = next((line for line in lines if line.startswith(b"SSH-")), None)
        if banner is not None:
            self.close()
            return banner.strip().decode("ascii", errors="replace")
        if not data:
            self._give_up("the connection was closed before a banner came")
        elif len(self._greeting) > _MOST_GREETING:
            self._give_up("what answers there is no SSH server")
        return None

    def _open(self) -> socket.socket:
        self._begun, self._connected, self._greeting = time.monotonic(), False, b""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        code = self._socket.connect_ex((self.address, self.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        return self._socket

    def _is_connected(self, opened: socket.socket) -> bool:
        if not select.select([], [opened], [], 0)[1]:
            return False
        code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._connected = True
        if self.trouble == _NO_ATTEMPT:
            # Later attempts say so only when they last: what became of the one before tells more.
            self.trouble = "connected, but the server sent no banner yet"
        return True

    def _wait_on(self, what: str) -> None:
        elapsed = time.monotonic() - self._begun
        if elapsed >= _PATIENCE:
            self._give_up(f"{what} within {_PATIENCE:g} s")
        elif elapsed >= 1:
            self.trouble = f"{what} yet"

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        self.close()


class ArpLook:
    """Asks on a bridge who has an address, with the host's own address there as the asker. OSError when that cannot be (not root, no bridge)."""

    def __init__(self, bridge: str, source: IPv4Address) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETHER_ARP))
        try:
            self._socket.bind((bridge, _ETHER_ARP))
        except OSError:
            self._socket.close()
            raise
        self._mac: bytes = self._socket.getsockname()[4]
        self._source = source
        self.answers: dict[str, set[str]] = {}

    def ask(self, address: str) -> None:
        """Sends a question. The answer is there at a later look, in ``answers``: address -> MACs that claimed it."""
        try:
            self._socket.send(request(self._mac, self._source, IPv4Address(address)))
        except OSError as error:
            # The bridge is down while nothing is plugged into it.
            if error.errno not in (errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN):
                raise

    def look(self) -> None:
        """Takes in what was answered since the last time."""
        while True:
            try:
                found = reply(self._socket.recv(2048))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    return
                raise
            if found is not None:
                self.answers.setdefault(str(found[0]), set()).add(found[1])

    def close(self) -> None:
        self._socket.close()


def request(mac: bytes, source: IPv4Address, target: IPv4Address) -> bytes:
    """The Ethernet frame that asks for ``target``."""
    return _FRAME.pack(_BROADCAST, mac, _ETHER_ARP, 1, _ETHER_IPV4, 6, 4, _REQUEST, mac, source.packed, _NOBODY, target.packed)


def reply(frame: bytes) -> Optional[tuple[IPv4Address, str]]:
    """The address and the MAC of an ARP reply; None for any other frame."""
    if len(frame) < _FRAME.size:
        return None
    _to, _from, ether, hardware, protocol, _hlen, _plen, operation, mac, address, _tmac, _taddress = _FRAME.unpack_from(frame)
    if (ether, hardware, protocol, operation) != (_ETHER_ARP, 1, _ETHER_IPV4, _REPLY):
        return None
    return IPv4Address(address), mac.hex(":")
