# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings file that the role renders from the model, as typed values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from .errors import UsageError

SETTINGS = Path("/etc/hybridlab/backup.json")


@dataclass(frozen=True)
class Place:
    """Where the parts of the tool lie on the host."""

    state: Path = Path("/var/lib/hybridlab/backup")
    logs: Path = Path("/var/log/docker-backup")
    lock: Path = Path("/run/lock/hybridlab-backup.lock")


@dataclass(frozen=True)
class Hook:
    """A command in a container of the service. ready: a command that ends with 0 once ``command`` may run; seconds: the limit of either."""

    command: tuple[str, ...]
    seconds: int = 3600
    ready: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """What belongs together: saved with one pause, restored with one stop.

    swarm:        full name of its Swarm service; container: name of its container, where it has no Swarm service
    volumes:      names of volumes that are copied; dumped: those that the dump stands for
    paths:        further directories of the host
    dump:         its output is the dump; restore: reads it
    quiesce:      ``none``, ``pause`` or ``stop``: what its containers get while the last changes are copied
    stop_seconds: how long it may take to stop, and to come up again
    """

    name: str
    swarm: Optional[str] = None
    container: Optional[str] = None
    volumes: tuple[str, ...] = ()
    dumped: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    dump: Optional[Hook] = None
    restore: Optional[Hook] = None
    quiesce: str = "none"
    stop_seconds: int = 120


@dataclass(frozen=True)
class Settings:
    """docker: whether there is an engine; paths: directories that --all restores; configuration: directories that are kept to be looked up;
    skip: volumes that are not copied; images: ``own`` (those that no registry has), ``all`` or ``none``; reserve_bytes, reserve_percent: the
    larger of both stays free."""

    target: Path
    mount: Path
    keep: int
    max_age_days: int
    reserve_bytes: int
    reserve_percent: int
    docker: bool = True
    images: str = "own"
    paths: tuple[str, ...] = ()
    configuration: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    place: Place = Place()

    def service(self, name: str) -> Service:
        for service in self.services:
            if service.name == name:
                return service
        known = ", ".join(service.name for service in self.services) or "there is none"
        raise UsageError(f"--service: found {name!r}, which {SETTINGS} does not have. Services: {known}")


def load(path: Path) -> Settings:
    """The settings of ``path``. UsageError where it can't be read."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _settings(raw)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file. Run playbooks/backup.yml, which writes it from platform_backup") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: can't be read ({type(error).__name__}: {error}). Run playbooks/backup.yml, which writes it anew") from error


def _settings(raw: Mapping[str, Any]) -> Settings:
    place = {key: Path(value) for key, value in raw.get("place", {}).items()}
    return Settings(
        target=Path(raw["target"]),
        mount=Path(raw["mount"]),
        keep=int(raw["keep"]),
        max_age_days=int(raw["max_age_days"]),
        reserve_bytes=int(raw["reserve_bytes"]),
        reserve_percent=int(raw["reserve_percent"]),
        docker=bool(raw["docker"]),
        images=str(raw["images"]),
        paths=tuple(raw["paths"]),
        configuration=tuple(raw["configuration"]),
        skip=tuple(raw["skip"]),
        services=tuple(_service(item) for item in raw["services"]),
        place=Place(**place),
    )


def _service(raw: Mapping[str, Any]) -> Service:
    return Service(
        name=raw["name"],
        swarm=raw.get("swarm"),
        container=raw.get("container"),
        volumes=tuple(raw.get("volumes", ())),
        dumped=tuple(raw.get("dumped", ())),
        paths=tuple(raw.get("paths", ())),
        dump=_hook(raw.get("dump")),
        restore=_hook(raw.get("restore")),
        quiesce=raw.get("quiesce", "none"),
        stop_seconds=int(raw.get("stop_seconds", 120)),
    )


def _hook(raw: Optional[Mapping[str, Any]]) -> Optional[Hook]:
    if raw is None:
        return None
    return Hook(tuple(raw["command"]), int(raw.get("seconds", 3600)), tuple(raw.get("ready", ())))
