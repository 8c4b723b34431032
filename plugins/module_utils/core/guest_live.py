# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes while a guest runs, and what needs it restarted. No I/O."""

from __future__ import annotations

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Domain, Nic, ObservedDomain, declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import disk_target
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_xml import free_target, write_disk, write_mark, write_nic
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import Facts
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import (
    AttachDevice,
    DetachDevice,
    GrowLive,
    GuestOperation,
    SetMark,
    SetMemory,
    SetVcpus,
    TellSsh,
)

# Fields of Domain that QEMU takes at its start alone.
_FIXED = ("vcpus_max", "memory_max_mb", "firmware", "tpm", "boot", "agent", "console", "accelerator", "seed")


def restart_reasons(live: Domain, goal: Domain) -> list[str]:
    """Why the running guest has to be restarted to be as wanted; empty when it has not."""
    fixed = [
        f"{field} is {getattr(live, field)}, wanted {getattr(goal, field)}: the guest is restarted"
        for field in _FIXED
        if getattr(live, field) != getattr(goal, field)
    ]
    return fixed + (_network_reasons(live, goal) if goal.seed is not None else [])


def _network_reasons(live: Domain, goal: Domain) -> list[str]:
    """Interfaces whose address the guest sets itself, before or after: it reads its seed at its start alone."""
    wanted = {nic.mac: nic for nic in goal.nics}
    changed = [(nic, wanted[nic.mac]) for nic in live.nics if nic.mac in wanted and wanted[nic.mac] != nic]
    return [
        f"interface {nic.mac} goes from {_place(nic)} to {_place(other)}, which the guest takes up at its start: the guest is restarted"
        for nic, other in changed
        if not (nic.dhcp and other.dhcp)
    ]


def _place(nic: Nic) -> str:
    return f"{nic.segment or 'no network'} ({'DHCP' if nic.dhcp else nic.address})"


def plan_live(found: ObservedDomain, goal: Domain, facts: Facts) -> tuple[list[GuestOperation], bool, list[str]]:
    """What is done to the running guest before its kept definition becomes ``goal``.

    Second, whether an interface of it was plugged into another network; third, what the user should know.
    """
    live, kept, xml = found.live, found.kept, found.live_xml
    if live is None or kept is None or xml is None:
        return [], False, []
    operations: list[GuestOperation] = []
    warnings: list[str] = []
    # What a balloon has come to is the guest's doing, so the kept value says whether anybody asked for another one.
    if kept.memory_mb != goal.memory_mb:
        operations.append(SetMemory(goal.name, goal.memory_mb))
    if live.vcpus < goal.vcpus or kept.vcpus > goal.vcpus:
        operations.append(SetVcpus(goal.name, goal.vcpus))
    elif live.vcpus > goal.vcpus:
        # Asked for in an earlier run; asking again would be a change that each run makes.
        warnings.append(f"guest {goal.name}: it has not given back {live.vcpus - goal.vcpus} vCPUs, and will have {goal.vcpus} after its next start")
    operations += _disks(found, goal, facts, xml)
    nics, moved = _nics(live, goal)
    operations += nics
    if operations and not live.agent and any(isinstance(operation, GrowLive) for operation in operations):
        warnings.append(f"guest {goal.name}: it has no guest agent, so the file system on a grown disk follows at its next boot")
    told, more = _ssh_port(live, goal)
    operations += told
    warnings += more
    if live.record is None or write_mark(live) != write_mark(goal):
        operations.append(SetMark(goal.name, write_mark(goal)))
    return operations, moved, warnings


def _disks(found: ObservedDomain, goal: Domain, facts: Facts, xml: str) -> list[GuestOperation]:
    operations: list[GuestOperation] = []
    live = {declared_path(disk.path): disk for disk in (found.live.disks if found.live else ())}
    wanted = {disk.path for disk in goal.disks}
    for path, disk in live.items():
        target = disk_target(xml, path)
        if path not in wanted and target is not None:
            operations.append(DetachDevice(goal.name, f"disk {disk.name}", write_disk(disk, target)))
    documents = [xml, found.xml]
    for index, disk in enumerate(goal.disks):
        if disk.path not in live:
            target = free_target(*documents)
            snippet = write_disk(disk, target)
            operations.append(AttachDevice(goal.name, f"disk {disk.name}", snippet))
            # The next one gets another target.
            documents.append(f"<domain><devices>{snippet}</devices></domain>")
            continue
        volume = facts.volumes.get(live[disk.path].path)
        target = disk_target(xml, disk.path)
        if volume is not None and target is not None and disk.size is not None and disk.size > volume.capacity:
            operations.append(GrowLive(goal.name, disk.name, target, disk.size, index == 0))
    return operations


def _ssh_port(live: Domain, goal: Domain) -> tuple[list[GuestOperation], list[str]]:
    """The seed says the port too, for later boots; a guest without one is told nothing."""
    old, new = (None if domain.record is None else domain.record.ssh_port for domain in (live, goal))
    if goal.seed is None or new in (None, 22, old):
        return [], []
    if live.agent:
        return [TellSsh(goal.name, int(new or 0))], []
    return [], [f"guest {goal.name}: it has no guest agent, so its sshd listens on port {new} from its next start on"]


def _nics(live: Domain, goal: Domain) -> tuple[list[GuestOperation], bool]:
    present = {nic.mac: nic for nic in live.nics}
    wanted = {nic.mac: nic for nic in goal.nics}
    operations: list[GuestOperation] = []
    for mac, nic in present.items():
        if mac not in wanted or wanted[mac].segment != nic.segment:
            operations.append(DetachDevice(goal.name, _words(nic), write_nic(nic)))
    plugged = [nic for mac, nic in wanted.items() if mac not in present or present[mac].segment != nic.segment]
    operations += [AttachDevice(goal.name, _words(nic), write_nic(nic)) for nic in plugged]
    return operations, bool(plugged)


def _words(nic: Nic) -> str:
    return f"interface {nic.mac} in {nic.segment or 'no network'}"
