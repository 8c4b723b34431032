# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planner for named points: each plan is made on a copy of what is there, so that it also says what will be. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.points import NAME, File, Guest, GuestDisk, Point, describe, unused_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_ops import (
    AbortJob,
    Freeze,
    Keep,
    Operation,
    Overlay,
    Record,
    Repoint,
    Snapshot,
    Start,
    Stop,
    Thaw,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_tree import collapse
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import size_text

# Bytes for each new overlay, so that its guest is not paused for want of room at once.
LEAST_ROOM = 64 * 2**20


@dataclass
class Plan:
    """before, after: as ``points.describe``; notes: what the reader should know, for warnings."""

    before: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_points(
    state: str,
    config: Sequence[Mapping[str, Any]],
    guests: Iterable[Guest],
    keep: Optional[str] = None,
    start: str = "as_before",
) -> Plan:
    """The plan for state merged, overridden, deleted or reverted.

    config: entries {name, guests}; guests empty for all
    guests: all guests of ours
    Errors are ResourceError, and told before anything is done.
    """
    planner = _Planner(guests)
    _check_config(state, config, planner.guests, keep)
    if state == "reverted":
        planner.revert(config[0], keep, start)
    else:
        planner.keep_up(state, config)
    return planner.plan()


class _Planner:
    def __init__(self, guests: Iterable[Guest]) -> None:
        self.guests = {guest.name: guest for guest in sorted(guests, key=lambda guest: guest.name)}
        self.before = describe(self.guests.values())
        self.operations: list[Operation] = []
        self.notes: list[str] = []

    def plan(self) -> Plan:
        return Plan(self.before, describe(self.guests.values()), self.operations, self.notes)

    def keep_up(self, state: str, config: Sequence[Mapping[str, Any]]) -> None:
        if state == "deleted":
            touched = self._drop([entry["name"] for entry in config], {entry["name"]: entry["guests"] for entry in config})
            self._recover(touched)
        else:
            chosen = list(dict.fromkeys(name for entry in config for name in self._chosen(entry)))
            self._recover(list(self.guests) if state == "overridden" else chosen)
            for entry in config:
                self._ensure(entry["name"], self._chosen(entry))
            touched = chosen
            if state == "overridden":
                named = {entry["name"] for entry in config}
                self._drop([row["name"] for row in self.before if row["name"] not in named], {})
                touched = list(self.guests)
        self._collapse(touched)

    def revert(self, entry: Mapping[str, Any], keep: Optional[str], start: str) -> None:
        name = entry["name"]
        chosen = [guest for guest in self._chosen(entry) if entry["guests"] or self.guests[guest].point(name) is not None]
        for guest in chosen:
            self._check_revertible(self.guests[guest], name)
        if not chosen:
            raise ResourceError(f"config[0].name: found {name!r}, a point that no guest has. There are: {self._listed()}.")
        left = [guest for guest in self.guests if guest not in chosen]
        if left and not entry["guests"]:
            self.notes.append(f"point {name}: {', '.join(left)} did not exist when it was taken, and stay as they are")
        self._recover(chosen)
        resuming = any(self.guests[guest].resume for guest in chosen)
        if keep is not None and not resuming:
            self._check_unused(keep, chosen)
        for guest in chosen:
            present = self.guests[guest]
            if present.resume is None:
                self._record(replace(present, resume=present.power))
        if keep is not None:
            self._ensure(keep, chosen)
        self._go_back(chosen, name, start)
        self._collapse(chosen)
        # Last: as long as it is there, the same revert may be run again.
        for guest in chosen:
            self._record(replace(self.guests[guest], resume=None))

    def _go_back(self, chosen: Sequence[str], name: str, start: str) -> None:
        self.operations += [Keep(guest, self.guests[guest].xml) for guest in chosen]
        # All rest before the first one goes back: they work with one another.
        self.operations += [Stop(guest) for guest in chosen if self.guests[guest].active]
        for guest in chosen:
            stopped = self.guests[guest]
            disks = tuple(replace(disk, live=None) for disk in stopped.disks)
            self.guests[guest] = replace(stopped, power="stopped", disks=disks, agent=False)
            self._put_back(self.guests[guest], name)
        for guest in chosen:
            present = self.guests[guest]
            power = (present.resume or "stopped") if start == "as_before" else start
            if power in ("running", "suspended"):
                self.operations.append(Start(guest, paused=power == "suspended"))
                disks = tuple(replace(disk, live=disk.kept) for disk in present.disks)
                self.guests[guest] = replace(present, power=power, disks=disks)

    def _put_back(self, guest: Guest, name: str) -> None:
        point = guest.point(name)
        frozen = dict(point.disks) if point is not None else {}
        disks = {disk.name: disk for disk in guest.disks}
        later = [disk for disk in disks if disk not in frozen]
        gone = [disk for disk in frozen if disk not in disks]
        if later or guest.foreign:
            self.notes.append(f"guest {guest.name}: point {name} does not hold {', '.join([*later, *guest.foreign])}, which stay as they are")
        if gone:
            self.notes.append(f"guest {guest.name}: the disks {', '.join(gone)} of point {name} are no longer the guest's, and are left out")
        moves = [(disks[disk], path) for disk, path in frozen.items() if disk in disks]
        self._stand_on(guest, [(disk, path, unused_path(guest, disk, name)) for disk, path in moves])

    def _stand_on(self, guest: Guest, moves: Sequence[tuple[GuestDisk, str, str]]) -> None:
        """Has a stopped guest write to new overlays. moves: disk, file to stand on, path of the overlay."""
        self.operations += [Overlay(path, backing) for _disk, backing, path in moves]
        if moves:
            self.operations.append(Repoint(guest.name, tuple((disk.kept, path) for disk, _backing, path in moves)))
        self.guests[guest.name] = _standing(guest, moves)

    def _ensure(self, name: str, chosen: Sequence[str]) -> None:
        """Takes the point where it does not exist; brings one that a killed run began to its end."""
        have = [(self.guests[guest], point) for guest in chosen for point in [self.guests[guest].point(name)] if point is not None]
        if chosen and len(have) == len(chosen):
            for guest, point in have:
                if not point.whole:
                    self._record(guest.with_point(replace(point, whole=True)))
            return
        whole = [guest.name for guest, point in have if point.whole]
        if whole:
            lacking = [guest for guest in chosen if self.guests[guest].point(name) is None]
            raise ResourceError(
                f"config[{name}].guests: found {', '.join(lacking)}, of which the point was not taken with {', '.join(whole)}; its parts would be of "
                f"different times. Nothing was changed. Take a point of another name, remove this one (state: deleted) and take it again, or name "
                f"only the guests that have it."
            )
        for guest, _point in have:
            self._record(guest.without([name]))
        self._take(name, chosen)

    def _take(self, name: str, chosen: Sequence[str]) -> None:
        guests = [self.guests[guest] for guest in chosen]
        for guest in guests:
            _check_takeable(guest, name)
            if guest.foreign:
                self.notes.append(f"guest {guest.name}: point {name} does not hold {', '.join(guest.foreign)}, which we do not manage")
        held = [guest.name for guest in guests if guest.power == "running" and guest.agent]
        self.notes += [f"guest {guest.name}: its agent does not answer, so point {name} is as after a power failure" for guest in guests if _is_crash(guest)]
        self.operations += [Freeze(guest) for guest in held]
        for guest in guests:
            self._put_upon(guest, name)
        self.operations += [Thaw(guest) for guest in held]
        marked = [self.guests[old.name].with_point(_planned(old, name, len(guests) == 1)) for old in guests]
        for guest in marked:
            self._record(guest)
        if len(guests) > 1:
            for old in guests:
                self._record(self.guests[old.name].with_point(_planned(old, name, True)))

    def _put_upon(self, guest: Guest, name: str) -> None:
        moves = [(disk, disk.active, unused_path(guest, disk, name)) for disk in guest.disks]
        if not guest.active:
            self._stand_on(guest, moves)
            return
        if moves:
            self.operations.append(Snapshot(guest.name, tuple((disk.target, path) for disk, _backing, path in moves), guest.others))
        self.guests[guest.name] = _standing(guest, moves)

    def _drop(self, names: Sequence[str], only: Mapping[str, Sequence[str]]) -> list[str]:
        """Forgets the points of those names, or all. only: guests by the point's name; empty for all. Returns the guests concerned."""
        touched = []
        for guest in list(self.guests.values()):
            wanted = {name for name in names if not only.get(name) or guest.name in only[name]} if names else {point.name for point in guest.points}
            gone = [point.name for point in guest.points if point.name in wanted]
            if gone:
                self._record(guest.without(gone))
            if gone or not names or any(not only.get(name) or guest.name in only[name] for name in names):
                touched.append(guest.name)
        return touched

    def _recover(self, chosen: Iterable[str]) -> None:
        """Ends what a killed run left in running guests."""
        for name in chosen:
            guest = self.guests[name]
            self.operations += [Thaw(name)] if guest.frozen else []
            self.operations += [AbortJob(name, target) for target in guest.jobs]
            self.guests[name] = replace(guest, frozen=False, jobs=())

    def _collapse(self, chosen: Iterable[str]) -> None:
        for name in chosen:
            operations, self.guests[name] = collapse(self.guests[name])
            self.operations += operations

    def _record(self, guest: Guest) -> None:
        self.guests[guest.name] = guest
        self.operations.append(Record(guest.name, guest.points, guest.resume, guest.active))

    def _chosen(self, entry: Mapping[str, Any]) -> list[str]:
        return sorted(set(entry["guests"])) if entry["guests"] else list(self.guests)

    def _listed(self) -> str:
        return ", ".join(row["name"] for row in self.before) or "none"

    def _check_revertible(self, guest: Guest, name: str) -> None:
        point = guest.point(name)
        if point is None:
            has = ", ".join(point.name for point in guest.points) or "none"
            raise ResourceError(f"config[{name}].guests: found {guest.name}, which does not have that point. It has: {has}. Nothing was changed.")
        if not point.whole:
            raise ResourceError(
                f"point {name} of guest {guest.name} was not taken to its end, so not all guests have it. Nothing was changed. "
                "Take it again (state: merged), which completes it."
            )
        present = {disk.name for disk in guest.disks}
        missing = [path for disk, path in point.disks if disk in present and guest.file(path) is None]
        if missing:
            raise ResourceError(
                f"point {name} of guest {guest.name}: {', '.join(missing)} is missing, which holds its content. Nothing was changed. "
                "Bring the file back from a backup, or remove the point (state: deleted)."
            )
        _check_rooms(guest)

    def _check_unused(self, keep: str, chosen: Iterable[str]) -> None:
        there = [guest for guest in chosen if self.guests[guest].point(keep) is not None]
        if there:
            raise ResourceError(f"keep: found {keep!r}, a point that {', '.join(there)} have already. Nothing was changed. Choose another name.")


