# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's hardware and distribution against what the model demands of them."""

from __future__ import annotations

import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import HostSpec

# Firmware and the kernel keep a part of the memory to themselves (MemTotal), as a filesystem's own tables do of a disk.
TOLERANCE = 0.05
GB = 10**9

# ID of os-release(5) -> the name that Ansible has for it; any other is compared as it is.
_NAMES = {"almalinux": "AlmaLinux", "centos": "CentOS", "debian": "Debian", "rhel": "RedHat", "rocky": "Rocky"}

# TCP_LISTEN of the kernel's include/net/tcp_states.h, as /proc/net/tcp prints it.
_LISTEN = "0A"


@dataclass(frozen=True)
class Hardware:
    """What a host has. Memory in MiB, filesystems by mount point in bytes.

    distribution, version: ID and VERSION_ID of os-release(5); empty where it does not say
    """

    cores: int
    threads: int
    memory_mb: int
    filesystems: Mapping[str, int] = field(default_factory=dict)
    distribution: str = ""
    version: str = ""


def parse_cpuinfo(text: str) -> tuple[int, int]:
    """(cores, threads) of ``/proc/cpuinfo``. Where it names no cores (ARM, some guests), each thread counts as one."""
    cores: set[tuple[str, str]] = set()
    threads = 0
    for block in text.split("\n\n"):
        values = {key.strip(): value.strip() for key, _colon, value in (line.partition(":") for line in block.splitlines())}
        if "processor" not in values:
            continue
        threads += 1
        if "core id" in values:
            cores.add((values.get("physical id", "0"), values["core id"]))
    return len(cores) or threads, threads


def parse_meminfo(text: str) -> int:
    """MemTotal of ``/proc/meminfo`` in MiB."""
    for line in text.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    raise ValueError("/proc/meminfo has no MemTotal")


def parse_os_release(text: str) -> tuple[str, str]:
    """ID and VERSION_ID of ``/etc/os-release``, each empty when it is not there."""
    values = {key: value for key, _equals, value in (line.partition("=") for line in text.splitlines()) if key in ("ID", "VERSION_ID")}
    return _unquoted(values.get("ID", "")), _unquoted(values.get("VERSION_ID", ""))


def _unquoted(value: str) -> str:
    return "".join(shlex.split(value))


def parse_proc_net_tcp(text: str) -> set[int]:
    """Ports of ``/proc/net/tcp`` or ``tcp6`` on which others than the host itself are answered."""
    ports = set()
    for line in text.splitlines()[1:]:
        _slot, local, _remote, state = line.split()[:4]
        address, port = local.split(":")
        if state == _LISTEN and not kernel_address(address).is_loopback:
            ports.add(int(port, 16))
    return ports


def kernel_address(digits: str) -> Union[IPv4Address, IPv6Address]:
    """An address as ``/proc/net`` writes it; one of IPv4 within IPv6 as IPv4."""
    # Four bytes at a time in the machine's order.
    packed = b"".join(struct.pack("=L", int(digits[start : start + 8], 16)) for start in range(0, len(digits), 8))
    if len(packed) == 4:
        return IPv4Address(packed)
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


def compare_hardware(wanted: HostSpec, found: Hardware) -> list[Finding]:
    """Findings for all that is missing, smaller or another than demanded.

    Cores and threads count exactly; memory and filesystems may be up to TOLERANCE smaller.
    The distribution has Ansible's name. A version is meant with all that begin with it: 9 is 9.6 too.
    """
    faults = Faults()
    _check_distribution(faults, wanted, found)
    for key, demanded, present in (("cores", wanted.cores, found.cores), ("threads", wanted.threads, found.threads)):
        if demanded is not None and present < demanded:
            _short(faults, f"platform_host.{key}", demanded, f"the host has {present}")
    if wanted.memory_mb is not None and found.memory_mb < wanted.memory_mb * (1 - TOLERANCE):
        _short(faults, "platform_host.memory_mb", wanted.memory_mb, f"the host has {found.memory_mb} MiB")
    for index, filesystem in enumerate(wanted.filesystems):
        path = f"platform_host.filesystems[{index}]"
        size = found.filesystems.get(filesystem.mount)
        if size is None:
            reason = "nothing is mounted there on the host"
            faults.add("hardware", f"{path}.mount", filesystem.mount, reason, "Mount the filesystem (and add it to /etc/fstab), or correct the model")
        elif size < filesystem.size_gb * GB * (1 - TOLERANCE):
            _short(faults, f"{path}.size_gb", filesystem.size_gb, f"{filesystem.mount} has {size / GB:.1f} GB (10^9 bytes)")
    return faults.items


def _check_distribution(faults: Faults, wanted: HostSpec, found: Hardware) -> None:
    name = _NAMES.get(found.distribution, found.distribution)
    known = found.distribution in _NAMES
    if wanted.distribution is not None and (wanted.distribution != name if known else wanted.distribution.lower() != name.lower()):
        _other(faults, "platform_host.distribution", wanted.distribution, name)
    if wanted.version is not None and not f"{found.version}.".startswith(f"{wanted.version}."):
        _other(faults, "platform_host.version", wanted.version, found.version)


def _other(faults: Faults, path: str, demanded: str, present: str) -> None:
    reason = f"the host runs {present}" if present else "/etc/os-release does not say what the host runs"
    faults.add("distribution", path, demanded, reason, "Run on the host that is described, or write what this one has")


def _short(faults: Faults, path: str, demanded: int, reason: str) -> None:
    faults.add("hardware", path, demanded, reason, "Run on the host that is described, or write what this one has")
