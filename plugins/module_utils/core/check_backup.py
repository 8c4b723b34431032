# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_backup``, read and checked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup, BackupService, Dump, Feed
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Updates

BACKUP_KEYS = (
    "mount",
    "target",
    "schedule",
    "keep",
    "max_age_days",
    "reserve_gb",
    "reserve_percent",
    "images",
    "paths",
    "skip_volumes",
    "services",
)
SERVICE_KEYS = ("name", "workload", "container", "volumes", "paths", "dump", "restore", "quiesce", "stop_seconds")
DUMP_KEYS = ("command", "volumes", "timeout_seconds")
RESTORE_KEYS = ("command", "ready", "timeout_seconds")
IMAGES = ("own", "all", "none")
QUIESCE = ("none", "pause", "stop")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# More than this kept free leaves no room to save anything.
MOST_PERCENT = 90
# Between a backup's start and that of the updates: a backup takes its time, and updates restart the engine, or the host.
APART_HOURS = 6
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES

_DAY = "|".join(DAYS)
_SCHEDULE = re.compile(rf"(?:((?:{_DAY})(?:(?:,|\.\.)(?:{_DAY}))*) )?([01][0-9]|2[0-3]):[0-5][0-9]")
# moby, volume/names: what the engine takes for a volume.
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_CONTAINER = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
# An argument that carries a secret itself; one that a shell in the container expands does not.
_SECRET_ARGUMENT = re.compile(r"(?:pass|passwd|password|secret|token)[=:][^$\s]", re.IGNORECASE)


def read_backup(faults: Faults, raw: Any, context: Context) -> Optional[Backup]:
    """``platform_backup``; None when it is wrong."""
    count = len(faults.items)
    table = Table.read(faults, "platform_backup", raw, BACKUP_KEYS)
    if table is None:
        return None
    mount = _directory(faults, table.at("mount"), table.text("mount")) or Backup.mount
    target = _directory(faults, table.at("target"), table.text("target")) or Backup.target
    if not _below(target, mount) and len(faults.items) == count:
        reason = f"is not below platform_backup.mount ({mount}), and would be written to the system's own disk"
        faults.add("backup-target", table.at("target"), target, reason, f"Write a directory below it, such as '{mount}/docker'")
    _check_outside(faults, "platform_backup.mount", mount, context)
    schedule = _read_schedule(faults, table)
    percent = _or(table.number("reserve_percent"), Backup.reserve_percent)
    if percent > MOST_PERCENT:
        faults.add("percent", table.at("reserve_percent"), percent, "leaves no room on the disk", f"Write a percentage from 0 to {MOST_PERCENT}")
    rows = table.rows("services")
    services = [_read_service(faults, path, row, mount, context) for path, row in zip(labels("platform_backup.services", rows), rows)]
    found = [service for service in services if service is not None]
    _check_doubles(faults, found)
    backup = Backup(
        mount=mount,
        target=target,
        schedule=schedule,
        keep=_or(table.number("keep", least=1), Backup.keep),
        max_age_days=_or(table.number("max_age_days", least=1), Backup.max_age_days),
        reserve_gb=_or(table.number("reserve_gb"), Backup.reserve_gb),
        reserve_percent=percent,
        images=table.choice("images", IMAGES) or Backup.images,
        paths=_paths(faults, table, mount),
        skip_volumes=_volumes(faults, table, "skip_volumes"),
        services=tuple(found),
    )
    _check_age(faults, backup)
    return backup if len(faults.items) == count else None


def _or(value: Optional[int], other: int) -> int:
    return other if value is None else value