def _standing(guest: Guest, moves: Sequence[tuple[GuestDisk, str, str]]) -> Guest:
    paths = {disk.name: path for disk, _backing, path in moves}
    disks = [replace(disk, kept=paths[disk.name], live=disk.live and paths[disk.name]) if disk.name in paths else disk for disk in guest.disks]
    new = []
    for _disk, backing, path in moves:
        under = guest.file(backing)
        new.append(File(path, backing, 0 if under is None else under.size))
    return replace(guest, disks=tuple(disks), files=(*guest.files, *new))


def _is_crash(guest: Guest) -> bool:
    return guest.active and not (guest.power == "running" and guest.agent)


def _planned(guest: Guest, name: str, whole: bool) -> Point:
    consistency = "crash" if _is_crash(guest) else "agent" if guest.active else "stopped"
    return Point(name, "", consistency, tuple((disk.name, disk.active) for disk in guest.disks), whole)


def _check_takeable(guest: Guest, name: str) -> None:
    for disk in guest.disks:
        if disk.live is not None and disk.live != disk.kept:
            raise ResourceError(
                f"guest {guest.name}, disk {disk.name}: it writes to {disk.live}, but its kept definition has {disk.kept}, so point {name} would be lost "
                "at its next start. Nothing was changed. Correct the definition (virsh edit), or restart the guest."
            )
        if guest.file(disk.active) is None:
            raise ResourceError(f"guest {guest.name}, disk {disk.name}: its file {disk.active} is missing. Nothing was changed. Bring it back first.")
    if guest.active and any(disk.live is None for disk in guest.disks):
        absent = ", ".join(disk.name for disk in guest.disks if disk.live is None)
        raise ResourceError(f"guest {guest.name}: it runs without its disks {absent}. Nothing was changed. Restart it first, so that point {name} holds them.")
    _check_rooms(guest)


