# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the ``config`` of libvirt_guests to guests as wanted, with every name in it resolved. No I/O."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import cloud_init
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Means, Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Disk, Domain, Nic, ObservedDomain, Record, volume_name
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_assign import guest_uuid
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_checks import check_doubles, check_entry
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import PoolSpace, VolumeSpace, read_image_volume_name

GIB = 2**30
ABSENT = "absent"


@dataclass(frozen=True)
class BaseImage:
    """The base volume of an image. capacity: bytes that a guest sees; None while it is not there yet."""

    path: str
    format: str
    capacity: Optional[int] = None


@dataclass(frozen=True)
class Volume:
    """A qcow2 file of a pool, as found. capacity, allocation: bytes; backing: absolute path."""

    path: str
    capacity: int
    allocation: int
    backing: Optional[str] = None


@dataclass(frozen=True)
class Facts:
    """The host as the plan needs to know it.

    domains:  every guest, whoever made it
    networks: names of libvirt's networks
    pools:    name -> absolute path of its directory
    space:    pool's name -> its figures; none for a pool that is not there yet
    volumes:  absolute path -> what was found there
    files:    absolute paths of further files in the pools: seeds, and files that are named as volumes and are none
    images:   image's name -> its base volume
    accelerator, accelerator_said: for new guests, kvm or qemu; whether somebody chose it, so that the others get it too
    blind:    whether there is no libvirt to ask: everything that is declared elsewhere is then taken for made
    """

    domains: tuple[ObservedDomain, ...] = ()
    networks: frozenset[str] = frozenset()
    pools: Mapping[str, str] = field(default_factory=dict)
    space: Mapping[str, PoolSpace] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    images: Mapping[str, BaseImage] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    means: Optional[Means] = None
    accelerator: str = "kvm"
    accelerator_said: bool = True
    blind: bool = False

    def domain(self, name: str) -> Optional[ObservedDomain]:
        return next((domain for domain in self.domains if domain.name == name), None)

    def volumes_of(self, pool: str) -> list[VolumeSpace]:
        """The volumes in that pool's directory that guests write to; a base volume never grows."""
        directory = self.pools[pool]
        found = (volume for volume in self.volumes.values() if posixpath.dirname(volume.path) == directory)
        names = ((posixpath.basename(volume.path), volume) for volume in found)
        return [VolumeSpace(name, volume.capacity, volume.allocation) for name, volume in names if read_image_volume_name(name) is None]


@dataclass(frozen=True)
class Wanted:
    """A guest as declared.

    power:     running, stopped or suspended
    documents: of its cloud-init seed; None without one. shown: the same without what user_data says
    wait:      what has to be reached after a start; None: nothing. wait_seconds: the limit of each wait
    """

    domain: Domain
    power: str
    autostart: bool
    remove_disks: bool
    documents: Optional[Mapping[str, str]]
    shown: Mapping[str, str]
    wait: Optional[str]
    wait_seconds: int

    @property
    def name(self) -> str:
        return self.domain.name


def seed_name(guest: str) -> str:
    """File name of the guest's image for cloud-init."""
    return f"{guest}-seed.iso"


def declare_guests(config: Sequence[Mapping[str, Any]], facts: Facts, leaving: Collection[str] = ()) -> list[Wanted]:
    """The guests that are not declared absent. ResourceError names the first thing that cannot be resolved.

    leaving: names of guests that are removed before; what they have is free
    """
    named = unique(config, "name", "config")
    guests = [_declare(f"config[{name}]", entry, facts) for name, entry in named.items() if entry["state"] != ABSENT]
    check_doubles([guest.domain for guest in guests], [domain for domain in facts.domains if domain.name not in leaving])
    return guests


