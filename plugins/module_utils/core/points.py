# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named points of guests: what they are, and how a guest's metadata keeps them. No I/O.

A point holds the content of a guest's disks. Taking one freezes the files that the guest writes to: each gets a qcow2 overlay, to which the
guest writes from then on. libvirt knows nothing of points. Its own snapshots do not serve: internal ones are refused for a guest with UEFI, and
external ones cannot be reverted to before libvirt 9.9.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import declared_path, overlay_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import attribute, file_of, managed_disks

NAMESPACE = "urn:hybridlab:points:1"
KEY = "points"
_OURS = f"{{{NAMESPACE}}}"
# It becomes a part of file names: what core.domain takes for an overlay's.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")

ET.register_namespace(KEY, NAMESPACE)


@dataclass(frozen=True)
class Point:
    """What one guest's metadata say of a point.

    taken:       UTC, such as 2026-11-03T10:11:12Z; empty for one that is only planned
    consistency: ``agent`` (file systems were frozen), ``crash`` (as after a power failure), ``stopped``
    disks:       name of the disk, and absolute path of the file that holds its content
    whole:       whether all guests that it was taken of have it; false only until the run that takes it has written the last of them
    """

    name: str
    taken: str
    consistency: str
    disks: tuple[tuple[str, str], ...]
    whole: bool = True


@dataclass(frozen=True)
class GuestDisk:
    """A disk of ours, by name and target (vda).

    kept, live: absolute path of the file that the kept and the running definition have; live is None when the guest does not run
    room:       bytes that are available in its directory
    """

    name: str
    target: str
    kept: str
    live: Optional[str] = None
    room: int = 0

    @property
    def active(self) -> str:
        return self.live or self.kept


@dataclass(frozen=True)
class File:
    """A qcow2 file. backing: absolute path of the file under it; size (of the disk), allocation (on the host): bytes."""

    path: str
    backing: Optional[str]
    size: int = 0
    allocation: int = 0


@dataclass(frozen=True)
class Guest:
    """A guest with its points and the files of its disks.

    power:   as core.domain.ObservedDomain
    others:  targets of the running guest's disks that no point holds (seed, read-only ones, those of somebody else)
    foreign: those of them that the guest writes to, in words
    files:   those of its disks, with the overlays; and those of somebody else that stand upon one of them
    held:    paths that other guests use
    resume:  what ``power`` was before a revert that was not brought to its end
    agent:   whether its agent answers; frozen: whether its file systems are held; jobs: targets of disks with a merge under way
    """

    name: str
    power: str
    disks: tuple[GuestDisk, ...]
    files: tuple[File, ...]
    points: tuple[Point, ...] = ()
    others: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    held: frozenset[str] = frozenset()
    resume: Optional[str] = None
    agent: bool = False
    frozen: bool = False
    jobs: tuple[str, ...] = ()
    xml: str = ""

    @property
    def active(self) -> bool:
        return any(disk.live is not None for disk in self.disks) or self.power in ("running", "suspended")

    def point(self, name: str) -> Optional[Point]:
        return next((point for point in self.points if point.name == name), None)

    def file(self, path: str) -> Optional[File]:
        return next((file for file in self.files if file.path == path), None)

    def with_point(self, point: Point) -> Guest:
        return replace(self, points=(*(old for old in self.points if old.name != point.name), point))

    def without(self, names: Iterable[str]) -> Guest:
        dropped = set(names)
        return replace(self, points=tuple(point for point in self.points if point.name not in dropped))


def read_points(xml: str) -> tuple[tuple[Point, ...], Optional[str]]:
    """The points that a domain's XML has, in the order in which they were taken, and ``Guest.resume``."""
    mark = ET.fromstring(xml).find(f"metadata/{_OURS}{KEY}")
    if mark is None:
        return (), None
    return tuple(_read_point(entry) for entry in mark.iterfind(f"{_OURS}point")), mark.get("resume")


def _read_point(entry: ET.Element) -> Point:
    disks = tuple((disk.get("name", ""), disk.get("path", "")) for disk in entry.iterfind(f"{_OURS}disk"))
    return Point(entry.get("name", ""), entry.get("taken", ""), entry.get("consistency", "crash"), disks, entry.get("whole") != "no")


def write_points(points: Iterable[Point], resume: Optional[str] = None) -> Optional[str]:
    """The element for virDomainSetMetadata with the URI NAMESPACE and the key KEY, which libvirt puts into the namespace; None for nothing."""
    root = ET.Element(KEY, {} if resume is None else {"resume": resume})
    for point in points:
        entry = ET.SubElement(root, "point", {"name": point.name, "taken": point.taken, "consistency": point.consistency})
        if not point.whole:
            entry.set("whole", "no")
        for name, path in point.disks:
            ET.SubElement(entry, "disk", {"name": name, "path": path})
    return ET.tostring(root, encoding="unicode") if len(root) or root.attrib else None


