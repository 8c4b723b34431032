# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published ports' rules: held against the plain relation ``from``, and that the real nft reads them as we mean them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_compile import compile_firewall
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_ports import (
    ALLOW,
    REFUSE,
    TABLE,
    admitted_counter,
    compile_ports,
    counted,
    refused_counter,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_rules import PASS_MARK, PORT_MARK
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, INTERNET, TAILNET, Port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import Outcome, Packet, Ruleset, evaluate, render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_ports import PLACES
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import platforms
from hypothesis import given, settings
from hypothesis import strategies as st

NETWORKS = [IPv4Network(text) for text in ("172.17.0.0/16", "172.18.0.0/16", "172.22.0.0/16")]
CONTAINER = IPv4Address("172.17.0.2")
OTHER_CONTAINER = IPv4Address("172.22.3.4")
HOST_ADDRESS = IPv4Address("198.51.100.2")
ENDS = {INTERNET: ("uplink", IPv4Address("203.0.113.9")), TAILNET: ("tailscale0", IPv4Address("100.64.0.9"))}


@st.composite
def models(draw: st.DrawFn) -> tuple[Platform, list[Port]]:
    """A platform, and ports of its workloads with any sources."""
    platform = draw(platforms(max_segments=5))
    names = [*PLACES, *(segment.name for segment in platform.segments)]
    keys = draw(st.lists(st.tuples(st.integers(1, 65535), st.sampled_from(["tcp", "udp"])), max_size=6, unique=True))
    return platform, [Port(number, 80, tuple(draw(st.lists(st.sampled_from(names), unique=True))), protocol) for number, protocol in keys]


def compiled(platform: Platform, ports: list[Port], undeclared: str = REFUSE) -> Ruleset:
    return compile_ports(ports, platform.segments, NETWORKS, undeclared)


def end(platform: Platform, name: str) -> tuple[str, IPv4Address]:
    """Interface and address from where ``name`` comes."""
    if name in ENDS:
        return ENDS[name]
    segment = platform.segment(name)
    return segment.bridge, next(address for address in segment.cidr.hosts() if address != segment.gateway)


def is_open(platform: Platform, rules: Ruleset, name: str, port: Port, container: IPv4Address = CONTAINER, bridge: str = "docker0") -> bool:
    """Sends the first packet of a connection the way that the kernel and Docker's translation send it."""
    if name == HOST:
        sent = Packet("", "lo", HOST_ADDRESS, HOST_ADDRESS, port.protocol, dport=port.published, local=True)
        return passes(rules, ["output", "output_translated", "postrouting"], sent, container, port.target, ["lo", "lo", bridge])
    interface, address = end(platform, name)
    sent = Packet(interface, "", address, HOST_ADDRESS, port.protocol, dport=port.published, local=True)
    if not passes(rules, ["prerouting", "forward", "postrouting"], sent, container, port.target, ["", bridge, bridge]):
        return False
    mark = evaluate(rules, "prerouting", sent).mark
    led = replace(sent, oif=bridge, destination=container, dport=port.target, local=False, dnat=True, mark=mark)
    return evaluate(compile_firewall(platform), "forward", led).verdict == "accept"


def passes(rules: Ruleset, hooks: list[str], sent: Packet, container: IPv4Address, target: int, interfaces: list[str]) -> bool:
    """Whether the packet passes the chains; it is translated after the first. Interfaces: by which it leaves, as each hook knows it."""
    names = {chain.name for chain in rules.chains}
    for place, (hook, oif) in enumerate(zip(hooks, interfaces)):
        packet = replace(sent, oif=oif) if place == 0 else replace(sent, oif=oif, destination=container, dport=target, local=False, dnat=True)
        if hook not in names:
            continue
        outcome = evaluate(rules, hook, packet)
        if outcome.verdict != "accept":
            return False
        sent = replace(sent, mark=outcome.mark)
    return True


def everybody(platform: Platform) -> list[str]:
    return [*PLACES, *(segment.name for segment in platform.segments)]


@settings(deadline=None)
@given(models(), st.sampled_from([REFUSE, ALLOW]))
def test_a_port_is_open_to_whom_it_names_and_to_nobody_else(model: tuple[Platform, list[Port]], undeclared: str) -> None:
    platform, ports = model
    rules = compiled(platform, ports, undeclared)

    for port in ports:
        for name in everybody(platform):
            assert is_open(platform, rules, name, port) == (name in port.sources), (port, name)


@settings(deadline=None)
@given(models(), st.integers(1, 65535), st.sampled_from(["tcp", "udp"]))
def test_an_undeclared_port_is_as_the_policy_says(model: tuple[Platform, list[Port]], number: int, protocol: str) -> None:
    platform, ports = model
    ports = [port for port in ports if (port.published, port.protocol) != (number, protocol)]
    strange = Port(number, 80, (), protocol)

    for name in everybody(platform):
        for container, bridge in ((CONTAINER, "docker0"), (IPv4Address("192.168.77.2"), "br-a3b710d2ab18")):
            assert not is_open(platform, compiled(platform, ports), name, strange, container, bridge), name
    # The segments' own rules let no undeclared port pass.
    assert {name for name in everybody(platform) if is_open(platform, compiled(platform, ports, ALLOW), name, strange)} == set(PLACES)


@settings(deadline=None)
@given(models(), st.sampled_from([REFUSE, ALLOW]), st.sampled_from([CONTAINER, OTHER_CONTAINER]))
def test_nobody_reaches_a_container_past_its_published_port(model: tuple[Platform, list[Port]], undeclared: str, container: IPv4Address) -> None:
    platform, ports = model
    rules = compiled(platform, ports, undeclared)

    for name in everybody(platform):
        if name != HOST:
            interface, address = end(platform, name)
            for port in ports or [Port(80, 80, ())]:
                sent = Packet(interface, "docker0", address, container, port.protocol, dport=port.target)
                assert evaluate(rules, "prerouting", replace(sent, oif="")) == Outcome("accept")
                assert evaluate(rules, "forward", sent).verdict == "reject"


@settings(deadline=None)
@given(models())
def test_ipv6_opens_no_declared_port(model: tuple[Platform, list[Port]]) -> None:
    platform, ports = model
    rules = compiled(platform, ports)

    for port in ports:
        for name in everybody(platform):
            interface, address = ("lo", HOST_ADDRESS) if name == HOST else end(platform, name)
            sent = Packet(interface, "", address, HOST_ADDRESS, port.protocol, dport=port.published, local=True, family="ipv6")
            assert evaluate(rules, "output" if name == HOST else "prerouting", sent).verdict == "reject"


@settings(deadline=None)
@given(models(), st.sampled_from([REFUSE, ALLOW]))
def test_number_of_rules_is_linear(model: tuple[Platform, list[Port]], undeclared: str) -> None:
    platform, ports = model
    rules = compiled(platform, ports, undeclared)
    pairs = sum(len(port.sources) for port in ports)

    assert rules.rule_count() <= pairs + len(ports) + 5 * len(platform.segments) + 5 * len(NETWORKS) + 30
    assert len(rules.counters) == len(set(rules.counters)) == pairs + len(ports) + (2 if undeclared == REFUSE else 1)


@settings(deadline=None, max_examples=20)
@given(models(), st.sampled_from([REFUSE, ALLOW]))
def test_nft_lists_what_was_rendered(model: tuple[Platform, list[Port]], undeclared: str) -> None:
    text = render(compiled(*model, undeclared))
    script = f"nft -f - && nft -s list table inet {TABLE}"
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], input=text, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == text.split(f"flush table inet {TABLE}\n")[1]


