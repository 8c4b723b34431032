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
def test_a_dump_that_is_none_is_a_gap_of_the_generation(host: Host, engine: Engine, command: list[str], seconds: int, words: str) -> None:
    whole = host.run()
    engine.service["dump"] = {"command": command, "seconds": seconds}
    host.settings["services"].append({"name": "files", "paths": [str(host.data / "volume")]})
    before = host.status()

    failed = host.tool("run")

    status = host.status()
    assert failed.returncode == 1 and "holds all but this: dump of db: " in failed.stderr and words in failed.stderr
    assert (status["ok"], status["last_good"], status["services"]["db"]) == (False, before["last_good"], before["services"]["db"])
    assert status["services"]["files"] == status["finished"] and words in status["error"]
    first, lacking = host.generations()
    assert first == whole and list((host.target / lacking / "dumps").iterdir()) == []
    assert "0 differences" in host.done("verify") and "dump of db" in host.done("list")


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


def test_what_is_not_there_keeps_nothing_else_from_being_saved(host: Host, engine: Engine) -> None:
    engine.service["volumes"] = ["db", "misspelt"]
    engine.service["paths"] = [str(host.data / "none")]

    failed = host.tool("run")

    assert failed.returncode == 1 and "volume misspelt of db: " in failed.stderr and "/data/none of db: there is no such directory" in failed.stderr
    assert (host.target / host.generations()[-1] / "volumes/db/file").read_text(encoding="utf-8") == "content"


def test_a_volume_whose_data_lies_elsewhere_is_a_gap_until_it_is_skipped(host: Host, engine: Engine) -> None:
    engine.service["volumes"] = []
    engine.found["Options"] = {"type": "nfs", "device": ":/export"}
    engine.write()
    assert "nothing can be saved: volume db: its data lies elsewhere" in host.tool("run").stderr and host.generations() == []
    host.settings["paths"] = [str(host.data)]

    failed = host.tool("run")

    assert failed.returncode == 1 and "skip_volumes" in failed.stderr and len(host.generations()) == 1
    host.settings["skip"] = ["db"]
    host.run()


def test_a_service_comes_back_from_the_last_generation_that_has_all_of_it(host: Host, engine: Engine, tmp_path: Path) -> None:
    host.settings["services"].append({"name": "files", "paths": [str(engine.volume)]})
    whole = host.run()
    engine.service["volumes"] = ["db", "lost"]
    assert host.tool("run").returncode == 1
    lacking = host.generations()[-1]

    assert f"generation {whole}" in host.tool("restore", "--service", "db", "--check").stdout
    assert "generation" not in host.done("restore", "--service", "files", "--check")
    named = host.tool("restore", "--service", "db", "--generation", lacking, "--to", str(tmp_path / "back"))
    assert named.returncode == 5 and "NOT WHOLE in this generation" in named.stdout and "volume lost of db" in named.stdout
    assert (tmp_path / "back/volumes/db/file").exists()
    host.done("remove", whole, "--force")
    assert "no generation has all that is asked for" in host.tool("restore", "--service", "db").stderr


def test_an_image_that_is_there_gets_its_lost_name_again(host: Host, engine: Engine) -> None:
    image = {"Id": "sha256:" + "1" * 64, "RepoTags": ["web:1", "web:2"], "RepoDigests": None, "Size": 1}
    engine.answers.update({"image ls": "one two", "image inspect": [image, {**image, "RepoTags": None}], "image save": "layers"})
    engine.write()
    host.settings["images"] = "own"
    host.run()
    del engine.answers["image inspect"]
    engine.answers.update({f"image inspect {image['Id']}": [image], "image inspect web:1": [image], "image tag": "", "stop": "", "start": ""})
    engine.write()

    assert "named web:2 again" in host.done("restore", "--all", "--force")
    assert [call for call in engine.calls() if call[:2] in (["image", "tag"], ["image", "load"])] == [["image", "tag", image["Id"], "web:2"]]


def test_what_has_gone_since_it_was_listed_is_no_fault(host: Host, engine: Engine) -> None:
    docker = host.root / "bin/docker"
    engine.answers["container inspect"] = [{"Id": "c1", "Config": {"Labels": {}}, "State": {"Running": True}}]
    engine.write()
    (host.root / "bin/engine").write_text(docker.read_text(encoding="utf-8"), encoding="utf-8")
    (host.root / "bin/engine").chmod(0o755)
    gone = f"[ \"$1 $2\" = 'container inspect' ] && mkdir {host.root}/once 2>/dev/null && {{ echo 'No such container' >&2; exit 1; }}"
    docker.write_text(f'#!/bin/sh\n{gone}\nexec {host.root}/bin/engine "$@"\n', encoding="utf-8")

    host.run()
    assert (host.root / "once").exists()


def test_containers_are_let_go_when_the_copy_fails(host: Host, engine: Engine) -> None:
    engine.service["quiesce"] = "pause"
    # The estimate, the first copy, the copy while they stand still.
    host.meddle("rsync", 3, "echo broken >&2; exit 12")

    failed = host.tool("run")

    assert failed.returncode == 1 and "copy while it stands still of db: " in failed.stderr and "broken" in failed.stderr
    # What was copied while it ran is better than nothing.
    assert (host.target / host.generations()[-1] / "volumes/db/file").exists()
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
