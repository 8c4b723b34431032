# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The KVM host, its storage pools and the probe of the Internet, as the model describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Filesystem, HostSpec, Pool

HOST_KEYS = ("distribution", "version", "cores", "threads", "memory_mb", "filesystems", "reserve", "virtualization", "ssh_ports")
VIRTUALIZATION = ("kvm", "emulated")
PROBE_KEYS = ("address", "tcp_port", "udp_port", "udp", "icmp")
UDP_PROBES = ("dns", "echo")


@dataclass
class HostDraft:
    spec: HostSpec = field(default_factory=HostSpec)
    ssh_ports: list[tuple[str, int]] = field(default_factory=list)


def read_host(faults: Faults, raw: Any) -> HostDraft:
    """``platform_host``: hardware minimum, reserve, and the ports of the host's own sshd with the path of each."""
    table = Table.read(faults, "platform_host", raw, HOST_KEYS)
    if table is None:
        return HostDraft()
    spec = HostSpec(
        distribution=table.text("distribution"),
        version=table.text("version"),
        cores=table.number("cores", least=1),
        threads=table.number("threads", least=1),
        memory_mb=table.number("memory_mb", least=1),
        filesystems=tuple(_read_filesystems(faults, table)),
        virtualization=table.choice("virtualization", VIRTUALIZATION) or VIRTUALIZATION[0],
        **_read_reserve(faults, table.value),
    )
    if spec.cores and spec.threads and spec.threads < spec.cores:
        reason = f"is less than its {spec.cores} cores, and each core runs a thread at least"
        faults.add("threads", table.at("threads"), spec.threads, reason, f"Write {spec.cores} or more")
    for key, kept, whole in (("cores", spec.reserve_cores, spec.cores), ("memory_mb", spec.reserve_memory_mb, spec.memory_mb)):
        if whole is not None and kept > whole:
            faults.add("reserve", f"{table.at('reserve')}.{key}", kept, f"is more than the host's {key} of {whole}", f"Keep back less than {whole}")
    return HostDraft(spec, _read_ssh_ports(faults, table))


def _read_reserve(faults: Faults, raw: Mapping[str, Any]) -> dict[str, int]:
    if "reserve" not in raw:
        return {}
    table = Table.read(faults, "platform_host.reserve", raw["reserve"], ("cores", "memory_mb"))
    if table is None:
        return {}
    return {"reserve_cores": table.number("cores") or 0, "reserve_memory_mb": table.number("memory_mb") or 0}


def _read_filesystems(faults: Faults, table: Table) -> list[Filesystem]:
    found: list[Filesystem] = []
    for index, row in enumerate(table.rows("filesystems")):
        item = Table.read(faults, f"{table.at('filesystems')}[{index}]", row, ("mount", "size_gb"), ("mount", "size_gb"))
        if item is None:
            continue
        mount = values.directory(faults, item.at("mount"), item.text("mount"), "mount")
        size = item.number("size_gb", least=1)
        if any(other.mount == mount for other in found):
            faults.add("mount-twice", item.at("mount"), mount, "is listed twice", "Remove one of them")
        elif mount is not None and size is not None:
            found.append(Filesystem(mount, size))
    return found


def _read_ssh_ports(faults: Faults, table: Table) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for index, item in enumerate(table.rows("ssh_ports")):
        path = f"{table.at('ssh_ports')}[{index}]"
        port = values.port(faults, path, item, forwarded=False)
        if port in [taken for _path, taken in found]:
            faults.add("host-ssh-twice", path, port, "is listed twice", "Remove one of them")
        elif port is not None:
            found.append((path, port))
    return found


def read_pools(faults: Faults, raw: Any) -> list[Pool]:
    """``platform_pools``: directories, none inside another."""
    rows = Table(faults, "", {"platform_pools": raw}, ("platform_pools",)).rows("platform_pools")
    read = [_read_pool(faults, path, row) for path, row in zip(labels("platform_pools", rows), rows)]
    found = [item for item in read if item is not None]
    for index, (path, pool) in enumerate(found):
        for other_path, other in found[:index]:
            if pool.name == other.name:
                faults.add("pool-twice", f"{path}.name", pool.name, f"is taken already by {other_path}", "Give each pool a name of its own")
            _check_apart(faults, path, pool, other_path, other)
    return [pool for _path, pool in found]


def _read_pool(faults: Faults, path: str, raw: Any) -> Optional[tuple[str, Pool]]:
    table = Table.read(faults, path, raw, ("name", "path"), ("name", "path"))
    if table is None:
        return None
    name = values.name(faults, table.at("name"), table.text("name"), "pool")
    place = values.directory(faults, table.at("path"), table.text("path"), "pool-path")
    if place == "/":
        faults.add("pool-path", table.at("path"), place, "is the root of the host", "Choose a directory of the pool's own")
        return None
    return (path, Pool(name, place)) if name is not None and place is not None else None


def _check_apart(faults: Faults, path: str, pool: Pool, other_path: str, other: Pool) -> None:
    if pool.path == other.path:
        faults.add("pool-path-twice", f"{path}.path", pool.path, f"is taken already by {other_path}", "Give each pool a directory of its own")
        return
    for outer, inner, relation in ((other, pool, "lies inside"), (pool, other, "lies around")):
        if inner.path.startswith(f"{outer.path}/"):
            faults.add("pool-nested", f"{path}.path", pool.path, f"{relation} {other_path} ({other.path})", "Put the two pools beside each other")


def check_probe(faults: Faults, raw: Any, segments: Iterable[IPv4Network]) -> None:
    """``platform_internet_probe``: what a segment with Internet is expected to reach when the matrix is measured."""
    table = Table.read(faults, "platform_internet_probe", raw, PROBE_KEYS, ("address",))
    if table is None:
        return
    address = values.address(faults, table.at("address"), table.text("address"))
    for cidr in segments:
        if address is not None and address in cidr:
            reason = f"lies inside the segment {cidr} and proves nothing about the Internet"
            faults.add("probe-inside", table.at("address"), str(address), reason, "Choose an address outside the platform")
    for key in ("tcp_port", "udp_port"):
        number = table.number(key)
        if number is not None and not 1 <= number <= values.LAST_PORT:
            faults.add("port", table.at(key), number, f"is no port, these are 1 to {values.LAST_PORT}", "Choose the port of a service that answers there")
    table.choice("udp", UDP_PROBES)
    table.flag("icmp", default=True)
