# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for a host to be a node of the declared Swarm. Pure; host/docker_swarm.py does it.

A Swarm's address pool is fixed when it is made. Left to itself Docker takes 10.0.0.0/8: its ingress network becomes 10.0.0.0/24, the first overlay network
10.0.1.0/24. docker_gwbridge takes any free network of the engine's unless it is there before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker, Swarm
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line

PORT = 2377  # IANA: swarm
GWBRIDGE, INGRESS = "docker_gwbridge", "ingress"

# As the engine makes it itself.
GWBRIDGE_OPTIONS = {
    "com.docker.network.bridge.enable_icc": "false",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
    "com.docker.network.bridge.name": GWBRIDGE,
}
INACTIVE = "inactive"


@dataclass(frozen=True)
class Network:
    """A network of the engine. containers: how many are attached, the ingress network's own end not counted."""

    name: str
    driver: str
    subnets: tuple[IPv4Network, ...] = ()
    containers: int = 0


@dataclass(frozen=True)
class Found:
    """A node. pool, subnet_size, autolock, services, nodes: as a manager tells them.

    state:   inactive, pending, active, locked or error, in Docker's words; error: why
    address: by which other nodes reach it
    remotes: addresses of the managers that it knows
    """

    state: str = INACTIVE
    error: str = ""
    manager: bool = False
    address: Optional[str] = None
    remotes: tuple[str, ...] = ()
    pool: tuple[IPv4Network, ...] = ()
    subnet_size: Optional[int] = None
    autolock: bool = False
    services: int = 0
    nodes: int = 0
    networks: tuple[Network, ...] = ()

    def network(self, name: str) -> Optional[Network]:
        return next((network for network in self.networks if network.name == name), None)


@dataclass(frozen=True)
class Wanted:
    """The declared node. advertise: None = as it is; join: address of the manager to join, None for the first; role: of a node that joins."""

    swarm: Swarm
    gwbridge: IPv4Network
    advertise: Optional[str]
    join: Optional[str] = None
    role: str = "manager"


@dataclass(frozen=True)
class Plan:
    """Steps in this order: leave, drop_gwbridge, make_gwbridge, enter (init or join), autolock (the new value, None = as it is)."""

    leave: bool
    drop_gwbridge: bool
    make_gwbridge: bool
    enter: bool
    autolock: Optional[bool]
    before: dict[str, Any]
    after: dict[str, Any]
    commands: list[str]
    disruptive: list[dict[str, str]]


def describe(found: Found) -> dict[str, Any]:
    """The managed properties of the node as found."""
    bridge = found.network(GWBRIDGE)
    return {
        "state": found.state,
        "role": None if found.state == INACTIVE else ("manager" if found.manager else "worker"),
        "address": found.address,
        "pool": [str(cidr) for cidr in found.pool],
        "subnet_size": found.subnet_size,
        "autolock": found.autolock,
        "gwbridge": None if bridge is None else [str(cidr) for cidr in bridge.subnets],
    }


def plan(wanted: Wanted, found: Found, default_address: Optional[str]) -> Plan:
    """default_address: of this host, for a Swarm that names none. Raises ResourceError where the node cannot be brought to it from here."""
    _refuse_state(found)
    advertise = wanted.advertise or found.address or default_address
    if advertise is None:
        raise ResourceError(
            "platform_docker.swarm.advertise_address: found nothing, and this host has no default route whose address could be taken. Nothing was changed. "
            "Set it to an address of this host by which other nodes reach it."
        )
    active = found.state != INACTIVE
    reasons = _reasons(wanted, found) if active else []
    bridge = found.network(GWBRIDGE)
    other_bridge = bridge is not None and bridge.subnets != (wanted.gwbridge,)
    if other_bridge and active:
        reasons.append(f"docker_gwbridge has {_told(bridge)} and not {wanted.gwbridge}")
    if other_bridge and not active and bridge is not None and bridge.containers:
        raise ResourceError(
            f"docker_gwbridge has {_told(bridge)} and not {wanted.gwbridge}, and {bridge.containers} containers are attached to it. Nothing was changed. "
            "Stop them (docker network inspect docker_gwbridge names them) and run again."
        )
    leave = bool(reasons)
    enter = leave or not active
    autolock = wanted.swarm.autolock if wanted.join is None and not enter and found.autolock != wanted.swarm.autolock else None
    drop, make = other_bridge, other_bridge or bridge is None
    manager = wanted.role == "manager"
    after = {
        "state": "active",
        "role": wanted.role,
        "address": advertise,
        "pool": [str(wanted.swarm.pool)] if manager else [],
        "subnet_size": wanted.swarm.subnet_size if manager else None,
        "autolock": wanted.swarm.autolock if manager else False,
        "gwbridge": [str(wanted.gwbridge)],
    }
    return Plan(
        leave=leave,
        drop_gwbridge=drop,
        make_gwbridge=make,
        enter=enter,
        autolock=autolock,
        before=describe(found),
        after=after,
        commands=_commands(wanted, advertise, leave, drop, make, enter, autolock),
        disruptive=[_disruption(found, reasons)] if leave else [],
    )


