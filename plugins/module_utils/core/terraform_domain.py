# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as resources libvirt_domain, and the lab's whole configuration. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import terraform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.hcl import Attribute, Block, Expression, Item, Names, attributes
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform import Export, Note, Resource, Selection

# Not set by resourceLibvirtDomainRead, while their defaults (kvm, opt/com.coreos/config, false) would be planned for an imported guest;
# the first two would replace it.
_NEVER_READ = ("type", "fw_cfg_name", "qemu_agent")
# Attribute of network_interface by the mode of a direct interface (resourceLibvirtDomainRead).
_DIRECT = {"vepa": "vepa", "bridge": "macvtap", "passthrough": "passthrough"}
# The provider makes these two kinds of console and of display (setConsoles, setGraphics).
_CONSOLES = ("pty", "tcp")
_GRAPHICS = ("spice", "vnc")


def export_lab(facts: Mapping[str, Any], uri: str, everything: bool = False) -> Export:
    """Terraform configuration of what this collection made on a host, or of ``everything`` there.

    facts: {networks, pools, volumes, domains, machines} as the module libvirt_export returns them
    uri:   libvirt's, as seen from the machine that will run Terraform
    """
    found = terraform.select(facts, everything)
    notes: list[Note] = []
    resources = {
        "networks.tf": terraform.networks(found, Names(), notes),
        "pools.tf": terraform.pools(found, Names(), notes),
        "volumes.tf": terraform.volumes(found, Names()),
        "guests.tf": domains(found, Names(), notes, facts["machines"]),
    }
    exported = {volume["path"] for volume in found.volumes}
    for pool in found.pools:
        count = sum(1 for volume in facts["volumes"] if volume["pool"] == pool["name"] and volume["path"] not in exported)
        if count:
            notes.append(Note(f"pool {pool['name']}", f"volumes not exported: {count}, neither base images nor of a guest of this collection"))
        if not pool["active"]:
            notes.append(Note(f"pool {pool['name']}", "its volumes are not exported: libvirt lists them only while the pool runs"))
    return terraform.configuration(resources, uri, notes)


def domains(found: Selection, names: Names, notes: list[Note], machines: Mapping[str, str]) -> list[Resource]:
    """A resource for each guest that the provider can read. machines: see export_facts.machine_aliases."""
    resources = []
    for domain in found.domains:
        reason = unreadable(domain, found)
        if reason:
            notes.append(Note(f"guest {domain['name']}", f"not exported: {reason}"))
            continue
        resources.append(_domain(domain, found, names.give(domain["name"]), machines))
    return resources


def unreadable(domain: Mapping[str, Any], found: Selection) -> Optional[str]:
    """Why the provider's Read would fail, and with it every plan; None when it would not (resourceLibvirtDomainRead)."""
    for disk in domain["disks"]:
        if disk["source"] is None:
            return f"its {disk['device']} {disk['target']} is empty, which the provider cannot read"
        if disk["kind"] == "network":
            return f"its disk {disk['target']} is on the network, which this export does not know"
        if disk["kind"] in ("file", "volume") and disk["device"] != "cdrom" and found.volume_of(disk) is None:
            return f"its disk {disk['target']} ({disk['source']}) is no volume of a running pool, as the provider needs it"
    for interface in domain["interfaces"]:
        if interface["kind"] == "network" and ("network", interface["source"]) not in found.known:
            return f"its interface {interface['mac']} is in network {interface['source']}, which does not exist"
    return None


def _domain(domain: Mapping[str, Any], found: Selection, identifier: str, machines: Mapping[str, str]) -> Resource:
    body: list[Item] = list(
        attributes(
            {
                "name": domain["name"],
                "description": domain["description"],
                "type": domain["type"],
                "vcpu": domain["vcpus"],
                "memory": domain["memory_kib"] // 1024,
                "arch": domain["arch"],
                "machine": machines.get(domain["machine"] or "", domain["machine"]),
                "firmware": domain["firmware"],
                "kernel": domain["kernel"],
                "initrd": domain["initrd"],
                "running": domain["state"] == "running",
                "autostart": domain["autostart"],
                "qemu_agent": domain["agent"],
            }
        )
    )
    ignored = list(_NEVER_READ)
    # The provider knows no model, without which libvirt takes no new guest of mode custom; left out, it keeps what it read.
    if domain["cpu_mode"] not in (None, "custom"):
        body.append(Block("cpu", body=(Attribute("mode", domain["cpu_mode"]),)))
    if domain["nvram"]["file"]:
        body.append(Block("nvram", body=attributes(domain["nvram"])))
    body += [Block("disk", body=_disk(disk, found)) for disk in domain["disks"]]
    body += [Block("network_interface", body=_interface(interface, found)) for interface in domain["interfaces"]]
    # None of these is read back.
    unread = {"boot_device": _boot(domain), "console": _consoles(domain), "graphics": _graphics(domain), "tpm": _tpm(domain)}
    for name, blocks in unread.items():
        body += [Block(name, body=block) for block in blocks]
        ignored += [name] if blocks else []
    if domain["cmdline"]:
        ignored.append("cmdline")
    if any(entry.startswith("filesystem") for entry in domain["other"]):
        ignored.append("filesystem")
    body.append(Block("lifecycle", body=(Attribute("prevent_destroy", True), Attribute("ignore_changes", [Expression(name) for name in ignored]))))
    return Resource("libvirt_domain", identifier, domain["uuid"], tuple(body), tuple(_left_out(domain, found)))


