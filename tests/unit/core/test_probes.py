# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured, and what the answers mean."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import matrix
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.probes import (
    PROTOCOLS,
    Endpoint,
    Internet,
    Services,
    asks_for_lease,
    candidates,
    choose,
    plan_checks,
    resolver_question,
    service_faults,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET, expected_matrix
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import platforms
from hypothesis import given, settings

LAB = parse_platform(lab_model())
EXPECTED = expected_matrix(LAB)
FAR = Internet(IPv4Address("8.8.8.8"), tcp_port=53, udp_port=53)


def segment(**values: Any) -> Segment:
    model = {"platform_name": "x", "platform_domain": "x", "platform_segments": [{"name": "one", "cidr": "10.0.1.0/29", **values}]}
    return parse_platform(model).segments[0]


def endpoints(platform: Platform) -> dict[str, Endpoint]:
    return {part.name: Endpoint(str(part.gateway), {"tcp": 1001, "udp": 1002}) for part in platform.segments}


@settings(deadline=None)
@given(platforms())
def test_an_address_for_a_probe_is_nobodys(platform: Platform) -> None:
    for part in platform.segments:
        declared = {part.gateway, part.cidr.network_address, part.cidr.broadcast_address, *(host.address for host in part.hosts)}
        for address in candidates(part):
            assert address in part.cidr
            assert address not in declared
            assert not any(address in dhcp for dhcp in part.dhcp)


def test_the_first_address_that_nobody_answers_for_is_chosen() -> None:
    one = segment(gateway="10.0.1.1", hosts=[{"name": "top", "address": "10.0.1.6"}])

    assert choose(one, []) == IPv4Address("10.0.1.5")
    assert choose(one, ["10.0.1.5", "10.0.1.4"]) == IPv4Address("10.0.1.3")
    assert choose(one, ["10.0.1.5", "10.0.1.4", "10.0.1.3", "10.0.1.2"]) is None


def test_a_segment_whose_addresses_are_all_leased_has_none_to_choose() -> None:
    assert candidates(segment(gateway="10.0.1.1", dhcp=[{"first": "10.0.1.2", "last": "10.0.1.6"}])) == []


@settings(deadline=None)
@given(platforms())
def test_every_pair_is_checked_once_by_every_protocol(platform: Platform) -> None:
    checks = plan_checks(platform, endpoints(platform), FAR, PROTOCOLS, 1.0, "ab")
    expected = expected_matrix(platform)

    assert sorted((check.source, check.destination, check.protocol) for check in checks) == sorted(
        (*pair, protocol) for pair in expected for protocol in PROTOCOLS
    )
    tokens = [check.arguments["token"] for check in checks if check.arguments.get("token")]
    assert len(set(tokens)) == len(tokens)


def internet_checks(internet: Optional[Internet]) -> dict[str, tuple[str, dict[str, Any]]]:
    checks = plan_checks(LAB, endpoints(LAB), internet, PROTOCOLS, 1.0, "ab")
    return {check.protocol: (check.operation, dict(check.arguments)) for check in checks if (check.source, check.destination) == ("public", INTERNET)}


def test_resolver_stands_for_the_internet() -> None:
    checks = internet_checks(FAR)

    assert checks["tcp"] == ("tcp", {"address": "8.8.8.8", "port": 53, "token": "", "timeout": 1.0})
    assert checks["udp"] == ("dns", {"server": "8.8.8.8", "port": 53, "name": ".", "kind": 2, "timeout": 1.0})
    assert checks["icmp"][0] == "icmp"


def test_echo_stands_for_the_internet() -> None:
    operation, arguments = internet_checks(Internet(IPv4Address("198.51.100.10"), 7, 7, "echo"))["udp"]

    assert operation == "udp"
    assert arguments["token"].startswith("ab")


def test_only_what_was_named_is_asked_of_the_internet() -> None:
    assert list(internet_checks(Internet(IPv4Address("8.8.8.8"), udp_port=53, icmp=False))) == ["udp"]
    assert internet_checks(None) == {}


def test_name_that_is_asked_of_the_resolver() -> None:
    with_host = segment(hosts=[{"name": "web", "address": "10.0.1.5"}])

    assert resolver_question(with_host, "lab.local") == {"server": "10.0.1.1", "name": "web.lab.local"}
    assert resolver_question(with_host, None)["name"] == "version.bind"
    assert resolver_question(segment(), "lab.local")["name"] == "version.bind"


OPEN = {"result": "open"}
DNS = {"result": "open", "rcode": 0, "addresses": ["10.0.1.5"]}
LEASE = {"result": "open", "address": "10.0.1.3", "router": "10.0.1.1", "mask": "255.255.255.248", "dns": "10.0.1.1"}
WHOLE = segment(dhcp=[{"first": "10.0.1.2", "last": "10.0.1.4"}], hosts=[{"name": "web", "address": "10.0.1.5"}])


@pytest.mark.parametrize(
    ("services", "fault"),
    [
        (Services({"result": "timeout"}, DNS, LEASE), "one: gateway 10.0.1.1 does not answer ping: timeout"),
        (
            Services(OPEN, {"result": "refused"}, LEASE),
            "one: DNS at 10.0.1.1 does not answer: refused; declared open (platform_segments[one].host_services names dns)",
        ),
        (Services(OPEN, {**DNS, "addresses": ["10.0.1.6"]}, LEASE), "one: DNS at 10.0.1.1 says 10.0.1.6 for web.lab.local; declared 10.0.1.5"),
        (
            Services(OPEN, {"result": "open", "rcode": 3, "addresses": []}, LEASE),
            "one: DNS at 10.0.1.1 says no address (rcode 3) for web.lab.local; declared 10.0.1.5",
        ),
        (Services(OPEN, DNS, {"result": "timeout"}), "one: DHCP gives no lease: timeout; declared platform_segments[one].dhcp"),
        (Services(OPEN, DNS, {"result": "error", "why": "boom"}), "one: DHCP gives no lease: error: boom; declared platform_segments[one].dhcp"),
        (Services(OPEN, DNS, {**LEASE, "address": "10.0.1.6"}), "one: DHCP leased 10.0.1.6, outside 10.0.1.2-10.0.1.4"),
        (Services(OPEN, DNS, {**LEASE, "router": "10.0.1.6"}), "one: DHCP says router 10.0.1.6; declared 10.0.1.1"),
        (Services(OPEN, DNS, {**LEASE, "mask": "255.255.255.0"}), "one: DHCP says mask 255.255.255.0; declared 255.255.255.248"),
    ],
)
def test_faults_of_the_hosts_services(services: Services, fault: str) -> None:
    assert service_faults(WHOLE, "lab.local", services) == [fault]


def test_services_as_declared() -> None:
    assert service_faults(WHOLE, "lab.local", Services(OPEN, DNS, LEASE)) == []
    assert service_faults(WHOLE, None, Services(OPEN, {"result": "open", "rcode": 0, "addresses": []}, LEASE)) == []
    assert service_faults(segment(), None, Services(OPEN, DNS)) == []


def test_resolver_that_is_not_declared() -> None:
    closed = segment(host_services=[])

    assert service_faults(closed, None, Services(OPEN, {"result": "refused"})) == []
    assert service_faults(closed, None, Services(OPEN, DNS)) == [
        "one: DNS at 10.0.1.1 answers; declared closed (platform_segments[one].host_services does not name dns)"
    ]


def test_who_leases_to_strangers() -> None:
    assert [part.name for part in LAB.segments if asks_for_lease(part)] == ["management", "public", "private", "container"]


def measured(**changes: dict[str, dict[str, str]]) -> dict[str, dict[str, dict[str, str]]]:
    """The matrix as declared, but for ``source={destination: results}``."""
    found: dict[str, dict[str, dict[str, str]]] = {part.name: {} for part in LAB.segments}
    for (source, destination), allowed in EXPECTED.items():
        found[source][destination] = dict.fromkeys(PROTOCOLS, "open" if allowed else "refused")
        found[source][destination].update(changes.get(source, {}).get(destination, {}))
    return found


def test_all_as_declared() -> None:
    numbers = matrix.count(EXPECTED, measured())

    assert numbers == {"pairs_ok": 20, "pairs_total": 20, "internet_ok": 5, "internet_total": 5}
    assert matrix.differences(EXPECTED, measured()) == []
    assert matrix.summary(numbers, []) == "pairs 20/20, internet 5/5"


def test_silence_is_closed_too() -> None:
    assert matrix.differences(EXPECTED, measured(database={"public": {"icmp": "timeout"}})) == []


@pytest.mark.parametrize(
    ("source", "destination", "results", "sentence"),
    [
        (
            "database",
            "public",
            {"udp": "open"},
            "database -> public: udp open; declared closed (platform_segments[database].reaches does not name public)",
        ),
        (
            "public",
            "private",
            {"tcp": "refused", "icmp": "timeout"},
            "public -> private: tcp refused, icmp timeout; declared open (platform_segments[public].reaches names private)",
        ),
        ("public", INTERNET, {"tcp": "timeout"}, "public -> internet: tcp timeout; declared open (platform_segments[public].internet is true)"),
        (
            "database",
            "public",
            {"tcp": "error: lost"},
            "database -> public: tcp error: lost; declared closed (platform_segments[database].reaches does not name public)",
        ),
    ],
)
def test_difference_in_words(source: str, destination: str, results: dict[str, str], sentence: str) -> None:
    found = measured(**{source: {destination: results}})
    numbers = matrix.count(EXPECTED, found)

    assert matrix.differences(EXPECTED, found) == [sentence]
    assert numbers["pairs_ok"] + numbers["internet_ok"] == 24
    assert matrix.summary(numbers, [sentence]).endswith(", 1 difference")


def test_table() -> None:
    found = measured(database={"public": {"udp": "open"}, "private": dict.fromkeys(PROTOCOLS, "timeout")}, public={INTERNET: {"tcp": "timeout"}})

    assert matrix.as_table(EXPECTED, found) == (
        "from \\ to   management  public                              private  database  container  internet\n"
        "management  -           open                                open     open      open       open\n"
        "public      refused     -                                   open     open      open       tcp:timeout,udp:open,icmp:open!\n"
        "private     refused     refused                             -        open      open       open\n"
        "database    refused     tcp:refused,udp:open,icmp:refused!  timeout  -         refused    open\n"
        "container   refused     refused                             refused  refused   -          open\n"
    )
