# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt storage pools of type dir: values, XML and planner. No I/O.

A pool's XML has no ``<metadata>`` element (storagepool.rng), and any file in its directory shows up as a volume. So the mark of
ownership is the UUID: ours is computed from the pool's name. It is set by the very call that defines the pool.
"""

from __future__ import annotations

import posixpath
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Guest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import (
    Autostart,
    Backup,
    Build,
    Define,
    Destroy,
    Operation,
    Plan,
    Start,
    Step,
    Undefine,
)

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:hybridlab:platform:1")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")


@dataclass(frozen=True)
class Pool:
    """A pool as wanted. mode: permission bits of the directory, four octal digits."""

    name: str
    path: str
    mode: str
    autostart: bool
    active: bool


@dataclass(frozen=True)
class ObservedPool:
    """A pool as found.

    mode:      None where libvirt does not say
    kind:      libvirt's pool type
    volumes:   None when the pool is not active, so that nobody has counted
    capacity, allocation, available: bytes
    """

    name: str
    uuid: str
    kind: str
    path: Optional[str]
    mode: Optional[str]
    autostart: bool
    active: bool
    xml: str
    volumes: Optional[int] = None
    capacity: int = 0
    allocation: int = 0
    available: int = 0

    @property
    def owned(self) -> bool:
        return self.uuid == owner_uuid(self.name)


def owner_uuid(name: str) -> str:
    """The UUID (version 5) of the pool of that name when it is ours."""
    return str(uuid.uuid5(_NAMESPACE, f"pool:{name}"))


def read_pool_xml(xml: str) -> dict[str, Optional[str]]:
    """name, uuid, kind, path and mode of a pool's XML."""
    root = ET.fromstring(xml)
    path, mode = root.findtext("target/path"), root.findtext("target/permissions/mode")
    return {
        "name": root.findtext("name"),
        "uuid": root.findtext("uuid"),
        "kind": root.get("type"),
        "path": posixpath.normpath(path) if path else None,
        "mode": _mode(mode) if mode else None,
    }


def write_pool_xml(pool: Pool) -> str:
    root = ET.Element("pool", {"type": "dir"})
    ET.SubElement(root, "name").text = pool.name
    ET.SubElement(root, "uuid").text = owner_uuid(pool.name)
    target = ET.SubElement(root, "target")
    ET.SubElement(target, "path").text = pool.path
    ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = pool.mode
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def declare_pools(config: Sequence[Mapping[str, Any]], observed: Sequence[ObservedPool] = (), keep: bool = False) -> list[Pool]:
    """Checked declarations. ``path`` and ``mode`` that are left out come from the observed pool when ``keep``."""
    found = {pool.name: pool for pool in observed}
    declared = []
    for name, entry in unique(config, "name", "config").items():
        where = f"config[{name}]"
        _require(_NAME.match(name), f"{where}.name", name, "a pool's name has letters, digits, '.', '_', '+' and '-', at most 64")
        kept = found.get(name) if keep else None
        path = entry.get("path") or (kept.path if kept else None)
        _require(path and posixpath.isabs(path), f"{where}.path", path, "write the absolute path of the pool's directory")
        mode = entry.get("mode") or (kept.mode if kept and kept.mode else "0711")
        _require(_MODE.match(mode), f"{where}.mode", mode, "write permission bits as octal digits in quotes, such as '0711'")
        declared.append(Pool(name, posixpath.normpath(str(path)), _mode(mode), entry["autostart"], entry["active"]))
    unique([{"path": pool.path} for pool in declared], "path", "config")
    return declared


def describe_pool(pool: ObservedPool, usage: bool = False) -> dict[str, Any]:
    """The pool as an entry of ``config``; with ``usage`` also its bytes and the number of its volumes."""
    # Of somebody else's pool the mode is not managed, and libvirt may know it only while the pool runs.
    mode = pool.mode if pool.owned else None
    entry: dict[str, Any] = {"name": pool.name, "path": pool.path, "mode": mode, "autostart": pool.autostart, "active": pool.active}
    if usage:
        entry.update(capacity=pool.capacity, allocation=pool.allocation, available=pool.available, volumes=pool.volumes)
    return entry


def plan_pools(
    state: str,
    config: Sequence[Mapping[str, Any]],
    observed: Sequence[ObservedPool],
    guests: Sequence[Guest] = (),
) -> Plan:
    """The whole run for ``state`` merged, overridden or deleted. ResourceError when the run must not be begun."""
    found = {pool.name: pool for pool in observed}
    named = unique(config, "name", "config")
    if state == "deleted":
        gone = [found[name] for name in named if name in found] if named else [pool for pool in observed if pool.owned]
        declared: list[Pool] = []
    else:
        gone = [pool for pool in observed if state == "overridden" and pool.owned and pool.name not in named]
        declared = declare_pools(config, observed, keep=state == "merged")
    leaving = {pool.name for pool in gone}
    for wanted in declared:
        for other in observed:
            if other.path == wanted.path and other.name != wanted.name and other.name not in leaving:
                raise ResourceError(
                    f"config[{wanted.name}].path: found {wanted.path!r}, which is the directory of pool {other.name!r}; nothing was changed. "
                    f"Choose another directory, or declare it (in the model: platform_pools) with name: {other.name}; "
                    "a pool that this collection did not make is then used as it is."
                )
    steps = [_remove(pool, guests) for pool in gone]
    steps += [plan_pool(wanted, found.get(wanted.name), guests) for wanted in declared]
    touched = {step.name for step in steps}
    steps += [Step(pool.name, before=describe_pool(pool), after=describe_pool(pool)) for pool in observed if pool.owned and pool.name not in touched]
    return Plan(tuple(steps))


