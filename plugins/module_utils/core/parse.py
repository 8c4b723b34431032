# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the variables of an inventory to a checked platform."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Means, Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_guest import GuestDraft, Known
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_guests import check_capacity, check_guests, guest_segments, read_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_host import HostDraft, check_probe, read_host, read_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_images import read_capacity, read_images
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_segment import SegmentDraft, read_segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_segments import Doubles, check_segments
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_services import SERVICE_KEYS, read_services
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels, plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding, ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_assign import assign
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import HostSpec, Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import Guest, Image
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_services import Services
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Claim, Route, check_overlaps, check_undeclared, relevant_routes

MODEL_KEYS = (
    "platform_name",
    "platform_domain",
    "platform_segments",
    "platform_ranges",
    "platform_host",
    "platform_pools",
    "platform_internet_probe",
    "platform_images",
    "platform_guests",
    "platform_capacity",
    *SERVICE_KEYS,
)
REQUIRED_KEYS = ("platform_name", "platform_domain", "platform_segments")


def parse_platform(raw: Mapping[str, Any], routes: Sequence[Route] = (), guests: bool = True) -> Platform:
    """The platform that the variables describe.

    raw:    inventory variables by name (MODEL_KEYS)
    routes: routes of the host; no segment may overlap one that is not its own
    guests: False where values are not known, such as templates that only a run fills in: guests and services are neither judged nor returned

    Raises ModelError with all findings.
    """
    faults = Faults()
    platform = _read(faults, raw, routes, (), guests)
    if faults.items or platform is None:
        raise ModelError(faults.items)
    return platform


def check_platform(raw: Mapping[str, Any], routes: Sequence[Route] = (), listening: Collection[int] = ()) -> list[Finding]:
    """All faults of the variables; empty when ``parse_platform`` would succeed on a host that listens on no port of a forward.

    listening: TCP ports on which the host answers
    """
    faults = Faults()
    _read(faults, raw, routes, listening, True)
    return faults.items


def parse_segments(segments: Sequence[Mapping[str, Any]], domain: Optional[str] = None) -> tuple[Segment, ...]:
    """The segments alone, checked among themselves.

    segments: ``platform_segments`` as the inventory has it
    domain:   the platform's domain, where the caller knows it: ``web`` and ``web.<domain>`` are then one name

    Raises ModelError with all findings.
    """
    faults = Faults()
    raw = {"platform_segments": segments} if domain is None else {"platform_segments": segments, "platform_domain": domain}
    table = Table(faults, "", plain(raw), tuple(raw))
    drafts, _doubles = _read_segments(faults, table, values.domain(faults, "platform_domain", table.text("platform_domain")))
    check_overlaps(faults, _claims(drafts))
    if faults.items:
        raise ModelError(faults.items)
    return tuple(draft.build() for draft in drafts)


def parse_guests(
    segments: Sequence[Mapping[str, Any]], guests: Sequence[Mapping[str, Any]], name: str, pools: Optional[Sequence[Mapping[str, Any]]] = None
) -> tuple[tuple[Segment, ...], tuple[Guest, ...]]:
    """Segments and guests, checked among themselves; images, and pools that are not given, are taken on trust.

    segments: ``platform_segments`` as the inventory has it, without the guests
    guests:   ``platform_guests``
    name:     ``platform_name``
    pools:    ``platform_pools``

    Raises ModelError with all findings.
    """
    faults = Faults()
    raw = {"platform_name": name, "platform_segments": segments, "platform_guests": guests, **({} if pools is None else {"platform_pools": pools})}
    table = Table(faults, "", plain(raw), tuple(raw))
    platform = values.name(faults, "platform_name", table.text("platform_name"), "platform")
    drafts, doubles = _read_segments(faults, table, None)
    known = Known(_segment_names(drafts), None if pools is None else _names(table, "platform_pools"))
    found = read_guests(faults, table.value["platform_guests"], known)
    check_guests(faults, found, drafts, doubles, platform)
    check_overlaps(faults, _claims(drafts))
    if faults.items:
        raise ModelError(faults.items)
    return tuple(draft.build() for draft in drafts), tuple(draft.build() for draft in found)