def _below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _directory(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    """An absolute path without detours."""
    if text is None:
        return None
    if not text.startswith("/") or posixpath.normpath(text) != text or text == "/" or not text.isprintable():
        plain = posixpath.normpath("/" + text.lstrip("/"))
        cure = f"Write {plain!r}" if plain not in ("/", text) else "Write an absolute path below /, such as '/mnt/backup'"
        faults.add("backup-path", path, text, "is no plain absolute path of a directory", cure)
        return None
    return text


def _check_outside(faults: Faults, path: str, mount: str, context: Context) -> None:
    """A disk inside of what is saved would be saved into itself."""
    root = None if context.docker is None else context.docker.data_root
    if root is not None and (mount == root or _below(mount, root) or _below(root, mount)):
        reason = f"and platform_docker.data_root ({root}) lie in one another: the backup would save itself, or lie on the disk that it is to outlive"
        faults.add("backup-inside", path, mount, reason, "Mount the disk elsewhere, such as at '/mnt/backup'")


def _paths(faults: Faults, table: Table, mount: str) -> tuple[str, ...]:
    found = []
    for index, text in enumerate(table.words("paths")):
        path = f"{table.at('paths')}[{index}]"
        directory = _directory(faults, path, text)
        if directory is None:
            continue
        if directory == mount or _below(directory, mount) or _below(mount, directory):
            faults.add(
                "backup-inside", path, directory, f"and the disk ({mount}) lie in one another: it would be saved into itself", "Name directories beside it"
            )
            continue
        found.append(directory)
    return tuple(found)


def _volumes(faults: Faults, table: Table, key: str) -> tuple[str, ...]:
    found = []
    for index, text in enumerate(table.words(key)):
        if _VOLUME.fullmatch(text):
            found.append(text)
        else:
            cure = "Write it as docker volume ls shows it; a directory of the host goes into paths"
            faults.add("backup-volume", f"{table.at(key)}[{index}]", text, "is no name of a volume", cure)
    return tuple(found)


def _read_schedule(faults: Faults, table: Table) -> str:
    text = table.text("schedule")
    if text is None:
        return Backup.schedule
    if not _SCHEDULE.fullmatch(text):
        cure = "Write days and a time of day, such as 'Sun 03:00', 'Mon,Thu 03:00', 'Mon..Fri 22:30', or '03:00' for each day"
        faults.add("schedule", table.at("schedule"), text, "is no day and time", cure)
        return Backup.schedule
    return text


def _days(schedule: str) -> list[int]:
    """Numbers of its days, 0 for Monday; all of them where it names none."""
    found = _SCHEDULE.fullmatch(schedule)
    if found is None or found.group(1) is None:
        return list(range(7))
    days: set[int] = set()
    for part in found.group(1).split(","):
        ends = [DAYS.index(day) for day in part.split("..")]
        days.update((ends[0] + step) % 7 for step in range((ends[-1] - ends[0]) % 7 + 1))
    return sorted(days)


def longest_gap(schedule: str) -> int:
    """Days between two runs, at the most."""
    ordered = _days(schedule)
    return max((after - before - 1) % 7 + 1 for before, after in zip(ordered, [*ordered[1:], ordered[0]]))


def check_nights(faults: Faults, backup: Backup, updates: Updates) -> None:
    """The backup of one night, the updates of another: an update restarts the engine under the backup's hands."""
    runs = [day * _DAY_MINUTES + _minutes(backup.schedule[-5:]) for day in _days(backup.schedule)]

    def apart(start: int) -> int:
        return min(min((start - run) % _WEEK_MINUTES, (run - start) % _WEEK_MINUTES) for run in runs)

    start = DAYS.index(updates.day) * _DAY_MINUTES + _minutes(updates.time)
    if apart(start) >= APART_HOURS * 60:
        return
    other = next((moment for moment in ((start + step * 60) % _WEEK_MINUTES for step in (-24, 24, 12)) if apart(moment) >= APART_HOURS * 60), None)
    found = f"{updates.day} {updates.time}"
    reason = f"is less than {APART_HOURS} hours from the backup (platform_backup.schedule: {backup.schedule}): an update restarts services while they are saved"
    cure = "Save on fewer days or at another hour"
    if other is not None:
        day, rest = divmod(other, _DAY_MINUTES)
        cure = f"Set platform_security.updates to {{day: {DAYS[day]}, time: '{rest // 60:02}:{rest % 60:02}'}}, or save at another hour"
    faults.add("backup-updates", "platform_security.updates", found, reason, cure)


def _minutes(time: str) -> int:
    """Since midnight, of ``HH:MM``."""
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)


def _check_age(faults: Faults, backup: Backup) -> None:
    gap = longest_gap(backup.schedule)
    if backup.max_age_days < gap:
        reason = f"is less than the {gap} days between two runs of the schedule ({backup.schedule}): every good backup would become too old"
        faults.add("backup-age", "platform_backup.max_age_days", backup.max_age_days, reason, f"Write {gap + 1}, or add days to the schedule")


def _read_service(faults: Faults, path: str, raw: Any, mount: str, context: Context) -> Optional[BackupService]:
    table = Table.read(faults, path, raw, SERVICE_KEYS, ("name",))
    if table is None:
        return None
    name = values.name(faults, table.at("name"), table.text("name"), "service")
    workload, container = _read_holder(faults, table, context)
    dump, restore = _read_dump(faults, table), _read_feed(faults, table)
    volumes = _volumes(faults, table, "volumes") if "volumes" in table.value else None
    _check_hooks(faults, table, context)
    service = BackupService(
        name=name or "",
        workload=workload,
        container=container,
        volumes=volumes,
        paths=_paths(faults, table, mount),
        dump=dump,
        restore=restore,
        quiesce=table.choice("quiesce", QUIESCE) or BackupService.quiesce,
        stop_seconds=_or(table.number("stop_seconds", least=1), BackupService.stop_seconds),
    )
    return service if name else None


