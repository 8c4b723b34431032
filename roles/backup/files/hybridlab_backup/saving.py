# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb ``run``: a new generation beside the others.

Order: the disk is judged, then everything that can be copied while services run is copied, then each service that wants to stand still is held
for its last changes only, then images, the engine's objects and the manifest. Only a whole generation gets its name; only then old ones go.

What is not copied is the engine's own store of layers and container states: a copy of it beside a running daemon is not consistent, and
neither another storage driver nor another version could read it. Images that no registry has are saved by the engine instead.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import copying, disk, manifest
from .engine import Docker
from .errors import BackupError, DiskFull, Refused
from .generations import Generations, remove
from .holding import RUN, Holder
from .journal import Log, human, iso, write_whole
from .settings import Service, Settings

FIRST = ".first"
OWN, ALL = "own", "all"


@dataclass(frozen=True)
class Source:
    """A directory of the host, and where it stands in a generation."""

    path: Path
    name: str


@dataclass(frozen=True)
class Made:
    generation: Path
    size: int
    files: int


def file_name(path: str) -> str:
    """Place of a directory of the host in a generation."""
    return f"files{path.rstrip('/')}"


class Saver:
    def __init__(self, settings: Settings, docker: Optional[Docker], log: Log) -> None:
        self.settings = settings
        self.docker = docker
        self.log = log
        self.generations = Generations(settings.target)
        self.volumes: dict[str, dict[str, Any]] = {}
        self.before: Optional[manifest.Manifest] = None
        self.links: list[Path] = []

    def run(self) -> Made:
        """BackupError, of which Refused means that nothing was begun."""
        holder = None if self.docker is None else Holder(self.docker, self.settings.place.state, RUN, self.log)
        if holder is not None:
            holder.check()
            holder.release()
        leftovers = self._prepare()
        partial = self.generations.begin()
        try:
            made = self._fill(partial, holder)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._give_up([partial, *leftovers])
            raise DiskFull(f"{partial}: the disk is full. Older generations are untouched. Use a larger disk, or lower platform_backup.keep") from error
        except DiskFull:
            self._give_up([partial, *leftovers])
            raise
        self.generations.sweep(self.log)
        self.generations.retain(self.settings.keep, self.log)
        return made

    def _give_up(self, partial: Sequence[Path]) -> None:
        self.log.say("the disk is full: removing what this run wrote")
        for path in partial:
            remove(path)

    def _prepare(self) -> list[Path]:
        """Judge disk and sources; what earlier runs left and this one may build on."""
        if self.docker is not None:
            self.volumes = {volume["Name"]: volume for volume in self.docker.volumes() if volume["Name"] not in self.settings.skip}
            self._check_volumes()
        sources = self._sources()
        disk.check_mount(self.settings, [source.path for source in sources])
        # The mount is the disk now; without it this directory would be made on the system's own.
        self.settings.target.mkdir(mode=0o700, parents=True, exist_ok=True)
        leftovers = self.generations.leftovers()[-5:]
        self.generations.sweep(self.log, tuple(leftovers))
        disk.check_abilities(self.settings.target)
        last = self.generations.last()
        self.before = None if last is None else manifest.read(last / manifest.NAME)
        self.links = [*leftovers, *([] if last is None else [last])]
        if leftovers:
            self.log.say(f"building on what {len(leftovers)} unfinished run(s) copied")
        needed = self._needed(sources)
        self.log.say(f"{len(sources)} directories, {human(needed)} to copy, {human(disk.free(self.settings))} free")
        disk.check_room(self.settings, needed)
        return leftovers

    def _check_volumes(self) -> None:
        wanted = {name: service.name for service in self.settings.services for name in (*service.volumes, *service.dumped)}
        missing = [f"{name} (of {owner})" for name, owner in wanted.items() if name not in self.volumes]
        if missing:
            raise Refused(f"platform_backup.services: no such volume on this host: {', '.join(missing)}. Start the service that makes it, or correct the name")
        elsewhere = [name for name, volume in self.volumes.items() if not _here(volume)]
        if elsewhere:
            raise Refused(
                f"platform_backup: {', '.join(elsewhere)}: the data of these volumes lies elsewhere (another driver, or a mount). "
                "Save it there, or its directory by platform_backup.paths, and name the volumes in platform_backup.skip_volumes"
            )

    def _sources(self) -> list[Source]:
        paths = [*self.settings.configuration, *self.settings.paths, *(path for service in self.settings.services for path in service.paths)]
        missing = [path for path in self.settings.paths if not Path(path).is_dir()]
        missing += [path for service in self.settings.services for path in service.paths if not Path(path).is_dir()]
        if missing:
            raise Refused(f"platform_backup: no such directory: {', '.join(missing)}. Make it, or correct paths")
        found = [Source(Path(path), file_name(path)) for path in dict.fromkeys(paths) if Path(path).is_dir()]
        dumped = {name for service in self.settings.services for name in service.dumped}
        return found + [Source(Path(volume["Mountpoint"]), f"volumes/{name}") for name, volume in self.volumes.items() if name not in dumped]

    def _needed(self, sources: Sequence[Source]) -> int:
        nowhere = self.settings.target / ".nowhere"
        needed = sum(copying.changed_bytes(source.path, self._links(source.name), nowhere) for source in sources)
        if self.before is not None:
            needed += sum(entry.size for path, entry in self.before.entries.items() if path.startswith("dumps/"))
        return needed + sum(image["Size"] for image in self._images() if self._kept_image(_image_file(image)) is None)

    def _links(self, name: str) -> list[Path]:
        return [link / name for link in self.links]

    def _fill(self, partial: Path, holder: Optional[Holder]) -> Made:
        started = iso()
        for name in ("files", "volumes", "dumps", "images", "engine"):
            (partial / name).mkdir(mode=0o700)
        held = {name: service for service in self.settings.services if service.quiesce != "none" for name in _places(service)}
        sources = self._sources()
        for source in sources:
            first = partial / FIRST if source.name in held else partial
            copying.mirror(source.path, first / source.name, self._links(source.name))
        for service in self.settings.services:
            self._service(partial, service, [source for source in sources if source.name in _places(service)], holder)
        if (partial / FIRST).exists():
            remove(partial / FIRST)
        self._save_images(partial)
        self._save_objects(partial)
        entries = manifest.scan_generation(partial, None if self.before is None else self.before.entries, self.generations.last())
        made = manifest.Manifest({}, entries)
        manifest.write(partial / manifest.NAME, self._header(started, made), entries)
        whole = self.generations.finish(partial)
        self.log.say(f"generation {whole.name}: {made.files} files, {human(made.size)}, {human(disk.free(self.settings))} stay free")
        return Made(whole, made.size, made.files)

    def _header(self, started: str, made: manifest.Manifest) -> dict[str, Any]:
        dumps = [service.name for service in self.settings.services if service.dump is not None]
        return {"host": socket.gethostname(), "started": started, "finished": iso(), "files": made.files, "bytes": made.size, "dumps": dumps}

    def _service(self, partial: Path, service: Service, sources: Sequence[Source], holder: Optional[Holder]) -> None:
        """Dump, then the last changes while its containers stand still.

        The second copy goes beside the first and takes its files as hard links. Into the first it would change owners and modes in place, also
        of files that older generations share with it.
        """
        if service.dump is not None:
            self._dump(partial, service)
        if service.quiesce == "none" or holder is None:
            return
        try:
            holder.hold(service, service.volumes, stop=service.quiesce == "stop")
            for source in sources:
                copying.mirror(source.path, partial / source.name, [partial / FIRST / source.name, *self._links(source.name)])
        finally:
            holder.release()

    def _dump(self, partial: Path, service: Service) -> None:
        if self.docker is None or service.dump is None:
            return
        running = self.docker.containers(service)
        if not running:
            raise BackupError(f"platform_backup.services[{service.name}]: has a dump, and no container of it runs. Start it, or remove the dump from the model")
        path = partial / "dumps" / f"{service.name}.dump"
        self.docker.export(["exec", running[0], *service.dump.command], path, service.dump.seconds)
        if path.stat().st_size == 0:
            raise BackupError(f"platform_backup.services[{service.name}].dump: the command wrote nothing. Try it by hand: docker exec {running[0][:12]} ...")
        self.log.say(f"dump of {service.name}: {human(path.stat().st_size)}")

    def _images(self) -> list[dict[str, Any]]:
        if self.docker is None or self.settings.images not in (OWN, ALL):
            return []
        found = self.docker.inspect("image", list(dict.fromkeys(self.docker.names("image", "ls", "--quiet", "--no-trunc"))))
        return [image for image in found if image["RepoTags"] and (self.settings.images == ALL or not image["RepoDigests"])]

    def _kept_image(self, name: str) -> Optional[Path]:
        return next((link / "images" / name for link in self.links if (link / "images" / name).is_file()), None)

    def _save_images(self, partial: Path) -> None:
        rows = []
        for image in self._images():
            name = _image_file(image)
            kept = self._kept_image(name)
            if kept is not None:
                os.link(kept, partial / "images" / name)
            elif self.docker is not None:
                self.docker.export(["image", "save", *image["RepoTags"]], partial / "images" / name, 3600)
            rows.append({"id": image["Id"], "tags": image["RepoTags"], "file": name})
        _write_json(partial / "images.json", rows)

    def _save_objects(self, partial: Path) -> None:
        """Definitions by which a person can see what ran; the platform's own come back from the model. Values of secrets can't be read from Swarm."""
        if self.docker is None:
            return
        _write_json(partial / "engine" / "volumes.json", [_brief_volume(volume) for volume in self.volumes.values()])
        _write_json(partial / "engine" / "containers.json", self.docker.inspect("container", self.docker.names("ps", "--quiet", "--all")))
        if self.docker.call("info", "--format", "{{.Swarm.ControlAvailable}}").strip() != "true":
            return
        for kind in ("service", "config", "secret"):
            _write_json(partial / "engine" / f"{kind}s.json", self.docker.inspect(kind, self.docker.names(kind, "ls", "--quiet")))
        _write_json(partial / "engine" / "networks.json", self.docker.inspect("network", self.docker.names("network", "ls", "--quiet")))


def _places(service: Service) -> set[str]:
    return {*(f"volumes/{name}" for name in service.volumes), *(file_name(path) for path in service.paths)}


def _here(volume: dict[str, Any]) -> bool:
    options = volume.get("Options") or {}
    return volume["Driver"] == "local" and not ({"type", "device"} & options.keys())


def _brief_volume(volume: dict[str, Any]) -> dict[str, Any]:
    return {"name": volume["Name"], "labels": volume.get("Labels") or {}, "options": volume.get("Options") or {}}


def _image_file(image: dict[str, Any]) -> str:
    tags = hashlib.sha256("\n".join(sorted(image["RepoTags"])).encode()).hexdigest()
    return f"{image['Id'].rpartition(':')[2][:16]}-{tags[:8]}.tar"


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1, sort_keys=True) + "\n")
