# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to libvirt: what is there, one operation at a time, and its errors as one line."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import is_owned, read_guest, read_network
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Guest, Observed
from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import ObservedPool, read_pool_xml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import (
    Attach,
    Autostart,
    Backup,
    Build,
    Define,
    Destroy,
    Operation,
    Start,
    Undefine,
    Update,
)

try:
    import libvirt
except ImportError:
    libvirt = None

# Names of virsh net-update -> constants of libvirt-network.h.
_COMMANDS = {"modify": "VIR_NETWORK_UPDATE_COMMAND_MODIFY", "delete": "VIR_NETWORK_UPDATE_COMMAND_DELETE", "add-last": "VIR_NETWORK_UPDATE_COMMAND_ADD_LAST"}
_SECTIONS = {
    "ip-dhcp-host": "VIR_NETWORK_SECTION_IP_DHCP_HOST",
    "ip-dhcp-range": "VIR_NETWORK_SECTION_IP_DHCP_RANGE",
    "dns-host": "VIR_NETWORK_SECTION_DNS_HOST",
}


class LibvirtUnavailableError(ResourceError):
    """libvirt is not installed, or nothing answers at the URI."""


class LibvirtMissingError(LibvirtUnavailableError):
    """libvirt's Python module is not installed."""


@contextmanager
def connection(uri: str) -> Iterator[Any]:
    """An open virConnect. LibvirtUnavailableError says what to install or start."""
    if libvirt is None:
        raise LibvirtMissingError("the Python module libvirt is missing on the managed host; install the package python3-libvirt there (role kvm_host does)")
    # Else libvirt prints every error to stderr, also those that are handled.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        opened = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise LibvirtUnavailableError(
            f"no connection to libvirt at {uri}: {_one_line(error)}. Start libvirtd, or the modular daemons' sockets (role kvm_host does)"
        ) from None
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def errors() -> Iterator[None]:
    """libvirt's exceptions as ResourceError."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise ResourceError(_one_line(error)) from None


def observe_networks(conn: Any) -> list[Observed]:
    with errors():
        return sorted((_observe_network(net) for net in conn.listAllNetworks()), key=lambda network: network.name)


def observe_network(conn: Any, name: str) -> Optional[Observed]:
    """The network of that name, or None."""
    with errors():
        return next((_observe_network(net) for net in conn.listAllNetworks() if net.name() == name), None)


def observe_pools(conn: Any) -> list[ObservedPool]:
    with errors():
        return sorted((_observe_pool(pool) for pool in conn.listAllStoragePools()), key=lambda pool: pool.name)


def observe_guests(conn: Any) -> list[Guest]:
    """All domains, running or only defined."""
    with errors():
        guests = []
        local = _is_local(conn)
        for domain in conn.listAllDomains():
            running = bool(domain.isActive())
            documents = [domain.XMLDesc(0)]
            if running and domain.isPersistent():
                documents.append(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            guest = read_guest(domain.name(), running, documents)
            guests.append(replace(guest, taps=tuple(replace(tap, unplugged=local and _is_unplugged(tap.device)) for tap in guest.taps)))
        return guests


def leases(conn: Any, names: set[str]) -> list[dict[str, Any]]:
    """DHCP leases of the running networks of those names; empty where the driver keeps none. expiry: seconds since the epoch."""
    found = []
    with errors():
        for net in conn.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
            if net.name() not in names:
                continue
            try:
                entries = net.DHCPLeases()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                    raise
                entries = []
            found += [
                {"network": net.name(), "mac": entry["mac"], "address": entry["ipaddr"], "hostname": entry["hostname"], "expiry": entry["expirytime"]}
                for entry in entries
            ]
    return sorted(found, key=lambda lease: (lease["network"], lease["address"]))


def apply_network(conn: Any, operation: Operation) -> None:
    with errors():
        if isinstance(operation, Define):
            conn.networkDefineXML(operation.xml)
            return
        net = conn.networkLookupByName(operation.name)
        if isinstance(operation, Update):
            flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | (libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG if operation.config else 0)
            command, section = (getattr(libvirt, name) for name in (_COMMANDS[operation.command], _SECTIONS[operation.section]))
            net.update(command, section, operation.parent_index, operation.xml, flags)
        else:
            _apply_common(net, operation)


def apply_pool(conn: Any, operation: Operation) -> None:
    with errors():
        if isinstance(operation, Define):
            conn.storagePoolDefineXML(operation.xml)
            return
        pool = conn.storagePoolLookupByName(operation.name)
        if isinstance(operation, Build):
            pool.build(0)
        else:
            _apply_common(pool, operation)


def attach(conn: Any, operation: Attach) -> None:
    """ResourceError names the guest and what to do for it."""
    try:
        with errors():
            local = _is_local(conn)
        if not local:
            raise ResourceError("libvirt runs on another host")
        for line in operation.lines:
            _run(line)
    except ResourceError as error:
        by_hand = " && ".join(shell_line(line) for line in operation.lines)
        raise ResourceError(
            f"guest {operation.guest}: its interface {operation.device} was not plugged into bridge {operation.bridge} of network {operation.name} "
            f"again: {error}. The guest is cut off there. Run `{by_hand}` on the host of the guest, or restart the guest"
        ) from None


def keep_definition(backup: Backup, directory: str) -> str:
    """Writes the old definition to ``directory`` (made with mode 0700), mode 0600; returns the file's path."""
    folder = Path(directory)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Also one that was made by hand: definitions name addresses and machines.
        folder.chmod(0o700)
        now = time.time_ns()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
        path = folder / f"{backup.name}-{stamp}.{now % 10**9:09d}Z.xml"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(backup.xml)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ResourceError(f"backup_dir: found {directory!r}: {error.strerror}; make it writable, or name another directory") from None
    return str(path)


