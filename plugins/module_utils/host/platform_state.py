# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the state of a host and its guests, one connection for all of it. Changes nothing."""

from __future__ import annotations

import os
import platform
import stat
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import KINDS, Means, Policy, judge, lowest, read_claim, read_means, totals
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Domain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import read_domain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.platform_state import agent_state, read_forwards
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import VolumeSpace, read_image_volume_name, thin_worst_case
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import errors, observe_networks, observe_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.host.nft import Nft

try:
    import libvirt
except ImportError:
    libvirt = None

# What role guest_capacity writes.
HOOK = Path("/etc/libvirt/hooks/qemu.d/hybridlab-capacity")
HOOK_OFF = Path("/run/hybridlab/capacity.off")
# Where libvirt keeps the process number of each running guest of qemu:///system.
PID_DIRECTORY = Path("/run/libvirt/qemu")
# A guest's agent may hang; so long does it get for its addresses, in seconds.
AGENT_SECONDS = 3


def read_host(conn: Any) -> tuple[dict[str, Any], Means]:
    """The host as its kernel sees it, and its means; a libvirt of another host or of tests tells only the means."""
    with errors():
        _model, memory_mb, threads, _mhz, nodes, sockets, cores, _threads = conn.getInfo()
        name, version = conn.getHostname(), conn.getLibVersion()
        local = is_local(conn)
    means = Means(nodes * sockets * cores, memory_mb * 1024)
    host: dict[str, Any] = {
        "name": name,
        "libvirt": f"{version // 10**6}.{version // 1000 % 1000}.{version % 1000}",
        "threads": threads,
        "load": [],
        "uptime_seconds": None,
        "memory_available_kib": None,
        "kernel": None,
    }
    if local:
        meminfo = _read("/proc/meminfo")
        means = read_means(_read("/proc/cpuinfo"), meminfo)
        host.update(
            load=[round(value, 2) for value in os.getloadavg()],
            uptime_seconds=int(float(_read("/proc/uptime").split()[0])),
            memory_available_kib=next((int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemAvailable:")), None),
            kernel=platform.release(),
        )
    return {**host, "cores": means.cores, "memory_kib": means.memory_kib}, means


def read_networks(conn: Any) -> list[dict[str, Any]]:
    rows = []
    for network in observe_networks(conn):
        definition = network.definition
        rows.append(
            {
                "name": network.name,
                "ours": network.owned,
                "active": network.active,
                "autostart": network.autostart,
                "bridge": definition.bridge,
                "address": f"{definition.address}/{definition.prefix}" if definition.address else None,
            }
        )
    return rows


def read_pools(conn: Any) -> list[dict[str, Any]]:
    """promised: bytes that the thin volumes may still take; base images are only read, so they promise nothing."""
    with errors():
        local = is_local(conn)
    rows = []
    for pool in observe_pools(conn):
        volumes = _volumes(conn, pool.name) if pool.active else []
        rows.append(
            {
                "name": pool.name,
                "ours": pool.owned,
                "active": pool.active,
                "path": pool.path,
                "capacity": pool.capacity,
                "allocation": pool.allocation,
                "available": usable(pool.path, pool.available) if local and pool.path else pool.available,
                "volumes": len(volumes),
                "virtual": sum(volume.capacity for volume in volumes),
                "promised": thin_worst_case(volume for volume in volumes if read_image_volume_name(volume.name) is None),
            }
        )
    return rows


def usable(path: str, available: int) -> int:
    """Bytes that a guest may take in the directory: libvirt's figure has in it what the file system keeps for root, and guests do not run as root."""
    try:
        status = os.statvfs(path)
    except OSError:
        return available
    return min(available, status.f_bavail * status.f_frsize)


def refresh_pools(conn: Any) -> None:
    """Lets libvirt look at the directories again: it counts only what it made itself since it last did."""
    with errors():
        for pool in conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
            try:
                pool.refresh(0)
            except libvirt.libvirtError:
                # A volume is being made there; its figures are those of before.
                continue


def read_guests(conn: Any) -> list[dict[str, Any]]:
    with errors():
        local = is_local(conn)
        rows = _each(conn.listAllDomains(), lambda domain: _guest(domain, local))
        return sorted(rows, key=lambda row: str(row["name"]))


def read_capacity(conn: Any, policy: Policy, means: Means) -> dict[str, Any]:
    """The running guests against the policy."""
    with errors():
        found = _each(conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE), lambda domain: read_claim(domain.XMLDesc(0)))
        claims = sorted(found, key=lambda claim: str(claim.name))
        hook = _hook_state() if is_local(conn) else None
    verdict, binding, used = judge(policy, means, claims), lowest(policy, means), totals(claims)
    return {
        "ok": verdict.ok,
        "table": verdict.table,
        "excesses": [excess.text for excess in verdict.excesses],
        "use": {kind: {"used": used[kind], "limit": binding[kind].value if kind in binding else None} for kind in KINDS},
        "hook": hook,
    }


def read_loaded_forwards(run: Callable[..., tuple[int, str, str]], nft: Optional[str], table: str) -> list[dict[str, Any]]:
    """The forwards of the rules that the kernel has; none where there are no rules, or no nft."""
    listing = Nft(run, nft, "", table).live() if nft else None
    return read_forwards(line for lines in listing.blocks.values() for line in lines) if listing else []


def read_filesystems(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The file systems that hold these paths, each once, by their mount points. Sizes in bytes; available is what an ordinary user may take."""
    rows = {}
    for path in paths:
        place = Path(path).resolve()
        while not os.path.ismount(place):
            place = place.parent
        status = os.statvfs(place)
        rows[str(place)] = {"mount": str(place), "size": status.f_blocks * status.f_frsize, "available": status.f_bavail * status.f_frsize}
    return [rows[mount] for mount in sorted(rows)]


def _each(domains: Iterable[Any], read: Callable[[Any], Any]) -> Iterator[Any]:
    for domain in domains:
        try:
            yield read(domain)
        except libvirt.libvirtError as error:
            # A transient guest ends between the list and the question.
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise


def _hook_state() -> str:
    try:
        executable = bool(HOOK.stat().st_mode & stat.S_IXUSR)
    except OSError:
        return "absent"
    if not executable:
        return "absent"
    return "off" if HOOK_OFF.exists() else "on"


def _volumes(conn: Any, pool: str) -> list[VolumeSpace]:
    found = []
    with errors():
        for volume in conn.storagePoolLookupByName(pool).listAllVolumes():
            try:
                kind, capacity, allocation = volume.info()
            except libvirt.libvirtError:
                continue  # it has just been removed
            if kind == libvirt.VIR_STORAGE_VOL_FILE:
                found.append(VolumeSpace(volume.name(), capacity, allocation))
    return found


def _guest(domain: Any, local: bool) -> dict[str, Any]:
    runs = bool(domain.isActive())
    xml = domain.XMLDesc(0)
    read, _unmanaged = read_domain(xml)
    agent = agent_state(xml) if runs else None
    state, _maximum, _memory, _vcpus, cpu_nanoseconds = domain.info()
    seconds_up = uptime(domain.name()) if runs and local else None
    return {
        "name": domain.name(),
        "ours": read.record is not None,
        "platform": read.record.platform if read.record else None,
        "ssh_port": read.record.ssh_port if read.record else None,
        "state": _STATES.get(state, "unknown"),
        "autostart": bool(domain.isPersistent() and domain.autostart()),
        "accelerator": read.accelerator,
        "vcpus": read.vcpus,
        "vcpus_max": read.vcpus_max,
        "memory_mb": read.memory_mb,
        "memory_max_mb": read.memory_max_mb,
        "rss_kib": _stat(domain, "rss") if runs else None,
        "cpu_percent": round(cpu_nanoseconds / seconds_up / 10**7, 1) if seconds_up else None,
        "uptime_seconds": seconds_up,
        "agent": agent,
        "interfaces": _interfaces(domain, read, runs, agent),
        "snapshots": _snapshots(domain),
    }


# Values of virDomainState, libvirt-domain.h.
_STATES = {1: "running", 2: "blocked", 3: "suspended", 4: "shutting down", 5: "stopped", 6: "crashed", 7: "asleep"}


def _interfaces(domain: Any, read: Domain, runs: bool, agent: Optional[str]) -> list[dict[str, Any]]:
    """Each with its address and how it is known: leased, told by the agent, or declared."""
    leased = _addresses(domain, "VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE") if runs else {}
    told = {}
    if runs and agent == "connected" and any(nic.mac not in leased for nic in read.nics):
        told = _addresses(domain, "VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT")
    rows = []
    for nic in read.nics:
        declared = None if nic.address is None else str(nic.address)
        ways = (("lease", leased.get(nic.mac)), ("agent", told.get(nic.mac)), ("declared", declared))
        source, address = next(((way, value) for way, value in ways if value), (None, None))
        rows.append({"network": nic.segment or None, "mac": nic.mac, "address": address, "source": source})
    return rows


def _addresses(domain: Any, source: str) -> dict[str, str]:
    """First IPv4 address by MAC; none where the driver, the agent or the network tells none."""
    try:
        if source.endswith("AGENT"):
            domain.agentSetResponseTimeout(AGENT_SECONDS)
        found = domain.interfaceAddresses(getattr(libvirt, source))
    except libvirt.libvirtError:
        return {}
    rows = {}
    for entry in found.values():
        address = next((item["addr"] for item in entry["addrs"] or [] if item["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4), None)
        if address and entry["hwaddr"]:
            rows[entry["hwaddr"].lower()] = address
    return rows


def _snapshots(domain: Any) -> list[dict[str, Any]]:
    try:
        documents = [ET.fromstring(snapshot.getXMLDesc()) for snapshot in domain.listAllSnapshots()]
    except libvirt.libvirtError:
        return []
    rows = [{"name": root.findtext("name", ""), "created": int(root.findtext("creationTime") or 0)} for root in documents]
    return sorted(rows, key=lambda row: (row["created"], row["name"]))


def _stat(domain: Any, name: str) -> Optional[int]:
    try:
        value = domain.memoryStats().get(name)
    except libvirt.libvirtError:
        return None
    return None if value is None else int(value)


def uptime(guest: str) -> Optional[int]:
    """Seconds since the guest's process began (proc(5), field 22 of stat, in ticks since the boot)."""
    try:
        pid = int((PID_DIRECTORY / f"{guest}.pid").read_text(encoding="utf-8"))
        ticks = int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])
    except (OSError, ValueError):
        return None
    return max(0, int(float(_read("/proc/uptime").split()[0]) - ticks / os.sysconf("SC_CLK_TCK")))


def is_local(conn: Any) -> bool:
    """Whether the guests are processes of this host."""
    return bool(conn.getURI() == "qemu:///system")


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")
