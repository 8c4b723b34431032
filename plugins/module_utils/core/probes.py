# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be measured, and what the answers mean; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET, expected_matrix

PROTOCOLS = ("tcp", "udp", "icmp")

# How many addresses of a segment are tried before it counts as full.
CANDIDATES = 16

_TXT, _CHAOS, _NS = 16, 3, 2


@dataclass(frozen=True)
class Internet:
    """What stands for the Internet. ``None`` for a port: that protocol is not measured. ``udp``: echo or dns, what answers at ``udp_port``."""

    address: IPv4Address
    tcp_port: Optional[int] = None
    udp_port: Optional[int] = None
    udp: str = "dns"
    icmp: bool = True


@dataclass(frozen=True)
class Endpoint:
    """A probe that listens. port: protocol -> port, for tcp and udp."""

    address: str
    ports: Mapping[str, int]


@dataclass(frozen=True)
class Check:
    """One connection: the agent of ``source`` does ``operation`` with ``arguments``."""

    source: str
    destination: str
    protocol: str
    operation: str
    arguments: Mapping[str, Any]


def candidates(segment: Segment) -> list[IPv4Address]:
    """Addresses that nobody is declared to have: neither gateway, host nor dynamic range. From the top, up to CANDIDATES."""
    kept = {segment.gateway, *(host.address for host in segment.hosts)}
    last = int(segment.cidr.broadcast_address) - 1
    every = (IPv4Address(number) for number in range(last, int(segment.cidr.network_address), -1))
    return list(islice((address for address in every if address not in kept and not any(address in dhcp for dhcp in segment.dhcp)), CANDIDATES))


def choose(segment: Segment, taken: Collection[str]) -> Optional[IPv4Address]:
    """The candidate that nobody on the link answers for."""
    return next((address for address in candidates(segment) if str(address) not in taken), None)


def plan_checks(
    platform: Platform, endpoints: Mapping[str, Endpoint], internet: Optional[Internet], protocols: Sequence[str], timeout: float, token: str
) -> list[Check]:
    """A check for each ordered pair, and each segment and the Internet, by each protocol.

    token: hexadecimal text of this run; each check gets one of its own that starts with it
    """
    return [
        Check(source, destination, protocol, operation, _tokened(operation, {**arguments, "timeout": timeout}, token, number))
        for number, (source, destination, protocol, operation, arguments) in enumerate(_connections(platform, endpoints, internet, protocols))
    ]


def _tokened(operation: str, arguments: dict[str, Any], token: str, number: int) -> dict[str, Any]:
    # A DNS server echoes nothing, and of an unknown server on the Internet only a connection is expected.
    if operation == "dns" or "token" in arguments:
        return arguments
    return {**arguments, "token": f"{token}{number:04x}"}


def _connections(
    platform: Platform, endpoints: Mapping[str, Endpoint], internet: Optional[Internet], protocols: Sequence[str]
) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    for source, destination in expected_matrix(platform):
        for protocol in protocols:
            if destination != INTERNET:
                end = endpoints[destination]
                yield source, destination, protocol, protocol, _address(end.address, end.ports.get(protocol))
            elif internet is not None:
                far = _far(internet, protocol)
                if far is not None:
                    yield (source, destination, protocol, *far)


def _address(address: str, port: Optional[int]) -> dict[str, Any]:
    return {"address": address} if port is None else {"address": address, "port": port}


def _far(internet: Internet, protocol: str) -> Optional[tuple[str, dict[str, Any]]]:
    address = str(internet.address)
    if protocol == "icmp":
        return ("icmp", {"address": address}) if internet.icmp else None
    if protocol == "tcp":
        return ("tcp", {"address": address, "port": internet.tcp_port, "token": ""}) if internet.tcp_port else None
    if not internet.udp_port:
        return None
    if internet.udp == "dns":
        # The root's name servers: every resolver knows them, and no other name has to exist.
        return "dns", {"server": address, "port": internet.udp_port, "name": ".", "kind": _NS}
    return "udp", {"address": address, "port": internet.udp_port}


def resolver_question(segment: Segment, domain: Optional[str]) -> dict[str, Any]:
    """Arguments of a DNS question that the segment's own resolver must answer, without any other server's help."""
    if domain is not None and segment.hosts:
        return {"server": str(segment.gateway), "name": f"{segment.hosts[0].name}.{domain}"}
    # Every dnsmasq knows its own version.
    return {"server": str(segment.gateway), "name": "version.bind", "kind": _TXT, "group": _CHAOS}


@dataclass(frozen=True)
class Services:
    """Answers of the host to one probe, as the agent gave them; None = not asked."""

    ping: Mapping[str, Any]
    dns: Mapping[str, Any]
    lease: Optional[Mapping[str, Any]] = None


def service_faults(segment: Segment, domain: Optional[str], services: Services) -> list[str]:
    """A sentence for each service of the host that is not as declared."""
    return [*_ping_faults(segment, services.ping), *_dns_faults(segment, domain, services.dns), *_lease_faults(segment, services.lease)]


def _ping_faults(segment: Segment, ping: Mapping[str, Any]) -> Iterator[str]:
    if ping["result"] != "open":
        yield f"{segment.name}: gateway {segment.gateway} does not answer ping: {words(ping)}"


def _dns_faults(segment: Segment, domain: Optional[str], dns: Mapping[str, Any]) -> Iterator[str]:
    where = f"{segment.name}: DNS at {segment.gateway}"
    if "dns" not in segment.host_services:
        if dns["result"] == "open":
            yield f"{where} answers; declared closed (platform_segments[{segment.name}].host_services does not name dns)"
    elif dns["result"] != "open":
        yield f"{where} does not answer: {words(dns)}; declared open (platform_segments[{segment.name}].host_services names dns)"
    elif domain is not None and segment.hosts and str(segment.hosts[0].address) not in dns["addresses"]:
        found = ", ".join(dns["addresses"]) or f"no address (rcode {dns['rcode']})"
        yield f"{where} says {found} for {segment.hosts[0].name}.{domain}; declared {segment.hosts[0].address}"


def _lease_faults(segment: Segment, lease: Optional[Mapping[str, Any]]) -> Iterator[str]:
    if lease is None:
        return
    where = f"{segment.name}: DHCP"
    if lease["result"] != "open":
        yield f"{where} gives no lease: {words(lease)}; declared platform_segments[{segment.name}].dhcp"
        return
    if not any(IPv4Address(lease["address"]) in dhcp for dhcp in segment.dhcp):
        yield f"{where} leased {lease['address']}, outside {', '.join(str(dhcp) for dhcp in segment.dhcp)}"
    declared = {"router": str(segment.gateway), "mask": str(segment.cidr.netmask)}
    for key, value in declared.items():
        if lease[key] != value:
            yield f"{where} says {key} {lease[key]}; declared {value}"


def asks_for_lease(segment: Segment) -> bool:
    """Whether a stranger is to get an address."""
    return bool(segment.dhcp) and "dhcp" in segment.host_services


def words(answer: Mapping[str, Any]) -> str:
    """The result of an agent's operation as the matrix holds it."""
    if answer["result"] == "error":
        return f"error: {answer.get('why', 'unknown')}"
    return str(answer["result"])
