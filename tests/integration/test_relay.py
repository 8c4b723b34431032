# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb relay through the engine, to the echo server of the sandbox's Internet."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration.lab import Lab
from tools.playbook import CHECKOUT
from tools.sandbox.names import Identity, Settings
from tools.sandbox.verbs import Sandbox


def relayed(lab: Lab, port: int, data: bytes) -> subprocess.CompletedProcess[bytes]:
    internet = Sandbox(Identity.of(), Settings()).connection(lab.name)["internet_address"]
    argv = [sys.executable, "-m", "tools.sandbox", "relay", lab.name, internet, str(port)]
    return subprocess.run(argv, cwd=CHECKOUT, input=data, capture_output=True, timeout=60, check=False)


def test_every_byte_goes_there_and_back(bare_host: Lab) -> None:
    blob = os.urandom(2_000_000) + bytes(range(256))
    done = relayed(bare_host, 7, blob)
    assert (done.returncode, done.stderr) == (0, b"")
    greeting, _newline, echo = done.stdout.partition(b"\n")
    assert greeting.startswith(b'{"peer"') and echo == blob


def test_what_refuses_is_named_and_nothing_stays_behind(bare_host: Lab) -> None:
    done = relayed(bare_host, 9, b"")
    assert done.returncode == 1 and done.stderr.endswith(b"port 9: Connection refused\n")
    # The brackets keep pgrep's shell from finding itself.
    assert bare_host.sh("pgrep -fc '[r]elay inside a container' || true").strip() == "0"
