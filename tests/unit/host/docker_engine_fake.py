# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker engine that answers on a Unix socket what a test tells it to: for faults that a real one cannot be made to show."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import docker

# (method, path without version and query, body) -> (status, JSON)
Answers = Callable[[str, str, Any], tuple[int, Any]]


@contextmanager
def engine_at(path: Path, answers: Answers) -> Iterator[Any]:
    """A ``docker.DockerClient`` of an engine that lives as long as the context."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            route = self.path.partition("?")[0].replace("/v1.41", "", 1)
            if route == "/version":
                status, found = 200, {"ApiVersion": "1.41"}
            else:
                status, found = answers(self.command, route, json.loads(data) if data and self.headers["Content-Type"] == "application/json" else None)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def address_string(self) -> str:
            return "test"

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        client = docker.DockerClient(base_url=f"unix://{path}", version="auto")
        try:
            yield client
        finally:
            client.close()
            server.shutdown()
