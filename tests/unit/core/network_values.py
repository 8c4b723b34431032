# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that the tests of the network core share."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import AddressRange
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Definition, DhcpHost, DnsHost
from hypothesis import strategies as st


def address(last: int) -> IPv4Address:
    return IPv4Address("10.0.1.0") + last


def addresses(first: int, last: int) -> AddressRange:
    return AddressRange(address(first), address(last))


def mac(last: int) -> str:
    return f"52:54:00:00:00:{last:02x}"


def host(number: int, name: Optional[str] = None, at: Optional[int] = None) -> DhcpHost:
    return DhcpHost(address(number if at is None else at), mac(number), name)


def dns(last: int, *names: str) -> DnsHost:
    return DnsHost(address(last), names)


PUBLIC = Definition(
    name="public",
    bridge="br-public",
    address=address(1),
    prefix=24,
    domain="lab.local",
    dhcp=(addresses(100, 200),),
    hosts=(host(10, "web"), host(11)),
    dns=(dns(10, "web", "www"),),
).sorted()


# Random definitions of one network, against libvirt's own code.

NAMES = st.sampled_from(["a", "b", "c", "d.e", "web", "db"])
LASTS = st.integers(2, 254)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    marks = sorted(draw(st.lists(LASTS, max_size=6, unique=True)))
    ranges = tuple(addresses(first, last) for first, last in list(zip(marks[::2], marks[1::2])) if first < last)
    host_marks = draw(st.lists(st.integers(2, 9), max_size=5, unique=True))
    macs = draw(st.lists(st.integers(1, 6), min_size=len(host_marks), max_size=len(host_marks), unique=True))
    names = draw(st.lists(st.one_of(st.none(), NAMES), min_size=len(host_marks), max_size=len(host_marks), unique_by=lambda name: name or object()))
    hosts = tuple(DhcpHost(address(at), mac(number), name) for at, number, name in zip(host_marks, macs, names))
    records = draw(st.dictionaries(LASTS, st.lists(NAMES, min_size=1, max_size=3, unique=True), max_size=4))
    return replace(
        PUBLIC,
        dhcp=ranges,
        hosts=hosts,
        dns=tuple(dns(at, *found) for at, found in records.items()),
        domain=draw(st.sampled_from([None, "lab.local"])),
        mtu=draw(st.sampled_from([None, 1400])),
    ).sorted()


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "public", "bridge": "br-public", "address": "10.0.1.1", "prefix": 24, "autostart": True, "active": True, **changes}
