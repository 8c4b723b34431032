# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an entry of the ``config`` of libvirt_guests must be to be one, and what no two guests may share. No I/O.

The module is also called by hand, without the model and its checks.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Domain, ObservedDomain, declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import SEED_SERIAL
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique

# Both become parts of file names, in which @ begins the name of a point.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z", re.IGNORECASE)


def check_entry(where: str, entry: Mapping[str, Any]) -> None:
    """ResourceError for the first value of a guest that is not absent that cannot be meant, whatever the host is like."""
    check_name(f"{where}.name", entry["name"])
    for key in ("platform", "vcpus", "memory_mb", "interfaces", "disks"):
        if not entry.get(key):
            raise ResourceError(f"{where}.{key}: found nothing. A guest that is not absent needs it.")
    for key in ("vcpus", "vcpus_max", "memory_mb", "memory_max_mb"):
        if entry.get(key) and entry[key] < 1:
            raise ResourceError(f"{where}.{key}: found {entry[key]}. Give a whole number of 1 or more.")
    for index, disk in enumerate(entry["disks"]):
        _check_disk(f"{where}.disks[{index}]", disk)
    unique(entry["disks"], "name", f"{where}.disks")
    for index, nic in enumerate(entry["interfaces"]):
        _check_nic(f"{where}.interfaces[{index}]", nic, seeded=entry.get("cloud_init") is not None)


def check_name(where: str, name: str) -> None:
    if not _NAME.match(name):
        raise ResourceError(f"{where}: found {name!r}. Give letters, digits, dots, underscores and hyphens, beginning with a letter or digit.")


def _check_disk(where: str, disk: Mapping[str, Any]) -> None:
    check_name(f"{where}.name", disk["name"])
    if disk["name"] == SEED_SERIAL:
        raise ResourceError(f"{where}.name: found {SEED_SERIAL!r}, which is that of the image for cloud-init. Choose another.")
    size = disk.get("size_gb")
    if size is not None and size < 1:
        raise ResourceError(f"{where}.size_gb: found {size}. Give a whole number of 1 or more, in GiB.")
    if not disk.get("image") and size is None:
        raise ResourceError(f"{where}.size_gb: found nothing. An empty disk needs a size.")


def _check_nic(where: str, nic: Mapping[str, Any], seeded: bool) -> None:
    mac = nic["mac"]
    if not _MAC.match(mac):
        raise ResourceError(f"{where}.mac: found {mac!r}. Give six pairs of hexadecimal digits, such as 52:54:00:12:34:56.")
    if int(mac[:2], 16) & 1:
        raise ResourceError(f"{where}.mac: found {mac!r}, a multicast address, which no interface has. Make its first pair even, such as 52.")
    try:
        IPv4Address(nic.get("address") or "0.0.0.0")
    except AddressValueError:
        raise ResourceError(f"{where}.address: found {nic['address']!r}. Give an IPv4 address, such as 10.0.1.20.") from None
    if seeded and not nic.get("dhcp", True):
        for key in ("address", "prefix"):
            if not nic.get(key):
                raise ResourceError(f"{where}.{key}: found nothing. An interface that does not ask DHCP needs it.")


def check_doubles(guests: Sequence[Domain], found: Iterable[ObservedDomain]) -> None:
    """MAC addresses, addresses, ports and files once each, over the declared guests and those that are not declared here.

    What guests share that nobody declared here is not our business.
    """
    declared = {guest.name for guest in guests}
    seen: dict[tuple[str, Any], str] = {}
    for other in found:
        for domain in (other.kept, other.live):
            if domain is not None and domain.name not in declared:
                seen.update((claim, domain.name) for claim in _claims(domain))
    for guest in guests:
        for claim in _claims(guest):
            owner: Optional[str] = seen.setdefault(claim, guest.name)
            if owner != guest.name:
                raise ResourceError(f"config[{guest.name}]: its {claim[0]} {claim[1]} is that of guest {owner} already. Nothing was changed. Choose another.")
        macs = [nic.mac for nic in guest.nics]
        for mac in macs:
            if macs.count(mac) > 1:
                raise ResourceError(f"config[{guest.name}].interfaces: found mac {mac} twice. Give each interface one of its own.")


def check_readers(going: Mapping[str, str], backings: Mapping[str, Optional[str]], others: Iterable[ObservedDomain]) -> None:
    """ResourceError when a file that is to go is read by anybody who stays.

    going:    the files, with the guest that each is of
    backings: what each volume of the pools is an overlay on; others: guests that stay
    """
    readers = [(f"volume {path}", "", backing) for path, backing in sorted(backings.items()) if backing is not None and path not in going]
    readers += [(f"guest {domain.name}", domain.name, path) for domain in others for path in _named_files(domain)]
    for reader, name, path in readers:
        if path in going and going[path] != name:
            raise ResourceError(
                f"config[{going[path]}].remove_disks: {path} would go, but {reader} reads it and would be lost with it. Nothing was changed. "
                "Remove that reader first, or keep the disks (remove_disks: false)."
            )


def _named_files(domain: ObservedDomain) -> list[str]:
    """What its disks stand on, and what libvirt knows to be under that."""
    documents = [domain.xml, *([domain.live_xml] if domain.live_xml else [])]
    sources = (source for xml in documents for disk in ET.fromstring(xml).iterfind("devices/disk") for source in disk.iter("source"))
    return sorted({source.get("file", "") for source in sources} - {""})


def _claims(domain: Domain) -> list[tuple[str, Any]]:
    claims: list[tuple[str, Any]] = [("mac", nic.mac) for nic in domain.nics]
    claims += [("address", nic.address) for nic in domain.nics if nic.address is not None]
    claims += [("disk", declared_path(disk.path)) for disk in domain.disks]
    if domain.record is not None and domain.record.ssh_port is not None:
        claims.append(("ssh_port", domain.record.ssh_port))
    return claims
