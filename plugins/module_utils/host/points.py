# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a libvirt host with their named points and the files of their disks, as they are."""

from __future__ import annotations

import os
import posixpath
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import ObservedDomain, declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import agent_element, attribute
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_format import HEADER_BYTES, read_qcow2
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points import File, Guest, GuestDisk, is_family, read_disks, read_points
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.domains import observe_domains
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guest_agent import AgentRefused, AgentSilent, frozen
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import errors

try:
    import libvirt
except ImportError:
    libvirt = None

_BLOCK = 512  # bytes of st_blocks (stat(2))


def observe_guests(conn: Any, live: bool = True, platform: Optional[str] = None) -> list[Guest]:
    """All guests of ours that are defined, by name. platform: only those of that one. live: whether the agents and the merges under way are asked for, too."""
    domains = observe_domains(conn)
    used = {domain.name: _files_of(domain) for domain in domains}
    folders: dict[str, list[File]] = {}
    guests = []
    for domain in domains:
        if domain.of(platform) and domain.kept is not None:
            held = frozenset(path for name, paths in used.items() if name != domain.name for path in paths)
            guest = _observe(domain, held, folders)
            guests.append(_with_live(conn, guest, domain) if live and domain.live_xml is not None else guest)
    return guests


def _files_of(domain: ObservedDomain) -> set[str]:
    """What its disks stand on, and of a running one all that is under that."""
    documents = [domain.xml, *([domain.live_xml] if domain.live_xml else [])]
    sources = (source for xml in documents for disk in ET.fromstring(xml).iterfind("devices/disk") for source in disk.iter("source"))
    return {source.get("file", "") for source in sources} - {""}


def _observe(domain: ObservedDomain, held: frozenset[str], folders: dict[str, list[File]]) -> Guest:
    disks, others, foreign = read_disks(domain.xml, domain.live_xml)
    points, resume = read_points(domain.xml)
    declared = {declared_path(path) for path in (*(disk.kept for disk in disks), *(path for point in points for _name, path in point.disks))}
    files: list[File] = []
    for folder in sorted({posixpath.dirname(path) for path in declared}):
        if folder not in folders:
            folders[folder] = _scan(folder)
        ours = {file.path for file in folders[folder] if is_family(file.path, declared)}
        files += [file for file in folders[folder] if file.path in ours or file.backing in ours]
    return Guest(
        name=domain.name,
        power=domain.power,
        disks=tuple(_with_room(disk) for disk in disks),
        files=tuple(files),
        points=points,
        others=others,
        foreign=foreign,
        held=held,
        resume=resume,
        xml=domain.xml,
    )


def _scan(folder: str) -> list[File]:
    """The qcow2 files of a directory, with what their headers say: no program has to open those that are in use."""
    try:
        entries = sorted(entry.path for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []
    found = (_read_file(path) for path in entries)
    return [file for file in found if file is not None]


def _read_file(path: str) -> Optional[File]:
    try:
        with Path(path).open("rb") as stream:
            header = read_qcow2(stream.read(HEADER_BYTES))
            allocation = os.fstat(stream.fileno()).st_blocks * _BLOCK
    except FileNotFoundError:
        return None
    if header is None:
        return None
    # A relative name is meant from the file's own directory (qemu-img(1)).
    backing = posixpath.join(posixpath.dirname(path), header.backing) if header.backing else None
    return File(path, backing, header.virtual_size, allocation)


def _with_room(disk: GuestDisk) -> GuestDisk:
    try:
        found = os.statvfs(posixpath.dirname(disk.kept))
    except FileNotFoundError:
        return disk
    return replace(disk, room=found.f_bavail * found.f_frsize)


def _with_live(conn: Any, guest: Guest, observed: ObservedDomain) -> Guest:
    with errors():
        domain = conn.lookupByName(guest.name)
    answers, is_frozen = _ask_agent(domain, observed)
    jobs = tuple(disk.target for disk in guest.disks if _is_merging(domain, disk.target))
    return replace(guest, agent=answers, frozen=is_frozen, jobs=jobs)


def _ask_agent(domain: Any, observed: ObservedDomain) -> tuple[bool, bool]:
    """Whether the agent answers, and whether file systems are frozen."""
    channel = agent_element(ET.fromstring(observed.live_xml or ""))
    # libvirt sees whether anybody in the guest has the channel open: who has not is not waited for.
    if observed.power != "running" or channel is None or attribute(channel, "target", "state") != "connected":
        return False, False
    try:
        return True, frozen(domain)
    except (AgentSilent, AgentRefused):
        return False, False


def _is_merging(domain: Any, target: str) -> bool:
    try:
        info: Mapping[str, Any] = domain.blockJobInfo(target, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return False
        raise ResourceError(f"guest {domain.name()}, disk {target}: {' '.join(str(error).split())}") from None
    return info.get("type") in (libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT, libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT)
