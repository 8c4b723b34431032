# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the files of guests: volumes, overlays of named points, seeds, and the space that they take. No I/O."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Disk, Domain, ObservedDomain, declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_checks import check_readers
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import GIB, Facts, Wanted, seed_name
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import GrowVolume, GuestOperation, MakeVolume, RemoveFiles
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import check_space


def make_volume(wanted: Wanted, disk: Disk, facts: Facts) -> tuple[list[GuestOperation], list[str]]:
    """Brings the volume of a disk that the guest does not have yet to be; warnings.

    It exists already when the guest was removed without its disks, or when a run was cut short.
    """
    where = f"config[{wanted.name}].disks[{disk.name}]: {disk.path} exists already,"
    cure = "Nothing was changed. Move that file away, or choose another name for the guest or the disk."
    if disk.path in facts.files:
        raise ResourceError(f"{where} and is no qcow2 file. {cure}")
    found = facts.volumes.get(disk.path)
    if found is None:
        image, base = next(((name, base) for name, base in facts.images.items() if base.path == disk.backing), (None, None))
        if base is not None and disk.size is not None and base.capacity is not None and disk.size < base.capacity:
            raise ResourceError(
                f"config[{wanted.name}].disks[{disk.name}].size_gb: found {disk.size // GIB}, but image {image} alone is {base.capacity / GIB:.1f} GiB large. "
                "Nothing was changed. Choose at least that."
            )
        return [MakeVolume(disk.path, disk.size, disk.backing, None if base is None else base.format)], []
    if found.backing != disk.backing:
        raise ResourceError(f"{where} upon {found.backing or 'no image'} instead of {disk.backing or 'none'}. {cure}")
    warning = f"guest {wanted.name}: its disk {disk.path} exists already and is taken up with what is on it"
    return _grow_off(wanted, disk, disk.path, found.capacity), [warning]


def plan_volumes(wanted: Wanted, found: ObservedDomain, facts: Facts) -> tuple[list[GuestOperation], list[GuestOperation], list[str]]:
    """New disks, the growth of those that the guest has, once it is off (that of a running one is a live change), and warnings."""
    new: list[GuestOperation] = []
    growth: list[GuestOperation] = []
    warnings: list[str] = []
    present = present_disks(found)
    pools = {disk.name: (disk.pool, path) for path, disk in present.items()}
    for disk in wanted.domain.disks:
        where = f"config[{wanted.name}].disks[{disk.name}]"
        if disk.path not in present:
            if disk.name in pools:
                pool, path = pools[disk.name]
                raise ResourceError(
                    f"{where}.pool: found {disk.pool!r}, but the disk lies in pool {pool}, in {path}, and no disk is moved. Nothing was changed. "
                    "Write the pool that it has, or choose another name for a new disk."
                )
            made, taken = make_volume(wanted, disk, facts)
            new += made
            warnings += taken
            continue
        path = present[disk.path].path
        volume = facts.volumes.get(path)
        if volume is None:
            raise ResourceError(
                f"{where}: its volume {path} is gone, and an empty one in its place would be another disk. Nothing was changed. "
                "Bring it back (is the pool's directory mounted?), or remove the guest first (state: absent)."
            )
        growth += _grow_off(wanted, disk, path, volume.capacity)
    return new, growth, warnings


def check_image(wanted: Wanted, facts: Facts) -> None:
    """The image that a new guest is said to be made from is that of its first disk: it is all that later runs know of it."""
    image = wanted.domain.record.image if wanted.domain.record is not None else None
    first = wanted.domain.disks[0].backing
    has = next((name for name, base in facts.images.items() if base.path == first), None)
    if image != has and (image is None or image not in facts.images or facts.images[image].path != first):
        raise ResourceError(f"config[{wanted.name}].image: found {image!r}, but the first disk has {has!r}. Write the same for both.")


def as_it_lies(goal: Domain, found: ObservedDomain) -> Domain:
    return replace(goal, disks=tuple(replace(disk, path=active_path(disk, found)) for disk in goal.disks))


def active_path(disk: Disk, found: Optional[ObservedDomain]) -> str:
    """The volume that the guest writes to: an overlay that a named point put upon the declared one, where there is one."""
    if found is None:
        return disk.path
    present = [*(found.live.disks if found.live else ()), *(found.kept.disks if found.kept else ())]
    return next((other.path for other in present if declared_path(other.path) == disk.path), disk.path)


def _grow_off(wanted: Wanted, disk: Disk, path: str, capacity: int) -> list[GuestOperation]:
    return [GrowVolume(path, disk.size)] if disk.size is not None and _check_growth(wanted, disk, capacity) else []