LAB = parse_platform(lab_model())
WEB = Port(8080, 80, ("public", HOST))
ALL = Port(8081, 80, (INTERNET, TAILNET))
RULES = compiled(LAB, [WEB, ALL])


def arrived(iif: str, source: str, port: int = 8080, **fields: Any) -> Outcome:
    return evaluate(RULES, "prerouting", Packet(iif, "", IPv4Address(source), HOST_ADDRESS, dport=port, **{"local": True, **fields}))


def test_who_is_let_in_is_counted_and_marked() -> None:
    assert arrived("br-public", "10.0.1.10") == Outcome("accept", "", PORT_MARK, (admitted_counter(WEB, "public"),))


@pytest.mark.parametrize(("protocol", "answer"), [("tcp", "tcp reset"), ("udp", "icmpx admin-prohibited")])
def test_who_is_refused_is_counted_and_answered(protocol: str, answer: str) -> None:
    rules = compiled(LAB, [replace(WEB, protocol=protocol)])
    sent = Packet("uplink", "", IPv4Address("203.0.113.9"), HOST_ADDRESS, protocol, dport=8080, local=True)

    assert evaluate(rules, "prerouting", sent) == Outcome("reject", answer, 0, (refused_counter(replace(WEB, protocol=protocol)),))


@pytest.mark.parametrize(
    ("iif", "source", "fields", "verdict"),
    [
        ("br-public", "10.0.2.10", {}, "reject"),  # an address of another segment
        ("br-private", "10.0.1.10", {}, "reject"),  # an address of the right segment, on the wrong bridge
        ("uplink", "10.0.1.10", {}, "reject"),
        ("docker0", "172.17.0.3", {}, "reject"),  # a container, by the host's address
        ("uplink", "172.17.0.3", {"returns": False}, "drop"),
        ("br-public", "172.17.0.3", {"returns": False}, "drop"),
        ("br-public", "10.0.1.10", {"protocol": "udp"}, "accept"),  # another port altogether
        ("br-private", "10.0.2.10", {"state": "established"}, "accept"),
        ("br-private", "10.0.2.10", {"local": False}, "accept"),  # not for the host: the segments' table decides
        ("lo", "198.51.100.2", {}, "accept"),  # the host's own, judged in the hook output
    ],
)
def test_what_comes_to_a_port(iif: str, source: str, fields: dict[str, Any], verdict: str) -> None:
    outcome = arrived(iif, source, **fields)

    assert (outcome.verdict, outcome.mark) == (verdict, 0)


