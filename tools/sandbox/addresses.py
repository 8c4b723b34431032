# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ranges the sandbox takes, so that none is the machine's own. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tools.sandbox.errors import SandboxError

# RFC 5737: for documentation, so nobody's network. RFC 2544: for benchmarks between isolated networks. The first free one becomes the uplink.
UPLINKS = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", *(f"198.19.{number}.0/24" for number in range(32)))
# RFC 2544 too: the own engine's link and default bridge come out of it.
INNER = ipaddress.IPv4Network("198.18.0.0/16")
INTERNET_HOST = 10
FIRST_HOST = 2


def _free(network: ipaddress.IPv4Network, taken: list[ipaddress.IPv4Network]) -> bool:
    return not any(network.overlaps(other) for other in taken)


def _networks(taken: Iterable[str]) -> list[ipaddress.IPv4Network]:
    return [ipaddress.IPv4Network(cidr, strict=False) for cidr in taken]


def choose_uplink(wanted: str, taken: Iterable[str]) -> str:
    """CIDR of the uplink: ``wanted``, which must be free, else the first free one of ``UPLINKS``."""
    used = _networks(taken)
    if wanted:
        try:
            network = ipaddress.IPv4Network(wanted)
        except ValueError as error:
            raise SandboxError(f"HYBRIDLAB_SANDBOX_UPLINK is '{wanted}' ({error})", "Give an IPv4 network such as 203.0.113.0/24") from None
        if network.prefixlen > 27:
            raise SandboxError(f"HYBRIDLAB_SANDBOX_UPLINK is '{wanted}', too small", "Give a /27 or larger")
        if not _free(network, used):
            raise SandboxError(f"HYBRIDLAB_SANDBOX_UPLINK is '{wanted}', which this machine reaches already", "Give a network that it does not reach")
        return wanted
    for cidr in UPLINKS:
        if _free(ipaddress.IPv4Network(cidr), used):
            return cidr
    raise SandboxError(f"this machine reaches networks in all of {UPLINKS[0]} to {UPLINKS[-1]}", "Set HYBRIDLAB_SANDBOX_UPLINK to a free IPv4 network")


def choose_inner(seed: str, taken: Iterable[str]) -> tuple[str, str]:
    """(/30 of the link, /24 of the default bridge): neighbours of one /23, begun at a place that depends on ``seed`` (hexadecimal)."""
    used = _networks(taken)
    blocks: list[ipaddress.IPv4Network] = list(INNER.subnets(new_prefix=23))
    start = int(seed, 16) % len(blocks)
    for block in blocks[start:] + blocks[:start]:
        if _free(block, used):
            pool, rest = block.subnets(new_prefix=24)
            return str(next(rest.subnets(new_prefix=30))), str(pool)
    raise SandboxError(f"this machine has routes to all of {INNER}", "Remove one of them")


def ends(link: str) -> tuple[str, str]:
    """(the machine's address, the namespace's address) of a /30."""
    first, second = list(ipaddress.IPv4Network(link).hosts())[:2]
    return str(first), str(second)


def gateway(cidr: str) -> str:
    return str(ipaddress.IPv4Network(cidr)[1])


def internet_address(uplink: str) -> str:
    return str(ipaddress.IPv4Network(uplink)[INTERNET_HOST])


def next_host_address(uplink: str, used: Iterable[str]) -> str:
    """The lowest free address for a host on the uplink."""
    network, gone = ipaddress.IPv4Network(uplink), {*used, internet_address(uplink)}
    for number in range(FIRST_HOST, network.num_addresses - 1):
        if str(network[number]) not in gone:
            return str(network[number])
    raise SandboxError(f"no address is left on the uplink {uplink}", "Remove a host with: down --name NAME")
