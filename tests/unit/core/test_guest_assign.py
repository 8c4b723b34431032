# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest was given once it keeps, nothing is given twice, and nothing lies outside what its segment has."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_assign import assign, guest_mac, guest_uuid
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import AddressRange, Host, PortRange, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import Guest, GuestInterface
from hypothesis import given
from hypothesis import strategies as st


def segment(name: str, cidr: str, **values: Any) -> Segment:
    network = IPv4Network(cidr)
    return Segment(name, f"br-{name}", network, network.network_address + 1, **values)


PUBLIC = segment(
    "public",
    "10.0.1.0/24",
    dhcp=(AddressRange(IPv4Address("10.0.1.10"), IPv4Address("10.0.1.11")),),
    hosts=(Host("db", IPv4Address("10.0.1.13"), ssh_port=2212),),
    ssh_ports=PortRange(2211, 2214),
)
PRIVATE = segment("private", "10.0.2.0/28", ssh_ports=PortRange(2231, 2250))
SEGMENTS = (PUBLIC, PRIVATE)


def guest(name: str, *segments: str, port: int | None = None, address: str | None = None, **values: Any) -> Guest:
    first, *rest = segments or ("public",)
    interfaces = [GuestInterface(first, IPv4Address(address) if address else None), *(GuestInterface(item) for item in rest)]
    return Guest(name, tuple(interfaces), ssh_port=port, forward=values.pop("forward", True), **values)


def records(guests: list[Guest]) -> list[dict[str, Any]]:
    """As the module reports what the definitions on the host remember."""
    return [
        {
            "name": item.name,
            "platform": "lab",
            "ssh_port": item.ssh_port,
            "interfaces": [{"segment": one.segment, "address": None if one.address is None else str(one.address)} for one in item.interfaces],
        }
        for item in guests
        if not item.absent
    ]


def given_to(guests: list[Guest]) -> list[tuple[str, int | None]]:
    return [(str(item.interfaces[0].address), item.ssh_port) for item in guests]


def test_lowest_free_ones_beside_the_dynamic_range_hosts_and_the_hosts_own_port() -> None:
    guests = assign("lab", [guest("a"), guest("b"), guest("c", "private")], SEGMENTS, taken_ports=[2211])

    assert given_to(guests) == [("10.0.1.12", 2213), ("10.0.1.14", 2214), ("10.0.2.10", 2231)]


def test_what_the_model_sets_wins() -> None:
    before = assign("lab", [guest("a")], SEGMENTS)

    after = assign("lab", [guest("a"), guest("b", address="10.0.1.12", port=2211)], SEGMENTS, records(before))

    assert given_to(before) == [("10.0.1.12", 2211)]
    assert given_to(after) == [("10.0.1.14", 2213), ("10.0.1.12", 2211)]


def test_second_interface_has_an_address_and_no_port() -> None:
    (found,) = assign("lab", [guest("a", "public", "private")], SEGMENTS)

    assert [str(item.address) for item in found.interfaces] == ["10.0.1.12", "10.0.2.10"]


def test_dynamic_and_absent_guests_stay_as_they_are() -> None:
    leased = Guest("a", (GuestInterface("public", dynamic=True),))
    absent = Guest("b", state="absent", remove_disks=True)

    assert assign("lab", [leased, absent, guest("c", forward=False)], SEGMENTS) == [leased, absent, guest("c", address="10.0.1.12", forward=False)]


def test_small_segment_gives_its_first_addresses_last() -> None:
    guests = assign("lab", [guest(f"g{index}", "private") for index in range(6)], SEGMENTS)

    assert [address for address, _port in given_to(guests)] == [f"10.0.2.{last}" for last in (10, 11, 12, 13, 14, 2)]


def test_guest_that_moves_gets_what_the_new_segment_has() -> None:
    before = assign("lab", [guest("a")], SEGMENTS)

    assert given_to(assign("lab", [guest("a", "private")], SEGMENTS, records(before))) == [("10.0.2.10", 2231)]


@pytest.mark.parametrize("address", ["10.0.1.0", "10.0.1.1", "10.0.1.255", "10.0.1.11", "10.0.1.13", "10.0.9.9", "dynamic", None, "10.0.1"])
def test_recorded_address_that_no_longer_fits(address: str | None) -> None:
    recorded = [{"name": "a", "ssh_port": "2211", "interfaces": [{"segment": "public", "address": address}]}]

    assert given_to(assign("lab", [guest("a")], SEGMENTS, recorded)) == [("10.0.1.12", 2211)]


@pytest.mark.parametrize("port", [2212, 2213, 2231, None])
def test_recorded_port_that_no_longer_fits(port: int | None) -> None:
    recorded: list[dict[str, Any]] = [{"name": "a", "ssh_port": port, "interfaces": []}]

    assert assign("lab", [guest("a")], SEGMENTS, recorded, taken_ports=[2213])[0].ssh_port == 2211


