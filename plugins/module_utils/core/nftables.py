# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nftables rules as data: rendered as nft prints them, and evaluated as the kernel does.

Covers what our rules are made of. Grammar: nft(8); traversal: nft(8) "VERDICT STATEMENTS".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Optional

_QUOTED = frozenset(("iifname", "oifname"))
_MARK = "meta mark & "


@dataclass(frozen=True)
class Packet:
    """What the rules look at.

    iif, oif:  names of the interfaces; empty where the hook has none
    state:     new, established, related or invalid
    local:     whether the destination is an address of the host
    dnat:      whether the connection's destination was translated
    icmp_type: echo-request, echo-reply ...
    mark:      as rules before have left it
    returns:   whether an answer to the source would leave by ``iif``
    """

    iif: str
    oif: str
    source: IPv4Address
    destination: IPv4Address
    protocol: str = "tcp"
    sport: int = 40000
    dport: int = 443
    icmp_type: str = "echo-request"
    state: str = "new"
    family: str = "ipv4"
    local: bool = False
    dnat: bool = False
    mark: int = 0
    returns: bool = True


@dataclass(frozen=True)
class Match:
    """``key`` is nft's own expression; any one of ``values`` fits, or none of them when ``negated``.

    A name of an interface that ends with ``*`` stands for all that begin so. Of a mark, only bits can be matched: ``meta mark & 0x00001000``.
    """

    key: str
    values: tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        text = ",".join(f'"{value}"' if self.key in _QUOTED else value for value in self.values)
        equal = "== " if self.key.startswith(_MARK) else ""
        return f"{self.key} {'!= ' if self.negated else equal}{text}"

    def fits(self, packet: Packet) -> bool:
        if self.key.startswith("ip ") and packet.family != "ipv4":
            return False
        if self.key.startswith(_MARK):
            return (f"0x{packet.mark & int(self.key[len(_MARK) :], 16):08x}" in self.values) != self.negated
        found = _PROPERTIES[self.key](packet)
        if found is None:
            return False
        if isinstance(found, IPv4Address):
            return any(found in IPv4Network(value) for value in self.values) != self.negated
        if self.key in _QUOTED:
            return any(found.startswith(value[:-1]) if value.endswith("*") else found == value for value in self.values) != self.negated
        return (found in self.values) != self.negated


def _port(packet: Packet, protocol: str, port: int) -> Optional[str]:
    return str(port) if packet.protocol == protocol else None


# What each expression reads; None where the packet has no such field, and then the rule does not apply.
_PROPERTIES = {
    "iifname": lambda packet: packet.iif,
    "oifname": lambda packet: packet.oif,
    "ip saddr": lambda packet: packet.source,
    "ip daddr": lambda packet: packet.destination,
    "meta nfproto": lambda packet: packet.family,
    "meta l4proto": lambda packet: packet.protocol,
    "tcp dport": lambda packet: _port(packet, "tcp", packet.dport),
    "udp dport": lambda packet: _port(packet, "udp", packet.dport),
    "udp sport": lambda packet: _port(packet, "udp", packet.sport),
    "icmp type": lambda packet: packet.icmp_type if packet.protocol == "icmp" else None,
    "ct state": lambda packet: packet.state,
    "ct status": lambda packet: "dnat" if packet.dnat else "",
    "fib daddr type": lambda packet: "local" if packet.local else "unicast",
    "fib saddr . iif oif": lambda packet: packet.iif if packet.returns else "missing",
}


@dataclass(frozen=True)
class Rule:
    """Matches, then a counter, then what happens.

    counter: name of a counter of the table, or empty for one of the rule's own; None for none
    mark:    bit that is set in the packet's mark
    verdict: accept, drop, reject, goto, jump, masquerade or dnat
    target:  of goto and jump a chain, of reject ``tcp reset`` or ``icmpx TYPE``, of dnat ADDRESS:PORT
    """

    matches: tuple[Match, ...]
    verdict: str
    target: str = ""
    counter: Optional[str] = None
    mark: int = 0

    def __str__(self) -> str:
        parts = [str(match) for match in self.matches]
        if self.counter is not None:
            parts.append(f'counter name "{self.counter}"' if self.counter else "counter")
        if self.mark:
            parts.append(f"meta mark set meta mark | 0x{self.mark:08x}")
        if self.verdict == "reject":
            parts.append(f"reject with {self.target}")
        elif self.verdict == "dnat":
            parts.append(f"dnat ip to {self.target}")
        else:
            parts.append(f"{self.verdict} {self.target}".rstrip())
        return " ".join(parts)


