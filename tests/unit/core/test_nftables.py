# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The segments' rules: what they let through, and that the real nft reads them as we mean them."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_compile import (
    TABLE,
    NftablesCompiler,
    allows,
    compile_firewall,
    counted_pair,
    pair_counter,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_rules import PASS_MARK
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import Chain, Match, Outcome, Packet, Rule, Ruleset, evaluate, render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET, ReachCompiler, disagreements, expected_matrix
from ansible_collections.hybridlab.platform.plugins.module_utils.core.security_groups import SecurityGroupCompiler, compile_security_groups
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import platforms
from hypothesis import given, settings
from hypothesis import strategies as st

COMPILER: ReachCompiler[Ruleset] = NftablesCompiler()


def lab(**changes: dict[str, Any]) -> Ruleset:
    model = lab_model()
    for segment in model["platform_segments"]:
        segment.update(changes.get(segment["name"], {}))
    return compile_firewall(parse_platform(model))


WEB = {"hosts": [{"name": "web", "address": "10.0.1.10", "ssh_port": 2211}]}
LAB = lab(public=WEB)
STRAYS = compile_firewall(parse_platform(lab_model()), ["br-retired", "br-older"])


def packet(iif: str, oif: str, source: str, destination: str, **fields: Any) -> Packet:
    return Packet(iif, oif, IPv4Address(source), IPv4Address(destination), **fields)


def forwarded(*ends: str, **fields: Any) -> Outcome:
    return evaluate(LAB, "forward", packet(*ends, **fields))


def to_host(iif: str, source: str, destination: str, protocol: str, port: int = 0, **fields: Any) -> str:
    return evaluate(LAB, "input", packet(iif, "", source, destination, protocol=protocol, dport=port, local=True, **fields)).verdict


@settings(deadline=None)
@given(platforms())
def test_rules_agree_with_the_relation(platform: Platform) -> None:
    assert disagreements(COMPILER, platform) == []


@settings(deadline=None)
@given(platforms())
def test_rules_agree_with_the_security_groups(platform: Platform) -> None:
    rules, groups = compile_firewall(platform), compile_security_groups(platform)

    for src, dst in expected_matrix(platform):
        for protocol in ("tcp", "udp", "icmp"):
            assert allows(rules, src, dst, protocol) == SecurityGroupCompiler().allows(groups, src, dst)


@settings(deadline=None)
@given(platforms())
def test_nobody_outside_opens_a_connection_into_a_segment(platform: Platform) -> None:
    rules = compile_firewall(platform)

    assert not any(allows(rules, INTERNET, segment.name) for segment in platform.segments)


@settings(deadline=None)
@given(platforms())
def test_forged_sources_go_nowhere(platform: Platform) -> None:
    rules = compile_firewall(platform)

    for src, dst in expected_matrix(platform):
        forged = next((segment for segment in platform.segments if segment.name not in (src, dst)), None)
        if forged is not None:
            sent = Packet(rules.ends[src].interface, rules.ends[dst].interface, rules.ends[forged.name].address, rules.ends[dst].address)
            assert evaluate(rules, "forward", sent).verdict == "drop"


@settings(deadline=None)
@given(platforms())
def test_number_of_rules_is_linear(platform: Platform) -> None:
    rules = compile_firewall(platform)
    count = len(platform.segments)
    declared = sum(len(segment.reaches) for segment in platform.segments)
    forwards = sum(host.ssh_port is not None for segment in platform.segments for host in segment.hosts)

    assert rules.rule_count() <= 30 * count + declared + 3 * forwards + len(platform.ranges) + 9
    assert len(rules.counters) == declared + sum(segment.internet for segment in platform.segments)


def test_two_hundred_segments_have_rules_in_proportion() -> None:
    def rules(count: int) -> int:
        segments = [{"name": f"s{n}", "cidr": f"10.{n}.0.0/24", "reaches": [f"s{(n + step) % count}" for step in (1, 2, 3)]} for n in range(count)]
        return compile_firewall(parse_platform({"platform_name": "x", "platform_domain": "x", "platform_segments": segments})).rule_count()

    fixed = rules(5) - 5 * (rules(6) - rules(5))
    assert rules(200) - fixed == 40 * (rules(5) - fixed)


