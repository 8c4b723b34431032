# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between guests, and between them, the segments and the means of the host."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import STARTING, Claim, Means, Policy, judge
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_guest import GuestDraft, InterfaceDraft, Known, read_guest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_segment import SegmentDraft, check_address, check_ssh_port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_segments import Doubles, Seen
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import volume_name
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_assign import guest_mac
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import ABSENT, POWERED, Guest

_KIB_PER_MIB = 1024
_MAC_CURE = "It follows from the names of the platform and the guest: rename the guest, or change the other's"


def read_guests(faults: Faults, raw: Any, known: Known) -> list[GuestDraft]:
    """``platform_guests``, each one by itself."""
    rows = Table(faults, "", {"platform_guests": raw}, ("platform_guests",)).rows("platform_guests")
    read = [read_guest(faults, path, row, known) for path, row in zip(labels("platform_guests", rows), rows)]
    return [draft for draft in read if draft is not None]


def guest_segments(raw: Any) -> set[str]:
    """Names of the segments that have guests, of a value that nobody has checked yet."""
    rows = [row for row in raw if isinstance(row, Mapping) and row.get("state") != ABSENT] if isinstance(raw, list) else []
    items = [item for row in rows for item in ([row] if "interfaces" not in row else row["interfaces"] or ()) if isinstance(item, Mapping)]
    return {item["segment"] for item in items if isinstance(item.get("segment"), str) and item.get("address") != "dynamic"}


def check_guests(faults: Faults, guests: Sequence[GuestDraft], segments: Sequence[SegmentDraft], doubles: Doubles, platform: Optional[str]) -> None:
    """doubles: what segments and their hosts use up; platform: its name, None where a fault stands."""
    known = {draft.name: draft for draft in reversed(segments) if draft.name is not None}
    names = Seen(faults, "guest-twice", "Give each guest a name of its own")
    volumes = Seen(faults, "volume-twice", "Rename one of the two disks, or put it into another pool")
    for guest in guests:
        if names.add(f"{guest.path}.name", guest.name) and guest.state != ABSENT:
            doubles.add_name(f"{guest.path}.name", guest.name)
        if guest.state == ABSENT:
            continue
        for index, alias in enumerate(guest.aliases):
            doubles.add_name(f"{guest.path}.aliases[{index}]", alias)
        for path, disk in guest.disks:
            if guest.name and disk.name:
                name = volume_name(guest.name, disk.name)
                volumes.add(path, name, key=(disk.pool, name))
        _check_interfaces(faults, guest, known, doubles, platform)
        _check_forward(faults, guest, known, doubles)


def _check_interfaces(faults: Faults, guest: GuestDraft, known: Mapping[str, SegmentDraft], doubles: Doubles, platform: Optional[str]) -> None:
    seen: list[str] = []
    for index, item in enumerate(guest.interfaces):
        if platform is not None and guest.name is not None:
            doubles.macs.add(item.path, guest_mac(platform, guest.name, index), cure=_MAC_CURE)
        segment = known.get(item.segment) if item.segment is not None else None
        if segment is None or segment.name is None:
            continue
        if segment.name in seen:
            reason = "has an interface of this guest already"
            faults.add("segment-twice", f"{item.path}.segment", segment.name, reason, "Give a guest one interface in a segment at most")
            continue
        seen.append(segment.name)
        if index > 0 and guest.name is not None:
            doubles.add_name(f"{item.path}.segment", f"{guest.name}-{segment.name}")
        _check_address(faults, item, segment, doubles)


def _check_address(faults: Faults, item: InterfaceDraft, segment: SegmentDraft, doubles: Doubles) -> None:
    path = f"{item.path}.address"
    if item.address is not None:
        check_address(faults, segment, path, item.address)
        doubles.addresses.add(path, item.address)
    if item.dynamic and not segment.dhcp:
        reason = f"nothing leases addresses in segment {segment.name}: it has no dynamic range"
        faults.add("dynamic-nothing", path, "dynamic", reason, f"Add dhcp to {segment.path}, or remove address to have one assigned")


def _check_forward(faults: Faults, guest: GuestDraft, known: Mapping[str, SegmentDraft], doubles: Doubles) -> None:
    segment = known.get(guest.interfaces[0].segment or "") if guest.interfaces else None
    if segment is None:
        return
    path = f"{guest.path}.ssh_port"
    if guest.ssh_port is not None:
        check_ssh_port(faults, segment, path, guest.ssh_port, "write ssh_port: none")
        doubles.ports.add(path, guest.ssh_port)
    elif guest.ssh_port_open and not guest.dynamic and not segment.ssh_ports_set:
        reason = f"no port can be assigned: segment {segment.name} has no ssh_ports"
        faults.add("ssh-port-none", path, None, reason, f"Write ssh_port: none, or add ssh_ports to {segment.path}")


def claims(guests: Iterable[Guest]) -> list[Claim]:
    """What the guests that are to run may take at most, without asking anybody."""
    return [Claim(guest.name, guest.vcpus_max, guest.memory_max_mb * _KIB_PER_MIB, STARTING) for guest in guests if guest.state in POWERED]


def check_capacity(faults: Faults, policy: Policy, means: Means, guests: Collection[Guest], source: str) -> None:
    """The whole declared set against what the host may give. source: what the means are those of, for a person."""
    every = claims(guests)
    verdict = judge(policy, means, every)
    if every and not verdict.ok:
        over = "; ".join(excess.text for excess in verdict.excesses)
        count = f"{len(every)} guest{'' if len(every) == 1 else 's'}"
        asked = f"{count}, {sum(claim.vcpus for claim in every)} vCPUs, {sum(claim.memory_kib for claim in every) // _KIB_PER_MIB} MiB"
        cure = f"Stop a guest, ask for less, or raise the limit (platform_capacity, platform_host.reserve).\n{verdict.table}"
        faults.add("capacity", "platform_guests", asked, f"take more than {source} may give: {over}", cure)


def compare_means(platform: Platform, means: Means) -> list[Finding]:
    """Findings for guests that do not fit into what a host really has."""
    faults = Faults()
    check_capacity(faults, platform.capacity, means, platform.guests, "this host")
    return faults.items
