# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt networks as typed, normalised values: from a declaration, and back into one.

Two definitions that mean the same to libvirt compare equal, however they were written: MAC addresses and
names in lower case, a prefix instead of a netmask, entries sorted by address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import INTERFACE_NAME_MAX, AddressRange
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
# RFC 1123 labels, joined by dots.
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z")
# libvirt refuses '/' in a network's name; the rest keeps it usable as a file name and a shell word.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]+\Z")
# RFC 791: every IPv4 link carries 68 octets; an Ethernet device of Linux at most 65535 (if_ether, dev.c).
_MTU = (68, 65535)


@dataclass(frozen=True)
class DhcpHost:
    """An address kept for one interface. ``mac`` is None only in definitions made by somebody else."""

    address: IPv4Address
    mac: Optional[str] = None
    name: Optional[str] = None


@dataclass(frozen=True)
class DnsHost:
    """What dnsmasq answers for ``names``; the first is the answer to a reverse look-up."""

    address: IPv4Address
    names: tuple[str, ...]


@dataclass(frozen=True)
class Definition:
    """The part of a network's XML that we manage.

    deviations: what differs from the fixed form of our networks (forward mode open, domain answered locally,
                spanning tree on with no delay), in words; empty in a declaration
    """

    name: str
    bridge: Optional[str]
    address: Optional[IPv4Address]
    prefix: Optional[int]
    domain: Optional[str] = None
    dhcp: tuple[AddressRange, ...] = ()
    hosts: tuple[DhcpHost, ...] = ()
    dns: tuple[DnsHost, ...] = ()
    mtu: Optional[int] = None
    deviations: tuple[str, ...] = ()

    def sorted(self) -> Definition:
        """The same with its lists in one fixed order."""
        return replace(
            self,
            dhcp=tuple(sorted(self.dhcp, key=lambda entry: (entry.first, entry.last))),
            hosts=tuple(sorted(self.hosts, key=lambda entry: (entry.address, entry.mac or "", entry.name or ""))),
            dns=tuple(sorted(self.dns, key=lambda entry: (entry.address, entry.names))),
            deviations=tuple(sorted(self.deviations)),
        )


@dataclass(frozen=True)
class Declared:
    """A network as wanted."""

    definition: Definition
    autostart: bool
    active: bool


@dataclass(frozen=True)
class Observed:
    """A network as found.

    owned:      the kept definition carries our metadata
    persistent: the kept definition; None for a transient network
    live:       the running definition; None when the network is not active
    xml:        the kept definition's XML (the running one's of a transient network)
    """

    name: str
    owned: bool
    autostart: bool
    persistent: Optional[Definition]
    live: Optional[Definition]
    xml: str

    @property
    def active(self) -> bool:
        return self.live is not None

    @property
    def definition(self) -> Definition:
        """What is in force: the running definition, else the kept one."""
        found = self.live or self.persistent
        if found is None:
            raise ValueError(f"network {self.name}: neither running nor kept")
        return found


@dataclass(frozen=True)
class Tap:
    """The host's end of a running guest's interface.

    network:   name of its libvirt network; None when it is attached to ``bridge`` by name
    mtu:       the interface's own, in bytes; None when it has that of the bridge
    isolated:  whether the bridge keeps it apart from other isolated ports
    unplugged: the device is there, and in no bridge
    """

    device: str
    network: Optional[str] = None
    bridge: Optional[str] = None
    mtu: Optional[int] = None
    isolated: bool = False
    unplugged: bool = False


@dataclass(frozen=True)
class Guest:
    """A defined domain and what its interfaces and disks stand on, running or not.

    bridges: host bridges to which it is attached by name
    pools:   storage pools named by its disks; files: paths of its disks
    taps:    of a running domain
    """

    name: str
    running: bool
    networks: frozenset[str] = frozenset()
    bridges: frozenset[str] = frozenset()
    pools: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    taps: tuple[Tap, ...] = ()


def users(guests: Sequence[Guest], name: str, bridge: Optional[str], running: bool = False) -> list[str]:
    """Names of the guests with an interface in that network; only those that run, when ``running``."""
    return sorted(guest.name for guest in guests if (name in guest.networks or bridge in guest.bridges) and (guest.running or not running))


