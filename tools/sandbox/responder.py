# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the container that plays the Internet runs: echo on TCP and UDP port 7, telling each peer which address it came from.

TCP: the first line is ``{"peer": ADDRESS, "port": PORT}``, then every byte comes back.
UDP: a datagram comes back as it is; the datagram ``peer?`` is answered with that JSON.
``responder.py connect HOST PORT [TEXT]`` opens a TCP connection from here, sends TEXT, and prints what it got as JSON.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any, cast

PORT = 7
TIMEOUT_S = 5.0


def peer_line(address: Any) -> bytes:
    return json.dumps({"peer": address[0], "port": address[1]}).encode() + b"\n"


async def serve_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = peer_line(writer.get_extra_info("peername"))
    print("tcp", line.decode().strip(), flush=True)
    try:
        writer.write(line)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Udp(asyncio.DatagramProtocol):
    """Echo of datagrams."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(peer_line(addr) if data == b"peer?" else data, addr)


async def serve(host: str = "0.0.0.0", port: int = PORT) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Udp, local_addr=(host, port))
    server = await asyncio.start_server(serve_tcp, host, port)
    async with server:
        await server.serve_forever()


def connect(host: str, port: int, text: str) -> dict[str, Any]:
    """``ok``, and either ``received`` (what came within the time limit) or ``error``."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            local = connection.getsockname()
            if text:
                connection.sendall(text.encode())
            try:
                received = connection.recv(4096)
            except socket.timeout:
                received = b""
            return {"ok": True, "source": local[0], "received": received.decode(errors="replace")}
    except OSError as error:
        return {"ok": False, "error": str(error)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["connect"]:
        answer = connect(sys.argv[2], int(sys.argv[3]), " ".join(sys.argv[4:]))
        print(json.dumps(answer))
        sys.exit(0 if answer["ok"] else 1)
    asyncio.run(serve())
