# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard input and output <-> a TCP connection that is made inside a container: ssh's ProxyCommand into the sandbox."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.sandbox.errors import SandboxError

_CHUNK = 65536
# Docker Engine API, "attach to a container", stream format: kind of stream, three zeros, length; big endian.
_HEADER = struct.Struct(">B3xL")
_OUTPUT, _ERROR = 1, 2


def relay(container: Any, address: str, port: int) -> int:
    """Ends when the other side ends the connection; the end of the input closes one direction only. The code of the inner end."""
    if not 0 < port < 65536:
        raise SandboxError(f"relay was given port {port}", "Write one from 1 to 65535")
    program = Path(__file__).with_name("relay_end.py").read_text(encoding="utf-8")
    api = container.client.api
    made = api.exec_create(container.id, ["python3", "-c", program, address, str(port)], stdin=True)["Id"]
    attached = api.exec_start(made, socket=True)
    connection: socket.socket = getattr(attached, "_sock", attached)
    connection.settimeout(None)
    threading.Thread(target=_send, args=(connection,), daemon=True).start()
    for stream, data in frames(connection):
        _write({_OUTPUT: sys.stdout, _ERROR: sys.stderr}[stream].fileno(), data)
    return int(api.exec_inspect(made)["ExitCode"] or 0)


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The parts of the engine's stream, as they come: 1 output, 2 error output."""
    while header := _exactly(connection, _HEADER.size):
        stream, left = _HEADER.unpack(header)
        while left:
            data = connection.recv(min(left, _CHUNK))
            if not data:
                return
            left -= len(data)
            yield stream, data


def _exactly(connection: socket.socket, size: int) -> bytes:
    """That many bytes; none when the stream ends before."""
    found = b""
    while len(found) < size:
        data = connection.recv(size - len(found))
        if not data:
            return b""
        found += data
    return found


def _send(connection: socket.socket) -> None:
    try:
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The exec has ended, which the other direction notices.
        return


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
