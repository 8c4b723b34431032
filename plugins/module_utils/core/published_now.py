# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine publishes at this moment, and which of it a change of the rules would take from people or give to everybody; no I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_plan import Listing
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import WORKLOAD_LABEL

# The engine's own label of a service's container.
_SERVICE_LABEL = "com.docker.swarm.service.id"

# Names of counters in the rules: one for each declared port, and one for all the others where these are refused.
_DECLARED = re.compile(r"\bcounter refused_(?P<protocol>[a-z]+)_(?P<port>\d+)\b")
_STRICT = re.compile(r"\bcounter refused_undeclared\b")


@dataclass(frozen=True)
class Publication:
    """A port of the host that leads to a container now.

    who:  such as ``container web`` or ``service lab_web``; empty where the engine was not asked
    ours: whether a workload of the model has made it
    """

    protocol: str
    port: int
    who: str = ""
    ours: bool = False

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}" + (f" ({self.who})" if self.who else "")


def published(containers: Sequence[Mapping[str, Any]], services: Sequence[Mapping[str, Any]]) -> list[Publication]:
    """Each published port once, by port.

    containers: the engine's answer to ``GET /containers/json``, those that run
    services:   to ``GET /services``; empty on a node that is no manager
    """
    ours = {row["ID"] for row in services if WORKLOAD_LABEL in (row["Spec"].get("Labels") or {})}
    found: dict[tuple[str, int], Publication] = {}
    for row in services:
        for port in (row.get("Endpoint") or {}).get("Ports") or ():
            # What is published on the node itself has a container of its own, or nobody there.
            if port.get("PublishMode") == "ingress" and port.get("PublishedPort"):
                key = (str(port["Protocol"]), int(port["PublishedPort"]))
                found[key] = Publication(*key, f"service {row['Spec']['Name']}", row["ID"] in ours)
    for row in containers:
        labels = row.get("Labels") or {}
        for port in row.get("Ports") or ():
            if port.get("PublicPort"):
                key = (str(port["Type"]), int(port["PublicPort"]))
                name = str((row.get("Names") or ["?"])[0]).lstrip("/")
                found.setdefault(key, Publication(*key, f"container {name}", labels.get(_SERVICE_LABEL) in ours))
    return sorted(found.values(), key=lambda one: (one.port, one.protocol))


def would_close(found: Iterable[Publication], declared: Collection[tuple[str, int]], live: Optional[Listing], file_text: Optional[str]) -> list[Publication]:
    """What is open now, and closed to everybody once the rules refuse undeclared ports.

    declared:  (protocol, port) of the rules to come
    live:      the table in the kernel, None when there is none
    file_text: the rules for the next boot. Where somebody deleted the table, they tell what had been closed before: to repair it takes nothing from anybody new

    A port of a workload that the model no longer has is left out: it goes because somebody said so.
    """
    if live is not None and "chain prerouting" not in live.blocks:
        return []  # the closed table of the boot unit
    before = "\n".join(live.blocks) if live is not None else file_text or ""
    known = {(match["protocol"], int(match["port"])) for match in _DECLARED.finditer(before)}
    strict = _STRICT.search(before) is not None
    return [one for one in found if not one.ours and (one.protocol, one.port) not in declared and (not strict or (one.protocol, one.port) in known)]


def refuse_closing(ports: Sequence[Publication]) -> None:
    """ResourceError that names what would be closed."""
    if ports:
        raise ResourceError(
            f"published now, in no workload of the model, and closed to everybody by these rules: {', '.join(map(str, ports))}. Nothing was changed. "
            "Declare them (platform_workloads[].ports), leave such ports open (platform_docker.undeclared_ports: allow), "
            "or close them knowingly: -e published_ports_allow_disruption=true"
        )


def refuse_opening(ports: Sequence[Publication]) -> None:
    """ResourceError that names what would be open to everybody without the rules."""
    if ports:
        raise ResourceError(
            f"published now, and open to everybody without these rules: {', '.join(map(str, ports))}. Nothing was changed. "
            "Remove these containers and services first, or open them knowingly: -e published_ports_allow_disruption=true"
        )
