# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SMTP, IMAP and ManageSieve spoken from within a container of the sandbox, by programs of this machine."""

from __future__ import annotations

import imaplib
import smtplib
import socket
import threading
from typing import Any, Optional

from tools import playbook
from tools.sandbox.relay import frames

SECONDS = 60
# What a client calls itself.
CLIENT = "client.sender.example"
END = playbook.CHECKOUT / "tools/sandbox/relay_end.py"


class Smtp(smtplib.SMTP):
    """SMTP on a connection that is there already."""

    def __init__(self, link: socket.socket, host: str) -> None:
        self.link = link
        super().__init__(host, 25, local_hostname=CLIENT, timeout=SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self.link


class Imap(imaplib.IMAP4):
    """IMAP on a connection that is there already."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        super().__init__()

    def _create_socket(self, timeout: Optional[float]) -> socket.socket:
        return self.link


def joined(container: Any, address: str, port: int) -> socket.socket:
    """A TCP connection that begins in a container of the sandbox."""
    api = container.client.api
    made = api.exec_create(container.id, ["python3", "-c", END.read_text(encoding="utf-8"), address, str(port)], stdin=True)["Id"]
    attached = api.exec_start(made, socket=True)
    inner: socket.socket = getattr(attached, "_sock", attached)
    inner.settimeout(None)
    near, far = socket.socketpair()
    near.settimeout(SECONDS)

    def there() -> None:
        try:
            while data := far.recv(65536):
                inner.sendall(data)
            inner.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def back() -> None:
        # The reader of the engine's stream keeps its object from being closed.
        _kept = attached
        try:
            for kind, data in frames(inner):
                if kind == 1:
                    far.sendall(data)
        except OSError:
            pass
        finally:
            # Not by close(), which the other thread's reading would put off.
            far.shutdown(socket.SHUT_RDWR)
            inner.shutdown(socket.SHUT_RDWR)

    for work in (there, back):
        threading.Thread(target=work, daemon=True).start()
    return near


def said(link: socket.socket) -> None:
    """The rest of a ManageSieve server's answer, which has to be OK."""
    told = b""
    while not (lines := told.splitlines()) or not told.endswith(b"\r\n") or lines[-1][:2] not in (b"OK", b"NO", b"BY"):
        more = link.recv(4096)
        assert more, told
        told += more
    assert lines[-1].startswith(b"OK"), told
