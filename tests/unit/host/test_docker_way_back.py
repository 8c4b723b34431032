# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that fails ends in the old state: the service is touched only where it was touched before. With real files and a systemctl that notes its calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_daemon import daemon_json, parse
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_engine import Directory, Found, Move, Pending, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_apply, docker_engine
from ansible_collections.hybridlab.platform.tests.unit.core.test_docker_daemon import lab_docker

# Refuses to start and to reload with a file that has the word in it.
SYSTEMCTL = """#!/bin/sh
echo "$1" >>{log}
case $1 in start | restart | reload) ! grep -q broken {config} ;; esac
"""
FAILING = "#!/bin/sh\necho 'out of order' >&2\nexit 1\n"
QUIET = "#!/bin/sh\n"
OLD = '{"debug": true}\n'
TARGET = Directory(0o710, 0, 0)
RESTARTED, RELOADED = {"storage-driver": "broken"}, {"labels": ["broken"]}


@dataclass
class Host:
    root: Path

    @property
    def config(self) -> Path:
        return self.root / "daemon.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.json"

    def program(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")
        (self.root / name).chmod(0o755)

    def refused(self, daemon: dict[str, Any], found: Found) -> tuple[str, list[str]]:
        """What a run says that has to fail, and what it did to the service."""
        docker = lab_docker(daemon=daemon, users=[])
        with pytest.raises(ResourceError) as refused:
            docker_apply.Engine(docker.data_root, 5, 5).apply(plan(docker, found), found)
        log = self.root / "log"
        return str(refused.value), log.read_text(encoding="utf-8").split() if log.exists() else []

    def text(self) -> Optional[str]:
        return self.config.read_text(encoding="utf-8") if self.config.exists() else None


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    made.config.write_text(OLD, encoding="utf-8")
    made.program("systemctl", SYSTEMCTL.format(log=tmp_path / "log", config=made.config))
    made.program("semanage", FAILING)
    made.program("journalctl", QUIET)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(docker_apply, "CONFIG", str(made.config))
    monkeypatch.setattr(docker_apply, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(docker_engine, "JOURNAL", str(made.journal))
    monkeypatch.setattr(docker_engine.write_journal, "__defaults__", (str(made.journal),))
    monkeypatch.setattr(docker_engine, "validate", lambda _text: None)
    return made


def running(**changes: Any) -> Found:
    return replace(Found(config=parse(OLD), file_mode=0o600, target=TARGET, enabled=True, running=True), **changes)


def test_what_fails_before_the_engine_is_touched_leaves_it_alone(host: Host) -> None:
    said, calls = host.refused(RESTARTED, running(selinux=True))
    assert "out of order" in said
    assert "is as it was, and the engine runs as before" in said
    assert not {"stop", "restart", "reload"} & set(calls), calls
    assert (host.text(), host.journal.exists()) == (OLD, False)


def test_an_engine_that_does_not_restart_comes_back_with_the_old_file(host: Host) -> None:
    said, calls = host.refused(RESTARTED, running())
    assert "is the old one again, and the engine runs as before" in said
    assert calls == ["restart", "stop", "reset-failed", "start"]
    assert (host.text(), host.journal.exists()) == (OLD, False)


def test_a_reload_that_fails_stops_nothing(host: Host) -> None:
    kept = {**daemon_json(lab_docker(users=[])), "data-root": "/data/docker"}
    said, calls = host.refused(RELOADED, running(config=kept))
    assert "is the old one again, and the engine runs as before" in said
    assert calls == ["reload", "reload"]
    assert host.text() == OLD


def test_an_engine_that_did_not_run_is_not_started_by_the_way_back(host: Host) -> None:
    host.config.unlink()
    said, calls = host.refused(RESTARTED, Found(target=TARGET))
    assert "is stopped as before" in said
    assert calls == ["restart", "stop", "reset-failed"]
    assert host.text() is None


def test_an_engine_that_a_killed_run_had_stopped_is_started_again(host: Host, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "half").mkdir(parents=True)
    move = Move(str(tmp_path / "old"), str(copy))
    found = running(running=False, selinux=True, pending=Pending(old=OLD, running=True, action="restart", move=replace(move, target="/data/docker")))
    docker = lab_docker(users=[])
    with pytest.raises(ResourceError, match=r"is as it was, and the engine runs as before"):
        docker_apply.Engine(docker.data_root, 5, 5).apply(replace(plan(docker, found), move=move), found)
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == ["start"]
    assert not copy.exists()


def test_a_file_that_a_killed_run_had_replaced_goes_with_a_restart(host: Host) -> None:
    host.config.write_text('{"storage-driver": "other"}\n', encoding="utf-8")
    found = running(config={"storage-driver": "other"}, selinux=True, pending=Pending(old=OLD, running=True, action="restart"))
    said, calls = host.refused({}, found)
    assert "is the old one again, and the engine runs as before" in said
    assert calls == ["stop", "reset-failed", "start"]
    assert host.text() == OLD


def test_a_disk_that_is_full_brings_the_old_state_back_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(docker_apply.Engine, "_prepare", full)
    said, calls = host.refused(RESTARTED, running())
    assert "No space left on device" in said
    assert "runs as before" in said
    assert "stop" not in calls
    assert not host.journal.exists()