def read_disks(kept_xml: str, live_xml: Optional[str]) -> tuple[tuple[GuestDisk, ...], tuple[str, ...], tuple[str, ...]]:
    """``Guest.disks`` (without room), ``others`` and ``foreign`` of a guest."""
    kept = ET.fromstring(kept_xml)
    running = None if live_xml is None else ET.fromstring(live_xml)
    live = {} if running is None else {entry.findtext("serial", ""): entry for entry in managed_disks(running)}
    disks = []
    for entry in managed_disks(kept):
        name = entry.findtext("serial", "")
        now = live.get(name)
        place = entry if now is None else now
        disks.append(GuestDisk(name, attribute(place, "target", "dev"), file_of(entry), None if now is None else file_of(now)))
    ours = {disk.target for disk in disks}
    rest = [entry for entry in (kept if running is None else running).iterfind("devices/disk") if attribute(entry, "target", "dev") not in ours]
    foreign = [entry for entry in rest if entry.find("readonly") is None and entry.get("device", "disk") == "disk"]
    return tuple(disks), tuple(attribute(entry, "target", "dev") for entry in rest), tuple(_in_words(entry) for entry in foreign)


def _in_words(disk: ET.Element) -> str:
    target, path = attribute(disk, "target", "dev"), file_of(disk)
    return f"{target} ({path})" if path else target


def repoint(xml: str, paths: Iterable[tuple[str, str]]) -> str:
    """A definition in which each disk on a file ``old`` of the pairs (old, new) stands on ``new``; all else as it was."""
    root = ET.fromstring(xml)
    for old, new in paths:
        for disk in root.iterfind("devices/disk"):
            source = disk.find("source")
            if source is not None and source.get("file") == old:
                source.set("file", new)
                for chain in disk.findall("backingStore"):
                    disk.remove(chain)
    return ET.tostring(root, encoding="unicode")


def unused_path(guest: Guest, disk: GuestDisk, point: str) -> str:
    """Path of a new overlay for ``point``: ``<guest>-<disk>@<point>.qcow2``, or ``@<point>.2`` and so on where that file exists."""
    taken = {file.path for file in guest.files} | {path for record in guest.points for _name, path in record.disks}
    number, path = 1, overlay_path(disk.kept, point)
    while path in taken:
        number += 1
        path = overlay_path(disk.kept, f"{point}.{number}")
    return path


def is_family(path: str, declared: Iterable[str]) -> bool:
    """Whether the file is one of the declared volumes or an overlay of one."""
    return declared_path(path) in set(declared)


def chain(guest: Guest, path: str) -> Iterator[str]:
    """The file and those under it, as far as they are the guest's."""
    seen: set[str] = set()
    found = guest.file(path)
    while found is not None and found.path not in seen:
        seen.add(found.path)
        yield found.path
        found = guest.file(found.backing) if found.backing else None


def current_point(guest: Guest) -> Optional[str]:
    """The point that the guest's present state goes back to: the nearest whose files are under all the disks that it has."""
    below = {disk.name: {path: depth for depth, path in enumerate(chain(guest, disk.active))} for disk in guest.disks}
    found = []
    for point in guest.points:
        depths = [below.get(name, {}).get(path) for name, path in point.disks if name in below]
        if depths and None not in depths:
            found.append((max(depth for depth in depths if depth is not None), point.name))
    return min(found)[1] if found else None


def describe(guests: Iterable[Guest]) -> list[dict[str, Any]]:
    """Points by name: name, guests that have it, those whose present state goes back to it (current), and whether it was taken to its end."""
    rows: dict[str, dict[str, Any]] = {}
    for guest in sorted(guests, key=lambda guest: guest.name):
        now = current_point(guest)
        for point in guest.points:
            row = rows.setdefault(point.name, {"name": point.name, "guests": [], "current": [], "whole": True})
            row["guests"].append(guest.name)
            row["current"] += [guest.name] if point.name == now else []
            row["whole"] = row["whole"] and point.whole
    return [rows[name] for name in sorted(rows)]


def gathered(guests: Iterable[Guest]) -> list[dict[str, Any]]:
    """As :func:`describe`, with what each guest's metadata say besides."""
    guests = sorted(guests, key=lambda guest: guest.name)
    rows = describe(guests)
    for row in rows:
        held = [(guest, point) for guest in guests for point in guest.points if point.name == row["name"]]
        row["taken"] = max(point.taken for _guest, point in held)
        row["details"] = [_details(guest, point) for guest, point in held]
    return rows


def _details(guest: Guest, point: Point) -> dict[str, Any]:
    disks = [{"name": name, "path": path, "missing": guest.file(path) is None} for name, path in point.disks]
    return {"guest": guest.name, "taken": point.taken, "consistency": point.consistency, "disks": disks}
