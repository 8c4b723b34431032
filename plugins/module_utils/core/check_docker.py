# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_docker``, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_daemon import refusal
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import AddressPool, Docker, Swarm, SwarmNode

DOCKER_KEYS = ("data_root", "bridge", "gwbridge", "address_pools", "users", "daemon", "undeclared_ports", "swarm")
POOL_KEYS = ("range", "size")
SWARM_KEYS = ("pool", "subnet_size", "advertise_address", "autolock", "nodes")
NODE_KEYS = ("name", "role", "address")
UNDECLARED = ("refuse", "allow")
ROLES = ("worker", "manager")

# A network of /28 has room for 13 containers beside its gateway; Swarm takes nothing narrower than /29 (moby, validateDefaultAddrPool).
NARROWEST = 28

# useradd(8) of Debian and EL9 with their default patterns.
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# The data root gets root as its owner and mode 0710; whatever else lies in these would be shut in with it.
_SHARED = frozenset({"bin", "boot", "dev", "etc", "home", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr"})


class _Ranges:
    """Names of platform_ranges, each for one use only."""

    def __init__(self, faults: Faults, known: Mapping[str, IPv4Network]) -> None:
        self._faults = faults
        self._known = known
        self._uses: dict[str, str] = {}

    def take(self, table: Table, key: str) -> Optional[IPv4Network]:
        name, path = table.text(key), table.at(key)
        if name is None:
            return None
        if name not in self._known:
            if any(finding.path.startswith("platform_ranges") for finding in self._faults.items):
                return None  # it may stand there, with a fault of its own
            self._faults.add("docker-range", path, name, "is no name in platform_ranges", meant(name, self._known, "ranges"))
            return None
        if name in self._uses:
            reason = f"is used already by {self._uses[name]}, and both would give the same addresses away"
            self._faults.add("docker-range-twice", path, name, reason, "Give each its own range in platform_ranges")
            return None
        self._uses[name] = path
        return self._known[name]


def read_docker(faults: Faults, raw: Any, context: Context) -> Optional[Docker]:
    """``platform_docker``; None when it is wrong."""
    count = len(faults.items)
    table = Table.read(faults, "platform_docker", raw, DOCKER_KEYS, ("bridge", "gwbridge", "address_pools"))
    if table is None:
        return None
    ranges = _Ranges(faults, context.ranges)
    bridge, gwbridge = ranges.take(table, "bridge"), ranges.take(table, "gwbridge")
    for key, cidr in (("bridge", bridge), ("gwbridge", gwbridge)):
        if cidr is not None:
            _size(faults, table.at(key), cidr, cidr.prefixlen, 0)
    pools = _read_pools(faults, table, ranges)
    root = _read_root(faults, table)
    users = _read_users(faults, table)
    swarm = _read_swarm(faults, table, ranges)
    daemon = _read_daemon(faults, table, swarm is not None)
    undeclared = table.choice("undeclared_ports", UNDECLARED) or UNDECLARED[0]
    if len(faults.items) > count or bridge is None or gwbridge is None:
        return None
    docker = Docker(bridge, gwbridge, pools, root or Docker.data_root, users, daemon, undeclared, swarm)
    _check_advertised(faults, docker)
    return docker if len(faults.items) == count else None


def _size(faults: Faults, path: str, cidr: IPv4Network, size: int, least: int) -> Optional[int]:
    """``size`` where networks of that prefix length fit into ``cidr``, with 2**least of them at least."""
    first = cidr.prefixlen + least
    if first <= size <= NARROWEST:
        return size
    if first > NARROWEST:
        faults.add("docker-pool-size", path, str(cidr), "is too small to take networks from", f"Widen it in platform_ranges to /{NARROWEST - least} or more")
        return None
    shortage = "holds fewer than two of them" if least and size >= cidr.prefixlen else "does not hold one of them"
    reason = f"the range {cidr} {shortage}" if size < first else f"a network of /{size} has no room for containers"
    faults.add("docker-pool-size", path, size, reason, f"Choose a prefix length from {first} to {NARROWEST}")
    return None


def _read_pools(faults: Faults, table: Table, ranges: _Ranges) -> tuple[AddressPool, ...]:
    found = []
    rows = table.rows("address_pools")
    if table.value.get("address_pools") == []:
        reason = "is empty, and Docker would then choose networks by itself that may be a segment's"
        faults.add("docker-pools", table.at("address_pools"), [], reason, "Write [{range: <name in platform_ranges>, size: 24}]")
    for index, row in enumerate(rows):
        item = Table.read(faults, f"{table.at('address_pools')}[{index}]", row, POOL_KEYS, POOL_KEYS)
        if item is None:
            continue
        cidr, size = ranges.take(item, "range"), item.number("size", least=1)
        if cidr is not None and size is not None and _size(faults, item.at("size"), cidr, size, 0) is not None:
            found.append(AddressPool(cidr, size))
    return tuple(found)


def _read_root(faults: Faults, table: Table) -> Optional[str]:
    path = table.at("data_root")
    root = values.directory(faults, path, table.text("data_root"), "docker-data-root")
    if root is None:
        return None
    parts = root.strip("/").split("/")
    if len(parts) < 2 or parts[0] in _SHARED:
        reason = "is a place of others too, and root alone may enter the engine's directory"
        faults.add("docker-data-root", path, root, reason, "Choose a directory of the engine's own, such as '/data/docker'")
        return None
    return root


def _read_users(faults: Faults, table: Table) -> tuple[str, ...]:
    found: list[str] = []
    for index, user in enumerate(table.words("users")):
        path = f"{table.at('users')}[{index}]"
        if not _USER.fullmatch(user):
            faults.add("docker-user", path, user, "is no name of an account", "Use 1 to 32 of a-z, 0-9, '_' and '-', the first a letter or '_'")
        elif user in found:
            faults.add("docker-user-twice", path, user, "is listed twice", "Remove one of them")
        else:
            found.append(user)
    return tuple(found)


def _read_daemon(faults: Faults, table: Table, swarm: bool) -> dict[str, Any]:
    """Which further keys there are is for dockerd to say; which ones would undo the platform is said here."""
    raw = table.value.get("daemon", {})
    if not isinstance(raw, Mapping):
        Table.read(faults, table.at("daemon"), raw, ("<key of daemon.json>",))
        return {}
    for key, value in raw.items():
        found = refusal(str(key), value, swarm)
        if found is not None:
            rule, reason, cure = found
            faults.add(rule, f"{table.at('daemon')}.{key}", HIDDEN if str(key).endswith("proxies") else value, reason, cure)
    return {str(key): value for key, value in raw.items()}


def _read_swarm(faults: Faults, table: Table, ranges: _Ranges) -> Optional[Swarm]:
    raw = table.value.get("swarm")
    if raw is None:
        return None
    swarm = Table.read(faults, table.at("swarm"), raw, SWARM_KEYS, ("pool",))
    if swarm is None:
        return None
    pool = ranges.take(swarm, "pool")
    size = swarm.number("subnet_size", least=1) if "subnet_size" in swarm.value else Swarm.subnet_size
    if pool is not None and size is not None:
        # The ingress network takes the first.
        _size(faults, swarm.at("subnet_size"), pool, size, 1)
    advertised = values.address(faults, swarm.at("advertise_address"), swarm.text("advertise_address"))
    autolock = swarm.flag("autolock", False)
    nodes = _read_nodes(faults, swarm)
    if pool is None or size is None:
        return None
    return Swarm(pool, size, None if advertised is None else str(advertised), autolock, nodes)


def _read_nodes(faults: Faults, swarm: Table) -> tuple[SwarmNode, ...]:
    rows = swarm.rows("nodes")
    found: list[SwarmNode] = []
    for path, row in zip(labels(swarm.at("nodes"), rows), rows):
        item = Table.read(faults, path, row, NODE_KEYS, ("name", "address"))
        if item is None:
            continue
        name = values.host_name(faults, item.at("name"), item.text("name"), dotted=True)
        address = values.address(faults, item.at("address"), item.text("address"))
        role = item.choice("role", ROLES) or ROLES[0]
        if name is None or address is None:
            continue
        _check_node(faults, path, found, name, str(address))
        found.append(SwarmNode(name, str(address), role))
    return tuple(found)


def _check_node(faults: Faults, path: str, others: Sequence[SwarmNode], name: str, address: str) -> None:
    if name in [other.name for other in others]:
        faults.add("swarm-node-twice", f"{path}.name", name, "is the name of another node", "Give each node a name of its own")
    if address in [other.address for other in others]:
        faults.add("swarm-node-twice", f"{path}.address", address, "is the address of another node", "Give each node an address of its own")


def _check_advertised(faults: Faults, docker: Docker) -> None:
    """Nodes find each other by these addresses: none may be the manager's too, or one that containers get."""
    if docker.swarm is None:
        return
    places = [("platform_docker.swarm.advertise_address", docker.swarm.advertise_address)]
    places += [(f"platform_docker.swarm.nodes[{node.name}].address", node.address) for node in docker.swarm.nodes]
    for index, (path, address) in enumerate(places):
        if address is None:
            continue
        inside = next((cidr for cidr in docker.networks() if IPv4Network(f"{address}/32").subnet_of(cidr)), None)
        if inside is not None:
            reason = f"lies in {inside}, which containers have their addresses from"
            faults.add("swarm-address", path, address, reason, "Choose an address of the machine itself, by which the other nodes reach it")
        elif index and address == docker.swarm.advertise_address:
            faults.add("swarm-address", path, address, "is the advertise_address of the first manager", "Give each node an address of its own")