def _check_rooms(guest: Guest) -> None:
    for disk in guest.disks:
        if disk.room < LEAST_ROOM:
            raise ResourceError(
                f"guest {guest.name}, disk {disk.name}: its pool has {size_text(disk.room)} left, but a new overlay needs at least {size_text(LEAST_ROOM)}. "
                "Nothing was changed. Make room there and run again."
            )


def _check_config(state: str, config: Sequence[Mapping[str, Any]], guests: Mapping[str, Guest], keep: Optional[str]) -> None:
    unique(config, "name", "config")
    if state == "reverted" and len(config) != 1:
        raise ResourceError(f"config: found {len(config)} points, but one goes back to exactly one. Name it.")
    for index, entry in enumerate(config):
        _check_name(f"config[{index}].name", entry["name"])
        unknown = [name for name in entry["guests"] if name not in guests]
        if unknown:
            known = ", ".join(guests) or "none"
            raise ResourceError(f"config[{entry['name']}].guests: found {', '.join(unknown)}, not defined here, or not made by us. There are: {known}.")
    if keep is not None:
        _check_name("keep", keep)
        if keep in (entry["name"] for entry in config):
            raise ResourceError(f"keep: found {keep!r}, the point to go back to. Choose another name for the present state.")


def _check_name(where: str, name: str) -> None:
    if not NAME.match(name):
        raise ResourceError(f"{where}: found {name!r}; use letters, digits, '.', '_' and '-', beginning with a letter or a digit, at most 63.")
