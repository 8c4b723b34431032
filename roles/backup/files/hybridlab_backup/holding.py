# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that stand still while their files are copied, and the note by which they are let go even when the copier was killed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Optional

from .engine import Docker, wait
from .errors import Refused
from .journal import Log, write_whole
from .settings import Service

RUN, RESTORE = "run", "restore"


@dataclass
class Note:
    """by: the verb that holds them; paused, stopped: ids of containers; scaled: Swarm service -> the count that it had."""

    by: str
    paused: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    scaled: dict[str, int] = field(default_factory=dict)


class Holder:
    def __init__(self, docker: Docker, state: Path, by: str, log: Log) -> None:
        self.docker = docker
        self.path = state / "held.json"
        self.by = by
        self.log = log

    def note(self) -> Optional[Note]:
        try:
            return Note(**json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def check(self) -> None:
        """A backup of what a restore has half written would push the good generations out."""
        note = self.note()
        if note is not None and note.by == RESTORE and self.by == RUN:
            raise Refused(f"{self.path}: a restore was cut short. Run it again to its end, or give it up with: hybridlab-backup release")

    def hold(self, service: Service, volumes: Iterable[str], stop: bool) -> None:
        """Pause, or stop, the service's containers and all others that use one of ``volumes``. It is noted before it is done."""
        running = dict.fromkeys(self.docker.containers(service))
        for volume in volumes:
            running.update(dict.fromkeys(self.docker.names("ps", "--quiet", "--no-trunc", "--filter", f"volume={volume}")))
        note = self.note() or Note(self.by)
        note.by = self.by
        if stop:
            self._stop(service, list(running), note)
        elif running:
            self.log.say(f"pausing {len(running)} container(s) of {service.name}")
            note.paused = list(dict.fromkeys([*note.paused, *running]))
            self._write(note)
            self.docker.call("pause", *running)

    def _stop(self, service: Service, running: list[str], note: Note) -> None:
        swarm, single = self._kinds(running)
        if service.swarm is not None:
            swarm.add(service.swarm)
        counts = {name: self.docker.replicas(name) for name in sorted(swarm)}
        for name, count in counts.items():
            if count is not None:
                # Of a restore that was cut short the count is noted already; now it is 0.
                note.scaled.setdefault(name, count)
        note.stopped = list(dict.fromkeys([*note.stopped, *single]))
        self._write(note)
        for name, count in counts.items():
            if count:
                self.log.say(f"stopping {name} ({count} task(s))")
                self.docker.scale(name, 0)
        if single:
            self.log.say(f"stopping {len(single)} container(s) of {service.name}")
            self.docker.call("stop", "-t", str(service.stop_seconds), *single, seconds=service.stop_seconds + 60)
        for name in counts:
            wait(f"stop of {name}", service.stop_seconds + 30, partial(self._stands_still, name))

    def _stands_still(self, service: str) -> bool:
        """Whether no container of the Swarm service runs."""
        return not self.docker.names("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={service}")

    def _kinds(self, running: list[str]) -> tuple[set[str], list[str]]:
        """Names of the Swarm services of these containers, and the containers of none."""
        swarm, single = set(), []
        for found in self.docker.inspect("container", running):
            name = (found["Config"]["Labels"] or {}).get("com.docker.swarm.service.name")
            if name is None:
                single.append(found["Id"])
            else:
                swarm.add(name)
        return swarm, single

    def release(self) -> None:
        """Let go all that the note names; containers that are gone meanwhile need nothing. The note is removed last."""
        note = self.note()
        if note is None:
            return
        for container in note.paused:
            if self.docker.names("ps", "--quiet", "--filter", "status=paused", "--filter", f"id={container}"):
                self.docker.call("unpause", container)
        for container in note.stopped:
            if self.docker.there("container", container):
                self.docker.call("start", container)
        for name, count in note.scaled.items():
            if self.docker.there("service", name):
                self.docker.scale(name, count)
        if note.paused or note.stopped or note.scaled:
            self.log.say(f"released {len(note.paused) + len(note.stopped) + len(note.scaled)} container(s) and service(s)")
        self.path.unlink()

    def _write(self, note: Note) -> None:
        write_whole(self.path, json.dumps(asdict(note)) + "\n")
