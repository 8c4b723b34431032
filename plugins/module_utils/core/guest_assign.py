# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, ports and identities of guests that the model leaves open. What a guest was given once, it keeps."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import AddressValueError, IPv4Address
from itertools import chain
from typing import Any, Callable, Optional, TypeVar

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import PortRange, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import Guest, GuestInterface

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:hybridlab:platform:1")
# QEMU's and KVM's customary prefix; locally administered, unicast.
_MAC_PREFIX = "52:54:00"
# The first nine addresses of a segment stay free for routers and the like, as long as there are others.
_FIRST_OFFSET = 10

_Value = TypeVar("_Value", IPv4Address, int)


def guest_mac(platform: str, guest: str, index: int) -> str:
    """MAC of an interface. Not of its segment: one that moves keeps it, so the network configuration inside the guest still fits."""
    digits = hashlib.sha256(f"{platform}/{guest}/{index}".encode()).hexdigest()
    return f"{_MAC_PREFIX}:{digits[:2]}:{digits[2:4]}:{digits[4:6]}"


def guest_uuid(platform: str, guest: str) -> str:
    """UUID of the guest's libvirt domain."""
    return str(uuid.uuid5(_NAMESPACE, f"guest:{platform}/{guest}"))


@dataclass
class _Taken:
    """What must not be given away (``held``), and what had better not be: what leaves the host in this very run (``leaving``)."""

    held: set[Any] = field(default_factory=set)
    leaving: set[Any] = field(default_factory=set)

    def lowest(self, candidates: Iterable[_Value]) -> Optional[_Value]:
        last_resort: Optional[_Value] = None
        for candidate in candidates:
            if candidate in self.held:
                continue
            if candidate not in self.leaving:
                return candidate
            last_resort = candidate if last_resort is None else last_resort
        return last_resort


@dataclass(frozen=True)
class _Recorded:
    """What a guest was given earlier. addresses: by segment."""

    name: str
    addresses: Mapping[str, IPv4Address]
    ssh_port: Optional[int]


def assign(
    platform: str,
    guests: Sequence[Guest],
    segments: Sequence[Segment],
    recorded: Sequence[Mapping[str, Any]] = (),
    taken_ports: Collection[int] = (),
) -> list[Guest]:
    """The guests with every address and every forwarded port filled in; dynamic ones and absent guests stay as they are.

    recorded:    what the guests of the host were given: name, ssh_port, interfaces [{segment, address}], and platform where it is known. A value is kept
                 while the model leaves it open and it is valid and free; those of guests that the model does not name are not given to others
    taken_ports: ports that are never assigned, such as those of the host's own sshd

    What the model sets wins over what is recorded, and that over the lowest free one.
    Raises ModelError when a segment has no address or port left.
    """
    present = [guest for guest in guests if not guest.absent]
    known = {segment.name: segment for segment in segments}
    records = [_read_record(entry, own=entry.get("platform") in (None, platform)) for entry in recorded]
    own = {record.name: record for record in records if record.name}
    names = {guest.name for guest in present}
    leaving = [own[guest.name] for guest in guests if guest.absent and guest.name in own]
    strays = [record for record in records if record.name not in names and record not in leaving]

    addresses = _Taken(_set_addresses(present, segments), {address for record in leaving for address in record.addresses.values()})
    ports = _Taken({*_set_ports(present, segments), *taken_ports}, {record.ssh_port for record in leaving})
    kept_addresses, kept_ports = _keep(present, known, own, addresses, ports)
    addresses.held |= {address for record in strays for address in record.addresses.values()}
    ports.held |= {record.ssh_port for record in strays}

    faults = Faults()
    filled = []
    for guest in present:
        interfaces = [_fill(faults, guest, index, known[item.segment], kept_addresses, addresses) for index, item in enumerate(guest.interfaces)]
        port = _port(faults, guest, known[guest.interfaces[0].segment], kept_ports, ports) if guest.forward else None
        filled.append(replace(guest, interfaces=tuple(interfaces), ssh_port=port))
    if faults.items:
        raise ModelError(faults.items)
    ready = iter(filled)
    return [guest if guest.absent else next(ready) for guest in guests]