def _check_growth(wanted: Wanted, disk: Disk, capacity: int) -> bool:
    """Whether the disk has to grow. ResourceError when it would have to shrink."""
    if disk.size is not None and disk.size < capacity:
        raise ResourceError(
            f"config[{wanted.name}].disks[{disk.name}].size_gb: found {disk.size // GIB}, but the disk is {capacity / GIB:g} GiB large, and a disk is never "
            "made smaller: what lies at its end would be lost. Nothing was changed. Write the size that it has, or make another disk and copy."
        )
    return disk.size is not None and disk.size > capacity


def with_undeclared_disks(wanted: Wanted, found: ObservedDomain) -> tuple[Domain, list[Disk]]:
    """The guest as wanted, with those of its disks that are no longer declared, unless they may be removed; and these disks."""
    goal = wanted.domain
    declared = {disk.path for disk in goal.disks}
    extra = [] if wanted.remove_disks else [replace(disk, path=path) for path, disk in present_disks(found).items() if path not in declared]
    return replace(goal, disks=(*goal.disks, *extra)), extra


def present_disks(found: ObservedDomain) -> dict[str, Disk]:
    """The guest's disks by the paths of their declared volumes; also those that only its kept or only its running definition has."""
    disks = [*(found.live.disks if found.live else ()), *(found.kept.disks if found.kept else ())]
    return {declared_path(disk.path): disk for disk in disks}


def unused_files(found: ObservedDomain, goal: Domain, facts: Facts) -> list[GuestOperation]:
    """Volumes of disks that go, and a seed that nothing will name any more: what cloud-init is told may be secret."""
    declared = {disk.path for disk in goal.disks}
    seeds = {domain.seed for domain in (found.kept, found.live) if domain is not None and domain.seed is not None} - {goal.seed}
    files = family([disk for path, disk in present_disks(found).items() if path not in declared], facts)
    files += sorted(seed for seed in seeds if posixpath.basename(seed) == seed_name(goal.name))
    return [RemoveFiles(tuple(files))] if files else []


def lost_disks(found: ObservedDomain, goal: Domain) -> list[str]:
    """What the running guest is deprived of, in words."""
    stay = {disk.path for disk in goal.disks}
    disks = [disk for disk in (found.live.disks if found.live else ()) if declared_path(disk.path) not in stay]
    return [f"its disk {disk.name} ({disk.path}) is unplugged and removed" for disk in disks]


def check_removal(operations: Mapping[str, Sequence[GuestOperation]], going: Collection[str], facts: Facts) -> None:
    """ResourceError when a file that is to go is read by somebody who stays.

    operations: by guest; going: names of guests that are removed
    """
    removals = ((name, operation) for name, planned in operations.items() for operation in planned if isinstance(operation, RemoveFiles))
    files = {path: name for name, operation in removals for path in operation.paths}
    stay = [domain for domain in facts.domains if domain.name not in going]
    check_readers(files, {path: volume.backing for path, volume in facts.volumes.items()}, stay)


def undeclared_disk(guest: str, disk: str) -> str:
    return f"guest {guest}: its disk {disk} is no longer declared, and stays as it is. Declare it, or set remove_disks: true to remove it"


def family(disks: Sequence[Disk], facts: Facts) -> list[str]:
    """Volumes of the disks, and every overlay of theirs that named points have left."""
    declared = {declared_path(disk.path) for disk in disks}
    return sorted({*(disk.path for disk in disks), *(path for path in facts.volumes if declared_path(path) in declared)})


def check_pools(wanted: Sequence[Wanted], facts: Facts) -> list[str]:
    """Warnings. ResourceError when the new disks of all guests do not fit into a pool."""
    asked: dict[str, list[tuple[str, int]]] = {}
    for guest in wanted:
        for disk in guest.domain.disks:
            found = facts.volumes.get(active_path(disk, facts.domain(guest.name)))
            if found is not None and disk.size is None:
                # It stays as large as it is, whatever its image has become.
                continue
            size = disk.size or next((image.capacity for image in facts.images.values() if image.path == disk.backing), None)
            growth = (size or 0) - (found.capacity if found is not None else 0)
            if growth > 0:
                asked.setdefault(disk.pool, []).append((posixpath.basename(disk.path), growth))
    warnings = []
    for pool, new in asked.items():
        if pool in facts.space:
            warnings += check_space(f"platform_pools[{pool}]", facts.space[pool], new, facts.volumes_of(pool))
    return warnings