def _declare(where: str, entry: Mapping[str, Any], facts: Facts) -> Wanted:
    check_entry(where, entry)
    name = entry["name"]
    identity = guest_uuid(entry["platform"], name)
    disks = tuple(_disk(f"{where}.disks[{index}]", name, disk, facts) for index, disk in enumerate(entry["disks"]))
    documents, shown = _documents(where, name, entry, identity)
    domain = Domain(
        name=name,
        uuid=identity,
        vcpus=entry["vcpus"],
        memory_mb=entry["memory_mb"],
        vcpus_max=entry.get("vcpus_max") or entry["vcpus"],
        memory_max_mb=entry.get("memory_max_mb") or entry["memory_mb"],
        nics=tuple(_nic(f"{where}.interfaces[{index}]", nic, facts) for index, nic in enumerate(entry["interfaces"])),
        disks=disks,
        seed=None if documents is None else posixpath.join(posixpath.dirname(disks[0].path), seed_name(name)),
        firmware=entry["firmware"],
        tpm=entry["tpm"],
        boot=tuple(entry["boot"]),
        agent=entry["agent"],
        console=entry["console"],
        accelerator=_accelerator(name, facts),
        record=Record(
            platform=entry["platform"],
            ssh_port=entry.get("ssh_port"),
            names=tuple(entry.get("names") or ()),
            image=entry.get("image") or entry["disks"][0].get("image"),
            seed=None if documents is None else cloud_init.digest(documents),
        ),
    )
    for low, high in (("vcpus", "vcpus_max"), ("memory_mb", "memory_max_mb")):
        if getattr(domain, low) > getattr(domain, high):
            raise ResourceError(f"{where}.{low}: found {getattr(domain, low)}, more than {high} ({getattr(domain, high)}). Raise {high}, or ask for less.")
    return Wanted(
        domain=domain,
        power=entry["state"],
        autostart=entry["autostart"],
        remove_disks=bool(entry.get("remove_disks")),
        documents=documents,
        shown=shown,
        wait=entry.get("wait_for"),
        wait_seconds=entry["wait_seconds"],
    )


def _nic(where: str, entry: Mapping[str, Any], facts: Facts) -> Nic:
    segment = entry["segment"]
    if not facts.blind and segment not in facts.networks:
        raise ResourceError(f"{where}.segment: found {segment!r}: there is no such network on this host. {meant(segment, sorted(facts.networks), 'networks')}")
    address = entry.get("address")
    return Nic(segment, entry["mac"].lower(), IPv4Address(address) if address else None, entry.get("dhcp", True))


def _accelerator(name: str, facts: Facts) -> str:
    found = facts.domain(name)
    kept = None if found is None or facts.accelerator_said else found.kept
    return facts.accelerator if kept is None else kept.accelerator


def _disk(where: str, guest: str, entry: Mapping[str, Any], facts: Facts) -> Disk:
    pool, image, size = entry["pool"], entry.get("image"), entry.get("size_gb")
    if pool not in facts.pools:
        raise ResourceError(f"{where}.pool: found {pool!r}: there is no such pool on this host. {meant(pool, sorted(facts.pools), 'pools')}")
    if image and image not in facts.images:
        raise ResourceError(
            f"{where}.image: found {image!r}: there is no base volume of that image on this host. {meant(image, sorted(facts.images), 'images')} "
            "(module libvirt_images brings images)"
        )
    base = facts.images[image] if image else None
    path = posixpath.join(facts.pools[pool], volume_name(guest, entry["name"]))
    return Disk(entry["name"], pool, path, size * GIB if size else None, None if base is None else base.path)


def _user_data(where: str, text: Optional[str]) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # What was found may be secret.
        raise ResourceError(f"{where}: found no JSON object. Give a mapping as text, such as the filter to_json makes it.")
    return found


def _documents(where: str, name: str, entry: Mapping[str, Any], identity: str) -> tuple[Optional[dict[str, str]], dict[str, str]]:
    config = entry.get("cloud_init")
    if config is None:
        return None, {}
    hidden = _user_data(f"{where}.cloud_init.user_data", config.get("user_data"))
    for key in cloud_init.APPENDED:
        # Before cloud_init does, which would say what it found.
        if not isinstance(hidden.get(key, []), (list, tuple)):
            raise ResourceError(f"{where}.cloud_init.user_data.{key}: found no list. Write one; its items come after those of the guest's declaration.")

    def texts(user_data: Mapping[str, Any]) -> dict[str, str]:
        return cloud_init.documents(
            name,
            config["domain"],
            config.get("users") or (),
            config.get("packages") or (),
            config.get("commands") or (),
            entry.get("ssh_port"),
            entry["interfaces"],
            user_data,
            identity,
        )

    shown = texts({})
    if hidden:
        shown["user-data"] += f"# and user_data, which is not shown: {', '.join(sorted(hidden))}\n"
    return texts(hidden), shown