def describe(definition: Definition, autostart: bool, active: bool) -> dict[str, Any]:
    """The network as an entry of ``config``."""
    return {
        "name": definition.name,
        "bridge": definition.bridge,
        "address": None if definition.address is None else str(definition.address),
        "prefix": definition.prefix,
        "domain": definition.domain,
        "mtu": definition.mtu,
        "dhcp": [{"first": str(entry.first), "last": str(entry.last)} for entry in definition.dhcp],
        "hosts": [{"mac": entry.mac, "name": entry.name, "address": str(entry.address)} for entry in definition.hosts],
        "dns": [{"address": str(entry.address), "names": list(entry.names)} for entry in definition.dns],
        "autostart": autostart,
        "active": active,
    }


def describe_observed(network: Observed) -> dict[str, Any]:
    """The network as an entry of ``config``; ``drift`` names the fields whose kept value is not the running one."""
    entry = describe(network.definition, network.autostart, network.active)
    if network.definition.deviations:
        entry["deviations"] = list(network.definition.deviations)
    if network.live is not None and network.persistent != network.live:
        entry["drift"] = [*differences(network.persistent, network.live)] if network.persistent else ["transient"]
    return entry


def differences(one: Definition, other: Definition) -> list[str]:
    """Names of the fields in which two definitions differ."""
    return [name for name in Definition.__dataclass_fields__ if getattr(one, name) != getattr(other, name)]


def declare(entry: Mapping[str, Any], found: Optional[Observed], keep: bool, path: str) -> Declared:
    """A checked declaration from one entry of ``config``.

    What the entry leaves out (None) is taken from ``found`` when ``keep``, else it is empty. ``path`` names the entry in
    messages. ResourceError names the first value that cannot be built.
    """
    base = found.persistent or found.live if found is not None and keep else None
    name = entry["name"]
    _require(_NAME.match(name), f"{path}.name", name, "a network's name has letters, digits, '.', '_', '+' and '-', at most 64")

    def given(key: str) -> Any:
        value = entry.get(key)
        if value is None and base is not None:
            return getattr(base, key)
        if value is None and key in ("bridge", "address", "prefix"):
            raise ResourceError(f"{path}.{key}: not set, and no network {name!r} exists that has one. Set bridge, address and prefix of a new network.")
        return value

    bridge = given("bridge")
    _require(
        bridge and len(bridge) <= INTERFACE_NAME_MAX and _INTERFACE.match(bridge),
        f"{path}.bridge",
        bridge,
        f"an interface name has 1 to {INTERFACE_NAME_MAX} characters: letters, digits, '.', '_' and '-'",
    )
    address = _address(given("address"), f"{path}.address")
    prefix = given("prefix")
    _require(isinstance(prefix, int) and 8 <= prefix <= 30, f"{path}.prefix", prefix, "a network's prefix is 8 to 30")
    subnet = IPv4Network((address, prefix), strict=False)
    _require(address in _usable(subnet), f"{path}.address", str(address), f"that is the first or last address of {subnet}, which no host can have")
    domain = given("domain")
    if domain is not None:
        domain = domain.lower()
        _require(_DNS_NAME.match(domain), f"{path}.domain", domain, "write a domain name such as lab.local")
    mtu = given("mtu")
    _require(mtu is None or _MTU[0] <= mtu <= _MTU[1], f"{path}.mtu", mtu, f"an MTU is {_MTU[0]} to {_MTU[1]} bytes")
    definition = Definition(
        name=name,
        bridge=bridge,
        address=address,
        prefix=prefix,
        domain=domain,
        dhcp=base.dhcp if base and entry.get("dhcp") is None else _ranges(entry.get("dhcp") or [], f"{path}.dhcp"),
        hosts=base.hosts if base and entry.get("hosts") is None else _hosts(entry.get("hosts") or [], f"{path}.hosts"),
        dns=base.dns if base and entry.get("dns") is None else _dns(entry.get("dns") or [], f"{path}.dns"),
        mtu=mtu,
    ).sorted()
    _check_within(definition, subnet, path)
    return Declared(definition, autostart=entry["autostart"], active=entry["active"])


