# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published ports' rules: one nftables table that decides before Docker leads a packet on to a container.

Docker opens what it publishes to everybody, and its own rules can't be narrowed: it writes them again. So a new connection is judged where it
comes in, before Docker has translated its destination. What may pass gets a mark; what reaches a container without that mark is refused.
Rules grow with the declared (port, source) pairs and with the segments, never with their product. No named set or map is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_rules import (
    IPV6,
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
    source,
    state,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, INTERNET, TAILNET, Port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import Chain, Match, Rule, Ruleset

TABLE = "hybridlab_ports"

# Whether ports that somebody publishes past the model stay closed.
REFUSE, ALLOW = "refuse", "allow"

# Name that tailscaled gives its interface when it is told none (--tun of tailscaled).
TAILNET_INTERFACE = "tailscale0"

# Names that Docker gives its bridges; those of user-defined networks are br- and twelve hexadecimal digits.
_DOCKER_BRIDGES = ("docker0", "docker_gwbridge", "br-*")

_UNDECLARED, _DIRECT = "refused_undeclared", "refused_direct"
_LOOPBACK = "127.0.0.0/8"


def compile_ports(ports: Sequence[Port], segments: Sequence[Segment], networks: Sequence[IPv4Network], undeclared: str = REFUSE) -> Ruleset:
    """The table.

    ports:      no two with one protocol and published number
    segments:   known by their bridges
    networks:   every network in which containers have their addresses
    undeclared: REFUSE or ALLOW, for ports that are published and not in ``ports``
    """
    strict = undeclared == REFUSE
    chains = [
        Chain("prerouting", tuple(_prerouting(networks)), "type filter hook prerouting priority mangle"),
        Chain("output", (go("leaving", state("new"), TO_THE_HOST),), "type filter hook output priority mangle"),
        Chain("forward", tuple(_forward(networks, strict)), "type filter hook forward priority -15"),
        Chain("arriving", tuple(_arriving(segments, networks))),
        Chain("leaving", (go("closed", IPV6), *_admitted(ports, HOST))),
        Chain("closed", tuple(Rule((_port(port),), "goto", "refuse", counter=refused_counter(port)) for port in ports)),
        Chain("admit", (Rule((), "accept", mark=PORT_MARK),)),
        Chain("refuse", refusal()),
    ]
    chains += [Chain(f"from_{segment.name}", (go("closed", source(segment.cidr, negated=True)), *_admitted(ports, segment.name))) for segment in segments]
    chains += [Chain(f"from_{name}", tuple(_admitted(ports, name))) for name in (TAILNET, INTERNET)]
    if strict:
        # What the host itself opens is translated between the two chains of that hook.
        translated = (Rule((marked(PORT_MARK),), "accept"), go("undeclared", state("new"), TRANSLATED))
        chains += [
            Chain("output_translated", translated, "type filter hook output priority -15"),
            Chain("postrouting", tuple(_leaving_undeclared(segments)), "type filter hook postrouting priority -15"),
            Chain("undeclared", tuple(_undeclared(segments, networks))),
        ]
    return Ruleset(TABLE, tuple(chains), tuple(_counters(ports, strict)))


def admitted_counter(port: Port, name: str) -> str:
    """Name of the counter of new connections' packets from ``name`` that were let in. No name of a source has a ``_``, so it can be taken apart."""
    return f"admitted_{port.protocol}_{port.published}_{name}"


def refused_counter(port: Port) -> str:
    """Name of the counter of packets that were refused."""
    return f"refused_{port.protocol}_{port.published}"


def counted(counter: str) -> Optional[dict[str, Optional[str]]]:
    """What a counter of this table counts; None for any other.

    verdict: ``admitted`` or ``refused``; port: such as ``8080/tcp``, or ``undeclared`` (published past the model), or
    ``direct`` (a container's own address); source: None where all that is refused is counted as one
    """
    if counter in (_UNDECLARED, _DIRECT):
        return {"verdict": "refused", "port": counter.split("_")[1], "source": None}
    parts = counter.split("_")
    if len(parts) == 4 and parts[0] == "admitted":
        return {"verdict": "admitted", "port": f"{parts[2]}/{parts[1]}", "source": parts[3]}
    if len(parts) == 3 and parts[0] == "refused":
        return {"verdict": "refused", "port": f"{parts[2]}/{parts[1]}", "source": None}
    return None


def _counters(ports: Iterable[Port], strict: bool) -> Iterator[str]:
    for port in ports:
        yield from (admitted_counter(port, name) for name in port.sources)
        yield refused_counter(port)
    if strict:
        yield _UNDECLARED
    yield _DIRECT


def _port(port: Port) -> Match:
    return Match(f"{port.protocol} dport", (str(port.published),))


def _prerouting(networks: Iterable[IPv4Network]) -> Iterator[Rule]:
    # The chain output has judged what the host sends to itself.
    yield Rule((iif("lo"),), "accept")
    # Without its proxy Docker turns route_localnet on for its bridges; a forged frame could then reach what listens on the host's loopback.
    yield dropped(Match("ip daddr", (_LOOPBACK,)))
    for cidr in networks:
        # Below, such a source is taken for a container's.
        yield dropped(source(cidr), Match("fib saddr . iif oif", ("missing",)))
    yield go("arriving", state("new"), TO_THE_HOST)


def _arriving(segments: Iterable[Segment], networks: Iterable[IPv4Network]) -> Iterator[Rule]:
    yield go("closed", IPV6)
    for segment in segments:
        yield go(f"from_{segment.name}", iif(segment.bridge))
    yield go(f"from_{TAILNET}", iif(TAILNET_INTERFACE))
    for cidr in networks:
        yield go("closed", source(cidr))
    yield go(f"from_{INTERNET}")


def _admitted(ports: Iterable[Port], name: str) -> Iterator[Rule]:
    for port in ports:
        if name in port.sources:
            yield Rule((_port(port),), "goto", "admit", counter=admitted_counter(port, name))
    yield go("closed")


def _forward(networks: Sequence[IPv4Network], strict: bool) -> Iterator[Rule]:
    yield Rule((state("established", "related"),), "accept")
    yield Rule((marked(PORT_MARK),), "accept")
    # Before the containers' own traffic: one that asks for a port of the host's address is no more than any other.
    yield go("undeclared", TRANSLATED) if strict else Rule((TRANSLATED,), "accept")
    for cidr in networks:
        yield Rule((source(cidr),), "accept")
    for cidr in networks:
        yield Rule((destination(cidr),), "goto", "refuse", counter=_DIRECT)


def _leaving_undeclared(segments: Iterable[Segment]) -> Iterator[Rule]:
    # Of a packet of the host itself, the hook output knows only the interface from before the translation. This one knows the true one, but can't answer.
    yield Rule((marked(PORT_MARK),), "accept")
    for segment in segments:
        yield Rule((oif(segment.bridge),), "accept")
    for bridge in _DOCKER_BRIDGES:
        yield Rule((state("new"), TRANSLATED, oif(bridge)), "drop", counter=_UNDECLARED)


def _undeclared(segments: Iterable[Segment], networks: Iterable[IPv4Network]) -> Iterator[Rule]:
    # Forwards to guests; their bridges are called br- too.
    for segment in segments:
        yield Rule((oif(segment.bridge),), "accept")
    for cidr in networks:
        yield Rule((destination(cidr),), "goto", "refuse", counter=_UNDECLARED)
    # Networks that somebody made with addresses of their own, and IPv6.
    for bridge in _DOCKER_BRIDGES:
        yield Rule((oif(bridge),), "goto", "refuse", counter=_UNDECLARED)