def plan_pool(wanted: Pool, found: Optional[ObservedPool], guests: Sequence[Guest] = ()) -> Step:
    """The step that brings one pool from ``found`` to ``wanted``."""
    name = wanted.name
    after: dict[str, Any] = {"name": name, "path": wanted.path, "mode": wanted.mode, "autostart": wanted.autostart, "active": wanted.active}
    define = Define(name, write_pool_xml(wanted))
    if found is None:
        operations: list[Operation] = [define, Build(name), *([Start(name)] if wanted.active else []), *([Autostart(name, True)] if wanted.autostart else [])]
        return Step(name, tuple(operations), wanted, after=after)
    if not found.owned:
        return _plan_foreign(wanted, found)
    # Where libvirt does not report a mode there is none to compare.
    if found.mode is None:
        after["mode"] = None
    moved = found.path != wanted.path
    changed = moved or (found.mode is not None and found.mode != wanted.mode)
    disruptive = []
    if moved:
        if found.volumes:
            raise ResourceError(
                f"config[{name}].path: found {wanted.path!r}, but the pool holds volumes ({found.volumes}) in {found.path!r}, which are not moved. "
                "Nothing was changed. Declare a second pool there, move the volumes and their guests to it, then remove this one."
            )
        uncounted = "" if found.volumes is not None else "; it is not active, so its volumes were not counted"
        disruptive.append(f"path is {found.path}, wanted {wanted.path}{uncounted}")
    elif changed and found.active:
        disruptive.append(f"mode is {found.mode}, wanted {wanted.mode}: the pool is stopped for a moment")
    if found.active and not wanted.active and not moved:
        using = _users(guests, found, running=True)
        disruptive += [f"it is to be stopped while the guests {', '.join(using)} have disks in it"] if using else []
    operations = []
    if changed:
        operations += [Backup(name, found.xml), *([Destroy(name)] if found.active else []), define, Build(name), *([Start(name)] if wanted.active else [])]
    elif found.active and not wanted.active:
        operations.append(Destroy(name))
    elif wanted.active and not found.active:
        # A run that was cut short after the definition has left no directory; making it again does no harm.
        operations += [Build(name), Start(name)]
    if found.autostart != wanted.autostart:
        operations.append(Autostart(name, wanted.autostart))
    return Step(name, tuple(operations), wanted, tuple(disruptive), describe_pool(found), after)


def _plan_foreign(wanted: Pool, found: ObservedPool) -> Step:
    """A pool of somebody else in the declared directory is used as it is, started where asked, and never redefined or removed."""
    if found.kind != "dir" or found.path != wanted.path:
        raise ResourceError(
            f"config[{wanted.name}]: libvirt has a pool {wanted.name!r} (type {found.kind}, path {found.path}) that this collection did not make. "
            f"Nothing was changed. Choose another name, or declare path: {found.path} to use it as it is."
        )
    operations: list[Operation] = [Start(wanted.name)] if wanted.active and not found.active else []
    operations += [Autostart(wanted.name, True)] if wanted.autostart and not found.autostart else []
    after = describe_pool(found)
    after.update(autostart=found.autostart or wanted.autostart, active=found.active or wanted.active)
    return Step(wanted.name, tuple(operations), wanted, before=describe_pool(found), after=after)


def _remove(pool: ObservedPool, guests: Sequence[Guest]) -> Step:
    if not pool.owned:
        raise ResourceError(f"config[{pool.name}]: this collection did not make that pool; nothing was changed. Remove it by hand (virsh pool-undefine).")
    using = _users(guests, pool)
    operations: list[Operation] = [Backup(pool.name, pool.xml), *([Destroy(pool.name)] if pool.active else []), Undefine(pool.name)]
    disruptive = [f"it is to be removed, and the guests {', '.join(using)} have disks in it"] if using else []
    return Step(pool.name, tuple(operations), disruptive=tuple(disruptive), before=describe_pool(pool))


def _users(guests: Sequence[Guest], pool: ObservedPool, running: bool = False) -> list[str]:
    def uses(guest: Guest) -> bool:
        return pool.name in guest.pools or any(posixpath.dirname(path) == pool.path for path in guest.files)

    return sorted(guest.name for guest in guests if uses(guest) and (guest.running or not running))


def _mode(text: str) -> str:
    return f"{int(text, 8):04o}"


def _require(holds: Any, path: str, found: Any, cure: str) -> None:
    if not holds:
        raise ResourceError(f"{path}: found {found!r}: {cure}.")
