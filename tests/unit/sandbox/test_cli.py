# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments, one-line errors, and the inventory that the verbs serve."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.sandbox import cli
from tools.sandbox.base import Base
from tools.sandbox.engine import connect
from tools.sandbox.errors import SandboxError
from tools.sandbox.names import CHECKOUT, Identity, Settings
from tools.sandbox.verbs import Sandbox


@pytest.fixture(autouse=True)
def own_identity(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Identity, "of", lambda: identity)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["up", "--name", "internet"], "belongs to the container that plays the Internet"),
        (["up", "--name", "Bad_Name"], "cannot be a host's name"),
        (["exec", "host"], "exec was given no command"),
        (["exec", "host", "--", "true"], "no sandbox is up"),
        (["restart", "host"], "no sandbox is up"),
        (["commit", "host", "tag"], "no sandbox is up"),
        (["inventory", "--name", "two"], "there is no host 'two'"),
        (["shell"], "shell needs a terminal"),
    ],
)
def test_errors_are_one_line_with_cause_and_cure(argv: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 1
    written = capfd.readouterr().err
    assert written.startswith("sandbox: ") and message in written and written.count("\n") == 1


def test_down_of_nothing_is_fine(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down"]) == 0
    assert capfd.readouterr().out == "lab down: leftovers 0\n"


def test_status_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["up"] is False


def test_only_sockets_of_this_machine_are_engines(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="not on a Unix socket"):
        connect("tcp://192.0.2.1:2375")
    with pytest.raises(SandboxError, match="no engine answers"):
        connect(f"unix://{tmp_path}/absent.sock")


def test_a_half_made_down_of_one_name_needs_no_engine(identity: Identity, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down", "--name", "two"]) == 0
    assert not identity.state_dir.exists()


def test_the_base_s_key_follows_everything_that_goes_in(identity: Identity, tmp_path: Path) -> None:
    def key(**settings: str) -> str:
        return Base(identity, Settings(**settings)).key()  # type: ignore[arg-type]

    one, two = tmp_path / "one.sources", tmp_path / "two.sources"
    for path in (one, two):
        path.write_text(f"Types: deb\nURIs: http://{path.stem}.example/debian\nSuites: bookworm\nComponents: main\n", encoding="utf-8")
    assert key(apt_sources=str(one)) == key(apt_sources=str(one))
    assert len({key(apt_sources=str(one)), key(apt_sources=str(two)), key(base_image="debian:12"), key(base_image="debian:12-slim")}) == 4


def test_addresses_are_kept_by_name(identity: Identity) -> None:
    sandbox = Sandbox(identity, Settings())
    sandbox.state.engine, sandbox.state.uplink = "own", "203.0.113.0/24"
    assert sandbox._host(None, "host").address == "203.0.113.2"
    assert sandbox._host(None, "two").address == "203.0.113.3"
    again = Sandbox(identity, Settings())
    assert again.connection("two") == {
        "docker_host": f"unix://{identity.run_dir}/docker.sock",
        "container": f"{identity.tag}-two",
        "address": "203.0.113.3",
        "uplink": "203.0.113.0/24",
        "internet_address": "203.0.113.10",
        "internet_container": f"{identity.tag}-internet",
    }


def test_the_inventory_reads_what_up_wrote(tmp_path: Path) -> None:
    inventory = tmp_path / "inventories/sandbox"
    inventory.mkdir(parents=True)
    shutil.copy(CHECKOUT / "inventories/sandbox/hosts.yml", inventory)
    hosts = tmp_path / ".cache/sandbox/hosts"
    hosts.mkdir(parents=True)
    for name in ("host", "two"):
        (hosts / f"{name}.json").write_text(json.dumps({"docker_host": "unix:///s.sock", "container": f"c-{name}"}), encoding="utf-8")
    for chosen, container in (("", "c-host"), ("two", "c-two")):
        environment = {**os.environ, "HYBRIDLAB_SANDBOX_NAME": chosen}
        ansible = Path(sys.executable).with_name("ansible")
        argv = [
            sys.executable,
            str(ansible),
            "-i",
            str(inventory),
            "kvm_hosts",
            "-m",
            "ansible.builtin.debug",
            "-a",
            "msg={{ ansible_host }},{{ ansible_docker_docker_host }}",
        ]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert f"{container},unix:///s.sock" in done.stdout, done.stdout + done.stderr