def _read_record(entry: Mapping[str, Any], own: bool) -> _Recorded:
    """A record of another platform has no name: nobody inherits from it."""
    addresses = {}
    for interface in entry.get("interfaces") or ():
        try:
            addresses[str(interface.get("segment"))] = IPv4Address(str(interface.get("address")))
        except AddressValueError:
            continue  # a dynamic address is none that could be kept
    port = entry.get("ssh_port")
    return _Recorded(str(entry.get("name")) if own else "", addresses, port if isinstance(port, int) else None)


def _set_addresses(guests: Iterable[Guest], segments: Iterable[Segment]) -> set[IPv4Address]:
    hosts = {host.address for segment in segments for host in segment.hosts}
    return hosts | {item.address for guest in guests for item in guest.interfaces if item.address is not None}


def _set_ports(guests: Iterable[Guest], segments: Iterable[Segment]) -> set[int]:
    hosts = {host.ssh_port for segment in segments for host in segment.hosts if host.ssh_port is not None}
    return hosts | {guest.ssh_port for guest in guests if guest.ssh_port is not None}


def _keep(
    guests: Iterable[Guest], known: Mapping[str, Segment], records: Mapping[str, _Recorded], addresses: _Taken, ports: _Taken
) -> tuple[dict[tuple[str, int], IPv4Address], dict[str, int]]:
    """What guests keep: addresses by guest and index of the interface, ports by guest. All of it is held afterwards."""
    kept_addresses: dict[tuple[str, int], IPv4Address] = {}
    kept_ports: dict[str, int] = {}
    for guest in guests:
        record = records.get(guest.name)
        if record is None:
            continue
        for index, item in enumerate(guest.interfaces):
            address = record.addresses.get(item.segment)
            if item.address is None and not item.dynamic and address is not None and _is_free(known[item.segment], address) and address not in addresses.held:
                kept_addresses[guest.name, index] = address
                addresses.held.add(address)
        port, allowed = record.ssh_port, known[guest.interfaces[0].segment].ssh_ports
        if guest.forward and guest.ssh_port is None and port is not None and allowed is not None and port in allowed and port not in ports.held:
            kept_ports[guest.name] = port
            ports.held.add(port)
    return kept_addresses, kept_ports


def _is_free(segment: Segment, address: IPv4Address) -> bool:
    """Whether a guest of the segment may have the address, as far as the segment alone says."""
    reserved = (segment.cidr.network_address, segment.cidr.broadcast_address, segment.gateway)
    return address in segment.cidr and address not in reserved and not any(address in leased for leased in segment.dhcp)


def _candidates(segment: Segment) -> Iterator[IPv4Address]:
    """From the tenth address upwards, then the first nine."""
    first = segment.cidr.network_address
    count = segment.cidr.num_addresses
    offsets = chain(range(_FIRST_OFFSET, count), range(1, min(_FIRST_OFFSET, count)))
    return (first + offset for offset in offsets if _is_free(segment, first + offset))


def _fill(faults: Faults, guest: Guest, index: int, segment: Segment, kept: Mapping[tuple[str, int], IPv4Address], taken: _Taken) -> GuestInterface:
    item = guest.interfaces[index]
    if item.address is not None or item.dynamic:
        return item
    address = _given(kept.get((guest.name, index)), taken, lambda: _candidates(segment))
    if address is None:
        reason = f"no address of segment {segment.name} ({segment.cidr}) is left for it outside the dynamic ranges"
        faults.add("addresses-exhausted", f"platform_guests[{guest.name}]", segment.name, reason, "Choose a wider cidr or a smaller dynamic range")
    return replace(item, address=address)


def _port(faults: Faults, guest: Guest, segment: Segment, kept: Mapping[str, int], taken: _Taken) -> Optional[int]:
    if guest.ssh_port is not None:
        return guest.ssh_port
    allowed = segment.ssh_ports or PortRange(1, 0)
    port = _given(kept.get(guest.name), taken, lambda: range(allowed.first, allowed.last + 1))
    if port is None:
        reason = f"no port of segment {segment.name}'s ssh_ports ({allowed}) is left for it"
        faults.add("ports-exhausted", f"platform_guests[{guest.name}].ssh_port", None, reason, "Widen ssh_ports of the segment, or write ssh_port: none")
    return port


def _given(kept: Optional[_Value], taken: _Taken, candidates: Callable[[], Iterable[_Value]]) -> Optional[_Value]:
    if kept is not None:
        return kept
    value = taken.lowest(candidates())
    if value is not None:
        taken.held.add(value)
    return value
