# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb ``restore``: one service, or all, from a generation back to where it was, or into a directory. The result is compared with the manifest."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import copying, manifest
from .engine import Docker, wait
from .errors import BackupError, Refused, UsageError
from .gaps import Gap, concerned
from .generations import Generations
from .holding import RESTORE, Holder
from .journal import Log, human, table
from .saving import file_name
from .settings import Service, Settings

OTHERS = Service("(others)")


@dataclass(frozen=True)
class Part:
    """A directory of the generation. volume: its name, or None for ``path`` of the host."""

    source: str
    service: Service
    volume: Optional[str] = None
    path: Optional[Path] = None

    @property
    def shown(self) -> str:
        return f"volume {self.volume}" if self.volume is not None else str(self.path)


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    service: str
    what: str
    files: int
    size: int
    found: str
    differences: tuple[str, ...] = ()


class Restorer:
    """generation: a name, or ``latest``: the newest that lacks nothing of what is asked for."""

    def __init__(self, settings: Settings, docker: Optional[Docker], log: Log, generation: str, services: Optional[Sequence[Service]]) -> None:
        self.settings = settings
        self.docker = docker
        self.log = log
        known = Generations(settings.target)
        asked = None if services is None else [service.name for service in services]
        self.generation = known.good_for(asked) if generation == "latest" else known.find(generation)
        self.manifest = manifest.read(self.generation / manifest.NAME)
        self.gaps = concerned(self.manifest.gaps, asked)
        if generation == "latest" and self.generation != known.last():
            log.say(f"generation {self.generation.name}: newer ones lack something of what is asked for (hybridlab-backup list)")

    def to_directory(self, services: Optional[Sequence[Service]], directory: Path) -> list[Row]:
        """Everything, or what the services have, into an empty directory; nothing else is touched."""
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise Refused(f"--to {directory}: is not empty. Name a directory that is, or one that does not exist")
        if services is None:
            names = ["."]
        else:
            names = [part.source for part in self._parts(services)]
            names += [name for name in (_dump_name(service) for service in services) if name in self.manifest.entries]
        rows = []
        for name in names:
            wanted = dict(self.manifest.entries) if name == "." else self.manifest.below(name)
            source, target = self.generation / name, directory / name
            if source.is_dir():
                copying.mirror(source, target)
            else:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                copying.copy_file(source, target)
            rows.append(_row("-", f"{directory}/{name}" if name != "." else str(directory), wanted, target, whole=name == "."))
        return [*rows, *map(_lack, self.gaps)]

    def in_place(self, services: Optional[Sequence[Service]], force: bool) -> list[Row]:
        """The services, or everything, to where it was. Everything is checked before the first service is stopped."""
        chosen, parts = self.plan(services)
        self._check(chosen, parts, force)
        rows = [] if services is not None else self._load_images()
        for service in chosen:
            rows += self._restore(service, [part for part in parts if part.service is service])
        return [*rows, *map(_lack, self.gaps)]

    def plan(self, services: Optional[Sequence[Service]]) -> tuple[list[Service], list[Part]]:
        chosen = [*self.settings.services, OTHERS] if services is None else list(services)
        return chosen, self._parts(chosen)

    def planned(self, services: Optional[Sequence[Service]]) -> list[Row]:
        """What ``in_place`` would do."""
        chosen, parts = self.plan(services)
        rows = [self._planned(part) for part in parts]
        for service in chosen:
            dump = self.manifest.entries.get(_dump_name(service))
            if dump is not None:
                rows.append(Row(service.name, "dump", 1, dump.size, "would be fed to its restore command" if service.restore else "has no restore command"))
        return [*rows, *map(_lack, self.gaps)]

    def _planned(self, part: Part) -> Row:
        wanted = manifest.Manifest({}, self.manifest.below(part.source))
        target = self._target(part)
        words = "would be filled" if target is None or _empty(target) else "would be replaced (--force)"
        return Row(part.service.name, part.shown, wanted.files, wanted.size, words)

    def _parts(self, services: Sequence[Service]) -> list[Part]:
        parts: list[Part] = []
        missing: list[str] = []
        for service in services:
            if service is OTHERS:
                parts += self._others()
                continue
            own = [Part(f"volumes/{name}", service, volume=name) for name in service.volumes]
            own += [Part(file_name(path), service, path=Path(path)) for path in service.paths]
            # What a gap says is not asked for again.
            if not any(gap.service == service.name for gap in self.gaps):
                missing += [part.shown for part in own if part.source not in self.manifest.entries]
            parts += [part for part in own if part.source in self.manifest.entries]
        if missing:
            raise UsageError(f"generation {self.generation.name} does not hold {', '.join(missing)}: it is older than these. Use a later one")
        return parts

    def _others(self) -> list[Part]:
        """Volumes and directories that the generation holds and no service names. The host's own configuration is not among them: site.yml makes it."""
        owned = {name for service in self.settings.services for name in service.volumes}
        held = [path.split("/")[1] for path in self.manifest.entries if path.startswith("volumes/") and path.count("/") == 1]
        parts = [Part(f"volumes/{name}", OTHERS, volume=name) for name in sorted(set(held) - owned)]
        paths = [path for path in self.settings.paths if file_name(path) in self.manifest.entries]
        return parts + [Part(file_name(path), OTHERS, path=Path(path)) for path in paths]

    def _engine(self) -> Docker:
        if self.docker is None:
            raise UsageError("there is no container engine in the model (platform_docker): volumes can only be restored with --to DIR")
        return self.docker

    def _target(self, part: Part) -> Optional[Path]:
        """Where the part belongs; None for a volume that is not there yet."""
        if part.volume is None:
            return part.path
        if not self._engine().there("volume", part.volume):
            return None
        return Path(self._engine().inspect("volume", [part.volume])[0]["Mountpoint"])

    def _check(self, services: Sequence[Service], parts: Sequence[Part], force: bool) -> None:
        filled = [f"{part.service.name}: {part.shown}" for part in parts for target in [self._target(part)] if target is not None and not _empty(target)]
        filled += [f"{service.name}: {name}, which its dump would replace" for service in services for name in self._replaced(service)]
        if filled and not force:
            raise Refused(f"these are not empty, and what they hold would be lost: {'; '.join(filled)}. Add --force to replace them, or use --to DIR")
        for service in services:
            if _dump_name(service) not in self.manifest.entries:
                continue
            if service.restore is None:
                self.log.say(f"{service.name}: its dump has no restore command and stays in the generation")
            elif not self._exists(service):
                cure = "Build it first (playbooks/workloads.yml), then restore"
                raise Refused(f"{service.name}: its dump is read by a command in its container, and there is none. {cure}")
        self._check_sums([*(part.source for part in parts), *(_dump_name(service) for service in services)])
        self._check_room(parts)

    def _replaced(self, service: Service) -> list[str]:
        """Volumes with something in them that the service's dump stands for."""
        if _dump_name(service) not in self.manifest.entries or service.restore is None:
            return []
        targets = [(name, self._target(Part(name, service, volume=name))) for name in service.dumped]
        return [name for name, target in targets if target is not None and not _empty(target)]

    def _exists(self, service: Service) -> bool:
        if service.swarm is not None:
            return self._engine().there("service", service.swarm)
        return bool(self._engine().containers(service, every=True))

    def _check_sums(self, names: Sequence[str]) -> None:
        """A generation that the disk has damaged must not replace anything."""
        bad = []
        for name in names:
            if name in self.manifest.entries:
                bad += manifest.compare(self.manifest.below(name), manifest.scan(self.generation / name))
        if bad:
            shown = "; ".join(f"{path} {words}" for path, words in bad[:5])
            raise BackupError(f"generation {self.generation.name} is damaged ({len(bad)} differences: {shown}). Nothing was changed. Use another generation")

    def _check_room(self, parts: Sequence[Part]) -> None:
        needed: dict[int, int] = {}
        free: dict[int, int] = {}
        for part in parts:
            place = self._place(part)
            device = place.stat().st_dev
            found = os.statvfs(place)
            free[device] = found.f_bavail * found.f_frsize
            # What is replaced makes room file by file.
            if (target := self._target(part)) is None or _empty(target):
                needed[device] = needed.get(device, 0) + manifest.Manifest({}, self.manifest.below(part.source)).size
            if needed.get(device, 0) > free[device]:
                raise Refused(f"{place}: too small. The restore needs {human(needed[device])}, and {human(free[device])} are free. Make room, then repeat")

    def _place(self, part: Part) -> Path:
        """An existing directory on the disk to which the part goes."""
        target = self._target(part)
        if target is None:
            target = Path(self._engine().call("info", "--format", "{{.DockerRootDir}}").strip())
        return next(place for place in (target, *target.parents) if place.exists())

    def _load_images(self) -> list[Row]:
        """Images that the generation holds and the host does not have."""
        if self.docker is None or not (self.generation / "images.json").exists():
            return []
        rows = []
        for image in json.loads((self.generation / "images.json").read_text(encoding="utf-8")):
            path = self.generation / "images" / image["file"]
            if self.docker.there("image", image["id"]):
                words = self._name_image(self.docker, image)
            else:
                if manifest.file_sum(path) != self.manifest.entries[f"images/{image['file']}"].sum:
                    raise BackupError(f"{path}: is damaged, its sum is not that of the manifest. Use another generation, or build the image anew")
                self.docker.call("image", "load", "--quiet", "--input", str(path), seconds=3600)
                words = "loaded"
            rows.append(Row("-", f"image {image['tags'][0]}", 1, path.stat().st_size, words))
        return rows

    @staticmethod
    def _name_image(docker: Docker, image: Mapping[str, Any]) -> str:
        """Give an image that is there by its id the names that it had; a name that another image has now stays there."""
        lost = [tag for tag in image["tags"] if not docker.there("image", tag)]
        for tag in lost:
            docker.call("image", "tag", image["id"], tag)
        return f"named {', '.join(lost)} again" if lost else "is there"

    def _restore(self, service: Service, parts: Sequence[Part]) -> list[Row]:
        holder = None if self.docker is None else Holder(self.docker, self.settings.place.state, RESTORE, self.log)
        volumes = [part.volume for part in parts if part.volume is not None]
        if holder is not None and (parts or service.dump is not None):
            self._make_volumes([*volumes, *service.dumped])
            if parts:
                # Not released when the copy fails: a service must not start on half of its files. The note says how to go on.
                holder.hold(service, volumes, stop=True)
        rows = []
        for part in parts:
            target = self._target(part)
            if target is None:
                raise BackupError(f"{part.shown}: is not there after it was made. See: docker volume ls")
            copying.mirror(self.generation / part.source, target)
            rows.append(_row(service.name, part.shown, self.manifest.below(part.source), target))
        if holder is not None:
            holder.release()
        if _dump_name(service) in self.manifest.entries and service.restore is not None:
            rows.append(self._feed(service))
        return rows

    def _make_volumes(self, names: Sequence[str]) -> None:
        """With the labels and options that they had."""
        path = self.generation / "engine" / "volumes.json"
        known = {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
        for name in names:
            if self._engine().there("volume", name):
                continue
            row: Mapping[str, Any] = known.get(name, {"labels": {}, "options": {}})
            labels = [word for key, value in row["labels"].items() for word in ("--label", f"{key}={value}")]
            options = [word for key, value in row["options"].items() for word in ("--opt", f"{key}={value}")]
            self._engine().call("volume", "create", "--driver", "local", *labels, *options, name)

    def _feed(self, service: Service) -> Row:
        docker, hook = self._engine(), service.restore
        name = _dump_name(service)
        if hook is None:
            raise BackupError(f"{service.name}: has no restore command")
        if not docker.containers(service) and service.swarm is None:
            docker.call("start", docker.containers(service, every=True)[0])
        running: list[str] = []

        def up() -> bool:
            running[:] = [container for container in docker.containers(service) if docker.ready(container)]
            return bool(running) and (not hook.ready or docker.succeeds(running[0], hook.ready))

        wait(f"start of {service.name}", service.stop_seconds, up)
        docker.feed(running[0], hook, self.generation / name)
        return Row(service.name, "dump", 1, self.manifest.entries[name].size, "restored")


def _dump_name(service: Service) -> str:
    return f"dumps/{service.name}.dump"


def _empty(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _lack(gap: Gap) -> Row:
    return Row(gap.service or "-", gap.what, 0, 0, "NOT WHOLE in this generation", (str(gap),))


def _row(service: str, what: str, wanted: Mapping[str, manifest.Entry], target: Path, whole: bool = False) -> Row:
    rows = manifest.compare(wanted, manifest.scan_generation(target) if whole else manifest.scan(target))
    counted = manifest.Manifest({}, wanted)
    found = "equal to the manifest" if not rows else f"{len(rows)} DIFFERENCES"
    return Row(service, what, counted.files, counted.size, found, tuple(f"{what}: {path} {words}" for path, words in rows))


def shown(rows: Sequence[Row]) -> str:
    """The rows as a table, with the first differences below."""
    lines = [table(("service", "what", "files", "size", "result"), [(row.service, row.what, str(row.files), human(row.size), row.found) for row in rows])]
    lines += [f"  {words}" for row in rows for words in row.differences[:20]]
    return "\n".join(lines)
