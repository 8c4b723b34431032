# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of the relay inside a container: standard input and output <-> one TCP connection. Sent there as text; standard library only."""

from __future__ import annotations

import os
import socket
import sys
import threading

CONNECT_SECONDS = 15
CHUNK = 65536


def main(address: str, port: int) -> int:
    """Code 0 when the other side has ended the connection, 1 when there was none or it broke."""
    try:
        with socket.create_connection((address, port), timeout=CONNECT_SECONDS) as connection:
            connection.settimeout(None)
            # A daemon: when the other side has ended, nobody waits for more input.
            threading.Thread(target=send, args=(connection,), daemon=True).start()
            receive(connection)
    except OSError as error:
        print(f"relay: {address} port {port}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def send(connection: socket.socket) -> None:
    """Input to the connection. The end of the input closes this direction only."""
    try:
        while data := os.read(0, CHUNK):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The connection is gone; whoever receives from it notices and reports.
        return


def receive(connection: socket.socket) -> None:
    """The connection to the output, until its end."""
    while data := connection.recv(CHUNK):
        while data:
            data = data[os.write(1, data) :]


if __name__ == "__main__":
    code = main(sys.argv[1], int(sys.argv[2]))
    # Not by exit(): that would wait for the thread's read from the input.
    sys.stderr.flush()
    os._exit(code)
