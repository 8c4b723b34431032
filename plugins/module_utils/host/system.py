# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says about this host: hardware and routes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.hardware import Hardware, parse_cpuinfo, parse_meminfo
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import owned_bridge
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route, parse_proc_net_route

# libvirt's definitions, and its status files of the running networks: after an unfinished restart the two name different bridges.
NETWORK_FILES = ("/etc/libvirt/qemu/networks/*.xml", "/run/libvirt/network/*.xml")


def read_hardware(mounts: Iterable[str]) -> Hardware:
    """Cores, threads, memory, and the sizes of those ``mounts`` that are mount points."""
    cores, threads = parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    sizes = {}
    for mount in mounts:
        if os.path.ismount(mount):
            status = os.statvfs(mount)
            sizes[mount] = status.f_blocks * status.f_frsize
    return Hardware(cores, threads, parse_meminfo(Path("/proc/meminfo").read_text(encoding="utf-8")), sizes)


def read_routes(networks: Iterable[str] = NETWORK_FILES) -> list[Route]:
    """The IPv4 routes of the main table that are not our own doing, without asking a program that a bare host may lack.

    A route on the bridge of a network of ours is what the model has brought here, also where the model now names the bridge otherwise.
    networks: patterns of the files in which libvirt keeps its networks
    """
    ours = {owned_bridge(path.read_text(encoding="utf-8")) for pattern in networks for path in Path("/").glob(pattern.lstrip("/"))}
    routes = parse_proc_net_route(Path("/proc/net/route").read_text(encoding="utf-8"))
    return [route for route in routes if route.device not in ours]