def _read_holder(faults: Faults, table: Table, context: Context) -> tuple[Optional[str], Optional[str]]:
    workload, container = table.text("workload"), table.text("container")
    if workload is not None and container is not None:
        faults.add("backup-holder", table.at("container"), container, f"and the workload {workload!r} can't both be what runs", "Remove one of them")
    judged = not any(finding.path.startswith("platform_workloads") for finding in faults.items)
    if workload is not None and judged and workload not in context.workloads:
        faults.add("backup-workload", table.at("workload"), workload, "is no name in platform_workloads", meant(workload, context.workloads, "workloads"))
    if container is not None and not _CONTAINER.fullmatch(container):
        faults.add("backup-container", table.at("container"), container, "is no name of a container", "Write it as docker ps shows it, under NAMES")
    return workload, None if container is None else container.lstrip("/")


def _check_hooks(faults: Faults, table: Table, context: Context) -> None:
    value, path = table.value, table.path
    if ("dump" in value or value.get("quiesce", "none") != "none") and not ("workload" in value or "container" in value or "volumes" in value):
        key = "dump" if "dump" in value else "quiesce"
        faults.add("backup-nowhere", f"{path}.{key}", None, "has no container: neither workload nor container is named", "Add workload, or container")
    elif "dump" in value and not ("workload" in value or "container" in value):
        faults.add("backup-nowhere", f"{path}.dump", None, "has no container to run in", "Add workload, or container")
    if "dump" in value and "restore" not in value:
        reason = "must be set with a dump: what nothing reads back is no backup"
        faults.add("backup-no-restore", f"{path}.restore", None, reason, "Add restore: {command: [...]}, a command that reads the dump from its standard input")
    if "restore" in value and "dump" not in value:
        faults.add("backup-no-dump", f"{path}.restore", None, "has no dump to read", "Add dump: {command: [...]}, or remove restore")
    # An engine with faults of its own is None too.
    judged = not any(finding.path.startswith(("platform_docker", "platform_ranges")) for finding in faults.items)
    if context.docker is None and judged and any(key in value for key in ("workload", "container", "volumes", "dump")):
        faults.add(
            "backup-no-docker", path, None, "names containers or volumes, and there is no platform_docker", "Describe platform_docker, or use paths alone"
        )


def _read_dump(faults: Faults, table: Table) -> Optional[Dump]:
    inner = Table.read(faults, table.at("dump"), table.value["dump"], DUMP_KEYS, ("command",)) if "dump" in table.value else None
    if inner is None:
        return None
    seconds = _or(inner.number("timeout_seconds", least=1), Dump.timeout_seconds)
    return Dump(_command(faults, inner, "command"), _volumes(faults, inner, "volumes"), seconds)


def _read_feed(faults: Faults, table: Table) -> Optional[Feed]:
    inner = Table.read(faults, table.at("restore"), table.value["restore"], RESTORE_KEYS, ("command",)) if "restore" in table.value else None
    if inner is None:
        return None
    ready = _command(faults, inner, "ready") if "ready" in inner.value else ()
    return Feed(_command(faults, inner, "command"), ready, _or(inner.number("timeout_seconds", least=1), Feed.timeout_seconds))


def _command(faults: Faults, table: Table, key: str) -> tuple[str, ...]:
    words = tuple(table.words(key))
    if table.value.get(key) == []:
        faults.add("backup-command", table.at(key), [], "has no words", "Write the program and its arguments, such as [sh, -c, 'exec pg_dumpall']")
    for index, word in enumerate(words):
        if _SECRET_ARGUMENT.search(word):
            reason = "carries a secret, which every user of the host would see in the list of processes"
            cure = "Let the command read it in the container, from /run/secrets or a file of options"
            faults.add("backup-secret", f"{table.at(key)}[{index}]", HIDDEN, reason, cure)
    return words


def _check_doubles(faults: Faults, services: Sequence[BackupService]) -> None:
    names: set[str] = set()
    owners: dict[str, str] = {}
    for service in services:
        path = f"platform_backup.services[{service.name}]"
        if service.name in names:
            faults.add("backup-service-twice", path, service.name, "is the name of an earlier service too", "Give each its own name")
        names.add(service.name)
        dumped = () if service.dump is None else service.dump.volumes
        for volume in dict.fromkeys((*(service.volumes or ()), *dumped)):
            if volume in owners:
                reason = f"is a volume of {owners[volume]} too, and would be restored twice"
                faults.add("backup-volume-twice", f"{path}.volumes", volume, reason, "Name it in one service")
            owners[volume] = f"platform_backup.services[{service.name}]"
