# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One measurement: probes are put in place, everything is asked at once, everything is taken away."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.probes import (
    Endpoint,
    Internet,
    Services,
    asks_for_lease,
    candidates,
    choose,
    plan_checks,
    resolver_question,
    words,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.netns import INTERFACE, Agent, ProbeNamespaces, interpreter

# An agent keeps its own deadlines; this much later it counts as lost.
MARGIN_S = 10.0

# dnsmasq pings an address for 3 s before it offers it (PING_WAIT in its config.h), and busy hosts take longer.
LEASE_LIMIT_S = 15.0
ARP_WAIT_S = 0.6

Answer = dict[str, Any]


@dataclass(frozen=True)
class GivenProbe:
    """A place to measure from that is there already, such as a guest. command, python, shell: see netns.Agent."""

    address: str
    command: tuple[str, ...]
    python: str = "python3"
    shell: bool = False


@dataclass(frozen=True)
class Measured:
    """matrix:    source -> destination -> protocol -> result
    addresses: segment -> address of its probe
    services:  segment -> what the host offered it
    """

    matrix: dict[str, dict[str, dict[str, str]]]
    addresses: dict[str, str]
    services: dict[str, Services]


@dataclass
class Probe:
    """A place to measure from.

    lease: the exchange under way; None where no address is leased, or the probe is a given one
    """

    segment: Segment
    agent: Agent
    address: str
    lease: Optional[Future[Answer]] = None
    ports: dict[str, int] = field(default_factory=dict)


def measure(
    platform: Platform,
    given: Mapping[str, GivenProbe],
    internet: Optional[Internet],
    protocols: Sequence[str],
    timeout: float,
    domain: Optional[str],
) -> Measured:
    """Opens every connection of the matrix for real. ResourceError when a probe cannot be put in place.

    given:   segment -> its probe; every other segment gets a network namespace for the time of the measurement
    timeout: seconds that a connection may take
    domain:  of the hosts' names; None leaves the resolver's answers unjudged
    """
    with ExitStack() as stack:
        placed = [segment for segment in platform.segments if segment.name not in given]
        namespaces = stack.enter_context(ProbeNamespaces({segment.name: segment.bridge for segment in placed})) if placed else None
        agents: dict[str, Agent] = {}
        for segment in platform.segments:
            agents[segment.name] = _start(segment, given, namespaces)
            stack.callback(agents[segment.name].close)
        probes = {name: Probe(platform.segment(name), agents[name], probe.address) for name, probe in given.items()}
        if namespaces is not None:
            probes.update(place(placed, agents, namespaces, stack))
        probes = {segment.name: probes[segment.name] for segment in platform.segments}
        _listen(probes, [protocol for protocol in protocols if protocol != "icmp"])
        return _ask(platform, probes, internet, protocols, timeout, domain)


def _start(segment: Segment, given: Mapping[str, GivenProbe], namespaces: Optional[ProbeNamespaces]) -> Agent:
    if segment.name in given:
        probe = given[segment.name]
        return Agent(probe.command, probe.python, f"segment {segment.name}", shell=probe.shell)
    if namespaces is None:
        raise ValueError(f"segment {segment.name} has no probe")
    return Agent(namespaces.command(segment.name), interpreter(), f"segment {segment.name}")


