# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the file system of a workload's container: volumes, memory disks, secrets and configs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, as_text, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import FileUse, Tmpfs, Volume

VOLUME_KEYS = ("name", "source", "target", "read_only")
TMPFS_KEYS = ("target", "size_mb")
SECRET_USE_KEYS = ("name", "target", "mode", "uid", "gid")
CONFIG_KEYS = ("name", "target", "content", "file", "mode", "uid", "gid")

SECRET_MODE, CONFIG_MODE = 0o400, 0o444
# swarmkit, manager/controlapi/config.go: MaxConfigSize.
CONFIG_BYTES_MAX = 1000 * 1024

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,30}[a-z0-9])?")
_MODE = re.compile(r"0[0-7]{3}")
_SOCKETS = ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd", "/var/run/containerd")
# Whoever writes there owns the host, and whoever reads there knows its keys.
_SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var/run"),
    *("/var/lib/containerd", "/var/lib/docker", "/var/lib/hybridlab"),
)


@dataclass(frozen=True)
class Owner:
    """Whom the files belong to unless they say it themselves, as digits. known: whether the container's user is known by number."""

    uid: str = "0"
    gid: str = "0"
    user: Optional[str] = None

    @property
    def known(self) -> bool:
        return self.user is None or self.user.partition(":")[0].isdecimal()


class Targets:
    """Paths in one container, each of which is taken once."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.taken: dict[str, str] = {}

    def read(self, path: str, text: Optional[str]) -> Optional[str]:
        """An absolute path in its plain form that nothing else is mounted on."""
        if text is None:
            return None
        if not text.startswith("/"):
            self.faults.add("target", path, text, "is not absolute", f"Write the path as the container sees it, such as '/{text}'")
            return None
        target = values.directory(self.faults, path, text, "target")
        if target is None:
            return None
        if target == "/" or target in ("/proc", "/sys", "/dev") or target.startswith(("/proc/", "/sys/")):
            self.faults.add(
                "target-system", path, target, "is no place to mount something: the container would not start", "Choose a directory of the program's own"
            )
        elif target in self.taken:
            self.faults.add("target-twice", path, target, f"is taken by {self.taken[target]}", "Mount each on a path of its own")
        else:
            self.taken[target] = path
        return target


def read_volumes(faults: Faults, table: Table, targets: Targets, data_root: Optional[str]) -> tuple[Volume, ...]:
    """data_root: the engine's own directory, where it is known."""
    found = []
    for index, row in enumerate(table.rows("volumes")):
        item = Table.read(faults, f"{table.at('volumes')}[{index}]", row, VOLUME_KEYS, ("target",))
        if item is None:
            continue
        if ("name" in item.value) == ("source" in item.value):
            both = "name" in item.value
            reason = "has a name and a source, and is one volume only" if both else "has neither a name nor a source"
            faults.add("volume-source", item.path, None, reason, "Write name, for a volume that the engine keeps, or source, for a directory of the host")
        name = item.text("name")
        if name is not None and not _NAME.fullmatch(name):
            cure = "Write source for a directory of the host" if "/" in name else "Use 1 to 32 of a-z, 0-9, '.', '_' and '-', a letter or digit at the ends"
            faults.add("volume-name", item.at("name"), name, "is no name for a volume", cure)
        source = _read_source(faults, item, data_root)
        target = targets.read(item.at("target"), item.text("target"))
        found.append(Volume(name or source or "", target or "", item.flag("read_only", default=False)))
    return tuple(found)


def _read_source(faults: Faults, item: Table, data_root: Optional[str]) -> Optional[str]:
    path, text = item.at("source"), item.text("source")
    if text is not None and not text.startswith("/") and "/" not in text:
        faults.add("bind-path", path, text, "is no directory of the host", f"Write {{name: {text}}} for a volume that the engine keeps, or the whole path")
        return None
    source = values.directory(faults, path, text, "bind-path")
    if source is None:
        return None
    if source.startswith(_SOCKETS):
        reason = "is the engine's own socket: whoever speaks to it is root on the host"
        faults.add("bind-socket", path, source, reason, "Remove it. A program that needs to know of containers runs on the host, as a unit of its own")
        return None
    for tree in (*_SYSTEM, data_root) if data_root is not None else _SYSTEM:
        inside, around = source == tree or source.startswith(f"{tree}/"), source == "/" or tree.startswith(f"{source}/")
        if inside or around:
            reason = "is part of the system itself" if inside else f"has {tree} in it, which is part of the system itself"
            cure = "Keep what containers use in a directory of its own, such as '/srv/web', or in a config or secret"
            faults.add("bind-system", path, source, reason, cure)
            return None
    return source