@settings(deadline=None, max_examples=25)
@given(platforms(), st.lists(st.sampled_from(["br-retired", "br-older"]), unique=True))
def test_nft_lists_what_was_rendered(platform: Platform, strays: list[str]) -> None:
    text = render(compile_firewall(platform, strays))
    script = f"nft -f - && nft -s list table inet {TABLE}"
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], input=text, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == text.split(f"flush table inet {TABLE}\n")[1]


def test_declared_pair_is_counted_and_marked() -> None:
    outcome = forwarded("br-public", "br-private", "10.0.1.10", "10.0.2.10")

    assert outcome == Outcome("accept", "", PASS_MARK, ("pair_public_private",))


def test_replies_pass_and_are_not_counted() -> None:
    assert forwarded("br-private", "br-public", "10.0.2.10", "10.0.1.10", state="established") == Outcome("accept", "", PASS_MARK)


@pytest.mark.parametrize(("protocol", "answer"), [("tcp", "tcp reset"), ("udp", "icmpx admin-prohibited"), ("icmp", "icmpx admin-prohibited")])
def test_refused_pair_is_answered(protocol: str, answer: str) -> None:
    outcome = forwarded("br-private", "br-public", "10.0.2.10", "10.0.1.10", protocol=protocol)

    assert outcome == Outcome("reject", answer)


@pytest.mark.parametrize(
    ("source", "oif", "destination", "fields", "verdict"),
    [
        ("10.0.2.10", "br-private", "10.0.2.11", {}, "accept"),
        ("0.0.0.0", "br-private", "255.255.255.255", {"protocol": "udp"}, "accept"),
        ("10.0.2.10", "uplink", "8.8.8.8", {}, "accept"),
        ("10.0.2.10", "docker0", "172.17.0.2", {}, "reject"),
        ("10.0.2.10", "tailscale0", "100.100.1.1", {}, "reject"),
        # The bridge of a segment is away and the host would use its default route.
        ("10.0.2.10", "uplink", "10.0.1.10", {}, "reject"),
        # A route behind a segment's bridge is that segment.
        ("10.0.2.10", "br-public", "192.168.77.1", {}, "reject"),
        ("10.0.2.10", "br-database", "192.168.77.1", {}, "accept"),
        ("10.0.2.10", "br-database", "10.0.3.10", {"state": "invalid"}, "drop"),
        ("10.0.2.10", "br-database", "10.0.3.10", {"family": "ipv6"}, "reject"),
    ],
)
def test_what_a_guest_of_private_sends(source: str, oif: str, destination: str, fields: dict[str, Any], verdict: str) -> None:
    assert forwarded("br-private", oif, source, destination, **fields).verdict == verdict


@pytest.mark.parametrize(
    ("destination", "fields", "verdict"),
    [
        ("10.0.1.10", {"dport": 2211, "dnat": True}, "accept"),
        ("10.0.1.10", {"dport": 2211, "dnat": False}, "drop"),
        ("10.0.1.10", {"dport": 2212, "dnat": True}, "drop"),
        ("10.0.1.11", {"dport": 2211, "dnat": True}, "drop"),
        ("10.0.1.10", {"dport": 2211, "dnat": True, "protocol": "udp"}, "drop"),
        ("10.0.1.10", {"state": "established"}, "accept"),
        ("10.0.1.10", {"state": "related", "protocol": "icmp"}, "accept"),
    ],
)
def test_what_comes_from_outside(destination: str, fields: dict[str, Any], verdict: str) -> None:
    assert forwarded("uplink", "br-public", "198.51.100.9", destination, **fields).verdict == verdict