def _is_local(conn: Any) -> bool:
    """Whether the guests' devices are those of this host; a remote URI names the other one."""
    return not urlsplit(conn.getURI()).hostname


def _run(line: list[str]) -> None:
    try:
        subprocess.run(line, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise ResourceError(f"{shell_line(line)}: {error.stderr.strip()}") from None
    except OSError as error:
        raise ResourceError(f"{shell_line(line)}: {error.strerror}") from None


def _is_unplugged(device: str) -> bool:
    folder = Path("/sys/class/net", device)
    return folder.exists() and not (folder / "master").exists()


def _apply_common(target: Any, operation: Operation) -> None:
    if isinstance(operation, Start):
        target.create()
    elif isinstance(operation, Destroy):
        target.destroy()
    elif isinstance(operation, Undefine):
        target.undefine()
    elif isinstance(operation, Autostart):
        target.setAutostart(int(operation.enabled))
    else:
        raise TypeError(f"no way to apply {operation!r}")


def _observe_network(net: Any) -> Observed:
    active, kept = bool(net.isActive()), bool(net.isPersistent())
    running = net.XMLDesc(0)
    xml = _kept_xml(net, libvirt.VIR_NETWORK_XML_INACTIVE) if active and kept else running
    return Observed(
        name=net.name(),
        owned=is_owned(xml),
        autostart=bool(kept and net.autostart()),
        persistent=read_network(xml) if kept else None,
        live=read_network(running) if active else None,
        xml=xml,
    )


def _observe_pool(pool: Any) -> ObservedPool:
    active = bool(pool.isActive())
    xml = pool.XMLDesc(0)
    read = read_pool_xml(xml)
    _state, capacity, allocation, available = pool.info()
    return ObservedPool(
        name=pool.name(),
        uuid=pool.UUIDString(),
        kind=read["kind"] or "",
        path=read["path"],
        mode=read["mode"],
        autostart=bool(pool.isPersistent() and pool.autostart()),
        active=active,
        xml=xml,
        volumes=pool.numOfVolumes() if active else None,
        capacity=capacity,
        allocation=allocation,
        available=available,
    )


def _kept_xml(net: Any, flag: int) -> str:
    try:
        return str(net.XMLDesc(flag))
    except libvirt.libvirtError as error:
        # The test driver has one definition of each network and refuses the flag.
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        return str(net.XMLDesc(0))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
