# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backup tool makes of an engine that answers with faults. The engine is a script; the real one is met in the integration test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.tests.unit.backup.backup_host import Host

# Answers from a file of answers by the first words of the call; "exec" runs what it is given; each call is written down.
ENGINE = """#!/usr/bin/python3
import json, os, subprocess, sys
arguments = sys.argv[1:]
with open('{root}/calls', 'a') as stream:
    print(json.dumps(arguments), file=stream)
if arguments[0] == 'exec':
    sys.exit(subprocess.run([word for word in arguments[1:] if word != '--interactive'][1:]).returncode)
with open('{root}/answers') as stream:
    answers = json.load(stream)
for words, answer in answers.items():
    if ' '.join(arguments).startswith(words):
        print(answer if isinstance(answer, str) else json.dumps(answer))
        sys.exit(0)
sys.exit('no such object')
"""


class Engine:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.volume = host.data / "volume"
        self.volume.mkdir()
        (self.volume / "file").write_text("content", encoding="utf-8")
        self.found: dict[str, Any] = {"Name": "db", "Driver": "local", "Mountpoint": str(self.volume), "Labels": None, "Options": None}
        self.answers: dict[str, Any] = {
            "volume ls": "db",
            "volume inspect": [self.found],
            "ps --quiet --filter status=paused": "c1",
            "ps": "c1",
            "container inspect": [{"Id": "c1", "Config": {"Labels": {}}, "State": {"Running": True}}],
            "image ls": "",
            "info": "false",
            "pause": "",
            "unpause": "",
        }
        (host.root / "bin").mkdir()
        (host.root / "bin/docker").write_text(ENGINE.format(root=host.root), encoding="utf-8")
        (host.root / "bin/docker").chmod(0o755)
        self.service: dict[str, Any] = {"name": "db", "container": "db", "volumes": ["db"]}
        host.settings.update(docker=True, paths=[], services=[self.service])
        self.write()

    def write(self) -> None:
        (self.host.root / "answers").write_text(json.dumps(self.answers), encoding="utf-8")

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.host.root / "calls").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def engine(host: Host) -> Engine:
    return Engine(host)


@pytest.mark.parametrize(
    ("command", "seconds", "words"),
    [(["sh", "-c", "echo half; echo refused >&2; exit 3"], 60, "ended with 3: refused"), (["true"], 60, "wrote nothing"), (["sleep", "5"], 1, "more than 1 s")],
    ids=["fails", "is empty", "hangs"],
)
def test_a_dump_that_is_none_fails_the_run(host: Host, engine: Engine, command: list[str], seconds: int, words: str) -> None:
    generation = host.run()
    engine.service["dump"] = {"command": command, "seconds": seconds}

    failed = host.tool("run")

    assert failed.returncode == 1 and words in failed.stderr and words in host.status()["error"]
    assert [name for name in host.generations() if not name.endswith(".partial")] == [generation]


def test_a_dump_is_fed_back_whole(host: Host, engine: Engine, tmp_path: Path) -> None:
    engine.service.update(
        volumes=[],
        dumped=["db"],
        dump={"command": ["printf", "all of it"]},
        restore={"command": ["sh", "-c", f"cat >{tmp_path}/fed"]},
    )
    generation = host.run()
    assert not (host.target / generation / "volumes/db").exists()

    assert "db, which its dump would replace" in host.tool("restore", "--service", "db").stderr
    assert not (tmp_path / "fed").exists()
    assert "restored" in host.done("restore", "--service", "db", "--force")
    assert (tmp_path / "fed").read_text(encoding="utf-8") == "all of it"
    (host.target / generation / "dumps/db.dump").write_text("all of IT", encoding="utf-8")
    assert "is damaged" in host.tool("restore", "--service", "db", "--force").stderr


def test_a_volume_that_is_not_there_refuses_the_run(host: Host, engine: Engine) -> None:
    engine.service["volumes"] = ["db", "misspelt"]

    refused = host.tool("run")

    assert refused.returncode == 3 and "misspelt (of db)" in refused.stderr and host.generations() == []


def test_a_volume_whose_data_lies_elsewhere_refuses_the_run_until_it_is_skipped(host: Host, engine: Engine) -> None:
    engine.service["volumes"] = []
    engine.found["Options"] = {"type": "nfs", "device": ":/export"}
    engine.write()

    refused = host.tool("run")

    assert refused.returncode == 3 and "skip_volumes" in refused.stderr
    host.settings["skip"] = ["db"]
    host.run()


def test_containers_are_let_go_when_the_copy_fails(host: Host, engine: Engine) -> None:
    engine.service["quiesce"] = "pause"
    # The estimate, the first copy, the copy while they stand still.
    host.meddle("rsync", 3, "echo broken >&2; exit 12")

    failed = host.tool("run")

    assert failed.returncode == 1 and "broken" in failed.stderr
    verbs = [call[0] for call in engine.calls() if call[0] in ("pause", "unpause")]
    assert verbs == ["pause", "unpause"] and not (host.root / "state/held.json").exists()


def test_containers_that_a_killed_run_held_are_let_go_by_the_unit(host: Host, engine: Engine) -> None:
    engine.service["quiesce"] = "pause"
    host.meddle("rsync", 3, "kill -9 $PPID; exit 0")

    assert host.tool("run").returncode == -9
    assert (host.root / "state/held.json").exists()
    host.done("release", "--after-run")

    assert engine.calls()[-1] == ["unpause", "c1"] and not (host.root / "state/held.json").exists()


def test_no_backup_of_what_a_restore_has_half_written(host: Host, engine: Engine) -> None:
    host.run()
    (host.root / "state/held.json").write_text(json.dumps({"by": "restore", "scaled": {"db": 1}}), encoding="utf-8")

    refused = host.tool("run")

    assert refused.returncode == 3 and "a restore was cut short" in refused.stderr
    host.done("release", "--after-run")
    assert (host.root / "state/held.json").exists()
