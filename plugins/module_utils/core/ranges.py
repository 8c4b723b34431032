# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Address ranges that must not overlap: segments, ranges of other owners, and the routes of the host."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults

# Interfaces that Docker, libvirt and VPN clients make for the ranges that they own (platform_ranges).
_OWNERS_DEVICE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}|veth.*|virbr\d+|vnet\d+|tailscale\d+|wg.*|tun\d+|tap\d+|podman\d+|cni.*")

# RTF_UP and RTF_REJECT of linux/route.h, as /proc/net/route prints them.
_UP, _REJECT = 0x0001, 0x0200


@dataclass(frozen=True)
class Route:
    """A route of the host's main table.

    device: the interface it leaves by
    via:    the router it leads to; None for a network that is attached to the device itself
    """

    cidr: IPv4Network
    device: str
    via: Optional[IPv4Address] = None


@dataclass(frozen=True)
class Claim:
    """A range and who claims it. ``path``: where it is set, None for a route of the host."""

    cidr: IPv4Network
    path: Optional[str]
    route: Optional[Route] = None
    segment: bool = False

    def __str__(self) -> str:
        if self.route is not None:
            by = f"the host's route {self.cidr} on {self.route.device}"
            return f"{by} via {self.route.via}" if self.route.via else by
        return f"{self.path} ({self.cidr})"


def parse_proc_net_route(text: str) -> list[Route]:
    """Routes of ``/proc/net/route`` (main table; addresses are hexadecimal in the machine's byte order)."""
    routes = []
    for line in text.splitlines()[1:]:
        device, target, gateway, flags, *_middle, mask = line.split()[:8]
        if not int(flags, 16) & _UP or int(flags, 16) & _REJECT:
            continue
        via = _kernel_address(gateway)
        cidr = IPv4Network(f"{_kernel_address(target)}/{_kernel_address(mask)}")
        routes.append(Route(cidr, device, via if int(via) else None))
    return routes


def _kernel_address(digits: str) -> IPv4Address:
    return IPv4Address(struct.pack("=L", int(digits, 16)))


def relevant_routes(routes: Iterable[Route], own_bridges: Iterable[str]) -> list[Route]:
    """Without default routes (a VPN's two halves of one too) and without those that our own bridges bring."""
    own = set(own_bridges)
    return [route for route in routes if route.cidr.prefixlen > 1 and route.device not in own]


def check_undeclared(faults: Faults, claims: Sequence[Claim]) -> None:
    """Networks of Docker, libvirt and VPNs that nothing of the model overlaps: its rules would take them for the Internet."""
    declared = [claim.cidr for claim in claims if claim.route is None]
    for route in (claim.route for claim in claims if claim.route is not None):
        if _OWNERS_DEVICE.fullmatch(route.device) and not any(route.cidr.overlaps(cidr) for cidr in declared):
            reason = f"the host routes it to {route.device} and nothing declares it: guests could open connections into it"
            faults.add("undeclared-route", "platform_ranges", str(route.cidr), reason, f"Add {route.cidr} to platform_ranges, under its owner's name")


def check_overlaps(faults: Faults, claims: Sequence[Claim]) -> None:
    """Each pair of overlapping claims is one finding, at the one that can be changed.

    Ranges in CIDR form either nest or are disjoint; in sorted order the open ones form a stack, so the
    cost is that of sorting.
    """
    stack: list[Claim] = []
    for claim in sorted(claims, key=lambda claim: (int(claim.cidr.network_address), claim.cidr.prefixlen)):
        while stack and stack[-1].cidr.broadcast_address < claim.cidr.network_address:
            stack.pop()
        for other in stack:
            _judge(faults, other, claim)
        stack.append(claim)


def _judge(faults: Faults, outer: Claim, inner: Claim) -> None:
    route = outer.route or inner.route
    if route is not None:
        claim = inner if outer.route is not None else outer
        if claim.route is None and (claim.segment or not _is_at_work(route, claim.cidr)):
            reason = f"overlaps {outer if outer.route is not None else inner}"
            cure = "Choose a range that the host does not route, or take away what brings that route (a libvirt network: virsh net-destroy)"
            faults.add("overlap-route", claim.path or "", str(claim.cidr), reason, cure)
        return
    claim, other = (outer, inner) if outer.segment and not inner.segment else (inner, outer)
    faults.add("overlap", claim.path or "", str(claim.cidr), f"overlaps {other}", "Choose a range that nothing else uses for one of them")


def _is_at_work(route: Route, owned: IPv4Network) -> bool:
    """Whether a route is the use that its owner makes of a range: the range itself, or inside it on a device that the owner made or through a router."""
    made = route.via is not None or _OWNERS_DEVICE.fullmatch(route.device) is not None
    return route.cidr == owned or (made and route.cidr.subnet_of(owned))
