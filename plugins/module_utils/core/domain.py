# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest as libvirt's domain: what is declared and what is found, in one comparable form. No I/O."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Optional

# <guest>-<disk>.qcow2, and <guest>-<disk>@<point>.qcow2 for the overlay that a named point put upon it.
_OVERLAY = re.compile(r"@[A-Za-z0-9._-]+(?=\.qcow2\Z)")

FIRMWARE = ("bios", "uefi", "uefi-secure")
BOOT = ("disk", "cdrom", "network")
POWER = ("running", "stopped", "suspended")


@dataclass(frozen=True)
class Nic:
    """An interface of a guest, model virtio, in the libvirt network that is named like its segment.

    mac:     lower case
    address: reserved or static address; None where it is leased from the dynamic range. libvirt's XML does not have it: kept in our metadata
    dhcp:    whether the guest asks DHCP for it; else it sets the address itself, as its seed says. Kept in our metadata too
    """

    segment: str
    mac: str
    address: Optional[IPv4Address] = None
    dhcp: bool = True


@dataclass(frozen=True)
class Disk:
    """A disk of a guest: a qcow2 file in a pool, on the bus virtio, in the guest named by its serial.

    name:    such as root or data; unique in the guest
    path:    absolute path of the volume, <directory of the pool>/<guest>-<name>.qcow2
    size:    virtual size in bytes; None where it was not asked for
    backing: absolute path of the image that it is an overlay on; None for an empty disk
    """

    name: str
    pool: str
    path: str
    size: Optional[int] = None
    backing: Optional[str] = None


@dataclass(frozen=True)
class Record:
    """What we keep in the domain's metadata, because libvirt has no place of its own for it.

    platform: name of the platform that made the guest
    ssh_port: port of the host that is forwarded to the guest
    names:    its DNS aliases
    image:    name of the image of its first disk
    seed:     SHA-256 of its cloud-init documents, hexadecimal; None without cloud-init
    """

    platform: str
    ssh_port: Optional[int] = None
    names: tuple[str, ...] = ()
    image: Optional[str] = None
    seed: Optional[str] = None


@dataclass(frozen=True)
class Domain:
    """Everything about a guest that we manage. Two of these compare equal exactly when nothing has to be done to the definition.

    uuid:          version 5, from the platform's and the guest's name
    vcpus, memory_mb: what the guest has now; the ``_max`` ones are the bounds for live changes. Memory in MiB
    seed:          absolute path of the NoCloud image; None without cloud-init
    firmware:      one of FIRMWARE
    boot:          order, of BOOT
    agent:         whether there is a channel for the guest agent
    console:       whether there is a serial console (always logged to a file by virtlogd)
    accelerator:   kvm, or qemu for emulation
    record:        None for a guest that we did not make
    """

    name: str
    uuid: str
    vcpus: int
    memory_mb: int
    vcpus_max: int
    memory_max_mb: int
    nics: tuple[Nic, ...] = ()
    disks: tuple[Disk, ...] = ()
    seed: Optional[str] = None
    firmware: str = "bios"
    tpm: bool = False
    boot: tuple[str, ...] = ("disk",)
    agent: bool = True
    console: bool = True
    accelerator: str = "kvm"
    record: Optional[Record] = None


@dataclass(frozen=True)
class ObservedDomain:
    """A guest as found.

    kept:      the definition for the next start; None for a transient one
    live:      the running definition; None when it does not run
    power:     running, stopped, suspended (paused), or what else libvirt calls it (crashed, shutdown ...)
    xml:       the kept definition as libvirt has it; live_xml: the running one
    unmanaged: what its definition has that we do not manage, in words (extra devices); never removed by us
    taps:      host-side devices of the running interfaces, by MAC
    """

    name: str
    uuid: str
    power: str
    autostart: bool
    kept: Optional[Domain]
    live: Optional[Domain]
    xml: str
    live_xml: Optional[str] = None
    unmanaged: tuple[str, ...] = ()
    taps: dict[str, str] = field(default_factory=dict)

    @property
    def owned(self) -> bool:
        domain = self.kept or self.live
        return domain is not None and domain.record is not None

    def of(self, platform: Optional[str]) -> bool:
        """Whether we made it for that platform; None: for any."""
        domain = self.kept or self.live
        return domain is not None and domain.record is not None and platform in (None, domain.record.platform)

    @property
    def active(self) -> bool:
        return self.live is not None


def volume_name(guest: str, disk: str) -> str:
    """File name of the volume of a guest's disk."""
    return f"{guest}-{disk}.qcow2"


def overlay_path(path: str, point: str) -> str:
    """Path of the overlay that the named point puts upon the volume at ``path``."""
    root, extension = posixpath.splitext(declared_path(path))
    return f"{root}@{point}{extension}"


def declared_path(path: str) -> str:
    """The declared volume's path, whichever overlay of a named point the guest writes to now."""
    return _OVERLAY.sub("", path)
