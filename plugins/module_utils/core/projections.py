# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What resource modules take, from the model."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_assign import assign, guest_mac
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import RUNNING, Guest, GuestInterface, Image, entry_name


def libvirt_networks(segments: Sequence[Segment], domain: str) -> list[dict[str, Any]]:
    """``config`` of the module libvirt_networks: one network for each segment.

    Each network knows the static hosts of all segments: there is one dnsmasq a network, and it answers
    for the whole domain from what it knows itself.
    """
    names = [{"address": str(host.address), "names": [host.name, *host.aliases]} for segment in segments for host in segment.hosts]
    return [
        {
            "name": segment.name,
            "bridge": segment.bridge,
            "address": str(segment.gateway),
            "prefix": segment.cidr.prefixlen,
            "domain": domain,
            "dhcp": [{"first": str(leased.first), "last": str(leased.last)} for leased in segment.dhcp],
            "hosts": [{"mac": host.mac, "name": host.name, "address": str(host.address)} for host in segment.hosts if host.mac is not None],
            "dns": names,
            "autostart": True,
            "active": True,
        }
        for segment in segments
    ]


def with_guests(
    raw: Sequence[Mapping[str, Any]],
    segments: Sequence[Segment],
    guests: Sequence[Guest],
    platform: str,
    recorded: Sequence[Mapping[str, Any]] = (),
    taken_ports: Collection[int] = (),
) -> list[dict[str, Any]]:
    """The segments as the inventory has them, with an entry among ``hosts`` for each fixed address of a guest that is not absent.

    raw:      ``platform_segments``; segments: the same, read
    recorded, taken_ports: as guest_assign.assign takes them

    Only where the host answers DHCP does an entry have a MAC, so that the address is reserved for it.
    Raises ModelError when a segment has no address or port left.
    """
    known = {segment.name: segment for segment in segments}
    entries: dict[str, list[dict[str, Any]]] = {segment.name: [] for segment in segments}
    for guest in assign(platform, guests, segments, recorded, taken_ports):
        for index, item in enumerate(guest.interfaces):
            if item.address is not None:
                entries[item.segment].append(_host_entry(platform, guest, index, known[item.segment]))
    return [{**row, "hosts": [*row.get("hosts", ()), *entries[row["name"]]]} if entries[row["name"]] else dict(row) for row in raw]


def _host_entry(platform: str, guest: Guest, index: int, segment: Segment) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": entry_name(guest, index), "address": str(guest.interfaces[index].address)}
    if "dhcp" in segment.host_services:
        entry["mac"] = guest_mac(platform, guest.name, index)
    if index == 0 and guest.aliases:
        entry["aliases"] = list(guest.aliases)
    if index == 0 and guest.ssh_port is not None:
        entry["ssh_port"] = guest.ssh_port
    return entry


def guests_config(
    guests: Sequence[Guest],
    segments: Sequence[Segment],
    platform: str,
    domain: str,
    recorded: Sequence[Mapping[str, Any]] = (),
    taken_ports: Collection[int] = (),
) -> list[dict[str, Any]]:
    """``config`` of the module libvirt_guests. recorded, taken_ports: as guest_assign.assign takes them.

    Raises ModelError when a segment has no address or port left.
    """
    known = {segment.name: segment for segment in segments}
    return [_guest_config(guest, known, platform, domain) for guest in assign(platform, guests, segments, recorded, taken_ports)]


