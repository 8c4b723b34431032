# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One segment: its values, and what must hold inside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import HOST_SERVICES, AddressRange, Host, PortRange, Segment

SEGMENT_KEYS = ("name", "bridge", "cidr", "gateway", "dhcp", "hosts", "ssh_ports", "reaches", "internet", "host_services")
HOST_KEYS = ("name", "address", "mac", "aliases", "ssh_port")
BRIDGE_PREFIX = "br-"


@dataclass
class HostDraft:
    """A host as far as it could be read; ``None`` where a fault stands."""

    path: str
    name: Optional[str]
    address: Optional[IPv4Address]
    mac: Optional[str]
    aliases: list[str]
    ssh_port: Optional[int]


@dataclass
class SegmentDraft:
    """A segment as far as it could be read; ``None`` where a fault stands or nothing was set."""

    path: str
    name: Optional[str] = None
    bridge: Optional[str] = None
    cidr: Optional[IPv4Network] = None
    gateway: Optional[IPv4Address] = None
    dhcp: list[tuple[str, AddressRange]] = field(default_factory=list)
    hosts: list[HostDraft] = field(default_factory=list)
    ssh_ports: Optional[PortRange] = None
    ssh_ports_set: bool = False
    reaches: list[str] = field(default_factory=list)
    internet: bool = True
    host_services: list[str] = field(default_factory=list)

    def build(self) -> Segment:
        """The typed segment of a draft without faults."""
        if not (self.name and self.bridge and self.cidr and self.gateway):
            raise ValueError("a draft with faults is not built")
        return Segment(
            name=self.name,
            bridge=self.bridge,
            cidr=self.cidr,
            gateway=self.gateway,
            dhcp=tuple(item for _path, item in self.dhcp),
            hosts=tuple(_build_host(host) for host in self.hosts),
            ssh_ports=self.ssh_ports,
            reaches=tuple(self.reaches),
            internet=self.internet,
            host_services=tuple(self.host_services),
        )


def _build_host(draft: HostDraft) -> Host:
    if not (draft.name and draft.address):
        raise ValueError("a draft with faults is not built")
    return Host(draft.name, draft.address, draft.mac, tuple(draft.aliases), draft.ssh_port)


def read_segment(faults: Faults, path: str, raw: Any, guests: Collection[str] = ()) -> SegmentDraft:
    """guests: names of the segments in which the model has guests; these have something to lease without a dynamic range."""
    draft = SegmentDraft(path)
    table = Table.read(faults, path, raw, SEGMENT_KEYS, ("name", "cidr"))
    if table is None:
        return draft
    draft.name = values.name(faults, table.at("name"), table.text("name"), "segment")
    bridge = table.text("bridge") if "bridge" in table.value else draft.name and BRIDGE_PREFIX + draft.name
    draft.bridge = values.bridge(faults, table.at("bridge"), bridge)
    draft.cidr = values.segment_network(faults, table.at("cidr"), table.text("cidr"))
    if "gateway" in table.value:
        draft.gateway = values.address(faults, table.at("gateway"), table.text("gateway"))
    elif draft.cidr is not None:
        draft.gateway = draft.cidr.network_address + 1
    for index, item in enumerate(table.rows("dhcp")):
        place = f"{table.at('dhcp')}[{index}]"
        found = values.address_range(faults, place, item)
        if found is not None:
            draft.dhcp.append((place, found))
    rows = table.rows("hosts")
    draft.hosts = [host for host in map(_read_host, [faults] * len(rows), labels(table.at("hosts"), rows), rows) if host is not None]
    draft.ssh_ports_set = "ssh_ports" in table.value
    if draft.ssh_ports_set:
        draft.ssh_ports = values.port_range(faults, table.at("ssh_ports"), table.value["ssh_ports"])
    draft.reaches = table.words("reaches")
    draft.internet = table.flag("internet", default=True)
    leases = "dhcp" in table.value or any(host.mac for host in draft.hosts)
    draft.host_services = table.words("host_services") if "host_services" in table.value else (["dhcp", "dns"] if leases else ["dns"])
    _check_gateway(faults, draft)
    _check_dhcp(faults, draft)
    _check_hosts(faults, draft)
    _check_services(faults, table, draft, guests)
    return draft


def _read_host(faults: Faults, path: str, raw: Any) -> Optional[HostDraft]:
    table = Table.read(faults, path, raw, HOST_KEYS, ("name", "address"))
    if table is None:
        return None
    aliases = [values.host_name(faults, f"{table.at('aliases')}[{index}]", text, dotted=True) for index, text in enumerate(table.words("aliases"))]
    return HostDraft(
        path=path,
        name=values.host_name(faults, table.at("name"), table.text("name")),
        address=values.address(faults, table.at("address"), table.text("address")),
        mac=values.mac(faults, table.at("mac"), table.text("mac")),
        aliases=[alias for alias in aliases if alias is not None],
        ssh_port=values.port(faults, table.at("ssh_port"), table.value["ssh_port"], forwarded=True) if "ssh_port" in table.value else None,
    )


