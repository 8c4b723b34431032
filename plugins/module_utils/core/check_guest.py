# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest: its values, and what must hold inside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_cloud_init import read_login
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import BOOT, FIRMWARE, POWER
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import ABSENT, RUNNING, Guest, GuestDisk, GuestInterface

GUEST_KEYS = (
    "name",
    "segment",
    "address",
    "interfaces",
    "ssh_port",
    "aliases",
    "vcpus",
    "vcpus_max",
    "memory_mb",
    "memory_max_mb",
    "image",
    "disks",
    "users",
    "packages",
    "commands",
    "user_data",
    "cloud_init",
    "firmware",
    "tpm",
    "boot",
    "agent",
    "console",
    "autostart",
    "state",
    "remove_disks",
    "wait_for",
    "wait_seconds",
)
INTERFACE_KEYS = ("segment", "address")
DISK_KEYS = ("name", "pool", "size_gb")
STATES = (*POWER, ABSENT)
DYNAMIC = "dynamic"
NONE = "none"
WAITS = ("address", "ssh", "agent", "cloud_init", NONE)

# Less than this no Linux of today boots with.
LEAST_MEMORY_MB = 64
ROOT = "root"
# Words of Ansible's inventories and of the reachability matrix. `image` and what begins with it would share file names with base volumes.
_RESERVED = re.compile(r"all|ungrouped|localhost|guests|host|internet|image(?:-.*)?")
# In the guest a disk is known by its serial, for which virtio-blk has 20 bytes (VIRTIO_BLK_ID_BYTES of linux/virtio_blk.h).
_DISK = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?")
_SEED = "seed"


@dataclass(frozen=True)
class Known:
    """Names that a guest may refer to. None: not known here, so that nothing is refused for it."""

    segments: Sequence[str]
    pools: Optional[Sequence[str]] = None
    images: Optional[Sequence[str]] = None

    def default_pool(self) -> Optional[str]:
        return self.pools[0] if self.pools else None


@dataclass
class InterfaceDraft:
    """path: where its keys stand, the guest itself in the short form."""

    path: str
    segment: Optional[str]
    address: Optional[IPv4Address] = None
    dynamic: bool = False


