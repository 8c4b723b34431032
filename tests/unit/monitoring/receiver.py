# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server on loopback that answers as it is told and keeps what it gets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional, Union

# The path is the secret of a webhook.
SECRET = "tok3n-nobody-may-see"
HANG = "hang"
Answer = Union[int, str, tuple[int, dict[str, str]]]


class Receiver:
    """answers: one for each request, the last for all that follow: a status, (status, headers), or HANG."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [204]
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/webhooks/1/{SECRET}"

    def answer(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def subjects(self) -> Sequence[Optional[str]]:
        return [body.get("subject") for body in self.bodies]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = receiver.next()
            if answer == HANG:
                receiver.released.wait(10)
                return
            status, headers = answer if isinstance(answer, tuple) else (int(answer), {})
            if status < 300:
                receiver.bodies.append(body)
            receiver.paths.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
