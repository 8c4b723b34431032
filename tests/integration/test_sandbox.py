# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox survives a kill at any point: `up` goes on, `down` leaves nothing. In a copy of the tool, so that the checkout's own hosts are not touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


class Copy:
    """The sandbox of a copied checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.argv = [sys.executable, "-m", "tools.sandbox"]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self.argv, *arguments], cwd=self.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def killed(self, verb: str, seconds: float) -> None:
        """Runs a verb and kills it after that time, unless it has ended before."""
        process = subprocess.Popen([*self.argv, verb], cwd=self.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def down(self) -> None:
        assert self("down").endswith("lab down: leftovers 0\n")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    path = tmp_path_factory.mktemp("checkout")
    # The tool asks the collection whether KVM works here.
    for part in ("tools", "plugins", "collections"):
        shutil.copytree(CHECKOUT / part, path / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    if (CHECKOUT / ".cache/base").is_dir():
        shutil.copytree(CHECKOUT / ".cache/base", path / ".cache/base", ignore=shutil.ignore_patterns("*.new"))
    copy = Copy(path)
    copy("up")
    copy.down()
    yield copy
    copy("down", "--purge")


@pytest.mark.parametrize("seconds", [0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0])
def test_up_or_down_after_a_killed_up(sandbox: Copy, seconds: float) -> None:
    sandbox.killed("up", seconds)
    sandbox.down()
    sandbox.killed("up", seconds)
    sandbox("up")
    assert sandbox("exec", "host", "--", "systemctl", "is-system-running") == "running\n"
    sandbox.killed("down", seconds)
    sandbox.down()


def test_a_dead_engine_is_started_again_or_swept_away(sandbox: Copy) -> None:
    for following in ("up", "down"):
        sandbox("up")
        status = json.loads(sandbox("status", "--json"))
        if status["engine"] == "own":
            os.kill(int((Path("/run/hybridlab-sandbox") / status["id"] / "docker.pid").read_text(encoding="ascii")), signal.SIGKILL)
            time.sleep(0.2)
        sandbox(following)
    sandbox.down()


def test_two_hosts_from_one_image_are_different_hosts(sandbox: Copy) -> None:
    sandbox("up")
    sandbox("exec", "host", "--", "touch", "/etc/prepared")
    sandbox("commit", "host", "prepared")
    sandbox("up", "--name", "two", "--from", "prepared")
    sandbox("exec", "two", "--", "test", "-e", "/etc/prepared")
    assert sandbox("exec", "host", "--", "cat", "/etc/machine-id") != sandbox("exec", "two", "--", "cat", "/etc/machine-id")
    assert json.loads(sandbox("inventory", "host"))["address"] != json.loads(sandbox("inventory", "two"))["address"]
    sandbox("restart", "two")
    sandbox("down", "--name", "two")
    assert list(json.loads(sandbox("status", "--json"))["hosts"]) == ["host"]
    sandbox.down()


def test_the_internet_says_who_asked(sandbox: Copy) -> None:
    sandbox("up")
    connection = json.loads(sandbox("inventory"))
    ask = f"import socket; print(socket.create_connection(('{connection['internet_address']}', 7), 5).makefile().readline())"
    assert json.loads(sandbox("exec", "host", "--", "python3", "-c", ask))["peer"] == connection["address"]
    sandbox.down()
