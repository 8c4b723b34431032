# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan for all guests of a call: what is refused, and what is done to each. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import FOREIGN, RUNNING, STARTING, Claim, judge, refusal
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Disk, Domain, ObservedDomain, declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import normalise
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_xml import console_log, merge_domain, write_domain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import ABSENT, GIB, Facts, Wanted, declare_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_disks import (
    as_it_lies,
    check_image,
    check_pools,
    check_removal,
    family,
    lost_disks,
    make_volume,
    plan_volumes,
    present_disks,
    undeclared_disk,
    unused_files,
    with_undeclared_disks,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_live import plan_live, restart_reasons
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import (
    Forget,
    GuestOperation,
    RemoveFiles,
    Resume,
    ShutDown,
    Suspend,
    WriteSeed,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_order import Changes, arrange
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Autostart, Backup, Define, Start

MEMORY_KIB = 1024


@dataclass(frozen=True)
class GuestStep:
    """All that is done to one guest.

    wanted:     the declaration; None for a guest that goes away
    starts:     whether it is started, or was given another interface, by this step: its wait follows then. moved: only the latter
    disruptive: why a running guest is interrupted; empty when it is not
    warnings:   what the user should know, and that is no fault
    before, after: as an entry of ``config``; None when it does not exist
    """

    name: str
    operations: tuple[GuestOperation, ...] = ()
    wanted: Optional[Wanted] = None
    starts: bool = False
    moved: bool = False
    disruptive: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    before: Optional[dict[str, Any]] = None
    after: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class GuestPlan:
    """Steps in the order in which they are done: what goes away first, because it makes room.

    undeclared: guests of ours that are neither declared nor touched
    """

    steps: tuple[GuestStep, ...]
    undeclared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def before(self) -> list[dict[str, Any]]:
        return [step.before for step in sorted(self.steps, key=lambda step: step.name) if step.before is not None]

    @property
    def after(self) -> list[dict[str, Any]]:
        return [step.after for step in sorted(self.steps, key=lambda step: step.name) if step.after is not None]

    @property
    def operations(self) -> list[GuestOperation]:
        return [operation for step in self.steps for operation in step.operations]

    @property
    def disruptive(self) -> list[dict[str, str]]:
        return [{"name": step.name, "reason": reason} for step in self.steps for reason in step.disruptive]


def plan_guests(
    state: str, config: Sequence[Mapping[str, Any]], facts: Facts, remove_disks: Optional[bool], shutdown_seconds: int, platform: Optional[str] = None
) -> GuestPlan:
    """The whole call for ``state`` merged, overridden or deleted.

    remove_disks:     of guests that go away because they are not declared (overridden), or by state deleted; None: it was not said
    shutdown_seconds: how long a guest may take to go before it is switched off
    platform:         whose guests are ours; None: those of every platform

    ResourceError when the call must not be begun, in one message for a person.
    """
    named = unique(config, "name", "config")
    if state == "deleted":
        leaving = [domain.name for domain in facts.domains if (domain.name in named if named else domain.of(platform))]
        going = {name: _told(named.get(name), remove_disks) for name in leaving}
        wanted: list[Wanted] = []
    else:
        going = {name: entry["remove_disks"] for name, entry in named.items() if entry["state"] == ABSENT and facts.domain(name) is not None}
        if state == "overridden":
            going.update((domain.name, remove_disks) for domain in facts.domains if domain.of(platform) and domain.name not in named)
        wanted = declare_guests(config, facts, leaving=going)
    # A guest that goes can be declared by nobody, so its resources are free for the others.
    steps = [_remove(name, told, facts, shutdown_seconds, _platform(named.get(name)) or platform) for name, told in sorted(going.items())]
    # One that is to be stopped makes room too: libvirt's hook refuses a start for which there is none yet.
    stopping = [guest for guest in wanted if guest.power == "stopped"]
    steps += [plan_guest(guest, facts, shutdown_seconds) for guest in [*stopping, *(guest for guest in wanted if guest.power != "stopped")]]
    check_removal({step.name: step.operations for step in steps}, going, facts)
    warnings = check_pools(wanted, facts)
    _check_capacity(wanted, going, facts)
    touched = {step.name for step in steps}
    return GuestPlan(
        tuple(steps),
        undeclared=tuple(domain.name for domain in facts.domains if domain.of(platform) and domain.name not in touched),
        warnings=(*warnings, *(warning for step in steps for warning in step.warnings)),
    )


def _told(entry: Optional[Mapping[str, Any]], otherwise: Optional[bool]) -> Optional[bool]:
    told = None if entry is None else entry["remove_disks"]
    return otherwise if told is None else bool(told)


def _platform(entry: Optional[Mapping[str, Any]]) -> Optional[str]:
    return None if entry is None else entry.get("platform")


def plan_guest(wanted: Wanted, facts: Facts, shutdown_seconds: int) -> GuestStep:
    """The step that brings one guest from what was found to ``wanted``."""
    found = facts.domain(wanted.name)
    if found is None:
        return _create(wanted, facts)
    _check_ours(wanted, found)
    if found.kept is None:
        raise ResourceError(
            f"config[{wanted.name}]: it runs without a kept definition (somebody undefined it). Nothing was changed. Shut it down, then run again."
        )
    kept = found.kept
    goal, extra = with_undeclared_disks(wanted, found)
    warnings = [undeclared_disk(wanted.name, disk.name) for disk in extra]
    new, growth, taken = plan_volumes(wanted, found, facts)
    warnings += taken
    seed = _seed(wanted, kept, facts)
    if seed is not None:
        new.append(seed)
        warnings += _seed_warning(wanted, kept)
    stays_up = found.live is not None and wanted.power != "stopped"
    restart = restart_reasons(found.live, goal) if stays_up and found.live is not None else []
    live, moved, more = plan_live(found, goal, facts) if stays_up and not restart else ([], False, [])
    warnings += more
    definition: list[GuestOperation] = []
    if normalise(kept) != normalise(goal):
        new.append(Backup(wanted.name, found.xml))
        definition.append(Define(wanted.name, merge_domain(found.xml, goal)))
    if found.autostart != wanted.autostart:
        definition.append(Autostart(wanted.name, wanted.autostart))
    unused = unused_files(found, goal, facts)
    changes = Changes(bool(restart), tuple(live), tuple(growth), tuple(unused), tuple(definition), shutdown_seconds)
    ordered, starts = arrange(found, wanted.power, changes)
    operations = [*new, *ordered]
    return GuestStep(
        wanted.name,
        tuple(operations),
        wanted,
        starts=starts,
        # One that stands still answers nobody.
        moved=moved and wanted.power == "running",
        disruptive=(*restart, *(lost_disks(found, goal) if stays_up else ())),
        warnings=tuple(warnings),
        before=describe(kept, found.power, found.autostart, facts),
        after=describe(as_it_lies(goal, found), wanted.power, wanted.autostart, facts),
    )


def describe(domain: Domain, power: str, autostart: bool, facts: Facts) -> dict[str, Any]:
    """The guest as an entry of ``config``. A disk's size is the one asked for, else the one found; None for that of an image not seen yet."""
    record = domain.record
    return {
        "name": domain.name,
        "platform": None if record is None else record.platform,
        "state": power,
        "vcpus": domain.vcpus,
        "vcpus_max": domain.vcpus_max,
        "memory_mb": domain.memory_mb,
        "memory_max_mb": domain.memory_max_mb,
        "interfaces": [
            {"segment": nic.segment, "mac": nic.mac, "address": None if nic.address is None else str(nic.address), "dhcp": nic.dhcp} for nic in domain.nics
        ],
        "disks": [{"name": disk.name, "pool": disk.pool, "size_gb": _size_gb(disk, facts)} for disk in domain.disks],
        "image": None if record is None else record.image,
        "ssh_port": None if record is None else record.ssh_port,
        "names": [] if record is None else list(record.names),
        "cloud_init": None if record is None else record.seed,
        "firmware": domain.firmware,
        "tpm": domain.tpm,
        "boot": list(domain.boot),
        "agent": domain.agent,
        "console": domain.console,
        "autostart": autostart,
        "accelerator": domain.accelerator,
    }


def _size_gb(disk: Disk, facts: Facts) -> Optional[float]:
    found = facts.volumes.get(disk.path) or facts.volumes.get(declared_path(disk.path))
    image = next((image for image in facts.images.values() if image.path == disk.backing), None)
    size = disk.size if disk.size is not None else found.capacity if found is not None else image.capacity if image is not None else None
    if size is None:
        return None
    return size // GIB if size % GIB == 0 else round(size / GIB, 2)


def _create(wanted: Wanted, facts: Facts) -> GuestStep:
    domain = wanted.domain
    operations: list[GuestOperation] = []
    warnings: list[str] = []
    check_image(wanted, facts)
    for disk in domain.disks:
        made, taken = make_volume(wanted, disk, facts)
        operations += made
        warnings += taken
    if wanted.documents is not None:
        operations.append(WriteSeed(str(domain.seed), wanted.documents, wanted.shown))
    operations.append(Define(wanted.name, write_domain(domain)))
    if wanted.autostart:
        operations.append(Autostart(wanted.name, True))
    starts = wanted.power != "stopped"
    if starts:
        operations.append(Start(wanted.name))
    if wanted.power == "suspended":
        operations.append(Suspend(wanted.name))
    return GuestStep(
        wanted.name,
        tuple(operations),
        wanted,
        starts=wanted.power == "running",
        # A disk is taken up on each run that finds one and no guest, and that is worth a word only when it was not this very run's.
        warnings=tuple(warnings),
        # Its size is the image's where none was asked for, and nobody has seen the image yet when check mode plans its arrival.
        after=describe(domain, wanted.power, wanted.autostart, replace(facts, volumes={}, images={})),
    )


def _seed(wanted: Wanted, kept: Domain, facts: Facts) -> Optional[WriteSeed]:
    """The seed where it is missing or says something else."""
    if wanted.documents is None:
        return None
    told = None if kept.record is None else kept.record.seed
    says = None if wanted.domain.record is None else wanted.domain.record.seed
    path = str(wanted.domain.seed)
    return None if told == says and path in facts.files else WriteSeed(path, wanted.documents, wanted.shown)


def _seed_warning(wanted: Wanted, kept: Domain) -> list[str]:
    if kept.record is None or kept.record.seed is None or wanted.domain.record is None or kept.record.seed == wanted.domain.record.seed:
        return []
    return [
        f"guest {wanted.name}: what cloud-init is told has changed. It does its work once for an instance; of this, only the network and the SSH port "
        "are taken up, at its next start"
    ]


def _check_ours(wanted: Wanted, found: ObservedDomain) -> None:
    record = (found.kept or found.live or wanted.domain).record
    if record is None or found.uuid != wanted.domain.uuid:
        owner = "this collection did not make" if record is None else f"platform {record.platform} made"
        raise ResourceError(
            f"config[{wanted.name}]: libvirt has a guest of that name which {owner}. Nothing was changed. Choose another name, or remove that guest."
        )
    image = wanted.domain.record.image if wanted.domain.record is not None else None
    if record.image != image:
        raise ResourceError(
            f"config[{wanted.name}].image: found {image!r}, but the guest was made from {record.image!r}, and its disk lies upon that. Nothing was changed. "
            "Make another guest, or remove this one first (state: absent)."
        )


def _remove(name: str, remove_disks: Optional[bool], facts: Facts, seconds: int, platform: Optional[str]) -> GuestStep:
    """platform: the one that the guest is said to be of; None: nothing was said."""
    found = facts.domain(name)
    if found is None or not found.owned:
        raise ResourceError(f"config[{name}]: this collection did not make that guest. Nothing was changed. Remove it by hand (virsh undefine).")
    domain = found.kept or found.live
    if platform is not None and domain is not None and domain.record is not None and domain.record.platform != platform:
        raise ResourceError(f"config[{name}].platform: found {platform!r}, but platform {domain.record.platform} made that guest. Nothing was changed.")
    if remove_disks is None:
        raise ResourceError(
            f"config[{name}].remove_disks: found nothing. Say whether the disks of guest {name} go with it: true or false. Nothing was changed."
        )
    pointed = [disk.path for disk in present_disks(found).values() if disk.path != declared_path(disk.path)]
    if pointed and not remove_disks:
        raise ResourceError(
            f"config[{name}].remove_disks: found false, but what guest {name} wrote last lies in {', '.join(pointed)}, upon points that are kept of it. "
            "Nothing was changed. Remove its points first (libvirt_snapshots with state: deleted), or let its disks go too."
        )
    operations: list[GuestOperation] = [Backup(name, found.xml)]
    if found.active:
        operations += [*([Resume(name)] if found.power == "suspended" else []), ShutDown(name, seconds)]
    files = [domain.seed] if domain is not None and domain.seed is not None else []
    if remove_disks:
        files += family(list(present_disks(found).values()), facts)
    # The definition goes last: as long as it is there, a run after one that was killed knows which files are to go.
    if files:
        operations.append(RemoveFiles(tuple(files)))
    if found.kept is not None:
        operations.append(Forget(name))
    # That it goes was said in so many words, so it is no disruption that would need another permission.
    return GuestStep(name, tuple(operations), before=None if domain is None else describe(domain, found.power, found.autostart, facts))


def _check_capacity(wanted: Sequence[Wanted], going: Mapping[str, Any], facts: Facts) -> None:
    """ResourceError with the table when all guests together would take more than the policy lets them."""
    if facts.means is None:
        return
    declared = {guest.name for guest in wanted}
    others = [domain for domain in facts.domains if domain.live is not None and domain.name not in going and domain.name not in declared]
    claims = [_claim(domain.live, RUNNING if domain.owned else FOREIGN) for domain in others if domain.live is not None]
    asks = False
    for guest in wanted:
        if guest.power == "stopped":
            continue
        found = facts.domain(guest.name)
        claim = _claim(guest.domain, RUNNING if found is not None and found.active else STARTING)
        now = _claim(found.live, RUNNING) if found is not None and found.live is not None else None
        asks = asks or now is None or claim.vcpus > now.vcpus or claim.memory_kib > now.memory_kib
        claims.append(claim)
    # A host that somebody has filled beyond the policy can still be run again, as long as nothing more is asked of it.
    verdict = judge(facts.policy, facts.means, claims)
    if asks and not verdict.ok:
        raise ResourceError(refusal(verdict))


def _claim(domain: Domain, by: str) -> Claim:
    return Claim(domain.name, domain.vcpus_max, domain.memory_max_mb * MEMORY_KIB, by)


def whereabouts(entry: Mapping[str, Any], leases: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Where a guest is found, from what ``describe`` says of it and its leases: for people, and for an inventory."""
    interfaces = entry["interfaces"]
    leased = {lease["mac"]: lease["address"] for lease in leases}
    return {
        "name": entry["name"],
        "state": entry["state"],
        "segment": interfaces[0]["segment"] if interfaces else None,
        "segments": [nic["segment"] for nic in interfaces],
        "addresses": [address for nic in interfaces for address in [nic["address"] or leased.get(nic["mac"])] if address],
        "mac": interfaces[0]["mac"] if interfaces else None,
        "ssh_port": entry["ssh_port"],
        "names": entry["names"],
        "image": entry["image"],
        "autostart": entry["autostart"],
        "console_log": console_log(entry["name"]) if entry["console"] else None,
        "accelerator": entry["accelerator"],
    }
