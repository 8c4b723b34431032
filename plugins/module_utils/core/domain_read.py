# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's domain XML, read (libvirt.org/formatdomain.html), whoever made the guest. No I/O.

What belongs to whom in a definition:

* interfaces in libvirt networks are declared as a whole, so each of them is managed;
* disks are managed when they are qcow2 files on the bus virtio; in a guest of ours only those that are named as ours are
  (``<guest>-<serial>.qcow2`` and the overlays of named points), so that a disk that somebody plugged in stays his;
* all other devices are unmanaged: told in words, and never touched.
"""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Optional, TypeVar

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Disk, Domain, Nic, Record, declared_path, volume_name
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import NAMESPACE

_T = TypeVar("_T")
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
_OURS = f"{{{NAMESPACE}}}"
MARK = f"{_OURS}platform"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
SEED_SERIAL = "seed"
# Words of <boot dev=…> -> words of domain.BOOT.
BOOT_DEVICES = {"hd": "disk", "cdrom": "cdrom", "network": "network"}
_BYTES = {"b": 1, "bytes": 1, "KB": 10**3, "k": 2**10, "KiB": 2**10, "MB": 10**6, "M": 2**20, "MiB": 2**20, "GB": 10**9, "G": 2**30, "GiB": 2**30}
_BYTES.update({"TB": 10**12, "T": 2**40, "TiB": 2**40})
# What every machine has or libvirt adds by itself, and what libvirt tells of a running one.
_PLAIN_DEVICES = frozenset(("emulator", "controller", "memballoon", "rng", "audio", "hub"))


def read_domain(xml: str) -> tuple[Domain, tuple[str, ...]]:
    """The managed part of a guest's XML, kept or running, and the rest in words, such as ``disk sda (cdrom on sata)``.

    Takes any guest's XML. A size in it is rounded up to MiB. ``nics`` and ``disks`` come in the declared order, which our metadata has; in
    that of libvirt for a guest without it. An interface that is in no libvirt network has the segment ``""``; in a guest of ours only
    when it is one of the declared ones, so that it differs and is brought back. What XML does not tell is None (size, backing) or,
    without our metadata, ``""`` (pool).
    """
    root = ET.fromstring(xml)
    mark = root.find(f"metadata/{MARK}")
    name = root.findtext("name", "")
    nics = list(managed_nics(root)) if mark is not None else root.findall("devices/interface")
    disks = list(managed_disks(root)) if mark is not None else [entry for entry in root.iterfind("devices/disk") if _is_usual(entry)]
    memory_max, memory = read_memory(root)
    vcpus_max, vcpus = read_vcpus(root)
    seed = seed_element(root)
    serial = serial_element(root)
    domain = Domain(
        name=name,
        uuid=root.findtext("uuid", "").lower(),
        vcpus=vcpus,
        memory_mb=memory,
        vcpus_max=vcpus_max,
        memory_max_mb=memory_max,
        nics=_in_order([_read_nic(entry, mark) for entry in nics], "mac", _declared(mark, "interface", "mac")),
        disks=_in_order([_read_disk(entry, mark) for entry in disks], "name", _declared(mark, "disk", "name")),
        seed=None if seed is None else file_of(seed),
        firmware=read_firmware(root),
        tpm=tpm_element(root) is not None,
        boot=read_boot(root),
        agent=agent_element(root) is not None,
        console=serial is not None and serial.find("log") is not None,
        accelerator=root.get("type", ""),
        record=None if mark is None else _read_record(mark),
    )
    managed = {id(entry) for entry in [*disks, seed, tpm_element(root), agent_element(root), serial if domain.console else None]}
    managed.update(id(entry) for entry in nics if network_of(entry))
    return domain, tuple(_unmanaged(root, managed))


def normalise(domain: Domain) -> Domain:
    """``domain`` as far as its definition is declared: what libvirt makes of its XML, read and normalised, is equal to it.

    A disk's size and backing image are not in XML; an overlay of a named point stands for the declared volume.
    """
    return replace(
        domain,
        uuid=domain.uuid.lower(),
        nics=tuple(replace(nic, mac=nic.mac.lower()) for nic in domain.nics),
        disks=tuple(replace(disk, path=declared_path(disk.path), size=None, backing=None) for disk in domain.disks),
    )


def read_taps(xml: str) -> dict[str, str]:
    """Host-side devices of a running guest's interfaces, by MAC."""
    taps = {}
    for entry in ET.fromstring(xml).iterfind("devices/interface"):
        device = attribute(entry, "target", "dev")
        if device:
            taps[mac_of(entry)] = device
    return taps