@dataclass(frozen=True)
class Chain:
    """hook: for a base chain its type, hook and priority as nft prints them; its policy is accept."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""

    def lines(self) -> list[str]:
        """The chain's content, a line each, as ``nft -s list table`` prints it."""
        head = [f"{self.hook}; policy accept;"] if self.hook else []
        return head + [str(rule) for rule in self.rules]


@dataclass(frozen=True)
class End:
    """Where a segment's packets come from and go to: an interface and an address behind it."""

    interface: str
    address: IPv4Address


@dataclass(frozen=True)
class Ruleset:
    """One table of family inet.

    ends: segment's name, or relation.INTERNET -> an end that stands for it when the rules are evaluated
    """

    table: str
    chains: tuple[Chain, ...]
    counters: tuple[str, ...]
    ends: Mapping[str, End] = field(default_factory=dict)

    def chain(self, name: str) -> Chain:
        """The chain of that name; KeyError when there is none."""
        for chain in self.chains:
            if chain.name == name:
                return chain
        raise KeyError(name)

    def rule_count(self) -> int:
        return sum(len(chain.rules) for chain in self.chains)


@dataclass(frozen=True)
class Outcome:
    """What became of a packet in one base chain.

    verdict:  accept, drop, reject, masquerade or dnat
    target:   of dnat, ADDRESS:PORT
    mark:     the packet's mark at the end
    counters: names of the counters that counted it
    """

    verdict: str
    target: str = ""
    mark: int = 0
    counters: tuple[str, ...] = ()


def evaluate(ruleset: Ruleset, base_chain: str, packet: Packet) -> Outcome:
    """Sends ``packet`` through a base chain; when no rule decides, its policy (accept) does."""
    walk = _Walk({chain.name: chain for chain in ruleset.chains}, packet)
    verdict, target = walk.through(base_chain) or ("accept", "")
    return Outcome(verdict, target, walk.packet.mark, tuple(walk.counters))


class _Walk:
    def __init__(self, chains: Mapping[str, Chain], packet: Packet) -> None:
        self.chains = chains
        self.packet = packet
        self.counters: list[str] = []

    def through(self, name: str) -> Optional[tuple[str, str]]:
        """Verdict and target, or None at the chain's end: then the chain that jumped here goes on."""
        for rule in self.chains[name].rules:
            if not all(match.fits(self.packet) for match in rule.matches):
                continue
            if rule.counter:
                self.counters.append(rule.counter)
            if rule.mark:
                self.packet = replace(self.packet, mark=self.packet.mark | rule.mark)
            if rule.verdict == "goto":
                return self.through(rule.target)
            if rule.verdict == "jump":
                decided = self.through(rule.target)
                if decided is not None:
                    return decided
                continue
            return rule.verdict, rule.target
        return None


def render(ruleset: Ruleset) -> str:
    """One transaction for ``nft -f`` that makes the table what ``ruleset`` says, on an empty kernel and on one that has it already.

    Base chains and named counters stay as they are (and counters keep counting); rules are flushed and filled in again.
    """
    lines = [f"table inet {ruleset.table} {{", "}", f"flush table inet {ruleset.table}", f"table inet {ruleset.table} {{"]
    for counter in ruleset.counters:
        lines += [f"\tcounter {counter} {{", "\t}", ""]
    for chain in ruleset.chains:
        lines += [f"\tchain {chain.name} {{", *(f"\t\t{line}" for line in chain.lines()), "\t}", ""]
    return "\n".join([*lines[:-1], "}", ""])
