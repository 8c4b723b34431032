# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host is: hardware, distribution, routes, listening ports, and bridges of ours."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.hardware import (
    Hardware,
    parse_cpuinfo,
    parse_meminfo,
    parse_os_release,
    parse_proc_net_tcp,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import owned_bridge
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route, parse_proc_net_route

# libvirt's definitions, and its status files of the running networks: after an unfinished restart the two name different bridges.
NETWORK_FILES = ("/etc/libvirt/qemu/networks/*.xml", "/run/libvirt/network/*.xml")

# os-release(5): the second where there is no first.
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")


def read_hardware(mounts: Iterable[str]) -> Hardware:
    """Cores, threads, memory, the sizes of those ``mounts`` that are mount points, and the distribution."""
    cores, threads = parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    sizes = {}
    for mount in mounts:
        if os.path.ismount(mount):
            status = os.statvfs(mount)
            sizes[mount] = status.f_blocks * status.f_frsize
    release = next((path.read_text(encoding="utf-8") for path in map(Path, OS_RELEASE) if path.is_file()), "")
    return Hardware(cores, threads, parse_meminfo(Path("/proc/meminfo").read_text(encoding="utf-8")), sizes, *parse_os_release(release))


def read_listening() -> set[int]:
    """TCP ports on which this host answers others than itself."""
    # Without IPv6 in the kernel there is no tcp6.
    tables = [Path("/proc/net/tcp"), *(path for path in [Path("/proc/net/tcp6")] if path.exists())]
    return set().union(*(parse_proc_net_tcp(path.read_text(encoding="utf-8")) for path in tables))


def own_bridges(networks: Iterable[str] = NETWORK_FILES) -> list[str]:
    """Names of the bridges of networks of ours that this host has, sorted.

    networks: patterns of the files in which libvirt keeps its networks

    Raises OSError that names the file when one cannot be read or is no XML.
    """
    found = set()
    for path in (path for pattern in networks for path in Path("/").glob(pattern.lstrip("/"))):
        try:
            found.add(owned_bridge(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue  # libvirt has just stopped or removed that network
        except ET.ParseError as error:
            raise OSError(f"{path} is no XML ({error}), so it is unknown whose network that is. Restore the file, or remove it") from error
    return sorted(bridge for bridge in found if bridge is not None)


def read_routes(networks: Iterable[str] = NETWORK_FILES) -> list[Route]:
    """The IPv4 routes of the main table that are not our own doing, without asking a program that a bare host may lack.

    A route on the bridge of a network of ours is what the model has brought here, also where the model now names the bridge otherwise.
    networks: patterns of the files in which libvirt keeps its networks
    """
    ours = own_bridges(networks)
    routes = parse_proc_net_route(Path("/proc/net/route").read_text(encoding="utf-8"))
    return [route for route in routes if route.device not in ours]
