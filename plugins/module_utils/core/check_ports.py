# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports that workloads publish on the Docker host, and from where each may be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, as_number, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_values import LAST_PORT, SSH_DEFAULT
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, INTERNET, TAILNET, Port, Update

PORT_KEYS = ("published", "target", "protocol", "from")
PROTOCOLS = ("tcp", "udp")
PLACES = (INTERNET, TAILNET, HOST)


@dataclass(frozen=True)
class Known:
    """What a workload may refer to or must leave alone. None: not known here, so that nothing is refused for it.

    nodes:     of the Swarm; a port is published on the node itself, so that each node has room for one task of a workload that publishes
    data_root: the engine's own directory
    """

    platform: Optional[str] = None
    segments: Optional[Sequence[str]] = None
    secrets: Optional[Sequence[str]] = None
    images: Optional[Sequence[str]] = None
    host_ssh_ports: Sequence[int] = ()
    forwards: frozenset[int] = frozenset()
    ssh_ports: frozenset[int] = frozenset()
    nodes: int = 1
    data_root: Optional[str] = None


def read_ports(faults: Faults, table: Table, known: Known) -> tuple[Port, ...]:
    found = []
    for index, row in enumerate(table.rows("ports")):
        item = Table.read(faults, f"{table.at('ports')}[{index}]", row, PORT_KEYS, ("published", "target", "from"))
        if item is None:
            continue
        protocol = item.choice("protocol", PROTOCOLS) or PROTOCOLS[0]
        published = _number(faults, item, "published")
        if published is not None:
            _check_published(faults, item.at("published"), published, protocol, known)
        found.append(Port(published or 0, _number(faults, item, "target") or 0, _read_sources(faults, item, known), protocol))
    return tuple(found)


def _number(faults: Faults, item: Table, key: str) -> Optional[int]:
    if key not in item.value:
        return None
    port = as_number(faults, item.at(key), item.value[key], least=None)
    if port is not None and not 1 <= port <= LAST_PORT:
        faults.add("port", item.at(key), port, f"is no port, these are 1 to {LAST_PORT}", f"Choose a port from 1 to {LAST_PORT}")
        return None
    return port


def _check_published(faults: Faults, path: str, port: int, protocol: str, known: Known) -> None:
    cure = "Publish another port; target stays what the program in the container listens on"
    if protocol != PROTOCOLS[0]:
        return
    if port == SSH_DEFAULT:
        faults.add("port-22", path, port, "is where everybody looks for SSH, and nothing answers there here", cure)
    elif port in known.host_ssh_ports:
        faults.add("port-host-ssh", path, port, "is the port of the host's own sshd (platform_host.ssh_ports); publishing it would lock you out", cure)
    elif port in known.forwards:
        faults.add("port-forward", path, port, "is led to a guest's SSH", cure)
    elif port in known.ssh_ports:
        faults.add("port-kept", path, port, "is kept by a segment for its guests' SSH (ssh_ports)", cure)


def _read_sources(faults: Faults, item: Table, known: Known) -> tuple[str, ...]:
    path = item.at("from")
    if item.value.get("from") == []:
        reason = "names nobody, and nobody could reach the port"
        faults.add("port-from-empty", path, [], reason, "Name from where it may be reached, or remove the port: other workloads of a network need none")
    words = item.words("from")
    places = [*PLACES, *(known.segments or ())]
    for index, word in enumerate(words):
        if known.segments is not None and word not in places:
            faults.add("port-from", f"{path}[{index}]", word, "is no place that a connection could come from", meant(word, places, "places"))
        elif word in words[:index]:
            faults.add("port-from-twice", f"{path}[{index}]", word, "is named twice", "Remove one of them")
    return tuple(words)


def check_room(faults: Faults, table: Table, replicas: int, update: Update, nodes: int) -> None:
    """Whether every task of a workload that publishes ports finds a node on which they are free."""
    where = "the one node" if nodes == 1 else f"the {nodes} nodes"
    first = f"{table.at('ports')}[0].published"
    if replicas > nodes:
        reason = f"has a published port ({first}), which each task takes on its node for itself, and {where} of the Swarm has room for {nodes}"
        cure = f"Write {nodes}, or publish by a workload of its own that passes requests on to this one by its name"
        faults.add("replicas-port", table.at("replicas"), replicas, reason, cure)
    elif update.order == "start-first" and replicas + update.parallelism > nodes:
        reason = f"starts the new task while the old one still has the published port ({first}) on {where} of the Swarm: it would wait for ever"
        faults.add(
            "start-first-port", table.at("update.order"), update.order, reason, "Write stop-first, or publish by another workload that passes requests on"
        )


def check_published(faults: Faults, rows: Sequence[tuple[str, Any]]) -> None:
    """rows: (path, workload) of all that one Swarm runs: a port of the host is published once."""
    taken: dict[tuple[int, str], str] = {}
    for path, workload in rows:
        for index, port in enumerate(workload.ports):
            place = f"{path}.ports[{index}].published"
            key = (port.published, port.protocol)
            if port.published and key in taken:
                faults.add("port-twice", place, port.published, f"is published by {taken[key]} too", "Publish another port")
            else:
                taken[key] = place