def test_values_of_guests_that_nobody_declares_are_not_given_away() -> None:
    stray = [{"name": "old", "ssh_port": 2211, "interfaces": [{"segment": "public", "address": "10.0.1.12"}]}]
    foreign = [{"name": "a", "platform": "other", "ssh_port": 2213, "interfaces": [{"segment": "public", "address": "10.0.1.14"}]}]

    assert given_to(assign("lab", [guest("a")], SEGMENTS, [*stray, *foreign])) == [("10.0.1.15", 2214)]


def test_values_of_an_absent_guest_are_given_away_last() -> None:
    before = records(assign("lab", [guest("a")], SEGMENTS))
    absent = Guest("a", state="absent")

    assert given_to(assign("lab", [absent, guest("b")], SEGMENTS, before)[1:]) == [("10.0.1.14", 2213)]
    single = replace(PUBLIC, ssh_ports=PortRange(2211, 2211))
    assert assign("lab", [absent, guest("b")], [single], before)[1].ssh_port == 2211


def test_two_records_of_one_value() -> None:
    same = {"ssh_port": 2213, "interfaces": [{"segment": "public", "address": "10.0.1.20"}]}

    assert given_to(assign("lab", [guest("a"), guest("b")], SEGMENTS, [{"name": "a", **same}, {"name": "b", **same}])) == [
        ("10.0.1.20", 2213),
        ("10.0.1.12", 2211),
    ]


def test_nothing_left() -> None:
    full = segment("full", "10.0.3.0/29", ssh_ports=PortRange(2251, 2252))

    with pytest.raises(ModelError) as caught:
        assign("lab", [guest(f"g{index}", "full") for index in range(6)], [full])

    found = [(finding.rule, finding.path) for finding in caught.value.findings]
    assert found == [
        *(("ports-exhausted", f"platform_guests[g{index}].ssh_port") for index in (2, 3, 4)),
        ("addresses-exhausted", "platform_guests[g5]"),
        ("ports-exhausted", "platform_guests[g5].ssh_port"),
    ]


def test_identities_follow_from_names_alone() -> None:
    assert guest_mac("lab", "test-vm", 0) == "52:54:00:a9:1e:4c"
    assert len({guest_mac("lab", "test-vm", 0), guest_mac("lab", "test-vm", 1), guest_mac("sandbox", "test-vm", 0)}) == 3
    assert guest_uuid("lab", "test-vm") == guest_uuid("lab", "test-vm") != guest_uuid("sandbox", "test-vm")


NAMES = [f"g{index}" for index in range(6)]
ROOMY = (replace(PUBLIC, ssh_ports=PortRange(2211, 2230)), PRIVATE)


@st.composite
def fleets(draw: st.DrawFn) -> list[Guest]:
    """Guests with distinct names on one or two segments that leave addresses and ports open."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=len(NAMES)))
    places = st.sampled_from([("public",), ("private",), ("public", "private"), ("private", "public")])
    return [guest(name, *draw(places), forward=draw(st.booleans())) for name in names]


@given(fleets(), fleets())
def test_others_that_come_and_go_change_nothing(before: list[Guest], after: list[Guest]) -> None:
    first = assign("lab", before, ROOMY)
    second = assign("lab", after, ROOMY, records(first))

    earlier = {(item.name, one.segment): one.address for item in first for one in item.interfaces}
    ports = {(item.name, item.interfaces[0].segment): item.ssh_port for item in first if item.forward}
    for item in second:
        for one in item.interfaces:
            assert one.address == earlier.get((item.name, one.segment), one.address)
        if item.forward:
            assert item.ssh_port == ports.get((item.name, item.interfaces[0].segment), item.ssh_port)


@given(fleets(), fleets())
def test_nothing_is_given_twice_or_from_outside(before: list[Guest], after: list[Guest]) -> None:
    known = {item.name: item for item in ROOMY}
    found = assign("lab", after, ROOMY, records(assign("lab", before, ROOMY)), taken_ports=[2211])

    addresses = [one.address for item in found for one in item.interfaces] + [host.address for item in ROOMY for host in item.hosts]
    ports = [item.ssh_port for item in found if item.forward] + [2211, 2212]
    assert len(set(addresses)) == len(addresses)
    assert len(set(ports)) == len(ports)
    for item in found:
        for one in item.interfaces:
            place = known[one.segment]
            assert one.address in place.cidr
            assert one.address not in (place.gateway, place.cidr.network_address, place.cidr.broadcast_address)
            assert not any(one.address in leased for leased in place.dhcp)
        assert (item.ssh_port in (known[item.interfaces[0].segment].ssh_ports or ())) is item.forward


@given(fleets())
def test_second_run_changes_nothing(fleet: list[Guest]) -> None:
    first = assign("lab", fleet, ROOMY)

    assert assign("lab", fleet, ROOMY, records(first)) == assign("lab", first, ROOMY) == first


@given(fleets(), st.permutations(NAMES))
def test_order_of_declared_guests_does_not_matter_once_they_exist(fleet: list[Guest], order: list[str]) -> None:
    first = assign("lab", fleet, ROOMY)
    shuffled = sorted(fleet, key=lambda item: order.index(item.name))

    again = assign("lab", shuffled, ROOMY, records(first))

    assert {item.name: item for item in again} == {item.name: item for item in first}