def disk_target(xml: str, path: str) -> Optional[str]:
    """Target, such as vda, of the disk that stands on the declared volume at ``path`` or on an overlay of it; None when there is none."""
    for entry in ET.fromstring(xml).iterfind("devices/disk"):
        if declared_path(file_of(entry)) == declared_path(path):
            return attribute(entry, "target", "dev")
    return None


def managed_nics(root: ET.Element) -> Iterator[ET.Element]:
    """The interfaces that are in libvirt networks, and those that our metadata names wherever they are."""
    declared = _declared(root.find(f"metadata/{MARK}"), "interface", "mac")
    return (entry for entry in root.iterfind("devices/interface") if network_of(entry) or mac_of(entry) in declared)


def managed_disks(root: ET.Element) -> Iterator[ET.Element]:
    """The disks that are named as ours are."""
    guest = root.findtext("name", "")
    for entry in root.iterfind("devices/disk"):
        if _is_usual(entry) and posixpath.basename(declared_path(file_of(entry))) == volume_name(guest, entry.findtext("serial", "")):
            yield entry


def _is_usual(disk: ET.Element) -> bool:
    found = (disk.get("type"), disk.get("device", "disk"), attribute(disk, "target", "bus"), attribute(disk, "driver", "type"))
    return found == ("file", "disk", "virtio", "qcow2")


def seed_element(root: ET.Element) -> Optional[ET.Element]:
    for entry in root.iterfind("devices/disk"):
        if entry.findtext("serial") == SEED_SERIAL and entry.find("readonly") is not None and file_of(entry):
            return entry
    return None


def tpm_element(root: ET.Element) -> Optional[ET.Element]:
    """An emulated TPM 2.0; one that is passed through from the host is another thing."""
    for entry in root.iterfind("devices/tpm"):
        if attribute(entry, "backend", "type") == "emulator":
            return entry
    return None


def agent_element(root: ET.Element) -> Optional[ET.Element]:
    return next((entry for entry in root.iterfind("devices/channel") if attribute(entry, "target", "name") == AGENT_CHANNEL), None)


def serial_element(root: ET.Element) -> Optional[ET.Element]:
    """The first serial port."""
    for entry in root.iterfind("devices/serial"):
        if attribute(entry, "target", "port") in ("", "0"):
            return entry
    return None


def mac_of(entry: ET.Element) -> str:
    return attribute(entry, "mac", "address").lower()


def _read_nic(entry: ET.Element, mark: Optional[ET.Element]) -> Nic:
    mac = mac_of(entry)
    told = _declared(mark, "interface", "mac").get(mac)
    if told is None:
        return Nic(network_of(entry), mac)
    return Nic(network_of(entry), mac, _address(told.get("address", "")), told.get("dhcp") != "no")


def _read_disk(entry: ET.Element, mark: Optional[ET.Element]) -> Disk:
    name = entry.findtext("serial") or attribute(entry, "target", "dev")
    told = _declared(mark, "disk", "name").get(name)
    return Disk(name, "" if told is None else told.get("pool", ""), file_of(entry))


def _read_record(mark: ET.Element) -> Record:
    port = mark.get("ssh_port", "")
    return Record(
        platform=mark.get("name", ""),
        ssh_port=int(port) if port.isdecimal() else None,
        names=tuple(entry.text or "" for entry in mark.iterfind(f"{_OURS}alias")),
        image=mark.get("image"),
        seed=mark.get("seed"),
    )


def _declared(mark: Optional[ET.Element], tag: str, key: str) -> dict[str, ET.Element]:
    """Entries of our metadata by their ``key``, in the declared order."""
    return {} if mark is None else {entry.get(key, ""): entry for entry in mark.iterfind(_OURS + tag)}


def _in_order(items: Iterable[_T], key: str, declared: Mapping[str, ET.Element]) -> tuple[_T, ...]:
    """``items`` as ``declared`` has them by their attribute ``key``, then the others."""
    places = {name: place for place, name in enumerate(declared)}
    return tuple(sorted(items, key=lambda item: places.get(getattr(item, key), len(places))))


