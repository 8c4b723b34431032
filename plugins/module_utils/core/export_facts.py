# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt's XML says of networks, pools, volumes and domains, as plain data for an export: also of those that we did not make.

Unlike the readers of the resource modules these keep everything that another tool asks for, and name what they left out.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from ipaddress import ip_interface
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import NAMESPACE

# Bytes of libvirt's units (virScaleInteger; "KB" and the like are powers of ten).
_UNITS = {"b": 1, "bytes": 1, "kb": 10**3, "k": 2**10, "kib": 2**10, "mb": 10**6, "m": 2**20, "mib": 2**20, "gb": 10**9, "g": 2**30, "gib": 2**30}
AGENT_CHANNEL = "org.qemu.guest_agent.0"


def network_facts(xml: str) -> dict[str, Any]:
    """A network: name, uuid, owned, bridge, mode (None: isolated), mtu, domain, local_only, dns, dhcp, addresses, routes, other.

    addresses: [{cidr: "10.0.1.0/24", prefix: whether the XML has a prefix (else a netmask)}]
    dhcp:      None without, else {ranges: ["first-last"], hosts: [{mac, name, address}]}
    dns:       None without, else {enabled: None|bool, hosts: [{address, names}], forwarders: [{address, domain}]}
    other:     what is there beyond that, in words
    """
    root = ET.fromstring(xml)
    forward, bridge, domain = root.find("forward"), root.find("bridge"), root.find("domain")
    dhcp = root.findall("ip/dhcp")
    return {
        "name": root.findtext("name", ""),
        "uuid": root.findtext("uuid", ""),
        "owned": _is_owned(root),
        "mode": None if forward is None else forward.get("mode", "nat"),
        "bridge": _attribute(bridge, "name"),
        "mtu": _number(_attribute(root.find("mtu"), "size")),
        "domain": _attribute(domain, "name"),
        "local_only": _attribute(domain, "localOnly") == "yes",
        "addresses": [_address(entry) for entry in root.iterfind("ip") if entry.get("address")],
        "dhcp": None if not dhcp else _dhcp(dhcp),
        "dns": _dns(root.find("dns")),
        "routes": [_route(entry) for entry in root.iterfind("route")],
        "other": _other_of_network(root, bridge),
    }


def pool_facts(xml: str) -> dict[str, Any]:
    """A pool: name, uuid, kind, path, mode, source (name of a logical pool's volume group)."""
    root = ET.fromstring(xml)
    return {
        "name": root.findtext("name", ""),
        "uuid": root.findtext("uuid", ""),
        "kind": root.get("type", ""),
        "path": root.findtext("target/path"),
        "mode": root.findtext("target/permissions/mode"),
        "source": root.findtext("source/name"),
    }


def volume_facts(xml: str) -> dict[str, Any]:
    """A volume: name, key, path, capacity and allocation in bytes, format, backing (path of what it is an overlay on, or None)."""
    root = ET.fromstring(xml)
    return {
        "name": root.findtext("name", ""),
        "key": root.findtext("key") or root.findtext("target/path", ""),
        "path": root.findtext("target/path", ""),
        "capacity": _bytes(root.find("capacity")),
        "allocation": _bytes(root.find("allocation")),
        "format": _attribute(root.find("target/format"), "type"),
        "backing": root.findtext("backingStore/path"),
    }


def domain_facts(xml: str) -> dict[str, Any]:
    """A domain as its running XML, or its kept one, has it.

    memory_kib, vcpus: the bounds; the current_ ones are what it has now
    disks:      [{device, kind, source, pool, bus, target, serial, wwn, readonly}]; source is a path, a device or a volume's name, by kind
    interfaces: [{kind, source, mode, mac}]; firmware, nvram: {file, template}; consoles: [{type, target, port}]; other: in words
    """
    root = ET.fromstring(xml)
    system, vcpu = root.find("os"), root.find("vcpu")
    kind = None if system is None else system.find("type")
    memory = _bytes(root.find("memory"), "kib") // 1024
    vcpus = int(root.findtext("vcpu", "1"))
    current = root.find("currentMemory")
    return {
        "name": root.findtext("name", ""),
        "uuid": root.findtext("uuid", ""),
        "owned": _is_owned(root),
        "type": root.get("type", ""),
        "description": root.findtext("description"),
        "vcpus": vcpus,
        "current_vcpus": int(_attribute(vcpu, "current") or vcpus),
        "memory_kib": memory,
        "current_memory_kib": memory if current is None else _bytes(current, "kib") // 1024,
        "arch": _attribute(kind, "arch"),
        "machine": _attribute(kind, "machine"),
        "cpu_mode": _attribute(root.find("cpu"), "mode"),
        "firmware": root.findtext("os/loader"),
        "firmware_secure": _attribute(root.find("os/loader"), "secure") == "yes",
        "nvram": {"file": root.findtext("os/nvram"), "template": _attribute(root.find("os/nvram"), "template")},
        "kernel": root.findtext("os/kernel"),
        "initrd": root.findtext("os/initrd"),
        "cmdline": root.findtext("os/cmdline"),
        "boot": [entry.get("dev", "") for entry in root.iterfind("os/boot")],
        "disks": [_disk(entry) for entry in root.iterfind("devices/disk")],
        "interfaces": [_interface(entry) for entry in root.iterfind("devices/interface")],
        "agent": any(entry.get("name") == AGENT_CHANNEL for entry in root.iterfind("devices/channel/target")),
        "consoles": [_console(entry) for entry in root.iterfind("devices/console")],
        "graphics": [entry.get("type", "") for entry in root.iterfind("devices/graphics")],
        "tpm": _tpm(root.find("devices/tpm")),
        "other": _other_of_domain(root),
    }