def parse_images(images: Sequence[Mapping[str, Any]], pools: Sequence[Mapping[str, Any]]) -> list[Image]:
    """``platform_images`` with the pool of each. Raises ModelError with all findings."""
    faults = Faults()
    table = Table(faults, "", plain({"platform_images": images, "platform_pools": pools}), ("platform_images", "platform_pools"))
    found = read_images(faults, table.value["platform_images"], _names(table, "platform_pools"))
    if faults.items:
        raise ModelError(faults.items)
    return found


def parse_capacity(capacity: Mapping[str, Any], host: Mapping[str, Any]) -> Policy:
    """``platform_capacity`` with the reserve of ``platform_host``. Raises ModelError with all findings."""
    faults = Faults()
    policy = read_capacity(faults, plain(capacity), read_host(faults, plain(host)).spec)
    if faults.items:
        raise ModelError(faults.items)
    return policy


def _segment_names(drafts: Sequence[SegmentDraft]) -> list[str]:
    return [draft.name for draft in drafts if draft.name is not None]


def _names(table: Table, key: str) -> list[str]:
    """What rows are named, also those with faults of their own: what refers to them is not wrong for that."""
    rows = table.value.get(key)
    names = [row.get("name") for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return [name for name in names if isinstance(name, str)]


def _read(faults: Faults, raw: Mapping[str, Any], routes: Sequence[Route], listening: Collection[int], judged: bool) -> Optional[Platform]:
    table = Table(faults, "", plain(raw), MODEL_KEYS, REQUIRED_KEYS)
    name = values.name(faults, "platform_name", table.text("platform_name"), "platform")
    domain = values.domain(faults, "platform_domain", table.text("platform_domain"))
    drafts, doubles = _read_segments(faults, table, domain)
    ranges = _read_ranges(faults, table)
    host = read_host(faults, table.value["platform_host"]) if "platform_host" in table.value else HostDraft()
    pools = read_pools(faults, table.value["platform_pools"]) if "platform_pools" in table.value else []
    known = Known(_segment_names(drafts), _names(table, "platform_pools"), _names(table, "platform_images"))
    images = read_images(faults, table.value["platform_images"], known.pools) if "platform_images" in table.value else []
    guests = read_guests(faults, table.value["platform_guests"], known) if judged and "platform_guests" in table.value else []
    check_guests(faults, guests, drafts, doubles, name)
    policy = read_capacity(faults, table.value.get("platform_capacity", {}), host.spec)
    _check_host_ssh(faults, drafts, guests, host, listening)
    services = read_services(faults, table, _context(name, drafts, guests, ranges, host)) if judged else Services()
    if "platform_internet_probe" in table.value:
        check_probe(faults, table.value["platform_internet_probe"], [draft.cidr for draft in drafts if draft.cidr is not None])
    claims = [*_claims(drafts), *(Claim(cidr, f"platform_ranges.{key}") for key, cidr in ranges.items())]
    bridges = [draft.bridge for draft in drafts if draft.bridge is not None]
    claims += [Claim(route.cidr, None, route) for route in relevant_routes(routes, bridges)]
    check_overlaps(faults, claims)
    check_undeclared(faults, claims)
    if faults.items or name is None or domain is None:
        return None
    platform = Platform(
        name=name,
        domain=domain,
        segments=tuple(draft.build() for draft in drafts),
        ranges=ranges,
        host_ssh_ports=tuple(port for _path, port in host.ssh_ports),
        host=host.spec,
        pools=tuple(pools),
        images=tuple(images),
        guests=tuple(draft.build() for draft in guests),
        capacity=policy,
        services=services,
    )
    _check_room(faults, platform)
    return platform


def _context(
    platform: Optional[str], drafts: Sequence[SegmentDraft], guests: Sequence[GuestDraft], ranges: Mapping[str, IPv4Network], host: HostDraft
) -> Context:
    kept = [draft.ssh_ports for draft in drafts if draft.ssh_ports is not None]
    led = [place.ssh_port for draft in drafts for place in draft.hosts] + [guest.ssh_port for guest in guests]
    return Context(
        platform=platform,
        segments=tuple(_segment_names(drafts)),
        ranges=ranges,
        host_ssh_ports=tuple(port for _path, port in host.ssh_ports),
        forwards=frozenset(port for port in led if isinstance(port, int)),
        ssh_ports=frozenset(port for ports in kept for port in range(ports.first, ports.last + 1)),
    )


def _check_room(faults: Faults, platform: Platform) -> None:
    """Whether there is an address, a port, a vCPU and memory for every guest, on a host that has no more than the model demands."""
    try:
        assign(platform.name, platform.guests, platform.segments, taken_ports=platform.host_ssh_ports)
    except ModelError as error:
        faults.items.extend(error.findings)
    policy, means = _known_means(platform.capacity, platform.host)
    check_capacity(faults, policy, means, platform.guests, "the host of platform_host")


def _known_means(policy: Policy, host: HostSpec) -> tuple[Policy, Means]:
    """What the model says of the host, and the policy without the limits that depend on what it does not say."""
    if host.cores is None:
        policy = replace(policy, vcpus_per_core=None)
    if host.memory_mb is None:
        policy = replace(policy, memory_percent=None, reserve_memory_mb=0)
    return policy, Means(host.cores or 0, (host.memory_mb or 0) * 1024)


def _read_segments(faults: Faults, table: Table, domain: Optional[str]) -> tuple[list[SegmentDraft], Doubles]:
    rows = table.rows("platform_segments")
    if table.value.get("platform_segments") == []:
        faults.add("no-segments", "platform_segments", [], "has no segment, and there is nothing to build", "Describe one segment at least: name and cidr")
    guests = guest_segments(table.value.get("platform_guests"))
    drafts = [read_segment(faults, path, row, guests) for path, row in zip(labels("platform_segments", rows), rows)]
    return drafts, check_segments(faults, drafts, domain)


def _read_ranges(faults: Faults, table: Table) -> dict[str, IPv4Network]:
    if "platform_ranges" not in table.value:
        return {}
    raw = table.value["platform_ranges"]
    ranges = Table.read(faults, "platform_ranges", raw, tuple(raw) if isinstance(raw, Mapping) else ("<name of the owner>",))
    if ranges is None:
        return {}
    read = {str(key): values.network(faults, ranges.at(str(key)), ranges.text(key)) for key in ranges.value}
    return {key: cidr for key, cidr in read.items() if cidr is not None}


def _claims(drafts: Sequence[SegmentDraft]) -> list[Claim]:
    return [Claim(draft.cidr, f"{draft.path}.cidr", segment=True) for draft in drafts if draft.cidr is not None]


def _check_host_ssh(faults: Faults, drafts: Sequence[SegmentDraft], guests: Sequence[GuestDraft], host: HostDraft, listening: Collection[int]) -> None:
    own = {port: path for path, port in host.ssh_ports}
    places = [(place.path, place.ssh_port) for draft in drafts for place in draft.hosts] + [(guest.path, guest.ssh_port) for guest in guests]
    for path, port in places:
        if port in own:
            reason = f"is the port of the host's own sshd ({own[port]}); forwarding it would lock you out"
            faults.add("ssh-port-host", f"{path}.ssh_port", port, reason, "Choose another port of the segment's ssh_ports")
        elif port in listening:
            reason = f"is taken: this host itself listens on port {port}, and the forward would take that over from its service"
            cure = f"Choose another port, or stop that service (ss -ltnp 'sport = :{port}' names it)"
            faults.add("ssh-port-taken", f"{path}.ssh_port", port, reason, cure)
    for draft in drafts:
        if "ssh" in draft.host_services and not own:
            reason = "offers the host's ssh, and platform_host.ssh_ports names no port"
            faults.add("service-ssh", f"{draft.path}.host_services", draft.host_services, reason, "Set platform_host.ssh_ports, or remove 'ssh'")
