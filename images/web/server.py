# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small web server: says who it is, and goes without losing a request.

GET /        JSON: its host name, its version (variable VERSION), the greeting, and whether it was given its secret (never the secret itself)
GET /health  200 while it may have new requests, 503 when it is about to end

Asked to end (SIGTERM), it reports itself as unhealthy and goes on answering for DRAIN seconds: whoever sends requests here learns meanwhile not to.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DRAIN = float(os.environ.get("DRAIN", "4"))
GREETING = Path("/etc/web/greeting")
SECRET = Path("/run/secrets/web_token")
ENDING = threading.Event()


def facts() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "version": os.environ.get("VERSION", "1"),
        "greeting": GREETING.read_text(encoding="utf-8").strip() if GREETING.is_file() else "",
        "secret": SECRET.is_file() and bool(SECRET.read_bytes()),
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(503 if ENDING.is_set() else 200, b"ending\n" if ENDING.is_set() else b"ok\n", "text/plain")
        elif self.path == "/":
            self._send(200, json.dumps(facts()).encode() + b"\n", "application/json")
        else:
            self._send(404, b"there is only / and /health\n", "text/plain")

    def _send(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if ENDING.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are logged by what stands in front."""


class Server(ThreadingHTTPServer):
    # Connections that wait to be accepted; the standard library's 5 are fewer than a busy proxy opens at once.
    request_queue_size = 128
    daemon_threads = True


def run(port: int) -> int:
    """Serve until asked to end."""
    server = Server(("", port), Handler)

    def end(*_signal: object) -> None:
        ENDING.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening on port {port}", flush=True)
    ENDING.wait()
    time.sleep(DRAIN)
    server.shutdown()
    return 0
