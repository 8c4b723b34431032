# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns of a platform, as typed values.

Everything here is data without I/O. A value of these types has been checked: compilers take
them and need no checks of their own. ``parse.parse_platform`` makes them from an inventory's variables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import Guest, Image
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_services import Services

# Linux: IFNAMSIZ is 16 with the closing NUL, so an interface name has at most 15 characters (net/if.h).
INTERFACE_NAME_MAX = 15

# What the host itself may offer to a segment on the segment's gateway address.
# name -> ((protocol, port), ...)
HOST_SERVICES = {
    "dhcp": (("udp", 67),),
    "dns": (("udp", 53), ("tcp", 53)),
    "ntp": (("udp", 123),),
    "ssh": (("tcp", 0),),  # 0: the host's own SSH ports, platform_host.ssh_ports
}


@dataclass(frozen=True)
class PortRange:
    """TCP ports first..last, both inclusive."""

    first: int
    last: int

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True)
class AddressRange:
    """IPv4 addresses first..last, both inclusive."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Host:
    """A name with a fixed address in a segment.

    mac:      when set, dnsmasq leases the address to that interface
    ssh_port: when set, this port of the KVM host is forwarded to the same port of this address
    """

    name: str
    address: IPv4Address
    mac: Optional[str] = None
    aliases: tuple[str, ...] = ()
    ssh_port: Optional[int] = None


@dataclass(frozen=True)
class Segment:
    """One libvirt network in the lab; subnets and a security group in the cloud.

    dhcp:          dynamic ranges; empty = static addresses only
    reaches:       names of the segments to which connections may be opened
    internet:      whether connections may be opened to addresses outside the platform (masqueraded)
    host_services: names of HOST_SERVICES that the host offers to this segment
    """

    name: str
    bridge: str
    cidr: IPv4Network
    gateway: IPv4Address
    dhcp: tuple[AddressRange, ...] = ()
    hosts: tuple[Host, ...] = ()
    ssh_ports: Optional[PortRange] = None
    reaches: tuple[str, ...] = ()
    internet: bool = True
    host_services: tuple[str, ...] = ("dhcp", "dns")


@dataclass(frozen=True)
class Filesystem:
    """A mount point and its least size in GB (10^9 bytes)."""

    mount: str
    size_gb: int


@dataclass(frozen=True)
class HostSpec:
    """What the KVM host must have at least, and what is kept back for itself. ``None`` = not demanded. Memory in MiB.

    virtualization: ``kvm``, or ``emulated`` where a host without it is accepted
    """

    distribution: Optional[str] = None
    version: Optional[str] = None
    cores: Optional[int] = None
    threads: Optional[int] = None
    memory_mb: Optional[int] = None
    filesystems: tuple[Filesystem, ...] = ()
    reserve_cores: int = 0
    reserve_memory_mb: int = 0
    virtualization: str = "kvm"


@dataclass(frozen=True)
class Pool:
    """A directory for volumes."""

    name: str
    path: str


@dataclass(frozen=True)
class Platform:
    """A checked model.

    ranges:         networks that something else owns (Docker, Swarm, VPC, tailnet ...), by name; no segment overlaps them
    host_ssh_ports: ports on which the KVM host's own sshd answers
    guests:         as declared; guest_assign fills in the addresses and ports that they leave open
    capacity:       what guests may take together, with what the host keeps for itself
    """

    name: str
    domain: str
    segments: tuple[Segment, ...]
    ranges: dict[str, IPv4Network] = field(default_factory=dict)
    host_ssh_ports: tuple[int, ...] = ()
    host: HostSpec = HostSpec()
    pools: tuple[Pool, ...] = ()
    images: tuple[Image, ...] = ()
    guests: tuple[Guest, ...] = ()
    capacity: Policy = field(default_factory=Policy)
    services: Services = field(default_factory=Services)

    def segment(self, name: str) -> Segment:
        """The segment of that name; KeyError when there is none."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise KeyError(name)