def read_tmpfs(faults: Faults, table: Table, targets: Targets) -> tuple[Tmpfs, ...]:
    found = []
    for index, row in enumerate(table.rows("tmpfs")):
        item = Table.read(faults, f"{table.at('tmpfs')}[{index}]", row, TMPFS_KEYS, ("target",))
        if item is not None:
            target = targets.read(item.at("target"), item.text("target"))
            found.append(Tmpfs(target or "", item.number("size_mb", least=1) or Tmpfs.size_mb))
    return tuple(found)


def read_secret_uses(faults: Faults, table: Table, targets: Targets, owner: Owner, known: Optional[Sequence[str]]) -> tuple[FileUse, ...]:
    """known: names in platform_secrets; None where they are not known. An entry is a name, or a mapping."""
    found: list[FileUse] = []
    for index, row in enumerate(table.rows("secrets")):
        path = f"{table.at('secrets')}[{index}]"
        short = not isinstance(row, Mapping)
        name_path = path if short else f"{path}.name"
        item = Table.read(faults, path, {"name": row} if short else row, SECRET_USE_KEYS, ("name",))
        if item is None:
            continue
        name = as_text(faults, name_path, item.value["name"]) if "name" in item.value else None
        if name is not None and known is not None and name not in known:
            faults.add("secret-unknown", name_path, name, "is no secret of this platform", meant(name, known, "secrets"))
        if name in [use.name for use in found]:
            faults.add("secret-use-twice", name_path, name, "is named twice", "Remove one of them")
        target = targets.read(item.at("target") if "target" in item.value else name_path, item.text("target") or f"/run/secrets/{name}")
        use = FileUse(name or "", target or "", _read_mode(faults, item, SECRET_MODE), *_read_ids(faults, item, owner))
        if "uid" not in item.value and not owner.known and not use.mode & 0o004:
            reason = f"belongs to root with mode {use.mode:04o}, and the container's user {owner.user!r} cannot read it"
            cure = "Add uid and gid, as digits in quotes, or write the workload's user in digits"
            faults.add("secret-unreadable", path, name, reason, cure)
        found.append(use)
    return tuple(found)


def read_configs(faults: Faults, table: Table, targets: Targets, owner: Owner) -> tuple[FileUse, ...]:
    found: list[FileUse] = []
    for index, row in enumerate(table.rows("configs")):
        item = Table.read(faults, f"{table.at('configs')}[{index}]", row, CONFIG_KEYS, ("name", "target"))
        if item is None:
            continue
        name = item.text("name")
        if name is not None and not _NAME.fullmatch(name):
            cure = "Use 1 to 32 of a-z, 0-9, '.', '_' and '-', a letter or digit at the ends"
            faults.add("config-name", item.at("name"), name, "is no name for a config", cure)
        if name in [use.name for use in found]:
            faults.add("config-twice", item.at("name"), name, "is the name of another config of this workload", "Give each config a name of its own")
        if ("content" in item.value) == ("file" in item.value):
            both = "content" in item.value
            reason = "has a content and a file, and comes from one place only" if both else "comes from nowhere: it has neither a content nor a file"
            cure = "Remove one of them" if both else "Add content, or file, a path on the machine that runs Ansible"
            faults.add("config-source", item.path, name, reason, cure)
        target = targets.read(item.at("target"), item.text("target"))
        mode, (uid, gid) = _read_mode(faults, item, CONFIG_MODE), _read_ids(faults, item, owner)
        found.append(FileUse(name or "", target or "", mode, uid, gid, _read_content(faults, item), item.text("file")))
    return tuple(found)


def _read_content(faults: Faults, item: Table) -> Optional[str]:
    content = item.text("content")
    if content is not None and len(content.encode()) > CONFIG_BYTES_MAX:
        found = f"{len(content.encode())} bytes"
        faults.add(
            "config-large",
            item.at("content"),
            found,
            f"is more than the {CONFIG_BYTES_MAX} bytes that a Swarm config holds",
            "Put it into the image or a volume",
        )
    return content


def _read_mode(faults: Faults, item: Table, default: int) -> int:
    if "mode" not in item.value:
        return default
    path, mode = item.at("mode"), item.value["mode"]
    if isinstance(mode, str) and _MODE.fullmatch(mode):
        return int(mode, 8)
    # YAML reads 0400 as the number 256.
    cure = (
        f"Write '{mode:04o}', in quotes"
        if isinstance(mode, int) and not isinstance(mode, bool) and 0 <= mode <= 0o777
        else "Write four octal digits in quotes, such as '0400'"
    )
    faults.add("mode", path, mode, "is no mode of a file in text form", cure)
    return default


def _read_ids(faults: Faults, item: Table, owner: Owner) -> tuple[str, str]:
    found = []
    for key, default in (("uid", owner.uid), ("gid", owner.gid)):
        text = item.text(key)
        if text is not None and not text.isdecimal():
            faults.add(
                "owner", item.at(key), text, "is no number: names of users are not known outside the container", "Write digits in quotes, such as '1000'"
            )
            text = None
        found.append(text or default)
    return found[0], found[1]
