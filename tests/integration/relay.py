# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.integration.relay HOST PORT``: this process's input and output as a TCP connection from the sandbox's Internet to HOST.

For ssh's ProxyCommand: the controller itself has no route to the uplink, whichever engine holds it.
"""

from __future__ import annotations

import os
import sys
import threading

from docker.utils.socket import STDOUT, frames_iter

from tools.sandbox.names import INTERNET, Identity, Settings
from tools.sandbox.verbs import Sandbox

# Runs in the container.
COPY = """
import os, select, socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
peer.settimeout(None)
while True:
    ready, _writable, _failed = select.select([0, peer], [], [])
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        peer.sendall(data)
    if peer in ready:
        data = peer.recv(65536)
        if not data:
            break
        while data:
            data = data[os.write(1, data):]
"""


def main(host: str, port: str) -> int:
    """The exit code of the relay in the container: not 0 where HOST did not accept the connection."""
    container = Sandbox(Identity.of(), Settings.read(os.environ)).container(INTERNET)
    api = container.client.api
    made = api.exec_create(container.id, ["python3", "-c", COPY, host, port], stdin=True)["Id"]
    connection = api.exec_start(made, socket=True)
    wire = getattr(connection, "_sock", connection)
    wire.settimeout(None)

    def send() -> None:
        while data := os.read(sys.stdin.fileno(), 65536):
            wire.sendall(data)
        # The other end of ssh's pipe is closed: this login is over, and with it this process.
        wire.close()
        os._exit(0)

    threading.Thread(target=send, daemon=True).start()
    for stream, data in frames_iter(connection, tty=False):
        target = sys.stdout if stream == STDOUT else sys.stderr
        target.buffer.write(data)
        target.buffer.flush()
    return int(api.exec_inspect(made)["ExitCode"] or 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