@dataclass
class GuestDraft:
    """A guest as far as it could be read.

    ssh_port_open: neither a port nor ``none`` was set
    values:        the fields of Guest that no other part of the model has a say in
    """

    path: str
    name: Optional[str] = None
    state: str = RUNNING
    interfaces: list[InterfaceDraft] = field(default_factory=list)
    ssh_port: Optional[int] = None
    ssh_port_open: bool = False
    aliases: list[str] = field(default_factory=list)
    disks: list[tuple[str, GuestDisk]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def dynamic(self) -> bool:
        return bool(self.interfaces) and self.interfaces[0].dynamic

    def build(self) -> Guest:
        """The typed guest of a draft without faults."""
        if not self.name or not all(item.segment for item in self.interfaces):
            raise ValueError("a draft with faults is not built")
        return Guest(
            name=self.name,
            state=self.state,
            interfaces=tuple(GuestInterface(item.segment or "", item.address, item.dynamic) for item in self.interfaces),
            ssh_port=self.ssh_port,
            forward=self.ssh_port is not None or (self.ssh_port_open and not self.dynamic),
            aliases=tuple(self.aliases),
            disks=tuple(disk for _path, disk in self.disks),
            **self.values,
        )


def read_guest(faults: Faults, path: str, raw: Any, known: Known) -> Optional[GuestDraft]:
    table = Table.read(faults, path, raw, GUEST_KEYS, ("name",))
    if table is None:
        return None
    draft = GuestDraft(path, _read_name(faults, table), table.choice("state", STATES) or RUNNING)
    if "remove_disks" in table.value:
        draft.values["remove_disks"] = table.flag("remove_disks", default=False)
    if draft.state == ABSENT:
        # Its other values may speak of segments, pools and images that are gone too.
        if "remove_disks" not in table.value:
            cure = "Add remove_disks: true to delete its volumes with it, false to keep them"
            faults.add("remove-disks", table.at("remove_disks"), None, "must be said for an absent guest: what becomes of its disks", cure)
        return draft
    draft.interfaces = _read_interfaces(faults, table, known)
    _read_ssh_port(faults, table, draft)
    aliases = [values.host_name(faults, f"{table.at('aliases')}[{index}]", text, dotted=True) for index, text in enumerate(table.words("aliases"))]
    draft.aliases = [alias for alias in aliases if alias is not None]
    boot = _read_boot(faults, table)
    image = _read_image(faults, table, known, boot)
    draft.disks = _read_disks(faults, table, known, "image" in table.value)
    cloud_init = table.flag("cloud_init", default=True)
    draft.values.update(
        boot=boot,
        image=image,
        cloud_init=cloud_init,
        firmware=table.choice("firmware", FIRMWARE) or FIRMWARE[0],
        **{key: table.flag(key, default=key != "tpm") for key in ("tpm", "agent", "console", "autostart")},
        **_read_sizes(faults, table),
        **read_login(faults, table, cloud_init),
        **_read_wait(faults, table, draft),
    )
    return draft


def _read_name(faults: Faults, table: Table) -> Optional[str]:
    name = values.host_name(faults, table.at("name"), table.text("name"))
    if name is not None and _RESERVED.fullmatch(name):
        reason = "is a word with a meaning of its own (inventories, the probe matrix, files of images), no name for a guest"
        faults.add("guest-name", table.at("name"), name, reason, "Choose another name")
        return None
    return name


def _read_interfaces(faults: Faults, table: Table, known: Known) -> list[InterfaceDraft]:
    if "interfaces" not in table.value:
        if "segment" not in table.value:
            faults.add("missing", table.at("segment"), None, "must be set", "Add 'segment', or 'interfaces' when there are several")
            return []
        return [_read_interface(faults, table, known)]
    for key in (key for key in INTERFACE_KEYS if key in table.value):
        reason = "stands beside interfaces, which say it for each of them"
        faults.add("interfaces-and-segment", table.at(key), table.value[key], reason, f"Move {key} into interfaces, or remove interfaces")
    rows = table.rows("interfaces")
    if table.value["interfaces"] == []:
        cure = "Add one: segment, and an address if it is to be fixed"
        faults.add("no-interfaces", table.at("interfaces"), [], "a guest without an interface is in no segment", cure)
    found = []
    for index, row in enumerate(rows):
        item = Table.read(faults, f"{table.at('interfaces')}[{index}]", row, INTERFACE_KEYS, ("segment",))
        if item is not None:
            found.append(_read_interface(faults, item, known))
    return found


def _read_interface(faults: Faults, table: Table, known: Known) -> InterfaceDraft:
    segment = table.text("segment")
    if segment is not None and known.segments and segment not in known.segments:
        faults.add("segment-unknown", table.at("segment"), segment, "is no segment of this platform", meant(segment, known.segments, "segments"))
        segment = None
    draft = InterfaceDraft(table.path, segment)
    address = table.text("address")
    if address == DYNAMIC:
        draft.dynamic = True
    else:
        draft.address = values.address(faults, table.at("address"), address)
    return draft


def _read_ssh_port(faults: Faults, table: Table, draft: GuestDraft) -> None:
    draft.ssh_port_open = "ssh_port" not in table.value
    if draft.ssh_port_open or table.value["ssh_port"] == NONE:
        return
    path = table.at("ssh_port")
    if table.value["ssh_port"] is None:
        faults.add("type", path, None, "must be a port, this is nothing", "Write none for no forward, or remove the key to have a port assigned")
        return
    draft.ssh_port = values.port(faults, path, table.value["ssh_port"], forwarded=True)
    if draft.ssh_port is not None and draft.dynamic:
        reason = "cannot be forwarded to an address that changes (address: dynamic)"
        cure = "Give the guest an address, or remove address to have one assigned, or write ssh_port: none"
        faults.add("ssh-port-dynamic", path, draft.ssh_port, reason, cure)


def _read_boot(faults: Faults, table: Table) -> tuple[str, ...]:
    boot = table.words("boot") if "boot" in table.value else [BOOT[0]]
    if table.value.get("boot") == []:
        faults.add("boot-empty", table.at("boot"), [], "the guest would start from nothing", f"Choose of {', '.join(BOOT)}, or remove the key")
    for index, device in enumerate(boot):
        path = f"{table.at('boot')}[{index}]"
        if device not in BOOT:
            faults.add("choice", path, device, "is none of the choices", meant(device, BOOT, "choices"))
        elif device in boot[:index]:
            faults.add("boot-twice", path, device, "is named twice", "Remove one of them")
    return tuple(boot)


def _read_image(faults: Faults, table: Table, known: Known, boot: Sequence[str]) -> Optional[str]:
    if "image" not in table.value:
        if boot[:1] != ("network",):
            cure = "Name one of platform_images, or start the guest from the network (boot: [network, disk])"
            faults.add("image-missing", table.at("image"), None, "must be set: nothing else is on the first disk", cure)
        return None
    image = table.text("image")
    if image is not None and known.images is not None and image not in known.images:
        faults.add("image-unknown", table.at("image"), image, "is no image of this platform", meant(image, known.images, "images"))
    return image


def read_pool(faults: Faults, table: Table, pools: Optional[Sequence[str]]) -> Optional[str]:
    """The pool that a table names, or the first one. None where there is none, or where pools are not known."""
    if "pool" in table.value:
        pool = table.text("pool")
        if pool is not None and pools is not None and pool not in pools:
            faults.add("pool-unknown", table.at("pool"), pool, "is no pool of this platform", meant(pool, pools, "pools"))
        return pool
    if pools is not None and not pools:
        faults.add("no-pool", table.at("pool"), None, "needs a pool, and platform_pools names none", "Add a pool to platform_pools: name and path")
    return pools[0] if pools else None


def _read_disks(faults: Faults, table: Table, known: Known, image: bool) -> list[tuple[str, GuestDisk]]:
    path = table.at("disks")
    rows = table.rows("disks") if "disks" in table.value else [{"name": ROOT}]
    if table.value.get("disks") == []:
        faults.add("no-disks", path, [], "a guest has one disk at least", "Remove the key for one disk of the image's size")
    found: list[tuple[str, GuestDisk]] = []
    for index, (place, row) in enumerate(zip(labels(path, rows), rows)):
        item = Table.read(faults, place, row, DISK_KEYS, ("name",))
        if item is None:
            continue
        name = _disk_name(faults, item, [disk.name for _path, disk in found])
        size = item.number("size_gb", least=1)
        if "size_gb" not in item.value and (index > 0 or not image):
            faults.add("disk-size", item.at("size_gb"), None, "must be set: there is no image whose size it could have", "Add size_gb, in GiB")
        found.append((place, GuestDisk(name or "", read_pool(faults, item, known.pools), size)))
    return found


def _disk_name(faults: Faults, table: Table, taken: Sequence[str]) -> Optional[str]:
    path, name = table.at("name"), table.text("name")
    if name is None:
        return None
    if not _DISK.fullmatch(name) or name == _SEED:
        reason = "is the name of cloud-init's own disk" if name == _SEED else "is no name for a disk"
        faults.add("disk-name", path, name, reason, "Use 1 to 20 of a-z, 0-9 and '-', no '-' at the ends, such as 'data'")
        return None
    if name in taken:
        faults.add("disk-twice", path, name, "is the name of another disk of this guest", "Give each disk a name of its own")
    return name


def _read_sizes(faults: Faults, table: Table) -> dict[str, int]:
    """vCPUs and memory, now and at most."""
    if "memory_mb" not in table.value:
        faults.add("missing", table.at("memory_mb"), None, "must be set", "Add 'memory_mb', in MiB")
    found = {}
    for key, most, default, least in (("vcpus", "vcpus_max", 1, 1), ("memory_mb", "memory_max_mb", LEAST_MEMORY_MB, LEAST_MEMORY_MB)):
        now = table.number(key, least=least)
        limit = table.number(most, least=least)
        if now is not None and limit is not None and limit < now:
            faults.add("guest-max", table.at(most), limit, f"is less than {key}, which is {now}", f"Write {now} or more, or remove {most}")
        found[key] = now or default
        found[most] = limit or found[key]
    return found


def _read_wait(faults: Faults, table: Table, draft: GuestDraft) -> dict[str, Any]:
    goal = table.choice("wait_for", WAITS)
    found: dict[str, Any] = {"wait_for": None if goal == NONE else goal, "wait_seconds": table.number("wait_seconds", least=1) or Guest.wait_seconds}
    path = table.at("wait_for")
    if goal == "agent" and table.value.get("agent") is False:
        faults.add("wait-for", path, goal, "the guest has no channel for the agent (agent: false)", "Remove agent: false, or wait for something else")
    if goal == "cloud_init" and table.value.get("cloud_init") is False:
        faults.add("wait-for", path, goal, "cloud-init is off (cloud_init: false)", "Remove cloud_init: false, or wait for something else")
    if goal == "ssh" and draft.dynamic:
        reason = "SSH is looked for at a fixed address, and this one changes (address: dynamic)"
        faults.add("wait-for", path, goal, reason, "Wait for address, agent or cloud_init")
    return found