def place(segments: Sequence[Segment], agents: Mapping[str, Agent], namespaces: ProbeNamespaces, stack: ExitStack) -> dict[str, Probe]:
    """Gives each namespace an address that nobody else has: a free static one, else a leased one."""
    # Leases first: they take longest.
    leases = {segment.name: agents[segment.name].ask("dhcp", interface=INTERFACE, timeout=LEASE_LIMIT_S) for segment in segments if asks_for_lease(segment)}
    asked = {
        segment.name: agents[segment.name].ask("taken", interface=INTERFACE, addresses=[str(address) for address in candidates(segment)], wait=ARP_WAIT_S)
        for segment in segments
    }
    probes = {}
    for segment in segments:
        name, agent, lease = segment.name, agents[segment.name], leases.get(segment.name)
        if lease is not None:
            _release_at_end(agent, lease, stack)
        answer = answer_of(asked[name], ARP_WAIT_S)
        if "taken" not in answer:
            raise ResourceError(f"segment {name}: its probe cannot look for a free address: {words(answer)}.")
        free = choose(segment, answer["taken"])
        address = str(free) if free is not None else _leased_address(segment, lease)
        namespaces.configure(name, address, segment.cidr.prefixlen, str(segment.gateway))
        probes[name] = Probe(segment, agent, address, lease)
    return probes


def _leased_address(segment: Segment, lease: Optional[Future[Answer]]) -> str:
    why = "and none is leased there"
    if lease is not None:
        answer = answer_of(lease, LEASE_LIMIT_S)
        if answer["result"] == "open":
            return str(answer["address"])
        why = f"and DHCP gave none ({words(answer)})"
    raise ResourceError(
        f"platform_segments[{segment.name}].cidr: found {segment.cidr}, which has no free static address for a probe, {why}. "
        f"Name a guest of {segment.name} in probes, or leave an address outside dhcp and hosts."
    )


def _release_at_end(agent: Agent, lease: Future[Answer], stack: ExitStack) -> None:
    """Gives the lease back when the measurement ends; one that is not there by then was never acknowledged."""

    def release() -> None:
        if lease.done() and lease.result()["result"] == "open":
            answer = lease.result()
            answer_of(agent.ask("dhcp_release", interface=INTERFACE, address=answer["address"], server=answer["server"]), 1.0)

    stack.callback(release)


def _listen(probes: Mapping[str, Probe], protocols: Sequence[str]) -> None:
    asked = {(name, protocol): probe.agent.ask("listen", protocol=protocol, address=probe.address) for name, probe in probes.items() for protocol in protocols}
    for (name, protocol), future in asked.items():
        answer = answer_of(future, 0.0)
        if "port" not in answer:
            raise ResourceError(f"segment {name}: its probe cannot listen on {probes[name].address}: {words(answer)}.")
        probes[name].ports[protocol] = answer["port"]


def _ask(
    platform: Platform,
    probes: Mapping[str, Probe],
    internet: Optional[Internet],
    protocols: Sequence[str],
    timeout: float,
    domain: Optional[str],
) -> Measured:
    token = secrets.token_hex(8)
    endpoints = {name: Endpoint(probe.address, probe.ports) for name, probe in probes.items()}
    checks = plan_checks(platform, endpoints, internet, protocols, timeout, token)
    asked = [(check, probes[check.source].agent.ask(check.operation, **check.arguments)) for check in checks]
    pings = {name: probe.agent.ask("icmp", address=str(probe.segment.gateway), timeout=timeout, token=f"{token}ffff") for name, probe in probes.items()}
    names = {name: probe.agent.ask("dns", timeout=timeout, **resolver_question(probe.segment, domain)) for name, probe in probes.items()}
    matrix: dict[str, dict[str, dict[str, str]]] = {name: {} for name in probes}
    for check, future in asked:
        matrix[check.source].setdefault(check.destination, {})[check.protocol] = words(answer_of(future, timeout))
    services = {
        name: Services(
            answer_of(pings[name], timeout),
            answer_of(names[name], timeout),
            answer_of(probe.lease, LEASE_LIMIT_S) if probe.lease is not None else None,
        )
        for name, probe in probes.items()
    }
    return Measured(matrix, {name: probe.address for name, probe in probes.items()}, services)


def answer_of(future: Future[Answer], timeout: float) -> Answer:
    """What an agent says within its own ``timeout``, or that it said nothing."""
    try:
        return future.result(timeout + MARGIN_S)
    except FutureTimeout:
        return {"result": "error", "why": "the probe did not answer"}