def plan_deleted(found: Found) -> Plan:
    """Leave the Swarm, and take docker_gwbridge away where nothing is attached to it."""
    bridge = found.network(GWBRIDGE)
    leave = found.state != INACTIVE
    drop = bridge is not None and (leave or not bridge.containers)
    after = {**describe(Found()), "gwbridge": None if drop or bridge is None else [str(cidr) for cidr in bridge.subnets]}
    commands = [line for needed, line in ((leave, "docker swarm leave --force"), (drop, f"docker network rm {GWBRIDGE}")) if needed]
    disruptive = [_disruption(found, ["the declaration ends"])] if leave and (found.services or found.nodes > 1) else []
    return Plan(leave, drop, False, False, None, describe(found), after, commands, disruptive)


def _refuse_state(found: Found) -> None:
    if found.state == "locked":
        raise ResourceError(
            "the Swarm on this host is locked, as it is after each start of the engine with autolock. Nothing was changed. Unlock it: docker swarm unlock"
        )
    if found.state in ("error", "pending"):
        raise ResourceError(
            f"this host's part in its Swarm is in state {found.state} ({found.error or 'no reason given'}). Nothing was changed. "
            "See: journalctl -u docker -n 50. Where its address has changed, bring the old one back, "
            "or start anew: docker swarm leave --force (services, secrets and configs are lost)."
        )


def _reasons(wanted: Wanted, found: Found) -> list[str]:
    """Why a node that is in a Swarm has to leave it."""
    reasons = []
    if wanted.join is not None:
        if wanted.join not in {remote.rpartition(":")[0] for remote in found.remotes}:
            reasons.append(f"it is a node of another Swarm (managers: {', '.join(found.remotes) or 'none known'}) and not of that of {wanted.join}")
        elif found.manager != (wanted.role == "manager"):
            verb = "promote" if wanted.role == "manager" else "demote"
            raise ResourceError(f"this node is declared a {wanted.role} and is none. Nothing was changed. On a manager: docker node {verb} <this node>")
    elif not found.manager:
        reasons.append(f"it is a worker of another Swarm (managers: {', '.join(found.remotes)})")
    elif found.pool != (wanted.swarm.pool,) or found.subnet_size != wanted.swarm.subnet_size:
        had = f"{', '.join(map(str, found.pool)) or 'an unknown pool'} in /{found.subnet_size}"
        reasons.append(f"its networks come from {had} and not from {wanted.swarm.pool} in /{wanted.swarm.subnet_size}, which is fixed when a Swarm is made")
    if wanted.advertise is not None and found.address is not None and found.address != wanted.advertise:
        reasons.append(f"it advertises {found.address} and not {wanted.advertise}")
    return reasons


def _disruption(found: Found, reasons: Iterable[str]) -> dict[str, str]:
    others = f", {found.nodes - 1} other nodes" if found.nodes > 1 else ""
    lost = f"{found.services} services{others}, and all its networks, secrets and configs"
    return {"name": "swarm", "reason": f"the Swarm on this host ends ({'; '.join(reasons)}), and with it {lost}"}


def _told(network: Optional[Network]) -> str:
    return ", ".join(map(str, network.subnets)) if network is not None and network.subnets else "no network"


def _commands(wanted: Wanted, advertise: str, leave: bool, drop: bool, make: bool, enter: bool, autolock: Optional[bool]) -> list[str]:
    lines = ["docker swarm leave --force"] if leave else []
    if drop:
        lines.append(f"docker network rm {GWBRIDGE}")
    if make:
        options = [word for key, value in GWBRIDGE_OPTIONS.items() for word in ("-o", f"{key}={value}")]
        lines.append(shell_line(["docker", "network", "create", "--subnet", str(wanted.gwbridge), *options, GWBRIDGE]))
    own = ["--advertise-addr", advertise, "--listen-addr", f"{advertise}:{PORT}"]
    if enter and wanted.join is None:
        pool = ["--default-addr-pool", str(wanted.swarm.pool), "--default-addr-pool-mask-length", str(wanted.swarm.subnet_size)]
        lock = ["--autolock"] if wanted.swarm.autolock else []
        lines.append(shell_line(["docker", "swarm", "init", *pool, *own, *lock]))
    elif enter:
        token = f'"$(ssh {wanted.join} docker swarm join-token -q {wanted.role})"'
        lines.append(f"docker swarm join --token {token} {shell_line([*own, f'{wanted.join}:{PORT}'])}")
    if autolock is not None:
        lines.append(f"docker swarm update --autolock={'true' if autolock else 'false'}")
    return lines


def clashes(networks: Iterable[Network], segments: Mapping[str, IPv4Network]) -> list[str]:
    """Each network of the engine that overlaps a segment, in words."""
    return [
        f"{network.name} ({network.driver}, {subnet}) overlaps the segment {name} ({cidr})"
        for network in networks
        for subnet in network.subnets
        for name, cidr in segments.items()
        if subnet.overlaps(cidr)
    ]


def staying(plan_: Plan, found: Found) -> list[Network]:
    """The networks that are still there when the plan has been carried out."""
    gone = {GWBRIDGE} if plan_.drop_gwbridge else set()
    return [network for network in found.networks if network.name not in gone and not (plan_.leave and network.driver == "overlay")]


def wanted(docker: Docker, join: Optional[str] = None, role: str = "manager", address: Optional[str] = None) -> Wanted:
    """Of platform_docker; join, role and address: of a further node. Raises ResourceError where it declares no Swarm."""
    if docker.swarm is None:
        raise ResourceError("platform_docker.swarm: found nothing: no Swarm is declared. Nothing was changed. Declare one, or use state: deleted.")
    advertise = docker.swarm.advertise_address if join is None else address
    return Wanted(docker.swarm, docker.gwbridge, advertise, join, "manager" if join is None else role)
