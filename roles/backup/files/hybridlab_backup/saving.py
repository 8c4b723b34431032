# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb ``run``: a new generation beside the others.

Order: the disk is judged, then everything that can be copied while services run is copied, then each service that wants to stand still is held
for its last changes only, then images, the engine's objects and the manifest. A generation gets its name when all of it is on the disk.

A part that can't be saved, such as a volume of another driver or a dump that fails, is a gap: all else is saved, the generation says what it
lacks, and the run ends as a failure.

What is not copied is the engine's own store of layers and container states: a copy of it beside a running daemon is not consistent, and
neither another storage driver nor another version could read it. Images that no registry has are saved by the engine instead.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import copying, disk, manifest
from .engine import Docker
from .errors import BackupError, DiskFull, Fatal, Refused
from .gaps import Gap, to_json
from .generations import Generations, remove
from .holding import RUN, Holder
from .journal import Log, human, iso, write_whole
from .settings import Service, Settings

FIRST = ".first"
OWN, ALL = "own", "all"


@dataclass(frozen=True)
class Source:
    """A directory of the host, and where it stands in a generation. service: whose it is."""

    path: Path
    name: str
    service: Optional[str] = None

    @property
    def what(self) -> str:
        return f"volume {self.name.partition('/')[2]}" if self.name.startswith("volumes/") else str(self.path)


