# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/setup.sh, as a user whose ``sudo`` notes what it is asked for in place of doing it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tools.sandbox import machine
from tools.sandbox.errors import SandboxError

DISABLED = "systemctl --quiet disable docker.service docker.socket containerd.service"


class Setup:
    """A copy of the script with stand-ins for what it calls."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script = directory / "tools/setup.sh"
        self.script.parent.mkdir()
        shutil.copy2(machine.SETUP, self.script)
        listed = "docker.io [platform:dpkg sandbox]\nnftables [platform:dpkg sandbox]\nnano [platform:dpkg other]\n"
        (directory / "bindep.txt").write_text(listed, encoding="utf-8")
        (directory / "bin").mkdir()
        (directory / "installed").touch()
        (directory / "calls").touch()
        self.stand_in("id", "echo 1000")
        self.stand_in("dpkg-query", 'for last; do :; done; grep -qx "$last" {0}/installed && echo installed')
        self.stand_in("systemctl", "")
        self.noting_sudo()

    def stand_in(self, name: str, body: str) -> None:
        path = self.directory / "bin" / name
        path.write_text("#!/bin/sh\n" + body.replace("{0}", str(self.directory)) + "\n", encoding="utf-8")
        path.chmod(0o755)

    def noting_sudo(self, then: str = "") -> None:
        self.stand_in("sudo", 'echo "$*" >>{0}/calls\n[ "$1" != tee ] || cat >/dev/null\n' + then)

    def run(self, *arguments: str) -> int:
        environment = {**os.environ, "PATH": f"{self.directory}/bin:/usr/bin:/bin"}
        return subprocess.run([self.script, *arguments], env=environment, capture_output=True, check=False).returncode

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text(encoding="utf-8").splitlines()

    def installs(self) -> list[str]:
        """What each apt-get install was asked for."""
        return [call.partition("--no-remove ")[2] for call in self.calls() if "apt-get install" in call]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_only_what_is_missing_is_installed(setup: Setup) -> None:
    (setup.directory / "installed").write_text("gcc\n", encoding="utf-8")
    assert setup.run("--packages", "gcc", "make") == 0
    assert setup.installs() == ["make"]
    assert DISABLED not in setup.calls()


def test_a_profile_names_its_packages(setup: Setup) -> None:
    setup.stand_in("podman", "")
    assert setup.run("sandbox") == 0
    assert setup.installs() == ["nftables"]


def test_an_engine_that_was_there_keeps_its_daemon(setup: Setup) -> None:
    (setup.directory / "installed").write_text("docker.io\n", encoding="utf-8")
    assert setup.run("--packages", "docker.io") == 0
    assert setup.calls() == []


def test_an_engine_that_came_by_us_starts_no_daemon_at_the_next_boot(setup: Setup) -> None:
    assert setup.run("--packages", "docker.io") == 0
    calls = setup.calls()
    assert calls.index(DISABLED) > next(index for index, call in enumerate(calls) if "apt-get install" in call)


def test_nor_does_one_whose_installation_was_killed(setup: Setup) -> None:
    setup.noting_sudo('case "$*" in *"apt-get install"*) echo docker.io >>{0}/installed; kill -9 $PPID ;; esac')
    assert setup.run("--packages", "docker.io") == -signal.SIGKILL
    assert DISABLED not in setup.calls()
    assert setup.run("--packages", "docker.io") == 0
    assert DISABLED in setup.calls()
    assert setup.run("--packages", "docker.io") == 0
    assert setup.calls().count(DISABLED) == 1


def test_a_containerd_that_was_there_goes_on(setup: Setup) -> None:
    (setup.directory / "installed").write_text("containerd\n", encoding="utf-8")
    assert setup.run("--packages", "docker.io") == 0
    assert DISABLED.replace(" containerd.service", "") in setup.calls()


def test_install_is_left_to_the_script_and_its_result_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, command = tmp_path / "setup.sh", tmp_path / "bin/no-such-command"
    command.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@"\ntouch {command}\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(machine, "SETUP", script)
    monkeypatch.setattr(machine, "SBIN", (str(command.parent),))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    needs = {"no-such-command": "its-package"}
    with pytest.raises(SandboxError, match="still lacks its-package"):
        machine.require(needs, True, tmp_path / "log")
    assert "--packages its-package\n" in (tmp_path / "log").read_text(encoding="utf-8")
    command.chmod(0o755)
    machine.require(needs, True, tmp_path / "log")
    # Nothing is missing any more; the script is run to end what a killed installation began.
    assert (tmp_path / "log").read_text(encoding="utf-8").splitlines()[1] == "--packages"