def read_memory(root: ET.Element) -> tuple[int, int]:
    """Maximum and present memory in MiB."""
    maximum = _mebibytes(root.find("memory"))
    return maximum, _mebibytes(root.find("currentMemory")) or maximum


def _mebibytes(entry: Optional[ET.Element]) -> int:
    if entry is None:
        return 0
    return -(-_number(entry.text) * _BYTES.get(entry.get("unit", "KiB"), 2**10) // 2**20)


def read_vcpus(root: ET.Element) -> tuple[int, int]:
    """Maximum and present number of virtual CPUs."""
    entry = root.find("vcpu")
    maximum = 1 if entry is None else _number(entry.text)
    return maximum, maximum if entry is None else _number(entry.get("current")) or maximum


def read_firmware(root: ET.Element) -> str:
    """A word of domain.FIRMWARE."""
    loader = root.find("os/loader")
    chosen, kind, secure = attribute(root, "os", "firmware"), attribute(root, "os/loader", "type"), attribute(root, "os/loader", "secure")
    if chosen != "efi" and (loader is None or kind != "pflash"):
        return "bios"
    features = {entry.get("name"): entry.get("enabled") for entry in root.iterfind("os/firmware/feature")}
    return "uefi-secure" if secure == "yes" or features.get("secure-boot") == "yes" else "uefi"


def read_boot(root: ET.Element) -> tuple[str, ...]:
    """Words of domain.BOOT, from the one list that the machine has or from the order that its devices carry."""
    listed = [BOOT_DEVICES.get(entry.get("dev", "")) for entry in root.iterfind("os/boot")]
    ranked = [(_number(entry.get("order")), _boot_word(device)) for device in root.iterfind("devices/*") for entry in device.iterfind("boot")]
    words = listed or [word for _rank, word in sorted(ranked)]
    return tuple(dict.fromkeys(word for word in words if word))


def _boot_word(device: ET.Element) -> str:
    if device.tag == "interface":
        return "network"
    if device.tag != "disk":
        return ""
    return {"disk": "disk", "cdrom": "cdrom"}.get(device.get("device", "disk"), "")


def _unmanaged(root: ET.Element, managed: Container[int]) -> Iterator[str]:
    for entry in root.iterfind("devices/*"):
        if id(entry) not in managed and not _is_plain(entry):
            yield _in_words(entry)
    if root.find("os/kernel") is not None:
        yield "direct kernel boot"
    if root.find(f"{{{_QEMU}}}commandline") is not None:
        yield "QEMU arguments"


def _is_plain(device: ET.Element) -> bool:
    """Whether it is what every machine has: libvirt adds it by itself."""
    if device.tag == "input":
        return device.get("bus") == "ps2"
    if device.tag == "console":
        return attribute(device, "target", "type") == "serial"
    if device.tag == "watchdog":
        return device.get("model") == "itco"
    return device.tag in _PLAIN_DEVICES


def _in_words(device: ET.Element) -> str:
    if device.tag == "disk":
        place = f"{device.get('device', 'disk')} on {attribute(device, 'target', 'bus')}"
        return ": ".join(part for part in (f"disk {attribute(device, 'target', 'dev')} ({place})", file_of(device)) if part)
    if device.tag == "interface":
        source = device.find("source")
        where = " ".join([device.get("type", ""), *(() if source is None else source.attrib.values())])
        return f"interface {mac_of(device)} ({where})"
    kinds = (device.get("model"), device.get("type"), attribute(device, "model", "type"), attribute(device, "target", "name"))
    return " ".join([device.tag, *dict.fromkeys(kind for kind in kinds if kind)])


def network_of(interface: ET.Element) -> str:
    return attribute(interface, "source", "network") if interface.get("type") == "network" else ""


def file_of(disk: ET.Element) -> str:
    return attribute(disk, "source", "file")


def attribute(parent: ET.Element, path: str, name: str) -> str:
    """The attribute of the element at ``path``, empty when there is none."""
    found = parent.find(path)
    return "" if found is None else found.get(name, "")


def _number(text: Optional[str]) -> int:
    return int(text) if text and text.strip().isdecimal() else 0


def _address(text: str) -> Optional[IPv4Address]:
    try:
        return IPv4Address(text)
    except ValueError:
        return None