def _usable(cidr: IPv4Network) -> str:
    return f"Choose an address from {cidr.network_address + 1} to {cidr.broadcast_address - 1}"


def _inside(faults: Faults, rule: str, path: str, address: IPv4Address, cidr: IPv4Network) -> bool:
    """Whether an interface of the segment may own the address; if not, that is recorded under ``rule`` or ``rule``-reserved."""
    if address not in cidr:
        faults.add(f"{rule}-outside", path, str(address), f"lies outside the segment's cidr {cidr}", _usable(cidr))
        return False
    for reserved, noun in ((cidr.network_address, "network"), (cidr.broadcast_address, "broadcast")):
        if address == reserved:
            faults.add(f"{rule}-reserved", path, str(address), f"is the {noun} address of {cidr}", _usable(cidr))
            return False
    return True


def _check_gateway(faults: Faults, draft: SegmentDraft) -> None:
    if draft.cidr is None or draft.gateway is None:
        return
    path = f"{draft.path}.gateway"
    if not _inside(faults, "gateway", path, draft.gateway, draft.cidr):
        return
    for place, leased in draft.dhcp:
        if draft.gateway in leased:
            reason = f"lies inside the dynamic range {leased} ({place})"
            faults.add("gateway-in-dhcp", path, str(draft.gateway), reason, "Start the range after the gateway, or move the gateway out of it")


def _check_dhcp(faults: Faults, draft: SegmentDraft) -> None:
    if draft.cidr is not None:
        for place, leased in draft.dhcp:
            _inside(faults, "dhcp", f"{place}.first", leased.first, draft.cidr)
            if leased.last != leased.first:
                _inside(faults, "dhcp", f"{place}.last", leased.last, draft.cidr)
    by_first = sorted(draft.dhcp, key=lambda item: item[1].first)
    for (before, one), (after, two) in zip(by_first, by_first[1:]):
        if two.first <= one.last:
            faults.add("dhcp-overlap", after, str(two), f"overlaps {before} ({one})", "Join the two ranges or part them")


def _check_hosts(faults: Faults, draft: SegmentDraft) -> None:
    for host in draft.hosts:
        if host.address is not None:
            check_address(faults, draft, f"{host.path}.address", host.address)
        if host.ssh_port is not None:
            check_ssh_port(faults, draft, f"{host.path}.ssh_port", host.ssh_port, "remove ssh_port")


def check_ssh_port(faults: Faults, draft: SegmentDraft, path: str, port: int, without: str) -> None:
    """The port that is forwarded to a host of the segment. without: what to write when none should be."""
    if draft.ssh_ports is None and not draft.ssh_ports_set:
        reason = "is to be forwarded, and the segment has no ssh_ports"
        faults.add("ssh-port-outside", path, port, reason, f"Add ssh_ports to {draft.path}, or {without}")
    elif draft.ssh_ports is not None and port not in draft.ssh_ports:
        reason = f"lies outside the segment's ssh_ports {draft.ssh_ports}"
        faults.add("ssh-port-outside", path, port, reason, f"Choose a port from {draft.ssh_ports.first} to {draft.ssh_ports.last}")


def check_address(faults: Faults, draft: SegmentDraft, path: str, address: IPv4Address) -> None:
    """The fixed address of a host of the segment."""
    if draft.cidr is not None and not _inside(faults, "host", path, address, draft.cidr):
        return
    if address == draft.gateway:
        cure = _usable(draft.cidr) if draft.cidr else "Choose another address"
        faults.add("host-is-gateway", path, str(address), "is the segment's gateway, which the KVM host itself owns", f"{cure}, other than the gateway")
    for place, leased in draft.dhcp:
        if address in leased:
            reason = f"lies inside the dynamic range {leased} ({place}), from which dnsmasq leases it to anybody"
            faults.add("host-in-dhcp", path, str(address), reason, "Choose an address outside the dynamic ranges")


def _check_services(faults: Faults, table: Table, draft: SegmentDraft, guests: Collection[str]) -> None:
    path = table.at("host_services")
    for index, service in enumerate(draft.host_services):
        if service not in HOST_SERVICES:
            faults.add("service-unknown", f"{path}[{index}]", service, "is no service of the host", meant(service, HOST_SERVICES, "services"))
        elif service in draft.host_services[:index]:
            faults.add("service-twice", f"{path}[{index}]", service, "is named twice", "Remove one of them")
    reserves = any(host.mac for host in draft.hosts)
    if "dhcp" in draft.host_services and not table.value.get("dhcp") and not reserves and draft.name not in guests:
        reason = "offers dhcp, and there is nothing to lease: no dynamic range, no host with a mac and no guest"
        faults.add("dhcp-nothing", path, draft.host_services, reason, "Add a dhcp range, or remove 'dhcp' from host_services")
    if "dhcp" not in draft.host_services and "host_services" in table.value and (draft.dhcp or reserves):
        what = "dynamic ranges" if draft.dhcp else "hosts with a mac"
        reason = f"the segment has {what}, and its guests may not ask the host for a lease"
        faults.add("dhcp-closed", path, draft.host_services, reason, f"Add 'dhcp' to host_services, or remove the {what}")
