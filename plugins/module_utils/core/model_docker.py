# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine and its Swarm, as typed values. They have been checked (check_docker.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, Optional


@dataclass(frozen=True)
class AddressPool:
    """Networks of ``size`` (a prefix length) that the engine takes from ``cidr``."""

    cidr: IPv4Network
    size: int


@dataclass(frozen=True)
class SwarmNode:
    """A further node. role: ``worker`` or ``manager``."""

    name: str
    address: str
    role: str = "worker"


@dataclass(frozen=True)
class Swarm:
    """pool: of the overlay networks, each of ``subnet_size`` (a prefix length); advertise_address: None = that of the default route."""

    pool: IPv4Network
    subnet_size: int = 24
    advertise_address: Optional[str] = None
    autolock: bool = False
    nodes: tuple[SwarmNode, ...] = ()


@dataclass(frozen=True)
class Docker:
    """bridge, gwbridge: networks of docker0 and docker_gwbridge; users: members of the group docker; daemon: further keys of daemon.json."""

    bridge: IPv4Network
    gwbridge: IPv4Network
    address_pools: tuple[AddressPool, ...]
    data_root: str = "/data/docker"
    users: tuple[str, ...] = ()
    daemon: Mapping[str, Any] = field(default_factory=dict)
    undeclared_ports: str = "refuse"
    swarm: Optional[Swarm] = None

    def networks(self) -> tuple[IPv4Network, ...]:
        """Every network in which containers have their addresses."""
        swarm = () if self.swarm is None else (self.swarm.pool,)
        return (self.bridge, self.gwbridge, *(pool.cidr for pool in self.address_pools), *swarm)
