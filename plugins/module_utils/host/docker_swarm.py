# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of a Swarm, through the Docker SDK."""

from __future__ import annotations

import socket
import time
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_swarm import (
    GWBRIDGE,
    GWBRIDGE_OPTIONS,
    INGRESS,
    PORT,
    Found,
    Network,
    Plan,
    Wanted,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_sdk

# How long the engine may take to make the ingress network, after a Swarm has been made.
INGRESS_SECONDS = 20
_DOCUMENTATION_NET = ("192.0.2.1", 9)  # RFC 5737: nobody's


def default_address() -> Optional[str]:
    """This host's address on its default route; None without one. Connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_DOCUMENTATION_NET)
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address


def read(planning: bool) -> Found:
    """The node as it is. planning: an engine that is not there yet counts as one that is in no Swarm."""
    if docker_sdk.client(planning=planning) is None:
        return Found()
    found: Found = docker_sdk.asked(_read)
    return found


def _read(client: Any) -> Found:
    swarm = client.info()["Swarm"]
    cluster = swarm.get("Cluster") or {}
    manager = bool(swarm.get("ControlAvailable"))
    encryption = (cluster.get("Spec") or {}).get("EncryptionConfig") or {}
    return Found(
        state=swarm.get("LocalNodeState") or "inactive",
        error=swarm.get("Error") or "",
        manager=manager,
        address=swarm.get("NodeAddr") or None,
        remotes=tuple(remote["Addr"] for remote in swarm.get("RemoteManagers") or ()),
        pool=tuple(IPv4Network(text) for text in cluster.get("DefaultAddrPool") or ()),
        subnet_size=cluster.get("SubnetSize") if manager else None,
        autolock=bool(encryption.get("AutoLockManagers")),
        services=len(client.services.list()) if manager else 0,
        nodes=swarm.get("Nodes") or 0,
        networks=networks(client),
    )


def networks(client: Any) -> tuple[Network, ...]:
    """Every network of the engine and of its Swarm, by name."""
    found = []
    for network in client.networks.list(greedy=True):
        attributes = network.attrs
        configs = (attributes.get("IPAM") or {}).get("Config") or []
        containers = [name for name in (attributes.get("Containers") or {}) if not name.endswith("-sbox")]
        subnets = tuple(cidr for cidr in (_ipv4(config.get("Subnet")) for config in configs) if cidr is not None)
        found.append(Network(attributes["Name"], attributes["Driver"], subnets, len(containers)))
    return tuple(sorted(found, key=lambda network: network.name))


def _ipv4(text: Optional[str]) -> Optional[IPv4Network]:
    try:
        return None if not text else IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        return None  # IPv6, in which no segment is


def apply(plan: Plan, wanted: Optional[Wanted], token: Optional[str]) -> None:
    """token: the join token of a further node. ResourceError in the engine's words."""
    docker_sdk.asked(lambda client: _apply(client, plan, wanted, token))


def _apply(client: Any, plan: Plan, wanted: Optional[Wanted], token: Optional[str]) -> None:
    if plan.leave:
        client.swarm.leave(force=True)
    if plan.drop_gwbridge:
        client.networks.get(GWBRIDGE).remove()
    if wanted is None:
        return
    if plan.make_gwbridge:
        pool = {"Driver": "default", "Config": [{"Subnet": str(wanted.gwbridge)}]}
        client.networks.create(GWBRIDGE, driver="bridge", options=GWBRIDGE_OPTIONS, ipam=pool)
    if plan.enter:
        _enter(client, wanted, plan.after["address"], token)
    if plan.autolock is not None:
        found = client.api.inspect_swarm()
        found["Spec"].setdefault("EncryptionConfig", {})["AutoLockManagers"] = plan.autolock
        client.api.update_swarm(version=found["Version"]["Index"], swarm_spec=found["Spec"])


def _enter(client: Any, wanted: Wanted, address: str, token: Optional[str]) -> None:
    own = {"advertise_addr": address, "listen_addr": f"{address}:{PORT}"}
    if wanted.join is None:
        swarm = wanted.swarm
        client.swarm.init(**own, default_addr_pool=[str(swarm.pool)], subnet_size=swarm.subnet_size, autolock_managers=swarm.autolock)
    elif token is None:
        raise ResourceError("join_token: found nothing, and a node joins with one. On a manager: docker swarm join-token worker")
    else:
        client.swarm.join(remote_addrs=[f"{wanted.join}:{PORT}"], join_token=token, **own)


def wait_for_ingress(seconds: float = INGRESS_SECONDS) -> Optional[Network]:
    """The ingress network, once it has its addresses; None where the Swarm has none after ``seconds``, as on a kernel that cannot make it."""
    deadline = time.monotonic() + seconds
    while True:
        found = next((network for network in docker_sdk.asked(networks) if network.name == INGRESS and network.subnets), None)
        if found is not None or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def secrets() -> dict[str, str]:
    """Join tokens of workers and managers, and the key that unlocks this Swarm (empty without autolock)."""

    def ask(client: Any) -> dict[str, str]:
        tokens = client.api.inspect_swarm()["JoinTokens"]
        return {"worker_token": tokens["Worker"], "manager_token": tokens["Manager"], "unlock_key": client.swarm.get_unlock_key().get("UnlockKey", "")}

    found: dict[str, str] = docker_sdk.asked(ask)
    return found
