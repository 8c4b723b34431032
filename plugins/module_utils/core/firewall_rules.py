# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tables of ours have in common: marks, kinds of rules, and how a connection is refused."""

from __future__ import annotations

from ipaddress import IPv4Network

from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import Match, Rule

# Set in the mark of every packet that the segments' rules let pass, so that other rules of the host can know it by
# ``mark & PASS_MARK``. The bits are outside Tailscale's mask (0xff0000), Kubernetes' bits (0x4000, 0x8000), Cilium's (0xf00)
# and wg-quick's default mark (0xca6c).
PASS_MARK = 0x1000

# Set in the mark of the first packet of every connection that a published port's rules let in.
PORT_MARK = 0x2000


def iif(name: str) -> Match:
    return Match("iifname", (name,))


def oif(name: str) -> Match:
    return Match("oifname", (name,))


def source(cidr: IPv4Network, negated: bool = False) -> Match:
    return Match("ip saddr", (str(cidr),), negated)


def destination(cidr: IPv4Network) -> Match:
    return Match("ip daddr", (str(cidr),))


def state(*states: str) -> Match:
    return Match("ct state", states)


def marked(mark: int) -> Match:
    """Packets whose mark has the bit ``mark``."""
    return Match(f"meta mark & 0x{mark:08x}", (f"0x{mark:08x}",))


TRANSLATED = Match("ct status", ("dnat",))
TO_THE_HOST = Match("fib daddr type", ("local",))
IPV4 = Match("meta nfproto", ("ipv4",))
IPV6 = Match("meta nfproto", ("ipv6",))


def go(chain: str, *matches: Match) -> Rule:
    return Rule(matches, "goto", chain)


def refused(*matches: Match) -> Rule:
    """Counted and answered by the chain ``refuse``, whose rules are ``refusal()``."""
    return Rule(matches, "goto", "refuse", counter="")


def dropped(*matches: Match) -> Rule:
    return Rule(matches, "drop", counter="")


def refusal() -> tuple[Rule, ...]:
    """An answer that makes the other side fail at once."""
    prohibited = "icmpx admin-prohibited"
    return (
        # The kernel does not translate a reset back, and from the guest's own address it means nothing to who asked for the host's.
        Rule((TRANSLATED,), "reject", prohibited),
        # A reset is never held back by the kernel's limit on ICMP errors, so every other refused TCP connection fails at once.
        Rule((Match("meta l4proto", ("tcp",)),), "reject", "tcp reset"),
        Rule((), "reject", prohibited),
    )