def _disk(disk: Mapping[str, Any], found: Selection) -> tuple[Item, ...]:
    values: dict[str, Any] = {}
    if disk["device"] == "cdrom":
        values["file"] = disk["source"]
    elif disk["kind"] == "block":
        values["block_device"] = disk["source"]
    else:
        volume = found.volume_of(disk) or {}
        values["volume_id"] = found.reference("volume", volume["path"], "id", volume["key"])
    if disk["bus"] == "scsi":
        values.update(scsi=True, wwn=disk["wwn"])
    return attributes(values)


def _interface(interface: Mapping[str, Any], found: Selection) -> tuple[Item, ...]:
    values: dict[str, Any] = {}
    name = interface["source"]
    if interface["kind"] == "network":
        values["network_id"] = found.reference("network", name, "id", found.known[("network", name)]["uuid"])
        values["hostname"] = _reserved(interface, found).get("name")
    elif interface["kind"] == "bridge":
        values["bridge"] = name
    elif interface["kind"] == "direct" and interface["mode"] in _DIRECT:
        values[_DIRECT[interface["mode"]]] = name
    # The provider reads capitals.
    values["mac"] = interface["mac"].upper()
    return attributes(values)


def _reserved(interface: Mapping[str, Any], found: Selection) -> dict[str, Any]:
    """The DHCP reservation of an interface in a libvirt network, else empty."""
    dhcp = found.known[("network", interface["source"])]["dhcp"] or {"hosts": []}
    return next((host for host in dhcp["hosts"] if host["mac"] == interface["mac"]), {})


def _boot(domain: Mapping[str, Any]) -> list[tuple[Item, ...]]:
    return [(Attribute("dev", domain["boot"]),)] if domain["boot"] else []


def _consoles(domain: Mapping[str, Any]) -> list[tuple[Item, ...]]:
    return [
        attributes({"type": entry["type"], "target_port": entry["port"], "target_type": entry["target"]})
        for entry in domain["consoles"]
        if entry["type"] in _CONSOLES
    ]


def _graphics(domain: Mapping[str, Any]) -> list[tuple[Item, ...]]:
    return [attributes({"type": kind}) for kind in domain["graphics"][:1] if kind in _GRAPHICS]


def _tpm(domain: Mapping[str, Any]) -> list[tuple[Item, ...]]:
    tpm = domain["tpm"]
    return [] if tpm is None else [attributes({"model": tpm["model"], "backend_type": tpm["backend"], "backend_version": tpm["version"]})]


def _left_out(domain: Mapping[str, Any], found: Selection) -> list[str]:
    left = []
    if domain["current_memory_kib"] != domain["memory_kib"]:
        left.append(f"memory now: {domain['current_memory_kib'] // 1024} MiB; `memory` is the most that it may get without a restart")
    if domain["current_vcpus"] != domain["vcpus"]:
        left.append(f"vCPUs now: {domain['current_vcpus']}; `vcpu` is the most that it may get without a restart")
    if domain["state"] not in ("running", "stopped"):
        left.append(f"it is {domain['state']}")
    serials = [f"{disk['target']}={disk['serial']}" for disk in domain["disks"] if disk["serial"]]
    left += [f"serial numbers of its disks: {', '.join(serials)}"] if serials else []
    for disk in domain["disks"]:
        if disk["readonly"] and disk["device"] != "cdrom":
            left.append(f"disk {disk['target']} is read-only")
    for interface in domain["interfaces"]:
        reserved = _reserved(interface, found) if interface["kind"] == "network" else {}
        left += [f"address {reserved['address']}, reserved in network {interface['source']}"] if reserved else []
        if interface["kind"] not in ("network", "bridge") and not (interface["kind"] == "direct" and interface["mode"] in _DIRECT):
            left.append(f"where its interface {interface['mac']} leads (type {interface['kind']})")
    left += ["its CPU model"] if domain["cpu_mode"] == "custom" else []
    left += ["Secure Boot (the provider would turn it off in a new guest)"] if domain["firmware_secure"] else []
    left += ["its kernel command line"] if domain["cmdline"] else []
    consoles = [entry["type"] for entry in domain["consoles"] if entry["type"] not in _CONSOLES]
    left += [f"consoles of type {', '.join(consoles)}"] if consoles else []
    left += [f"display of type {', '.join(domain['graphics'])}"] if domain["graphics"] and not _graphics(domain) else []
    left += domain["other"]
    if domain["owned"]:
        left.append("the metadata that marks it as made by hybridlab.platform")
    return left
