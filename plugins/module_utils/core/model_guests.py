# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests and their images, as typed values of a checked model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Optional, Union

ABSENT = "absent"
RUNNING = "running"
# A suspended guest keeps its memory and its vCPUs.
POWERED = (RUNNING, "suspended")


@dataclass(frozen=True)
class Image:
    """What a guest's first disk is an overlay on. Exactly one of url and file is set.

    file:     path on the controller
    checksum: ``sha256:`` or ``sha512:`` and hexadecimal digits; always set with a url
    format:   qcow2 or raw
    pool:     where its base volume lives; None where the platform's pools are not known
    """

    name: str
    url: Optional[str] = None
    file: Optional[str] = None
    checksum: Optional[str] = None
    format: str = "qcow2"
    pool: Optional[str] = None


@dataclass(frozen=True)
class GuestInterface:
    """An interface in a segment.

    address: None until one is assigned, and for good where it is ``dynamic``: leased from the segment's dynamic range
    """

    segment: str
    address: Optional[IPv4Address] = None
    dynamic: bool = False


@dataclass(frozen=True)
class GuestDisk:
    """A disk. size_gb: GiB (2^30 bytes); None: the image's own size. pool: None where the platform's pools are not known."""

    name: str
    pool: Optional[str] = None
    size_gb: Optional[int] = None


@dataclass(frozen=True)
class GuestUser:
    """A login that cloud-init makes. ssh_keys: lines of an authorized_keys file."""

    name: str
    ssh_keys: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sudo: bool = True
    shell: Optional[str] = None


@dataclass(frozen=True)
class Guest:
    """A virtual machine. Memory in MiB; the ``_max`` values bound what can be changed while it runs.

    interfaces:   the first one carries the default route, the guest's name and the forward
    ssh_port:     port of the KVM host that is forwarded to the same port of the guest; None until one is assigned, and for good without ``forward``
    forward:      whether there is such a forward
    commands:     lines for a shell, or lists of a command and its arguments
    user_data:    further keys of cloud-init's #cloud-config
    remove_disks: whether the volumes go with an absent guest; None where it was not said
    wait_for:     what has to be reached after a start; None: nothing

    An absent guest has no other values than its name and remove_disks.
    """

    name: str
    interfaces: tuple[GuestInterface, ...] = ()
    ssh_port: Optional[int] = None
    forward: bool = False
    aliases: tuple[str, ...] = ()
    vcpus: int = 1
    vcpus_max: int = 1
    memory_mb: int = 0
    memory_max_mb: int = 0
    image: Optional[str] = None
    disks: tuple[GuestDisk, ...] = ()
    users: tuple[GuestUser, ...] = ()
    packages: tuple[str, ...] = ()
    commands: tuple[Union[str, tuple[str, ...]], ...] = ()
    user_data: Mapping[str, Any] = field(default_factory=dict)
    cloud_init: bool = True
    firmware: str = "bios"
    tpm: bool = False
    boot: tuple[str, ...] = ("disk",)
    agent: bool = True
    console: bool = True
    autostart: bool = True
    state: str = RUNNING
    remove_disks: Optional[bool] = None
    wait_for: Optional[str] = None
    wait_seconds: int = 300

    @property
    def absent(self) -> bool:
        return self.state == ABSENT


def entry_name(guest: Guest, index: int) -> str:
    """The DNS name of an interface: the guest's own for the first, for the others the segment's name is added."""
    return guest.name if index == 0 else f"{guest.name}-{guest.interfaces[index].segment}"
