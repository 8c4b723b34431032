# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random valid platforms, for property tests."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from hypothesis import strategies as st

MAX_SEGMENTS = 12
_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,4})?", fullmatch=True).filter(lambda name: name not in ("internet", "host", "all", "default", "any"))
_HOST_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@st.composite
def models(draw: st.DrawFn, max_segments: int = MAX_SEGMENTS) -> dict[str, Any]:
    """Inventory variables of a valid platform with 1 to ``max_segments`` segments."""
    names = draw(st.lists(_NAMES, min_size=1, max_size=max_segments, unique=True))
    host_names = iter(draw(st.lists(_HOST_NAMES, min_size=3 * len(names), max_size=3 * len(names), unique=True)))
    segments = []
    for index, name in enumerate(names):
        # A /16 of its own for each segment keeps any prefix that is drawn apart from the others.
        prefix = draw(st.integers(16, 29))
        step = draw(st.integers(0, 2 ** (prefix - 16) - 1))
        cidr = IPv4Network((int(IPv4Network(f"10.{index}.0.0/16").network_address) + step * 2 ** (32 - prefix), prefix))
        segment = draw(_segment(name, cidr, [other for other in names if other != name], 2300 + 20 * index, [next(host_names) for _index in range(3)]))
        segments.append(segment)
    return {
        "platform_name": draw(_NAMES),
        "platform_domain": draw(st.sampled_from(["lab.local", "example.org", "x"])),
        "platform_segments": segments,
        "platform_ranges": {"docker_bridge": "172.17.0.0/16", "tailnet": "100.64.0.0/10"},
        "platform_host": {"ssh_ports": [2201]},
    }


@st.composite
def _segment(draw: st.DrawFn, name: str, cidr: IPv4Network, others: list[str], first_port: int, host_names: list[str]) -> dict[str, Any]:
    # Five sorted marks part a segment's addresses: gateway, up to two ends of a dynamic range, and hosts.
    last = cidr.num_addresses - 2
    marks = sorted(draw(st.lists(st.integers(1, last), min_size=5, max_size=5, unique=True)))
    gateway, low, high, *rest = (str(cidr.network_address + mark) for mark in marks)
    segment: dict[str, Any] = {"name": name, "cidr": str(cidr), "gateway": gateway, "internet": draw(st.booleans())}
    segment["reaches"] = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    if draw(st.booleans()):
        segment["dhcp"] = [{"first": low, "last": high}]
    if draw(st.booleans()):
        segment["ssh_ports"] = {"first": first_port, "last": first_port + 19}
    segment["hosts"] = []
    for place in range(draw(st.integers(0, len(rest)))):
        host: dict[str, Any] = {"name": host_names[place], "address": rest[place]}
        if draw(st.booleans()):
            host["mac"] = f"52:54:{(first_port >> 8) & 255:02x}:{first_port & 255:02x}:00:{place:02x}"
        if "ssh_ports" in segment and draw(st.booleans()):
            host["ssh_port"] = first_port + place
        if draw(st.booleans()):
            host["aliases"] = [f"{host_names[place]}-alias"]
        segment["hosts"].append(host)
    leases = "dhcp" in segment or any("mac" in host for host in segment["hosts"])
    if draw(st.booleans()):
        segment["host_services"] = (["dhcp"] if leases else []) + draw(st.lists(st.sampled_from(["dns", "ntp", "ssh"]), unique=True))
    return segment


def platforms(max_segments: int = MAX_SEGMENTS) -> st.SearchStrategy[Platform]:
    """Valid platforms with 1 to ``max_segments`` segments, any relation between them, hosts, forwards and host services."""
    return models(max_segments).map(parse_platform)
