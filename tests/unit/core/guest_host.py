# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host made of plain data that does what a plan for guests says, and refuses what libvirt and QEMU would refuse."""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Means, Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import ObservedDomain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import read_domain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import GIB, BaseImage, Facts, Volume
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import (
    AttachDevice,
    DetachDevice,
    Forget,
    GrowLive,
    GrowVolume,
    GuestOperation,
    MakeVolume,
    RemoveFiles,
    Resume,
    SetMark,
    SetMemory,
    SetVcpus,
    ShutDown,
    Suspend,
    TellSsh,
    WriteSeed,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import NAMESPACE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Autostart, Backup, Define, Start
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import PoolSpace

POOLS = {"fast": "/pools/fast", "large": "/pools/large"}
IMAGE = "/pools/fast/image-tiny-0123456789ab.qcow2"


def entry(name: str = "web", **changes: Any) -> dict[str, Any]:
    """An entry of ``config`` as the module hands it to the plan."""
    return {
        "name": name,
        "platform": "lab",
        "state": "running",
        "remove_disks": None,
        "vcpus": 1,
        "vcpus_max": 2,
        "memory_mb": 256,
        "memory_max_mb": 512,
        "interfaces": [{"segment": "public", "mac": "52:54:00:00:00:01", "address": "10.0.1.10", "prefix": 24, "gateway": "10.0.1.1", "dhcp": True}],
        "disks": [{"name": "root", "pool": "fast", "size_gb": 2, "image": "tiny"}],
        "image": "tiny",
        "ssh_port": 2211,
        "names": [],
        "cloud_init": {"domain": "lab.local", "users": [], "packages": [], "commands": [], "user_data": None},
        "firmware": "bios",
        "tpm": False,
        "boot": ["disk"],
        "agent": True,
        "console": True,
        "autostart": True,
        "wait_for": None,
        "wait_seconds": 300,
        **changes,
    }


@dataclass
class Machine:
    xml: str
    live: Optional[str] = None
    paused: bool = False
    autostart: bool = False


@dataclass
class GuestHost:
    """volumes: by path; files: other files (seeds)."""

    machines: dict[str, Machine] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=lambda: {IMAGE: Volume(IMAGE, GIB, GIB // 2)})
    files: set[str] = field(default_factory=set)
    means: Means = field(default_factory=lambda: Means(4, 8 * 2**20))
    policy: Policy = field(default_factory=Policy)
    available: int = 100 * GIB

    def facts(self) -> Facts:
        return Facts(
            domains=tuple(self._observe(machine) for _name, machine in sorted(self.machines.items())),
            networks=frozenset(("public", "private")),
            pools=POOLS,
            space={name: PoolSpace(name, 200 * GIB, 0, self.available) for name in POOLS},
            volumes=dict(self.volumes),
            files=frozenset(self.files),
            images={"tiny": BaseImage(IMAGE, "qcow2", GIB)},
            policy=self.policy,
            means=self.means,
            accelerator="qemu",
        )

    def apply(self, operation: GuestOperation) -> None:
        if isinstance(operation, Backup):
            return
        if isinstance(operation, (MakeVolume, GrowVolume, WriteSeed, RemoveFiles)):
            self._apply_file(operation)
        elif isinstance(operation, Define):
            self.machines.setdefault(operation.name, Machine(operation.xml)).xml = operation.xml
        elif isinstance(operation, Forget):
            assert self.machines.pop(operation.name).live is None
        else:
            self._apply_machine(self.machines[operation.name], operation)

    def _apply_file(self, operation: Any) -> None:
        if isinstance(operation, MakeVolume):
            assert operation.path not in self.volumes
            size = operation.size or self.volumes[str(operation.backing)].capacity
            self.volumes[operation.path] = Volume(operation.path, size, 0, operation.backing)
        elif isinstance(operation, GrowVolume):
            assert operation.path not in self._in_use()
            self._grow(operation.path, operation.size)
        elif isinstance(operation, WriteSeed):
            self.files.add(operation.path)
        else:
            for path in operation.paths:
                assert path not in self._in_use()
                self.volumes.pop(path, None)
                self.files.discard(path)

    def _apply_machine(self, machine: Machine, operation: Any) -> None:
        if isinstance(operation, Autostart):
            machine.autostart = operation.enabled
        elif isinstance(operation, Start):
            assert machine.live is None
            assert all(path in self.volumes or path in self.files for path in _files(machine.xml))
            machine.live, machine.paused = machine.xml, False
        elif isinstance(operation, ShutDown):
            assert machine.live is not None
            assert not machine.paused
            machine.live = None
        elif isinstance(operation, (Suspend, Resume)):
            assert machine.live is not None
            machine.paused = isinstance(operation, Suspend)
        elif isinstance(operation, TellSsh):
            assert machine.live is not None
            assert not machine.paused, "the agent of a guest that stands still is silent"
        elif isinstance(operation, GrowLive):
            self._grow(next(path for path in _files(str(machine.live)) if f"-{operation.disk}" in path), operation.size)
        else:
            machine.live = self._changed(machine, operation)

    def _changed(self, machine: Machine, operation: Any) -> str:
        root = ET.fromstring(str(machine.live))
        devices = root.find("devices")
        assert devices is not None
        if isinstance(operation, SetMemory):
            _element(root, "currentMemory").attrib["unit"] = "MiB"
            _element(root, "currentMemory").text = str(operation.memory_mb)
        elif isinstance(operation, SetVcpus):
            _element(root, "vcpu").set("current", str(operation.vcpus))
        elif isinstance(operation, AttachDevice):
            device = ET.fromstring(operation.xml)
            assert _identity(device) not in {_identity(other) for other in devices}
            assert all(path in self.volumes for path in _files(f"<domain><devices>{operation.xml}</devices></domain>"))
            devices.append(device)
        elif isinstance(operation, DetachDevice):
            assert not machine.paused, "a guest that stands still lets go of nothing"
            devices.remove(next(other for other in devices if _identity(other) == _identity(ET.fromstring(operation.xml))))
        elif isinstance(operation, SetMark):
            mark = ET.fromstring(operation.xml)
            for element in mark.iter():
                element.tag = f"{{{NAMESPACE}}}{element.tag}"
            metadata = _element(root, "metadata")
            metadata[:] = [mark]
        else:
            raise TypeError(operation)
        return ET.tostring(root, encoding="unicode")

    def _grow(self, path: str, size: int) -> None:
        assert size > self.volumes[path].capacity
        self.volumes[path] = replace(self.volumes[path], capacity=size)

    def _in_use(self) -> set[str]:
        return {path for machine in self.machines.values() if machine.live is not None for path in _files(machine.live)}

    def _observe(self, machine: Machine) -> ObservedDomain:
        kept, unmanaged = read_domain(machine.xml)
        live = None if machine.live is None else read_domain(machine.live)[0]
        power = "stopped" if live is None else "suspended" if machine.paused else "running"
        return ObservedDomain(kept.name, kept.uuid, power, machine.autostart, kept, live, machine.xml, machine.live, unmanaged)


def seen(host: GuestHost) -> Mapping[str, Any]:
    """What counts of a host, comparable."""
    machines = {}
    for domain in host.facts().domains:
        machines[domain.name] = (domain.kept, domain.live, domain.power, domain.autostart)
    return {"machines": machines, "volumes": host.volumes, "files": host.files}


def _files(xml: str) -> list[str]:
    return [source.get("file", "") for source in ET.fromstring(xml).iterfind("devices/disk/source")]


def _identity(device: ET.Element) -> tuple[str, ...]:
    mac, target = device.find("mac"), device.find("target")
    if mac is not None:
        return (device.tag, mac.get("address", ""))
    return (device.tag, *(target.attrib.values() if target is not None else ()), str(id(device)) if target is None else "")


def _element(root: ET.Element, tag: str) -> ET.Element:
    found = root.find(tag)
    return ET.SubElement(root, tag) if found is None else found


def volume_path(guest: str, disk: str, pool: str = "fast") -> str:
    return posixpath.join(POOLS[pool], f"{guest}-{disk}.qcow2")