def _guest_config(guest: Guest, segments: Mapping[str, Segment], platform: str, domain: str) -> dict[str, Any]:
    head = {"name": guest.name, "platform": platform, "state": guest.state, "remove_disks": guest.remove_disks}
    if guest.absent:
        return head
    return {
        **head,
        "vcpus": guest.vcpus,
        "vcpus_max": guest.vcpus_max,
        "memory_mb": guest.memory_mb,
        "memory_max_mb": guest.memory_max_mb,
        "interfaces": [_interface_config(item, segments[item.segment], guest_mac(platform, guest.name, index)) for index, item in enumerate(guest.interfaces)],
        "disks": [
            {"name": disk.name, "pool": disk.pool, "size_gb": disk.size_gb, "image": guest.image if index == 0 else None}
            for index, disk in enumerate(guest.disks)
        ],
        "image": guest.image,
        "ssh_port": guest.ssh_port,
        "names": list(guest.aliases),
        "cloud_init": _cloud_init_config(guest, domain) if guest.cloud_init else None,
        "firmware": guest.firmware,
        "tpm": guest.tpm,
        "boot": list(guest.boot),
        "agent": guest.agent,
        "console": guest.console,
        "autostart": guest.autostart,
        # Left out where there is none: a module's choices do not take null.
        **({"wait_for": guest.wait_for} if guest.wait_for is not None and guest.state == RUNNING else {}),
        "wait_seconds": guest.wait_seconds,
    }


def _interface_config(item: GuestInterface, segment: Segment, mac: str) -> dict[str, Any]:
    return {
        "segment": item.segment,
        "mac": mac,
        "address": None if item.address is None else str(item.address),
        "prefix": segment.cidr.prefixlen,
        "gateway": str(segment.gateway),
        "dhcp": "dhcp" in segment.host_services,
    }


def _cloud_init_config(guest: Guest, domain: str) -> dict[str, Any]:
    return {
        "domain": domain,
        "users": [{**asdict(user), "ssh_keys": list(user.ssh_keys), "groups": list(user.groups)} for user in guest.users],
        "packages": list(guest.packages),
        "commands": [command if isinstance(command, str) else list(command) for command in guest.commands],
        # One text, since Ansible hides each value of an option that it must not show, wherever that occurs. None hides nothing.
        "user_data": json.dumps(guest.user_data, sort_keys=True) if guest.user_data else None,
    }


def images_config(images: Sequence[Image], directory: Optional[str] = None) -> list[dict[str, Any]]:
    """``images`` of the module libvirt_guests; with a ``directory``, ``config`` of libvirt_images.

    directory: where on the managed host the files of images lie, each as <name>.<format>
    """
    if directory is None:
        return [{"name": image.name, "pool": image.pool, "format": image.format} for image in images]
    return [
        {
            "name": image.name,
            **({"url": image.url} if image.url else {"path": posixpath.join(directory, f"{image.name}.{image.format}")}),
            **({"checksum": image.checksum} if image.checksum else {}),
            "format": image.format,
            "pool": image.pool,
        }
        for image in images
    ]


def capacity_policy(policy: Policy) -> dict[str, Any]:
    """``capacity`` of the module libvirt_guests, and the policy that libvirt's hook reads. Limits that are not set are left out."""
    return {key: value for key, value in asdict(policy).items() if value is not None}


def guest_probes(config: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``probes`` of the module reachability: for each segment the first running guest in it that can be entered by a key.

    config: as :func:`guests_config` makes it
    """
    found: dict[str, dict[str, Any]] = {}
    options = (
        "BatchMode=yes",
        "ConnectTimeout=20",
        "IdentitiesOnly=yes",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=accept-new",
        "UserKnownHostsFile={known_hosts}",
    )
    for guest in config:
        users = (guest.get("cloud_init") or {}).get("users") or []
        nic = guest["interfaces"][0] if guest.get("interfaces") else None
        if guest["state"] != RUNNING or nic is None or nic["address"] is None or not users:
            continue
        words = ["ssh", "-F", "none", "-i", "{identity}", *(word for option in options for word in ("-o", option)), f"{users[0]['name']}@{nic['address']}"]
        # Pinging takes a raw socket.
        words += ["sudo", "-n"] if users[0]["sudo"] else []
        found.setdefault(nic["segment"], {"segment": nic["segment"], "address": nic["address"], "command": words, "shell": True})
    return list(found.values())
