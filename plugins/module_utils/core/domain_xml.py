# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's domain XML, written (libvirt.org/formatdomain.html). No I/O.

A new definition is a bare machine that gets what is declared; a changed one starts from the XML that libvirt keeps and gets only what
differs. So what we do not manage stays as it is: UUID, PCI addresses, further devices, tuning, the metadata of others.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Optional
from urllib.parse import quote

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Disk, Domain, Nic, declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import (
    AGENT_CHANNEL,
    BOOT_DEVICES,
    MARK,
    SEED_SERIAL,
    agent_element,
    attribute,
    file_of,
    mac_of,
    managed_disks,
    managed_nics,
    network_of,
    read_boot,
    read_firmware,
    read_memory,
    read_vcpus,
    seed_element,
    serial_element,
    tpm_element,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import NAMESPACE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# Ports that stay free, for devices plugged into the running guest: on q35 each takes one, and none can be added then.
SPARE_PORTS = 6
# Out of the way of the disks, so that it keeps its name when disks come and go.
_SEED_TARGET = "vdz"
_GENERIC = re.compile(r"ns\d+\Z")
# Characters that XML 1.0 has no way to write.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write_domain(domain: Domain) -> str:
    """XML of a new definition. ResourceError for a value with characters that XML cannot hold."""
    root = ET.Element("domain")
    ET.SubElement(root, "name").text = domain.name
    ET.SubElement(root, "uuid").text = domain.uuid
    _add_machine(root)
    _edit(root, domain)
    return _text(root)


def merge_domain(xml: str, wanted: Domain) -> str:
    """XML for the redefinition of a guest: its kept definition ``xml`` (inactive, with secrets) with what differs from ``wanted``.

    A disk that is on an overlay of a named point of its declared volume stays on it. Name and UUID stay too: libvirt takes another for another
    guest. Errors as in :func:`write_domain`.
    """
    root = _parse(xml)
    root.attrib.pop("id", None)  # of the running one
    _edit(root, wanted)
    return _text(root)


def write_nic(nic: Nic) -> str:
    """An ``<interface>`` to attach, update or detach; libvirt finds the present one by its MAC."""
    return _text(_nic_element(nic))


def write_disk(disk: Disk, target: str) -> str:
    """A ``<disk>`` to attach or detach; libvirt finds the present one by its ``target`` (see free_target, domain_read.disk_target)."""
    return _text(_disk_element(disk, target))


def write_mark(domain: Domain) -> str:
    """Our metadata of a guest with a record, for virDomainSetMetadata with the URI network_xml.NAMESPACE and the key ``hybridlab``."""
    mark = _mark_element(domain)
    # libvirt puts each element into the namespace, and refuses a root that has the key already.
    for element in mark.iter():
        element.tag = element.tag.rpartition("}")[2]
    return _text(mark)


def free_target(*documents: str) -> str:
    """The first disk target, such as vdb, that none of the definitions has."""
    return _free(*(ET.fromstring(xml) for xml in documents))


def console_log(name: str) -> str:
    """Absolute path of the file into which virtlogd writes the serial console of the guest ``name``."""
    return f"/var/log/libvirt/qemu/{quote(name, safe='')}-console.log"


def _add_machine(root: ET.Element) -> None:
    system = ET.SubElement(root, "os")
    ET.SubElement(system, "type", {"arch": "x86_64", "machine": "q35"}).text = "hvm"
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(root, "clock", {"offset": "utc"})
    ET.SubElement(root, "on_poweroff").text = "destroy"
    ET.SubElement(root, "on_reboot").text = "restart"
    ET.SubElement(root, "on_crash").text = "destroy"
    # A guest that puts itself to sleep answers nobody until somebody wakes it from outside.
    power = ET.SubElement(root, "pm")
    ET.SubElement(power, "suspend-to-mem", {"enabled": "no"})
    ET.SubElement(power, "suspend-to-disk", {"enabled": "no"})
    devices = ET.SubElement(root, "devices")
    ET.SubElement(devices, "controller", {"type": "usb", "model": "none"})
    ET.SubElement(devices, "controller", {"type": "pci", "index": "0", "model": "pcie-root"})
    balloon = ET.SubElement(devices, "memballoon", {"model": "virtio"})
    ET.SubElement(balloon, "stats", {"period": "10"})  # seconds
    random = ET.SubElement(devices, "rng", {"model": "virtio"})
    ET.SubElement(random, "backend", {"model": "random"}).text = "/dev/urandom"


def _edit(root: ET.Element, wanted: Domain) -> None:
    devices = _child(root, "devices")
    _set_accelerator(root, wanted.accelerator)
    _set_memory(root, wanted)
    _set_vcpus(root, wanted)
    _set_firmware(root, wanted.firmware, wanted.name)
    _set_boot(root, wanted.boot)
    _set_disks(root, devices, wanted.disks)
    _set_seed(root, devices, wanted.seed)
    _set_nics(root, devices, wanted.nics)
    _set_tpm(root, devices, wanted.tpm)
    _set_agent(root, devices, wanted.agent)
    _set_console(root, devices, wanted)
    _add_ports(devices)
    # Last: until here the old mark says what is ours.
    _set_mark(root, wanted)


def _set_accelerator(root: ET.Element, accelerator: str) -> None:
    if root.get("type") == accelerator:
        return
    root.set("type", accelerator)
    for old in root.findall("cpu"):
        root.remove(old)
    # The default model, qemu64, lacks SSE4 and POPCNT, without which Enterprise Linux 9 (x86-64-v2) does not boot.
    mode = "host-passthrough" if accelerator == "kvm" else "maximum"
    ET.SubElement(root, "cpu", {"mode": mode})


def _set_memory(root: ET.Element, wanted: Domain) -> None:
    sizes = (wanted.memory_max_mb, wanted.memory_mb)
    if read_memory(root) == sizes:
        return
    for tag, size in zip(("memory", "currentMemory"), sizes):
        entry = _child(root, tag)
        entry.set("unit", "MiB")
        entry.text = str(size)


def _set_vcpus(root: ET.Element, wanted: Domain) -> None:
    old = read_vcpus(root) if root.find("vcpu") is not None else None
    if old == (wanted.vcpus_max, wanted.vcpus):
        return
    entry = _child(root, "vcpu")
    entry.text = str(wanted.vcpus_max)
    entry.set("current", str(wanted.vcpus))
    # Both count CPUs too, and libvirt refuses what doesn't add up.
    for details in root.findall("vcpus"):
        root.remove(details)
    for processor in root.findall("cpu"):
        for topology in processor.findall("topology"):
            processor.remove(topology)


def _set_firmware(root: ET.Element, firmware: str, guest: str) -> None:
    if read_firmware(root) == firmware:
        return
    system, features = _child(root, "os"), _child(root, "features")
    system.attrib.pop("firmware", None)
    for tag in ("firmware", "loader", "nvram"):
        _remove(system, tag)
    _remove(features, "smm")
    if firmware == "bios":
        return
    secure = "yes" if firmware == "uefi-secure" else "no"
    system.set("firmware", "efi")
    choice = ET.SubElement(system, "firmware")
    ET.SubElement(choice, "feature", {"enabled": secure, "name": "secure-boot"})
    if secure == "yes":
        ET.SubElement(choice, "feature", {"enabled": "yes", "name": "enrolled-keys"})
        ET.SubElement(features, "smm", {"state": "on"})
        # Not the file of its time without Secure Boot: libvirt would keep using that, in which no keys are enrolled.
        ET.SubElement(system, "nvram").text = f"/var/lib/libvirt/qemu/nvram/{quote(guest, safe='')}-secure_VARS.fd"


def _set_boot(root: ET.Element, boot: tuple[str, ...]) -> None:
    # One list for the machine: an order on the devices would have to be kept free of gaps and doubles as disks come and go.
    if read_boot(root) == boot:
        return
    for parent in (_child(root, "os"), *root.iterfind("devices/*")):
        _remove(parent, "boot")
    words = {word: device for device, word in BOOT_DEVICES.items()}
    for word in boot:
        ET.SubElement(_child(root, "os"), "boot", {"dev": words[word]})


def _set_disks(root: ET.Element, devices: ET.Element, disks: tuple[Disk, ...]) -> None:
    present = list(managed_disks(root))
    placed = []
    for disk in disks:
        # By its file first, wherever it is plugged in: the same file twice is refused by QEMU's lock.
        same_file = (entry for entry in devices.iterfind("disk") if declared_path(file_of(entry)) == declared_path(disk.path))
        found = next(same_file, next((entry for entry in present if entry.findtext("serial") == disk.name), None))
        placed.append((disk, found))
    kept = [entry for _disk, entry in placed if entry is not None]
    for entry in present:
        if not any(entry is other for other in kept):
            devices.remove(entry)
    elements = [_place_disk(root, devices, disk, entry) for disk, entry in placed]
    _put_first(elements)


def _place_disk(root: ET.Element, devices: ET.Element, disk: Disk, found: Optional[ET.Element]) -> ET.Element:
    if found is None:
        element = _disk_element(disk, _free(root))
        devices.append(element)
        return element
    if declared_path(file_of(found)) != declared_path(disk.path):
        source = _child(found, "source")
        source.clear()
        source.set("file", disk.path)
        _remove(found, "backingStore")
    if attribute(found, "target", "bus") != "virtio":
        _remove(found, "address")
        _child(found, "target").attrib.update(dev=_free(root), bus="virtio")
    found.attrib.update(type="file", device="disk")
    _child(found, "driver").set("type", "qcow2")
    if (found.findtext("serial") or attribute(found, "target", "dev")) != disk.name:
        _child(found, "serial").text = disk.name
    return found


def _put_first(disks: list[ET.Element]) -> None:
    """Gives the first disk, from which the guest boots, the lowest of their targets."""
    targets = [_child(disk, "target") for disk in disks]
    if targets:
        lowest = min(targets, key=lambda target: (len(target.get("dev", "")), target.get("dev", "")))
        first, other = targets[0].get("dev", ""), lowest.get("dev", "")
        lowest.set("dev", first)
        targets[0].set("dev", other)


def _set_seed(root: ET.Element, devices: ET.Element, seed: Optional[str]) -> None:
    found = seed_element(root)
    if seed is None:
        if found is not None:
            devices.remove(found)
        return
    if found is not None:
        if file_of(found) != seed:
            _child(found, "source").set("file", seed)
        return
    taken = any(attribute(disk, "target", "dev") == _SEED_TARGET for disk in devices.iterfind("disk"))
    element = ET.SubElement(devices, "disk", {"type": "file", "device": "disk"})
    ET.SubElement(element, "driver", {"name": "qemu", "type": "raw"})
    ET.SubElement(element, "source", {"file": seed})
    ET.SubElement(element, "target", {"dev": _free(root) if taken else _SEED_TARGET, "bus": "virtio"})
    ET.SubElement(element, "readonly")
    ET.SubElement(element, "serial").text = SEED_SERIAL


def _set_nics(root: ET.Element, devices: ET.Element, nics: tuple[Nic, ...]) -> None:
    wanted = {nic.mac.lower(): nic for nic in nics}
    for entry in list(managed_nics(root)):
        if mac_of(entry) not in wanted:
            devices.remove(entry)
    present = {mac_of(entry): entry for entry in devices.iterfind("interface")}
    for mac, nic in wanted.items():
        if mac not in present:
            devices.append(_nic_element(nic))
        elif network_of(present[mac]) != nic.segment:
            present[mac].set("type", "network")
            source = _child(present[mac], "source")
            source.clear()
            source.set("network", nic.segment)


def _set_tpm(root: ET.Element, devices: ET.Element, tpm: bool) -> None:
    found = tpm_element(root)
    if found is not None and not tpm:
        devices.remove(found)
    if found is None and tpm:
        element = ET.SubElement(devices, "tpm", {"model": "tpm-crb"})
        ET.SubElement(element, "backend", {"type": "emulator", "version": "2.0"})


def _set_agent(root: ET.Element, devices: ET.Element, agent: bool) -> None:
    found = agent_element(root)
    if found is not None and not agent:
        devices.remove(found)
    if found is None and agent:
        if not any(entry.get("type") == "virtio-serial" for entry in devices.iterfind("controller")):
            ET.SubElement(devices, "controller", {"type": "virtio-serial"})
        channel = ET.SubElement(devices, "channel", {"type": "unix"})
        ET.SubElement(channel, "target", {"type": "virtio", "name": AGENT_CHANNEL})


def _set_console(root: ET.Element, devices: ET.Element, wanted: Domain) -> None:
    found = serial_element(root)
    logged = found is not None and found.find("log") is not None
    if logged == wanted.console:
        return
    # libvirt derives the <console> of a serial port from it.
    for console in devices.findall("console"):
        if attribute(console, "target", "type") == "serial":
            devices.remove(console)
    if found is not None and not wanted.console:
        devices.remove(found)
        return
    if found is None:
        found = ET.SubElement(devices, "serial", {"type": "pty"})
        ET.SubElement(found, "target", {"type": "isa-serial", "port": "0"})
    ET.SubElement(found, "log", {"file": console_log(wanted.name), "append": "off"})


def _add_ports(devices: ET.Element) -> None:
    """Sees to a port for each device and SPARE_PORTS more; ports that are there stay."""
    controllers = devices.findall("controller")
    if not any(entry.get("model") == "pcie-root" for entry in controllers):
        return
    ports = sum(entry.get("model") == "pcie-root-port" for entry in controllers)
    needed = sum(_takes_port(entry) for entry in devices)
    for _port in range(ports, needed + SPARE_PORTS):
        ET.SubElement(devices, "controller", {"type": "pci", "model": "pcie-root-port"})


def _takes_port(device: ET.Element) -> bool:
    if attribute(device, "address", "type"):
        return attribute(device, "address", "type") == "pci" and int(attribute(device, "address", "bus") or "0", 16) > 0
    if device.tag == "disk":
        return attribute(device, "target", "bus") == "virtio"
    return device.tag in ("interface", "rng") or device.get("type") == "virtio-serial" or (device.tag == "memballoon" and device.get("model") == "virtio")


def _set_mark(root: ET.Element, wanted: Domain) -> None:
    metadata = _child(root, "metadata")
    _remove(metadata, MARK)
    if wanted.record is not None:
        metadata.append(_mark_element(wanted))
    if not len(metadata):
        root.remove(metadata)


def _mark_element(domain: Domain) -> ET.Element:
    """What libvirt has no place for."""
    record = domain.record
    if record is None:
        raise ValueError(f"guest {domain.name} is not ours")
    attributes = {"name": record.platform, "ssh_port": record.ssh_port, "image": record.image, "seed": record.seed}
    mark = ET.Element(MARK, {key: str(value) for key, value in attributes.items() if value is not None})
    for name in record.names:
        ET.SubElement(mark, f"{{{NAMESPACE}}}alias").text = name
    for nic in domain.nics:
        told = {**({} if nic.address is None else {"address": str(nic.address)}), **({} if nic.dhcp else {"dhcp": "no"})}
        ET.SubElement(mark, f"{{{NAMESPACE}}}interface", {"mac": nic.mac.lower(), **told})
    for disk in domain.disks:
        ET.SubElement(mark, f"{{{NAMESPACE}}}disk", {"name": disk.name, "pool": disk.pool})
    return mark


def _nic_element(nic: Nic) -> ET.Element:
    element = ET.Element("interface", {"type": "network"})
    ET.SubElement(element, "mac", {"address": nic.mac.lower()})
    ET.SubElement(element, "source", {"network": nic.segment})
    ET.SubElement(element, "model", {"type": "virtio"})
    return element


def _disk_element(disk: Disk, target: str) -> ET.Element:
    element = ET.Element("disk", {"type": "file", "device": "disk"})
    # Space that the guest frees goes back to the pool.
    ET.SubElement(element, "driver", {"name": "qemu", "type": "qcow2", "discard": "unmap", "detect_zeroes": "unmap"})
    ET.SubElement(element, "source", {"file": disk.path})
    ET.SubElement(element, "target", {"dev": target, "bus": "virtio"})
    ET.SubElement(element, "serial").text = disk.name
    return element


def _free(*roots: ET.Element) -> str:
    taken = {attribute(disk, "target", "dev") for root in roots for disk in root.iterfind("devices/disk")}
    return next(target for target in _targets() if target not in taken)


def _targets() -> Iterator[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield from (f"vd{letter}" for letter in letters if f"vd{letter}" != _SEED_TARGET)
    yield from (f"vd{first}{second}" for first in letters for second in letters)


def _parse(xml: str) -> ET.Element:
    """The document, of which the namespaces will be written with the prefixes that they have in it."""
    for _event, (prefix, uri) in ET.iterparse(io.StringIO(xml), ("start-ns",)):
        # The others are ElementTree's own.
        if not _GENERIC.match(prefix):
            ET.register_namespace(prefix, uri)
    return ET.fromstring(xml)


def _text(root: ET.Element) -> str:
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode") + "\n"
    found = _NOT_XML.search(text)
    if found is not None:
        line = next(line for line in text.split("\n") if _NOT_XML.search(line)).strip()
        raise ResourceError(f"{line!r}: found the character {found.group()!r}, which XML cannot hold. Take it out of the value")
    return text


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def _remove(parent: ET.Element, tag: str) -> None:
    for entry in parent.findall(tag):
        parent.remove(entry)
