# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container that plays the Internet tells who asked, and returns what it was sent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tools.sandbox import responder


@pytest.fixture
def port() -> Iterator[int]:
    """The responder on a free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    code = f"import asyncio; from tools.sandbox import responder; asyncio.run(responder.serve('127.0.0.1', {number}))"
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", number), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield number
    started.kill()
    started.wait()


def test_tcp_names_the_peer_then_echoes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        stream = connection.makefile("rwb")
        assert json.loads(stream.readline()) == {"peer": "127.0.0.1", "port": connection.getsockname()[1]}
        stream.write(b"abc\n")
        stream.flush()
        assert stream.readline() == b"abc\n"


def test_udp_echoes_and_names_the_peer_when_asked(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5)
        asker.connect(("127.0.0.1", port))
        asker.send(b"\x00abc")
        assert asker.recv(100) == b"\x00abc"
        asker.send(b"peer?")
        assert json.loads(asker.recv(100)) == {"peer": "127.0.0.1", "port": asker.getsockname()[1]}


def test_connect_reports_what_it_got(port: int) -> None:
    answer = responder.connect("127.0.0.1", port, "")
    assert answer["ok"] and json.loads(answer["received"])["peer"] == "127.0.0.1"


def test_connect_reports_a_refusal() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        answer = responder.connect("127.0.0.1", probe.getsockname()[1], "")
    assert not answer["ok"] and "refused" in answer["error"]
