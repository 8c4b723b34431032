# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files under a guest's disks: which are needed, and how the others go. No I/O.

A file is needed when the guest writes to it, when a point holds it, or when somebody else uses it. Of the rest, one with nothing upon it is
deleted, and one with a single file upon it takes that file's content and place. One with several upon it stays until they are gone.

Every order of steps here may be broken off anywhere: a file is named as another's heir only after it has the content, and is deleted only
after nothing names it. So the same rules, applied to what a killed run left, bring it to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points import File, Guest, GuestDisk, chain, is_family
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_ops import BlockCommit, Commit, Delete, Operation, Rebase, Record, Repoint
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import size_text


def collapse(guest: Guest) -> tuple[list[Operation], Guest]:
    """Removes the files that nothing needs; the steps, and the guest after them. ResourceError when a merge lacks room."""
    operations: list[Operation] = []
    while True:
        step = _next_step(guest)
        if step is None:
            return operations, guest
        operations += step[0]
        guest = step[1]


def needed(guest: Guest) -> set[str]:
    """Files that the guest writes to, that a point holds, or that another guest uses."""
    written = {path for disk in guest.disks for path in (disk.kept, disk.live) if path is not None}
    return written | {path for point in guest.points for _name, path in point.disks} | guest.held


def children(guest: Guest, path: str) -> list[File]:
    return [file for file in guest.files if file.backing == path]


def _next_step(guest: Guest) -> Optional[tuple[list[Operation], Guest]]:
    garbage = list(_garbage(guest))
    for file in garbage:
        # The declared volume itself is only ever removed with its guest.
        if not children(guest, file.path) and file.path != declared_path(file.path):
            return [Delete(file.path)], replace(guest, files=tuple(other for other in guest.files if other != file))
    for file in garbage:
        above = children(guest, file.path)
        if len(above) == 1 and _is_movable(guest, above[0]):
            return _merge(guest, file, above[0])
    return None


def _garbage(guest: Guest) -> Iterator[File]:
    """From the lowest: so each file's content is copied once."""
    kept, declared = needed(guest), _declared(guest)
    ours = [file for file in guest.files if file.path not in kept and is_family(file.path, declared)]
    return iter(sorted(ours, key=lambda file: (len(list(chain(guest, file.path))), file.path)))


def _declared(guest: Guest) -> set[str]:
    points = (path for point in guest.points for _name, path in point.disks)
    return {declared_path(path) for path in (*(disk.kept for disk in guest.disks), *points)}


def _is_movable(guest: Guest, file: File) -> bool:
    """Whether all that names the file is ours to change."""
    declared = _declared(guest)
    names_it = [file, *children(guest, file.path)]
    split = any(file.path in (disk.kept, disk.live) and disk.live is not None and disk.kept != disk.live for disk in guest.disks)
    return file.path not in guest.held and not split and all(is_family(other.path, declared) for other in names_it)


def _merge(guest: Guest, base: File, top: File) -> tuple[list[Operation], Guest]:
    disk = _disk_above(guest, top)
    _check_room(guest, base, top)
    running = list(chain(guest, disk.live)) if disk is not None and disk.live is not None else []
    operations: list[Operation] = []
    if disk is not None and top.path in running:
        operations.append(BlockCommit(guest.name, disk.target, top.path, base.path, active=disk.live == top.path))
    else:
        operations.append(Commit(top.path))
    # QEMU itself tells the file that stands upon top in the running chain.
    operations += [Rebase(other.path, base.path) for other in children(guest, top.path) if other.path not in running]
    if disk is not None and disk.kept == top.path and disk.live is None:
        operations.append(Repoint(guest.name, ((top.path, base.path),)))
    after = _moved(guest, base, top)
    if after.points != guest.points:
        operations.append(Record(guest.name, after.points, guest.resume, guest.active))
    return [*operations, Delete(top.path)], after


def _moved(guest: Guest, base: File, top: File) -> Guest:
    """The guest with ``base`` in the place of ``top``."""

    def new(path: Optional[str]) -> Optional[str]:
        return base.path if path == top.path else path

    merged = replace(base, size=max(base.size, top.size), allocation=base.allocation + top.allocation)
    files = tuple(merged if file == base else replace(file, backing=new(file.backing)) for file in guest.files if file != top)
    disks = tuple(replace(disk, kept=new(disk.kept) or disk.kept, live=new(disk.live)) for disk in guest.disks)
    points = tuple(replace(point, disks=tuple((name, new(path) or path) for name, path in point.disks)) for point in guest.points)
    return replace(guest, files=files, disks=disks, points=points)


def _disk_above(guest: Guest, file: File) -> Optional[GuestDisk]:
    return next((disk for disk in guest.disks if declared_path(disk.kept) == declared_path(file.path)), None)


def _check_room(guest: Guest, base: File, top: File) -> None:
    disk = _disk_above(guest, top)
    if disk is not None and top.allocation > disk.room:
        raise ResourceError(
            f"guest {guest.name}, disk {disk.name}: to merge {top.path} into {base.path} takes up to {size_text(top.allocation)}, but its pool has "
            f"{size_text(disk.room)} left. Nothing was changed. Make room there and run again."
        )
