# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay between standard input and output and a TCP connection: every byte, each end's end, and what went wrong."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.sandbox import cli, relay
from tools.sandbox.names import Identity

INNER = Path(relay.__file__).with_name("relay_end.py")


def serve(talk: Callable[[socket.socket], None]) -> int:
    """A TCP server on loopback for one caller; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def once() -> None:
        with listener, listener.accept()[0] as caller:
            talk(caller)

    threading.Thread(target=once, daemon=True).start()
    return int(listener.getsockname()[1])


def inner(port: int, data: bytes) -> subprocess.CompletedProcess[bytes]:
    # As text, the way it gets into a container.
    argv = [sys.executable, "-c", INNER.read_text(encoding="utf-8"), "127.0.0.1", str(port)]
    return subprocess.run(argv, input=data, capture_output=True, timeout=30, check=False)


def test_every_byte_comes_back_after_the_input_has_ended() -> None:
    blob = os.urandom(3_000_000) + bytes(range(256))

    def gather(caller: socket.socket) -> None:
        # Answers only when the caller's direction is closed, so that closing it must leave the other one open.
        data = b""
        while part := caller.recv(65536):
            data += part
        caller.sendall(data)

    done = inner(serve(gather), blob)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == blob


def test_it_ends_when_the_other_side_does_though_there_may_be_more_input() -> None:
    port = serve(lambda caller: caller.sendall(b"bye"))
    argv = [sys.executable, str(INNER), "127.0.0.1", str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"bye"
        assert process.wait(timeout=10) == 0


def test_what_cannot_be_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = inner(port, b"")
    assert done.returncode == 1
    assert done.stderr.decode() == f"relay: 127.0.0.1 port {port}: Connection refused\n"


def test_the_engine_s_stream_is_taken_apart() -> None:
    near, far = socket.socketpair()
    parts = [(1, b"out"), (2, b"err"), (1, b""), (1, os.urandom(200_000))]

    def send() -> None:
        for stream, data in parts:
            frame = struct.pack(">BxxxL", stream, len(data)) + data
            # Cut anywhere, as a network does.
            far.sendall(frame[:5])
            time.sleep(0.02)
            far.sendall(frame[5:])
        far.sendall(b"\x01\x00")
        far.close()

    threading.Thread(target=send, daemon=True).start()
    found = {1: b"", 2: b""}
    for stream, data in relay.frames(near):
        found[stream] += data
    near.close()
    assert found == {1: b"out" + parts[3][1], 2: b"err"}


def test_the_verb_says_what_is_missing(identity: Identity, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Identity, "of", lambda: identity)
    assert cli.main(["relay", "host", "10.0.1.20", "22"]) == 1
    assert "no sandbox is up" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["relay", "host", "10.0.1.20", "ssh"])