@pytest.mark.parametrize("stray", ["br-retired", "br-older"])
@pytest.mark.parametrize("other", ["br-public", "br-retired", "br-older", "docker0", "uplink"])
@pytest.mark.parametrize("fields", [{}, {"protocol": "udp"}, {"state": "established"}, {"family": "ipv6"}, {"dnat": True}], ids=str)
def test_nothing_passes_from_or_to_a_bridge_that_is_no_longer_declared(stray: str, other: str, fields: dict[str, Any]) -> None:
    for source, destination in (("10.0.1.10", "10.0.9.10"), ("10.0.9.10", "10.0.1.10"), ("10.0.9.10", "8.8.8.8"), ("8.8.8.8", "10.0.9.10")):
        for iif, oif in ((stray, other), (other, stray)):
            assert evaluate(STRAYS, "forward", packet(iif, oif, source, destination, **fields)).verdict == "drop"


@pytest.mark.parametrize("fields", [{"protocol": "udp", "dport": 53}, {"protocol": "icmp"}, {"dport": 2201}, {"state": "invalid"}, {"family": "ipv6"}], ids=str)
def test_the_host_offers_nothing_to_a_bridge_that_is_no_longer_declared(fields: dict[str, Any]) -> None:
    assert evaluate(STRAYS, "input", packet("br-retired", "", "10.0.9.10", "10.0.9.1", local=True, **fields)).verdict == "drop"


def test_what_the_host_is_about_with_a_guest_of_a_bridge_that_is_no_longer_declared_goes_on() -> None:
    assert evaluate(STRAYS, "input", packet("br-retired", "", "10.0.9.10", "10.0.9.1", local=True, state="established")).verdict == "accept"


@settings(deadline=None)
@given(platforms())
def test_the_rest_of_the_rules_is_the_same_with_strays(platform: Platform) -> None:
    alone, closed = compile_firewall(platform), compile_firewall(platform, ["br-retired", "br-older"])

    kept = [(chain.name, [line for line in chain.lines() if '"br-retired"' not in line and '"br-older"' not in line]) for chain in closed.chains]
    assert [chain for chain in kept if chain[0] != "stray"] == [(chain.name, chain.lines()) for chain in alone.chains]
    assert (closed.counters, closed.ends) == (alone.counters, alone.ends)
    assert "stray" not in render(alone)
    for src, dst in expected_matrix(platform):
        assert allows(closed, src, dst) == allows(alone, src, dst)


def test_traffic_of_others_is_left_alone() -> None:
    assert forwarded("docker0", "uplink", "172.17.0.2", "8.8.8.8") == Outcome("accept")
    assert to_host("uplink", "198.51.100.9", "198.51.100.1", "tcp", 22) == "accept"


@pytest.mark.parametrize(
    ("bridge", "source", "destination", "protocol", "port", "verdict"),
    [
        ("br-public", "10.0.1.10", "10.0.1.1", "udp", 53, "accept"),
        ("br-public", "10.0.1.10", "10.0.1.1", "tcp", 53, "accept"),
        ("br-public", "10.0.1.10", "10.0.1.1", "udp", 67, "accept"),
        ("br-public", "10.0.1.10", "10.0.1.1", "icmp", 0, "accept"),
        ("br-public", "10.0.1.10", "10.0.1.1", "tcp", 2201, "reject"),
        ("br-public", "10.0.1.10", "10.0.1.1", "udp", 123, "reject"),
        ("br-public", "10.0.1.10", "10.0.2.1", "udp", 53, "reject"),
        ("br-public", "10.0.1.10", "10.0.2.1", "icmp", 0, "reject"),
        ("br-public", "10.0.2.10", "10.0.1.1", "udp", 53, "drop"),
        ("br-management", "10.0.0.10", "10.0.0.1", "tcp", 2201, "accept"),
        ("br-management", "10.0.0.10", "10.0.0.1", "tcp", 22, "reject"),
        ("br-database", "10.0.3.10", "10.0.3.1", "udp", 53, "accept"),
        ("br-database", "10.0.3.10", "10.0.3.1", "udp", 67, "reject"),
    ],
)
def test_what_the_host_offers(bridge: str, source: str, destination: str, protocol: str, port: int, verdict: str) -> None:
    assert to_host(bridge, source, destination, protocol, port) == verdict


