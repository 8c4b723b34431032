# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the variables of an inventory to a checked platform."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_host import HostDraft, check_probe, read_host, read_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_segment import SegmentDraft, read_segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_segments import check_segments
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels, plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding, ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Claim, Route, check_overlaps, check_undeclared, relevant_routes

MODEL_KEYS = ("platform_name", "platform_domain", "platform_segments", "platform_ranges", "platform_host", "platform_pools", "platform_internet_probe")
REQUIRED_KEYS = ("platform_name", "platform_domain", "platform_segments")


def parse_platform(raw: Mapping[str, Any], routes: Sequence[Route] = ()) -> Platform:
    """The platform that the variables describe.

    raw:    inventory variables by name (MODEL_KEYS)
    routes: routes of the host; no segment may overlap one that is not its own

    Raises ModelError with all findings.
    """
    faults = Faults()
    platform = _read(faults, raw, routes, ())
    if faults.items or platform is None:
        raise ModelError(faults.items)
    return platform


def check_platform(raw: Mapping[str, Any], routes: Sequence[Route] = (), listening: Collection[int] = ()) -> list[Finding]:
    """All faults of the variables; empty when ``parse_platform`` would succeed on a host that listens on no port of a forward.

    listening: TCP ports on which the host answers
    """
    faults = Faults()
    _read(faults, raw, routes, listening)
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
    drafts = _read_segments(faults, table, values.domain(faults, "platform_domain", table.text("platform_domain")))
    check_overlaps(faults, _claims(drafts))
    if faults.items:
        raise ModelError(faults.items)
    return tuple(draft.build() for draft in drafts)


def _read(faults: Faults, raw: Mapping[str, Any], routes: Sequence[Route], listening: Collection[int]) -> Optional[Platform]:
    table = Table(faults, "", plain(raw), MODEL_KEYS, REQUIRED_KEYS)
    name = values.name(faults, "platform_name", table.text("platform_name"), "platform")
    domain = values.domain(faults, "platform_domain", table.text("platform_domain"))
    drafts = _read_segments(faults, table, domain)
    ranges = _read_ranges(faults, table)
    host = read_host(faults, table.value["platform_host"]) if "platform_host" in table.value else HostDraft()
    pools = read_pools(faults, table.value["platform_pools"]) if "platform_pools" in table.value else []
    _check_host_ssh(faults, drafts, host, listening)
    if "platform_internet_probe" in table.value:
        check_probe(faults, table.value["platform_internet_probe"], [draft.cidr for draft in drafts if draft.cidr is not None])
    claims = [*_claims(drafts), *(Claim(cidr, f"platform_ranges.{key}") for key, cidr in ranges.items())]
    bridges = [draft.bridge for draft in drafts if draft.bridge is not None]
    claims += [Claim(route.cidr, None, route) for route in relevant_routes(routes, bridges)]
    check_overlaps(faults, claims)
    check_undeclared(faults, claims)
    if faults.items or name is None or domain is None:
        return None
    return Platform(
        name=name,
        domain=domain,
        segments=tuple(draft.build() for draft in drafts),
        ranges=ranges,
        host_ssh_ports=tuple(port for _path, port in host.ssh_ports),
        host=host.spec,
        pools=tuple(pools),
    )


def _read_segments(faults: Faults, table: Table, domain: Optional[str]) -> list[SegmentDraft]:
    rows = table.rows("platform_segments")
    if table.value.get("platform_segments") == []:
        faults.add("no-segments", "platform_segments", [], "has no segment, and there is nothing to build", "Describe one segment at least: name and cidr")
    drafts = [read_segment(faults, path, row) for path, row in zip(labels("platform_segments", rows), rows)]
    check_segments(faults, drafts, domain)
    return drafts


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


def _check_host_ssh(faults: Faults, drafts: Sequence[SegmentDraft], host: HostDraft, listening: Collection[int]) -> None:
    own = {port: path for path, port in host.ssh_ports}
    for draft in drafts:
        for guest in draft.hosts:
            if guest.ssh_port in own:
                reason = f"is the port of the host's own sshd ({own[guest.ssh_port]}); forwarding it would lock you out"
                faults.add("ssh-port-host", f"{guest.path}.ssh_port", guest.ssh_port, reason, "Choose another port of the segment's ssh_ports")
            elif guest.ssh_port in listening:
                reason = f"is taken: this host itself listens on port {guest.ssh_port}, and the forward would take that over from its service"
                cure = f"Choose another port, or stop that service (ss -ltnp 'sport = :{guest.ssh_port}' names it)"
                faults.add("ssh-port-taken", f"{guest.path}.ssh_port", guest.ssh_port, reason, cure)
        if "ssh" in draft.host_services and not own:
            reason = "offers the host's ssh, and platform_host.ssh_ports names no port"
            faults.add("service-ssh", f"{draft.path}.host_services", draft.host_services, reason, "Set platform_host.ssh_ports, or remove 'ssh'")