def test_a_container_is_not_the_internet() -> None:
    assert arrived("uplink", "203.0.113.9", 8081).mark == PORT_MARK
    assert arrived("docker0", "172.17.0.3", 8081).verdict == "reject"


def test_nobody_else_reaches_the_loopback_addresses() -> None:
    sent = Packet("docker0", "", IPv4Address("172.17.0.3"), IPv4Address("127.0.0.1"), local=True)

    assert evaluate(RULES, "prerouting", sent).verdict == "drop"
    assert evaluate(RULES, "prerouting", replace(sent, iif="lo")).verdict == "accept"


@pytest.mark.parametrize(
    ("iif", "oif", "source", "destination", "fields", "verdict"),
    [
        ("docker0", "docker0", "172.17.0.2", "172.17.0.3", {}, "accept"),
        ("docker_gwbridge", "docker0", "172.18.0.2", "172.17.0.3", {}, "accept"),
        ("docker0", "uplink", "172.17.0.2", "203.0.113.9", {}, "accept"),
        ("docker0", "docker0", "172.17.0.2", "172.17.0.3", {"dnat": True}, "reject"),  # by an undeclared port of the host's address
        ("uplink", "docker0", "203.0.113.9", "172.17.0.2", {"state": "established"}, "accept"),
        ("uplink", "docker0", "203.0.113.9", "172.17.0.2", {"state": "invalid"}, "reject"),
        ("uplink", "br-public", "203.0.113.9", "10.0.1.10", {"dnat": True}, "accept"),  # a forward to a guest
        ("uplink", "virbr0", "203.0.113.9", "192.168.122.9", {"dnat": True}, "accept"),  # somebody else's forward
        ("uplink", "br-a3b710d2ab18", "203.0.113.9", "10.9.9.9", {"dnat": True, "family": "ipv6"}, "reject"),
        ("br-public", "br-private", "10.0.1.10", "10.0.2.10", {}, "accept"),
    ],
)
def test_what_is_forwarded(iif: str, oif: str, source: str, destination: str, fields: dict[str, Any], verdict: str) -> None:
    sent = Packet(iif, oif, IPv4Address(source), IPv4Address(destination), **fields)

    assert evaluate(RULES, "forward", sent).verdict == verdict


def test_the_mark_is_no_way_from_segment_to_segment() -> None:
    segments = compile_firewall(LAB)
    sent = Packet("br-private", "br-public", IPv4Address("10.0.2.10"), IPv4Address("10.0.1.10"), dnat=True, mark=PORT_MARK)

    assert evaluate(segments, "forward", sent).verdict == "reject"
    assert evaluate(segments, "forward", replace(sent, oif="docker0", destination=CONTAINER)) == Outcome("accept", "", PORT_MARK | PASS_MARK)
    assert evaluate(segments, "forward", replace(sent, oif="docker0", destination=CONTAINER, dnat=False)).verdict == "reject"


def test_a_container_sees_the_true_address_of_a_guest() -> None:
    sent = Packet("", "docker0", IPv4Address("10.0.1.10"), CONTAINER, dnat=True, mark=PORT_MARK)

    assert evaluate(compile_firewall(LAB), "postrouting", sent).verdict == "accept"
    assert evaluate(compile_firewall(LAB), "postrouting", replace(sent, mark=0)).verdict == "masquerade"


@pytest.mark.parametrize(
    ("counter", "what"),
    [
        ("admitted_tcp_8080_mail-in", {"verdict": "admitted", "port": "8080/tcp", "source": "mail-in"}),
        ("refused_udp_53", {"verdict": "refused", "port": "53/udp", "source": None}),
        ("refused_undeclared", {"verdict": "refused", "port": "undeclared", "source": None}),
        ("refused_direct", {"verdict": "refused", "port": "direct", "source": None}),
        ("somebody_elses", None),
        ("mine", None),
    ],
)
def test_names_of_counters_tell_what_they_count(counter: str, what: Optional[dict[str, Optional[str]]]) -> None:
    assert counted(counter) == what


def test_every_counter_can_be_read() -> None:
    assert all(counted(name) is not None for name in RULES.counters)