def test_dhcp_is_asked_for_without_an_address() -> None:
    assert to_host("br-public", "0.0.0.0", "255.255.255.255", "udp", 67, sport=68) == "accept"
    assert to_host("br-public", "0.0.0.0", "255.255.255.255", "udp", 67, sport=1068) == "drop"
    assert to_host("br-database", "0.0.0.0", "255.255.255.255", "udp", 67, sport=68) == "drop"


@pytest.mark.parametrize(
    ("hook", "destination", "local", "port", "target"),
    [
        ("prerouting", "198.51.100.1", True, 2211, "10.0.1.10:2211"),
        ("prerouting", "198.51.100.1", False, 2211, None),
        ("prerouting", "198.51.100.1", True, 2212, None),
        ("output", "198.51.100.1", True, 2211, "10.0.1.10:2211"),
        ("output", "127.0.0.1", True, 2211, None),
    ],
)
def test_forwarded_ports(hook: str, destination: str, local: bool, port: int, target: Optional[str]) -> None:
    outcome = evaluate(LAB, hook, packet("uplink", "", "198.51.100.9", destination, dport=port, local=local))

    assert (outcome.verdict, outcome.target) == (("dnat", target) if target else ("accept", ""))


def test_a_forward_is_no_way_round_the_matrix() -> None:
    refused = forwarded("br-database", "br-public", "10.0.3.10", "10.0.1.10", dport=2211, dnat=True)

    assert refused == Outcome("reject", "icmpx admin-prohibited")
    assert forwarded("br-management", "br-public", "10.0.0.10", "10.0.1.10", dport=2211, dnat=True).verdict == "accept"


@pytest.mark.parametrize(
    ("oif", "source", "dnat", "verdict"),
    [
        ("uplink", "10.0.1.10", False, "masquerade"),
        ("br-private", "10.0.1.10", False, "accept"),
        ("br-public", "10.0.1.11", True, "masquerade"),
        ("br-public", "10.0.1.11", False, "accept"),
        ("uplink", "10.0.2.10", False, "accept"),
        ("uplink", "172.17.0.2", False, "accept"),
    ],
)
def test_masquerading(oif: str, source: str, dnat: bool, verdict: str) -> None:
    rules = lab(public=WEB, private={"internet": False})

    assert evaluate(rules, "postrouting", packet("", oif, source, "8.8.8.8", dnat=dnat)).verdict == verdict


def test_names_of_counters_tell_the_pair() -> None:
    assert counted_pair(pair_counter("mail-in", "data-2")) == ("mail-in", "data-2")
    assert counted_pair("somebody_else") is None
    assert counted_pair("not_a_pair") is None


def test_jump_returns_and_goto_does_not() -> None:
    rules = Ruleset(
        "t",
        (
            Chain("base", (Rule((), "jump", "empty"), Rule((), "goto", "empty"), Rule((), "drop")), "type filter hook forward priority 0"),
            Chain("jumps", (Rule((), "jump", "empty"), Rule((), "drop"))),
            Chain("empty", ()),
        ),
        (),
    )
    sent = packet("a", "b", "10.0.0.1", "10.0.0.2")

    assert evaluate(rules, "base", sent).verdict == "accept"
    assert evaluate(rules, "jumps", sent).verdict == "drop"


def test_a_field_that_a_packet_has_not_fits_no_rule() -> None:
    ping = packet("a", "b", "10.0.0.1", "10.0.0.2", protocol="icmp")

    assert not Match("tcp dport", ("53",)).fits(ping)
    assert not Match("tcp dport", ("53",), negated=True).fits(ping)
    assert not Match("ip saddr", ("10.9.0.0/16",), negated=True).fits(packet("a", "b", "10.0.0.1", "10.0.0.2", family="ipv6"))


def test_chain_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        LAB.chain("from_nowhere")