def check_apart(declared: Sequence[Declared]) -> None:
    """ResourceError when two declared networks want the same bridge or overlapping addresses."""
    for index, one in enumerate(declared):
        for other in declared[:index]:
            here, there = one.definition, other.definition
            if here.bridge == there.bridge:
                raise ResourceError(f"config[{here.name}].bridge: found {here.bridge!r}, which network {there.name!r} has too. Choose another.")
            if _subnet(here).overlaps(_subnet(there)):
                raise ResourceError(
                    f"config[{here.name}].address: found {_subnet(here)}, which overlaps {_subnet(there)} of network {there.name!r}. Choose other addresses."
                )


def _subnet(definition: Definition) -> IPv4Network:
    return IPv4Network((str(definition.address), definition.prefix or 32), strict=False)


def _usable(subnet: IPv4Network) -> AddressRange:
    return AddressRange(subnet.network_address + 1, subnet.broadcast_address - 1)


def _ranges(entries: Sequence[Mapping[str, Any]], path: str) -> tuple[AddressRange, ...]:
    found: list[AddressRange] = []
    for index, entry in enumerate(entries):
        where = f"{path}[{index}]"
        wanted = AddressRange(_address(entry["first"], f"{where}.first"), _address(entry["last"], f"{where}.last"))
        _require(wanted.first <= wanted.last, f"{where}.last", str(wanted.last), f"it lies before the first address {wanted.first}; swap the two")
        apart = all(other.last < wanted.first or wanted.last < other.first for other in found)
        _require(apart, where, f"{wanted.first}-{wanted.last}", "it overlaps an earlier range; join them")
        found.append(wanted)
    return tuple(found)


def _hosts(entries: Sequence[Mapping[str, Any]], path: str) -> tuple[DhcpHost, ...]:
    plain = []
    for index, entry in enumerate(entries):
        mac = str(entry["mac"]).lower().replace("-", ":")
        _require(_MAC.match(mac), f"{path}[{index}].mac", entry["mac"], "write six pairs of hexadecimal digits, such as 52:54:00:00:00:10, in quotes")
        address = _address(entry["address"], f"{path}[{index}].address")
        name = _dns_name(entry["name"], f"{path}[{index}].name") if entry.get("name") else None
        plain.append({"mac": mac, "address": str(address), "name": name})
    for key in ("mac", "address"):
        unique(plain, key, path)
    # libvirt takes a name for one reservation only (virNetworkDefUpdateIPDHCPHost).
    unique([entry for entry in plain if entry["name"]], "name", path)
    return tuple(DhcpHost(IPv4Address(entry["address"]), entry["mac"], entry["name"]) for entry in plain)


def _dns(entries: Sequence[Mapping[str, Any]], path: str) -> tuple[DnsHost, ...]:
    found = []
    for index, entry in enumerate(entries):
        address = _address(entry["address"], f"{path}[{index}].address")
        names = tuple(dict.fromkeys(_dns_name(name, f"{path}[{index}].names") for name in entry["names"]))
        _require(names, f"{path}[{index}].names", [], "an address needs at least one name; leave the entry out otherwise")
        found.append(DnsHost(address, names))
    unique([{"address": str(entry.address)} for entry in found], "address", path)
    return tuple(found)


def _check_within(definition: Definition, subnet: IPv4Network, path: str) -> None:
    usable = _usable(subnet)
    for entry in definition.dhcp:
        text = f"{entry.first}-{entry.last}"
        _require(entry.first in usable and entry.last in usable, f"{path}.dhcp", text, f"a range lies inside {usable.first}-{usable.last} of {subnet}")
        _require(definition.address not in entry, f"{path}.dhcp", text, f"it holds the network's own address {definition.address}; leave that out")
    for host in definition.hosts:
        _require(host.address in usable, f"{path}.hosts", str(host.address), f"a reserved address lies inside {usable.first}-{usable.last} of {subnet}")
        _require(host.address != definition.address, f"{path}.hosts", str(host.address), "that is the network's own address; choose another")


def _dns_name(value: Any, path: str) -> str:
    name = str(value).lower()
    _require(_DNS_NAME.match(name), path, value, "write a host name: letters, digits and '-', labels joined by dots")
    return name


def _address(value: Any, path: str) -> IPv4Address:
    try:
        return IPv4Address(str(value))
    except ValueError:
        raise ResourceError(f"{path}: found {value!r}: not an IPv4 address. Write one such as 10.0.1.1.") from None


def _require(holds: Any, path: str, found: Any, cure: str) -> None:
    if not holds:
        raise ResourceError(f"{path}: found {found!r}: {cure}.")