@dataclass(frozen=True)
class Made:
    generation: Path
    size: int
    files: int
    gaps: tuple[Gap, ...]


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
        self.sources: list[Source] = []
        self.gaps: dict[str, Gap] = {}
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
        self.sources = [*self._paths(), *self._volumes()]
        if self.gaps and not self.sources and not any(service.dump for service in self.settings.services):
            raise Refused(f"nothing can be saved: {self._lacking()}")
        disk.check_mount(self.settings, [source.path for source in self.sources])
        # The mount is the disk now; without it this directory would be made on the system's own.
        self.settings.target.mkdir(mode=0o700, parents=True, exist_ok=True)
        leftovers = self.generations.leftovers()[-5:]
        self.generations.sweep(self.log, tuple(leftovers))
        # Before the room is judged: a smaller count is how a full disk gets room.
        self.generations.retain(self.settings.keep, self.log)
        disk.check_abilities(self.settings.target)
        last, good = self.generations.last(), self.generations.last_good()
        self.before = None if last is None else manifest.read(last / manifest.NAME)
        # The good one has what the last one may lack.
        self.links = [*leftovers, *dict.fromkeys(path for path in (last, good) if path is not None)]
        if leftovers:
            self.log.say(f"building on what {len(leftovers)} unfinished run(s) copied")
        needed = self._needed()
        self.log.say(f"{len(self.sources)} directories, {human(needed)} to copy, {human(disk.free(self.settings))} free")
        disk.check_room(self.settings, needed)
        return leftovers

    def _miss(self, what: str, why: str, service: Optional[str] = None) -> None:
        gap = Gap(what, why, service)
        self.gaps[gap.name] = gap
        self.log.say(f"not saved: {gap}")

    def _lacking(self) -> str:
        return "; ".join(str(gap) for gap in self.gaps.values())

    @contextmanager
    def _part(self, what: str, service: Optional[str] = None) -> Iterator[None]:
        """What fails in here is a gap, and no end of the run."""
        try:
            yield
        except Fatal:
            raise
        except BackupError as error:
            self._miss(what, str(error), service)

    def _volumes(self) -> list[Source]:
        """Volumes that are copied; those that are missed become gaps."""
        if self.docker is None:
            return []
        owners = {name: service.name for service in self.settings.services for name in (*service.volumes, *service.dumped)}
        dumped = {name for service in self.settings.services for name in service.dumped}
        self.volumes = {volume["Name"]: volume for volume in self.docker.volumes() if volume["Name"] not in self.settings.skip}
        for name in sorted(owners.keys() - self.volumes.keys()):
            why = "platform_backup.services: there is no such volume on this host. Start the service that makes it, or correct the name"
            self._miss(f"volume {name}", why, owners[name])
        found = []
        for name, volume in self.volumes.items():
            if name in dumped:
                continue
            if _here(volume):
                found.append(Source(Path(volume["Mountpoint"]), f"volumes/{name}", owners.get(name)))
                continue
            why = "its data lies elsewhere (another driver, or a mount). Save it there, or its directory by platform_backup.paths, and name it in skip_volumes"
            self._miss(f"volume {name}", why, owners.get(name))
        return found

    def _paths(self) -> list[Source]:
        """Directories that are copied; those that are missed become gaps, but for the host's configuration, of which each host has its own parts."""
        owners: dict[str, Optional[str]] = dict.fromkeys(self.settings.paths)
        owners.update({path: service.name for service in self.settings.services for path in service.paths})
        found = [Source(Path(path), file_name(path)) for path in self.settings.configuration if path not in owners and Path(path).is_dir()]
        for path, owner in owners.items():
            if Path(path).is_dir():
                found.append(Source(Path(path), file_name(path), owner))
            else:
                self._miss(path, "there is no such directory. Make it, or correct paths in platform_backup", owner)
        return found

    def _needed(self) -> int:
        needed = sum(self._estimate(source) for source in self.sources)
        if self.before is not None:
            needed += sum(entry.size for path, entry in self.before.entries.items() if path.startswith("dumps/"))
        return needed + sum(image["Size"] for image in self._images() if self._kept_image(_image_file(image)) is None)

    def _estimate(self, source: Source) -> int:
        try:
            return copying.changed_bytes(source.path, self._links(source.name), self.settings.target / ".nowhere")
        except Fatal:
            raise
        except BackupError as error:
            # The copy may do better, and counts.
            self.log.say(f"{source.what}: its size is not known ({error})")
            return 0

    def _links(self, name: str) -> list[Path]:
        return [link / name for link in self.links]

    def _fill(self, partial: Path, holder: Optional[Holder]) -> Made:
        started = iso()
        for name in ("files", "volumes", "dumps", "images", "engine"):
            (partial / name).mkdir(mode=0o700)
        held = {name for service in self.settings.services if _is_held(service, holder) for name in _places(service)}
        for source in self.sources:
            first = partial / FIRST if source.name in held else partial
            with self._part(source.what, source.service):
                copying.mirror(source.path, first / source.name, self._links(source.name))
        for service in self.settings.services:
            self._service(partial, service, [source for source in self.sources if source.name in _places(service)], holder)
        if (partial / FIRST).exists():
            remove(partial / FIRST)
        self._save_images(partial)
        with self._part("definitions of the engine's objects"):
            self._save_objects(partial)
        entries = manifest.scan_generation(partial, None if self.before is None else self.before.entries, self.generations.last())
        made = manifest.Manifest({}, entries)
        manifest.write(partial / manifest.NAME, self._header(started, made), entries)
        whole = self.generations.finish(partial)
        self.log.say(f"generation {whole.name}: {made.files} files, {human(made.size)}, {human(disk.free(self.settings))} stay free")
        return Made(whole, made.size, made.files, tuple(self.gaps.values()))

    def _header(self, started: str, made: manifest.Manifest) -> dict[str, Any]:
        dumps = sorted(path.partition("/")[2].rpartition(".")[0] for path in made.entries if path.startswith("dumps/"))
        head = {"host": socket.gethostname(), "started": started, "finished": iso(), "files": made.files, "bytes": made.size, "dumps": dumps}
        return {**head, "gaps": to_json(self.gaps.values())}

    def _service(self, partial: Path, service: Service, sources: Sequence[Source], holder: Optional[Holder]) -> None:
        """Dump, then the last changes while its containers stand still.

        The second copy goes beside the first and takes its files as hard links. Into the first it would change owners and modes in place, also
        of files that older generations share with it.
        """
        if service.dump is not None:
            with self._part("dump", service.name):
                self._dump(partial, service)
        if holder is None or not _is_held(service, holder):
            return
        left = list(sources)
        with self._part("copy while it stands still", service.name):
            try:
                holder.hold(service, service.volumes, stop=service.quiesce == "stop")
                while left:
                    copying.mirror(left[0].path, partial / left[0].name, [partial / FIRST / left[0].name, *self._links(left[0].name)])
                    # What the first copy may have missed.
                    self.gaps.pop(Gap(left[0].what, "", service.name).name, None)
                    left.pop(0)
            finally:
                holder.release()
        for source in left:
            # Better than nothing: what was copied while it ran.
            _replace(partial / FIRST / source.name, partial / source.name)

    def _dump(self, partial: Path, service: Service) -> None:
        if self.docker is None or service.dump is None:
            return
        running = self.docker.containers(service)
        if not running:
            raise BackupError("no container of the service runs. Start it, or remove the dump from the model")
        path = partial / "dumps" / f"{service.name}.dump"
        self.docker.export(["exec", running[0], *service.dump.command], path, service.dump.seconds)
        if path.stat().st_size == 0:
            path.unlink()
            raise BackupError(f"the command wrote nothing. Try it by hand: docker exec {running[0][:12]} ...")
        self.log.say(f"dump of {service.name}: {human(path.stat().st_size)}")

    def _images(self) -> list[dict[str, Any]]:
        if self.docker is None or self.settings.images not in (OWN, ALL):
            return []
        found = self.docker.every("image", "image", "ls", "--quiet", "--no-trunc")
        return [image for image in found if image.get("RepoTags") and (self.settings.images == ALL or not image.get("RepoDigests"))]

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
                with self._part(f"image {image['RepoTags'][0]}"):
                    self.docker.export(["image", "save", *image["RepoTags"]], partial / "images" / name, 3600)
            if (partial / "images" / name).exists():
                rows.append({"id": image["Id"], "tags": image["RepoTags"], "file": name})
        _write_json(partial / "images.json", rows)

    def _save_objects(self, partial: Path) -> None:
        """Definitions by which a person can see what ran; the platform's own come back from the model. Values of secrets can't be read from Swarm."""
        if self.docker is None:
            return
        _write_json(partial / "engine" / "volumes.json", [_brief_volume(volume) for volume in self.volumes.values()])
        _write_json(partial / "engine" / "containers.json", self.docker.every("container", "ps", "--quiet", "--all"))
        if self.docker.call("info", "--format", "{{.Swarm.ControlAvailable}}").strip() != "true":
            return
        for kind in ("service", "config", "secret"):
            _write_json(partial / "engine" / f"{kind}s.json", self.docker.every(kind, kind, "ls", "--quiet"))
        _write_json(partial / "engine" / "networks.json", self.docker.every("network", "network", "ls", "--quiet"))


def _places(service: Service) -> set[str]:
    return {*(f"volumes/{name}" for name in service.volumes), *(file_name(path) for path in service.paths)}


def _is_held(service: Service, holder: Optional[Holder]) -> bool:
    return holder is not None and service.quiesce != "none"


def _replace(found: Path, target: Path) -> None:
    if found.exists():
        if target.exists():
            remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        found.rename(target)


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
