# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The segments' rules: one nftables table, compiled from the relation between segments.

Rules and counters grow with the declared pairs and with the segments, never with the square of the segments.
No named set or map is used: replacing one while packets pass loses some of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_rules import (
    IPV4,
    IPV6,
    PASS_MARK,
    PORT_MARK,
    TO_THE_HOST,
    TRANSLATED,
    destination,
    dropped,
    go,
    iif,
    marked,
    oif,
    refusal,
    refused,
    source,
    state,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import HOST_SERVICES, Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import Chain, End, Match, Packet, Rule, Ruleset, evaluate
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET

TABLE = "hybridlab_segments"

_HOST_SSH = 0  # stands for the host's own SSH ports in HOST_SERVICES
_BROADCAST = "255.255.255.255"
_LOOPBACK = "127.0.0.0/8"


def compile_firewall(platform: Platform, strays: Iterable[str] = ()) -> Ruleset:
    """The table for ``platform``.

    Segments are known by their bridges, what others own (``platform.ranges``) by address.

    strays: bridges that an earlier model has left on the host; nothing passes from or to them
    """
    segments, left = platform.segments, tuple(strays)
    chains = [
        Chain("forward", (*_closed(left), *_dispatch(segments)), "type filter hook forward priority filter - 10"),
        Chain("input", tuple(_input(segments, left)), "type filter hook input priority filter - 10"),
        Chain(
            "prerouting",
            (go("forwards", IPV4, TO_THE_HOST),),
            "type nat hook prerouting priority dstnat - 10",
        ),
        # What the host itself opens; a packet to 127.0.0.1 can't leave the host, whatever its destination becomes.
        Chain(
            "output",
            (go("forwards", Match("ip daddr", (_LOOPBACK,), negated=True), TO_THE_HOST),),
            "type nat hook output priority -110",
        ),
        Chain("postrouting", tuple(_postrouting(segments)), "type nat hook postrouting priority srcnat - 10"),
        Chain("pass", (Rule((), "accept", mark=PASS_MARK),)),
        Chain("refuse", refusal()),
        Chain("refuse_internal", tuple(_refuse_internal(platform))),
        Chain("forwards", tuple(_forwards(segments))),
        # A container sees the guest's true address, as another segment does.
        Chain("outside", (*(Rule((_oif(segment),), "accept") for segment in segments), Rule((marked(PORT_MARK),), "accept"), Rule((), "masquerade"))),
    ]
    for segment in segments:
        chains += [
            Chain(f"from_{segment.name}", tuple(_from(platform, segment))),
            Chain(f"to_{segment.name}", tuple(_to(segment))),
            Chain(f"host_from_{segment.name}", tuple(_host_from(platform, segment))),
        ]
    if left:
        chains.append(Chain("stray", (Rule((state("established", "related"),), "accept"), dropped())))
    return Ruleset(TABLE, tuple(chains), tuple(pair_counter(src, dst) for src, dst in _counted(segments)), _ends(platform))


def pair_counter(source: str, destination: str) -> str:
    """Name of the counter of new connections' packets from ``source`` to ``destination`` (a segment or INTERNET).

    Segment names have no ``_``, so the name tells the pair.
    """
    return f"pair_{source}_{destination}"


def counted_pair(counter: str) -> Optional[tuple[str, str]]:
    """The (source, destination) of a counter that ``pair_counter`` named; None for any other."""
    parts = counter.split("_")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "pair" else None


def _counted(segments: Iterable[Segment]) -> Iterator[tuple[str, str]]:
    for segment in segments:
        yield from ((segment.name, target) for target in segment.reaches)
        if segment.internet:
            yield segment.name, INTERNET


def _iif(segment: Segment) -> Match:
    return iif(segment.bridge)


def _oif(segment: Segment) -> Match:
    return oif(segment.bridge)


def _closed(strays: Iterable[str]) -> Iterator[Rule]:
    # Before any segment's rules: these let packets to the Internet pass whatever the interface they leave by.
    for bridge in strays:
        yield dropped(iif(bridge))
        yield dropped(oif(bridge))


def _input(segments: Iterable[Segment], strays: Iterable[str]) -> Iterator[Rule]:
    for bridge in strays:
        yield go("stray", iif(bridge))
    for segment in segments:
        yield go(f"host_from_{segment.name}", _iif(segment))


def _dispatch(segments: Iterable[Segment]) -> Iterator[Rule]:
    for segment in segments:
        yield go(f"from_{segment.name}", _iif(segment))
    for segment in segments:
        yield go(f"to_{segment.name}", _oif(segment))


def _from(platform: Platform, segment: Segment) -> Iterator[Rule]:
    # Bridged frames pass here too where br_netfilter is on; what stays on the bridge is no business of these rules.
    yield go("pass", _oif(segment))
    yield refused(IPV6)
    yield dropped(source(segment.cidr, negated=True))
    yield go("pass", state("established", "related"))
    yield dropped(state("invalid"))
    for target in segment.reaches:
        yield Rule((_oif(platform.segment(target)),), "goto", "pass", counter=pair_counter(segment.name, target))
    yield Rule((), "jump", "refuse_internal")
    if segment.internet:
        yield Rule((), "goto", "pass", counter=pair_counter(segment.name, INTERNET))
    else:
        yield refused()


def _refuse_internal(platform: Platform) -> Iterator[Rule]:
    for segment in platform.segments:
        yield refused(_oif(segment))
        # By address as well: while a segment's bridge is away, the host would send its packets to the Internet.
        yield refused(destination(segment.cidr))
    # Docker leads a published port on to a container. Who may open it was decided where the packet came in (firewall_ports.py); no segment is behind it.
    yield go("pass", TRANSLATED, marked(PORT_MARK))
    for cidr in platform.ranges.values():
        yield refused(destination(cidr))


def _to(segment: Segment) -> Iterator[Rule]:
    yield go("pass", state("established", "related"))
    for host in segment.hosts:
        if host.ssh_port is not None:
            matches = (TRANSLATED, Match("ip daddr", (str(host.address),)), Match("tcp dport", (str(host.ssh_port),)))
            yield Rule(matches, "goto", "pass", counter="")
    yield dropped()


def _host_from(platform: Platform, segment: Segment) -> Iterator[Rule]:
    if "dhcp" in segment.host_services:
        yield Rule((Match("ip daddr", (_BROADCAST,)), Match("udp sport", ("68",)), Match("udp dport", ("67",))), "accept", counter="")
    yield dropped(IPV6)
    yield dropped(source(segment.cidr, negated=True))
    yield Rule((state("established", "related"),), "accept")
    yield refused(Match("ip daddr", (str(segment.gateway),), negated=True))
    yield Rule((Match("icmp type", ("echo-request",)),), "accept", counter="")
    for service in sorted(segment.host_services):
        for protocol, port in HOST_SERVICES[service]:
            for number in platform.host_ssh_ports if port == _HOST_SSH else (port,):
                yield Rule((Match(f"{protocol} dport", (str(number),)),), "accept", counter="")
    yield refused()


def _forwards(segments: Iterable[Segment]) -> Iterator[Rule]:
    for segment in segments:
        for host in segment.hosts:
            if host.ssh_port is not None:
                yield Rule((Match("tcp dport", (str(host.ssh_port),)),), "dnat", f"{host.address}:{host.ssh_port}")


def _postrouting(segments: Iterable[Segment]) -> Iterator[Rule]:
    for segment in segments:
        if any(host.ssh_port is not None for host in segment.hosts):
            # A guest that uses a forward into its own segment: without it, the answer would take the short way and be unknown to the guest.
            yield Rule((source(segment.cidr), _oif(segment), TRANSLATED), "masquerade")
        if segment.internet:
            yield go("outside", source(segment.cidr))


def _ends(platform: Platform) -> dict[str, End]:
    ends = {segment.name: End(segment.bridge, _guest(segment)) for segment in platform.segments}
    ends[INTERNET] = End("uplink", _outside(platform))
    return ends


def _guest(segment: Segment) -> IPv4Address:
    return next(address for address in segment.cidr.hosts() if address != segment.gateway)


def _outside(platform: Platform) -> IPv4Address:
    taken = [*(segment.cidr for segment in platform.segments), *platform.ranges.values()]
    candidates = [IPv4Address(text) for text in ("192.0.2.1", "198.51.100.1", "203.0.113.1", "8.8.8.8")]
    return next((address for address in candidates if not any(address in cidr for cidr in taken)), candidates[-1])


def allows(ruleset: Ruleset, src: str, dst: str, protocol: str = "tcp") -> bool:
    """Whether the rules let a new connection pass from ``src`` to ``dst`` (a segment's name or INTERNET)."""
    start, end = ruleset.ends[src], ruleset.ends[dst]
    packet = Packet(start.interface, end.interface, start.address, end.address, protocol)
    return evaluate(ruleset, "forward", packet).verdict == "accept"


class NftablesCompiler:
    """``relation.ReachCompiler`` for the segments' table."""

    def compile(self, platform: Platform) -> Ruleset:
        return compile_firewall(platform)

    def allows(self, compiled: Ruleset, src: str, dst: str) -> bool:
        return allows(compiled, src, dst)
