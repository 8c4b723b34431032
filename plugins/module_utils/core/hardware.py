# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's hardware against what the model demands of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import HostSpec

# Firmware and the kernel keep a part of the memory to themselves (MemTotal), as a filesystem's own tables do of a disk.
TOLERANCE = 0.05
GB = 10**9


@dataclass(frozen=True)
class Hardware:
    """What a host has. Memory in MiB, filesystems by mount point in bytes."""

    cores: int
    threads: int
    memory_mb: int
    filesystems: Mapping[str, int] = field(default_factory=dict)


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


def compare_hardware(wanted: HostSpec, found: Hardware) -> list[Finding]:
    """Findings for all that is missing or smaller than demanded.

    Cores and threads count exactly; memory and filesystems may be up to TOLERANCE smaller.
    """
    faults = Faults()
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


def _short(faults: Faults, path: str, demanded: int, reason: str) -> None:
    faults.add("hardware", path, demanded, reason, "Run on the host that is described, or write what this one has")
