# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports as they were measured, against those from where they may be reached; no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.matrix import CLOSED, OPEN
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, INTERNET, Port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_ports import Published
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# The host by its loopback address: another way through Docker's rules than by an address of the host.
LOCALHOST = "localhost"

# RFC 5737: addresses for documentation, which nobody has.
TEST_NETS = tuple(IPv4Network(f"{address}/30") for address in ("192.0.2.0", "198.51.100.0", "203.0.113.0"))

_TIMEOUT = "timeout"
_DNAT = re.compile(r"-A DOCKER\S* .*-p (?P<protocol>tcp|udp) .*--dport (?P<port>\d+) .*-j DNAT --to-destination (?P<address>[\d.]+):(?P<target>\d+)$")


@dataclass(frozen=True)
class Container:
    """Where Docker leads a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass
class Measured:
    """One port. Results are open, refused, timeout, or ``error: WHY``.

    container: None where Docker leads the port nowhere
    answers:   what the container itself says to the host, past all rules
    results:   source -> result at the host's address
    direct:    source -> result at the container's own address
    """

    container: Optional[Container] = None
    answers: str = ""
    results: dict[str, str] = field(default_factory=dict)
    direct: dict[str, str] = field(default_factory=dict)


def led(listing: str) -> dict[tuple[str, int], Container]:
    """(protocol, published port) -> where Docker leads it, from the text of ``iptables -t nat -S``."""
    found = (_DNAT.match(line) for line in listing.splitlines())
    return {(match["protocol"], int(match["port"])): Container(match["address"], int(match["target"])) for match in found if match}


def outside(routes: Sequence[Route]) -> IPv4Network:
    """A network for the link of what plays the Internet, of which the host knows nothing."""
    for cidr in TEST_NETS:
        if not any(cidr.overlaps(route.cidr) for route in routes if route.cidr.prefixlen):
            return cidr
    raise ResourceError(f"the host has routes into {', '.join(map(str, TEST_NETS))}, so nothing can play the Internet. Remove one of these routes.")


def expected(port: Port, name: str) -> bool:
    """Whether ``name`` may open the port."""
    return (HOST if name == LOCALHOST else name) in port.sources


def listens(port: Port, measured: Measured) -> bool:
    """Whether somebody answers there, so that a closed port means something."""
    if measured.container is None:
        return OPEN in measured.results.values()
    return _is_open(port, measured.answers)


def is_as_declared(port: Port, name: str, measured: Measured) -> bool:
    """Whether what ``name`` met is what the declaration says. Of a port at which nobody answers, an allowed source can't tell."""
    result = measured.results[name]
    if expected(port, name):
        return _is_open(port, result) or (not listens(port, measured) and result in CLOSED)
    return _is_closed(port, result)


def _is_open(port: Port, result: str) -> bool:
    # Nobody knows what question a UDP service would answer. But ours and the kernel's refusals are heard.
    return result == OPEN or (port.protocol == "udp" and result == _TIMEOUT)


def _is_closed(port: Port, result: str) -> bool:
    return result in CLOSED and not _is_open(port, result)


def differences(found: Iterable[tuple[Published, Measured]]) -> list[str]:
    """A sentence for each thing that is not as declared."""
    lines = []
    for one, measured in found:
        if one.workload and not listens(one.port, measured):
            lines.append(f"{one}: {_silence(measured)}, so nothing is proved. Start the workload, or remove the port from it")
        for name, result in measured.results.items():
            if not is_as_declared(one.port, name, measured):
                lines.append(f"{one}: from {name} {result}; declared {_declared(one, name)}")
        for name, result in measured.direct.items():
            if result not in CLOSED:
                lines.append(f"{one}: from {name} its container {measured.container} is {result}; nobody may go past the published port")
    return lines


def _declared(one: Published, name: str) -> str:
    if not one.workload:
        return "closed (no workload publishes it, and platform_docker.undeclared_ports is refuse)"
    wanted, says = ("open", "names") if expected(one.port, name) else ("closed", "does not name")
    return f"{wanted} (platform_workloads[{one.workload}].ports from {says} {HOST if name == LOCALHOST else name})"


def _silence(measured: Measured) -> str:
    if measured.container is None:
        return "Docker publishes no such port"
    return f"its container {measured.container} does not answer ({measured.answers})"


def as_rows(found: Iterable[tuple[Published, Measured]]) -> list[dict[str, Any]]:
    """For a program: each port with what was met."""
    return [
        {
            "workload": one.workload,
            "published": one.port.published,
            "protocol": one.port.protocol,
            "from": list(one.port.sources),
            "container": None if measured.container is None else str(measured.container),
            "listening": listens(one.port, measured),
            "results": measured.results,
            "direct": measured.direct,
            "ok": not differences([(one, measured)]),
        }
        for one, measured in found
    ]


def as_table(found: Sequence[tuple[Published, Measured]], names: Sequence[str]) -> str:
    """For a person: ports down, sources across; ``!`` marks what is not as declared."""
    cells = [["port \\ from", *names, "listening"]]
    for one, measured in found:
        row = [f"{measured.results[name]}{'' if is_as_declared(one.port, name, measured) else '!'}" for name in names]
        silent = "no!" if one.workload else "no"
        cells.append([str(one), *row, "yes" if listens(one.port, measured) else silent])
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n" for row in cells)


def summary(found: Sequence[tuple[Published, Measured]], faults: Sequence[str]) -> str:
    """One line, such as ``ports 2/2, connections 16/16``."""
    sound = sum(not differences([pair]) for pair in found)
    total = sum(len(measured.results) + len(measured.direct) for _one, measured in found)
    right = sum(is_as_declared(one.port, name, measured) for one, measured in found for name in measured.results)
    right += sum(result in CLOSED for _one, measured in found for result in measured.direct.values())
    line = f"ports {sound}/{len(found)}, connections {right}/{total}"
    return f"{line}, {len(faults)} difference{'' if len(faults) == 1 else 's'}" if faults else line


def places(segments: Iterable[str]) -> list[str]:
    """From where every port is tried, in this order. From the tailnet nobody can come without its other end."""
    return [*segments, HOST, LOCALHOST, INTERNET]


def undeclared(published: Iterable[Published], found: Mapping[tuple[str, int], Container]) -> list[Published]:
    """What Docker publishes past the model: nobody may reach it."""
    declared = {(one.port.protocol, one.port.published) for one in published}
    return [
        Published("", Port(number, container.port, (), protocol))
        for (protocol, number), container in sorted(found.items())
        if (protocol, number) not in declared
    ]


def known(found: Mapping[tuple[str, int], Container], port: Port) -> Optional[Container]:
    """Where Docker leads this port."""
    return found.get((port.protocol, port.published))