def machine_aliases(capabilities: str) -> dict[str, str]:
    """Alias of each versioned machine type (pc-q35-7.2 -> q35), from the host's capabilities XML."""
    return {entry.get("canonical", ""): entry.text or "" for entry in ET.fromstring(capabilities).iterfind("guest/arch//machine") if entry.get("canonical")}


def _is_owned(root: ET.Element) -> bool:
    metadata = root.find("metadata")
    return metadata is not None and any(child.tag.startswith(f"{{{NAMESPACE}}}") for child in metadata)


def _attribute(element: Optional[ET.Element], name: str) -> Optional[str]:
    return None if element is None else element.get(name)


def _number(text: Optional[str]) -> Optional[int]:
    return None if text is None else int(text)


def _bytes(element: Optional[ET.Element], default_unit: str = "bytes") -> int:
    if element is None:
        return 0
    return int(element.text or "0") * _UNITS[(element.get("unit") or default_unit).lower()]


def _address(entry: ET.Element) -> dict[str, Any]:
    size = entry.get("prefix") or entry.get("netmask")
    interface = ip_interface(f"{entry.get('address')}/{size}" if size else str(entry.get("address")))
    return {"cidr": str(interface.network), "prefix": entry.get("prefix") is not None}


def _dhcp(found: Iterable[ET.Element]) -> dict[str, Any]:
    ranges, hosts = [], []
    for entry in found:
        ranges += [f"{part.get('start')}-{part.get('end')}" for part in entry.iterfind("range")]
        hosts += [{"mac": (part.get("mac") or "").lower(), "name": part.get("name"), "address": part.get("ip")} for part in entry.iterfind("host")]
    return {"ranges": ranges, "hosts": hosts}


def _dns(element: Optional[ET.Element]) -> Optional[dict[str, Any]]:
    if element is None:
        return None
    enabled = element.get("enable")
    return {
        "enabled": None if enabled is None else enabled == "yes",
        "hosts": [
            {"address": entry.get("ip", ""), "names": [(name.text or "").strip() for name in entry.iterfind("hostname")]} for entry in element.iterfind("host")
        ],
        "forwarders": [{"address": entry.get("addr"), "domain": entry.get("domain")} for entry in element.iterfind("forwarder")],
    }


def _route(entry: ET.Element) -> dict[str, str]:
    size = entry.get("prefix") or entry.get("netmask")
    return {"cidr": str(ip_interface(f"{entry.get('address')}/{size}").network), "gateway": entry.get("gateway", "")}


def _other_of_network(root: ET.Element, bridge: Optional[ET.Element]) -> list[str]:
    found = []
    stp, delay = _attribute(bridge, "stp"), _attribute(bridge, "delay")
    if stp is not None or delay is not None:
        found.append(f"spanning tree {stp or 'on'}, delay {delay or '0'}")
    if root.find("mac") is not None:
        found.append(f"the bridge's MAC address {_attribute(root.find('mac'), 'address')}")
    for tag, word in (("srv", "SRV records"), ("txt", "TXT records")):
        count = len(root.findall(f"dns/{tag}"))
        found += [f"{word} ({count})"] if count else []
    found += [f"<{tag}>" for tag in ("portgroup", "bandwidth", "vlan", "virtualport") if root.find(tag) is not None]
    found += ["dnsmasq options"] if any(child.tag.endswith("}options") for child in root) else []
    return found


def _disk(entry: ET.Element) -> dict[str, Any]:
    source, target = entry.find("source"), entry.find("target")
    kind = entry.get("type", "file")
    key = {"file": "file", "block": "dev", "volume": "volume", "network": "name"}.get(kind, "file")
    return {
        "device": entry.get("device", "disk"),
        "kind": kind,
        "source": _attribute(source, key),
        "pool": _attribute(source, "pool"),
        "bus": _attribute(target, "bus"),
        "target": _attribute(target, "dev"),
        "serial": entry.findtext("serial"),
        "wwn": entry.findtext("wwn"),
        "readonly": entry.find("readonly") is not None,
    }


def _interface(entry: ET.Element) -> dict[str, Any]:
    source, kind = entry.find("source"), entry.get("type", "")
    key = {"network": "network", "bridge": "bridge", "direct": "dev"}.get(kind, "dev")
    return {
        "kind": kind,
        "source": _attribute(source, key),
        "mode": _attribute(source, "mode"),
        "mac": (_attribute(entry.find("mac"), "address") or "").lower(),
    }


def _console(entry: ET.Element) -> dict[str, Any]:
    target = entry.find("target")
    return {"type": entry.get("type", "pty"), "target": _attribute(target, "type"), "port": _attribute(target, "port") or "0"}


def _tpm(element: Optional[ET.Element]) -> Optional[dict[str, Any]]:
    if element is None:
        return None
    backend = element.find("backend")
    return {"model": element.get("model"), "backend": _attribute(backend, "type") or "emulator", "version": _attribute(backend, "version")}


def _other_of_domain(root: ET.Element) -> list[str]:
    """Devices that an export has no place for; balloon, controllers and the like come by themselves."""
    names = ("filesystem", "hostdev", "redirdev", "sound", "video", "watchdog", "shmem", "panic", "vsock", "memory", "iommu")
    counts = {name: len(root.findall(f"devices/{name}")) for name in names}
    found = [f"{name} ({count})" for name, count in counts.items() if count]
    found += ["cpu tuning"] if root.find("cputune") is not None else []
    found += ["NUMA tuning"] if root.find("numatune") is not None else []
    found += ["memory backing"] if root.find("memoryBacking") is not None else []
    return found
