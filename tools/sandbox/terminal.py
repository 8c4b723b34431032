# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands inside a container: with their output as it comes, or with the person's own terminal."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from typing import Any


def execute(container: Any, argv: list[str]) -> int:
    """Runs a command, copies its two outputs as they come, and returns its code."""
    api = container.client.api
    made = api.exec_create(container.id, argv)["Id"]
    for out, err in api.exec_start(made, stream=True, demux=True):
        for stream, data in ((sys.stdout, out), (sys.stderr, err)):
            if data:
                stream.buffer.write(data)
                stream.buffer.flush()
    return int(api.exec_inspect(made)["ExitCode"])


def shell(container: Any, argv: list[str]) -> int:
    """An interactive command on this terminal, in raw mode until it ends."""
    api = container.client.api
    made = api.exec_create(container.id, argv, stdin=True, tty=True, environment={"TERM": os.environ.get("TERM", "linux")})["Id"]
    connection = api.exec_start(made, tty=True, socket=True)
    descriptor = getattr(connection, "_sock", connection).fileno()
    size = shutil.get_terminal_size()
    api.exec_resize(made, height=size.lines, width=size.columns)
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        while True:
            ready, _writable, _failed = select.select([descriptor, sys.stdin], [], [])
            if descriptor in ready:
                data = os.read(descriptor, 65536)
                if not data:
                    break
                os.write(sys.stdout.fileno(), data)
            if sys.stdin in ready:
                os.write(descriptor, os.read(sys.stdin.fileno(), 65536))
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
    return int(api.exec_inspect(made)["ExitCode"] or 0)
