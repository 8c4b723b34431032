# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports as tasks name them: from the workloads of a model, and back into typed values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_docker import read_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, INTERNET, TAILNET, Port, Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# Sources that are no segment.
PLACES = (INTERNET, TAILNET, HOST)

PROTOCOLS = ("tcp", "udp")
_LAST = 65535


@dataclass(frozen=True)
class Published:
    """A port and the workload that answers there; without one it is published past the model."""

    workload: str
    port: Port

    def __str__(self) -> str:
        return f"{self.port.published}/{self.port.protocol} ({self.workload or 'undeclared'})"


def config(workloads: Sequence[Mapping[str, Any]], target: str = "swarm") -> list[dict[str, Any]]:
    """The ports of the workloads that run on the Docker host, as the modules port_firewall and port_probes take them.

    workloads: ``platform_workloads``, which has been checked
    """
    return [
        {
            "workload": str(workload["name"]),
            "published": int(port["published"]),
            "target": int(port["target"]),
            "protocol": str(port.get("protocol", Port.protocol)),
            "from": [str(name) for name in port["from"]],
        }
        for workload in workloads
        if workload.get("target", Workload.target) == target
        for port in workload.get("ports") or ()
    ]


def networks(docker: Mapping[str, Any], ranges: Mapping[str, str]) -> tuple[IPv4Network, ...]:
    """Every network in which containers have their addresses. ModelError with all findings.

    docker: ``platform_docker``
    ranges: ``platform_ranges``, which has been checked
    """
    faults = Faults()
    found = read_docker(faults, docker, Context(ranges={name: IPv4Network(cidr) for name, cidr in ranges.items()}))
    if found is None:
        raise ModelError(faults.items)
    return found.networks()


def read(rows: Sequence[Mapping[str, Any]], segments: Collection[str]) -> list[Published]:
    """The rows that ``config`` makes, checked. ResourceError names the row, what is wrong and the cure.

    segments: names that ``from`` may have beside PLACES
    """
    found: dict[tuple[str, int], Published] = {}
    for index, row in enumerate(rows):
        where = f"config[{index}]"
        for key in ("published", "target"):
            if not 1 <= row[key] <= _LAST:
                raise ResourceError(f"{where}.{key}: found {row[key]}, which is no port. Write a number from 1 to {_LAST}.")
        one = Published(row["workload"], Port(row["published"], row["target"], _sources(f"{where}.from", row["from"], segments), row["protocol"]))
        place = (one.port.protocol, one.port.published)
        if place in found:
            raise ResourceError(
                f"{where}.published: found {one.port.published}, which {found[place].workload} publishes too. "
                f"Give one of {found[place].workload} and {one.workload} another port."
            )
        found[place] = one
    return list(found.values())


def _sources(where: str, names: Sequence[str], segments: Collection[str]) -> tuple[str, ...]:
    known = [*PLACES, *segments]
    for index, name in enumerate(names):
        if name not in known:
            raise ResourceError(f"{where}[{index}]: found {name!r}, from where nobody can come. Name one of {', '.join(known)}.")
        if name in names[:index]:
            raise ResourceError(f"{where}[{index}]: found {name!r} for the second time. Remove it.")
    return tuple(names)
