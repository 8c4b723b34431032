# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as base volumes that disks of guests are overlays on: declarations, what is found, and the plan between them. No I/O.

A base volume's name carries the first digits of its checksum. So another content is another volume, and none is ever written again.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union
from urllib.parse import urlsplit

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import FORMATS, image_volume_name, size_text

PART = ".part"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_CHECKSUM = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")


@dataclass(frozen=True)
class Image:
    """An image as wanted.

    directory: absolute path of the pool's directory
    format:    qcow2 or raw
    checksum:  ``sha256:<hexadecimal>`` or ``sha512:<hexadecimal>``, in lower case
    url, path: where it comes from; exactly one is set. path: a file on the managed host
    """

    name: str
    pool: str
    directory: str
    format: str
    checksum: str
    url: Optional[str] = None
    path: Optional[str] = None

    @property
    def volume(self) -> str:
        return image_volume_name(self.name, self.checksum, self.format)

    @property
    def target(self) -> str:
        """Absolute path of the base volume."""
        return posixpath.join(self.directory, self.volume)


@dataclass(frozen=True)
class BaseVolume:
    """A base volume as found.

    name:     of the image
    size:     bytes of the file; virtual_size: bytes that a guest sees, None where the file says nothing sensible
    checksum: as it was noted when the volume was made; None where the file system keeps no such notes
    damage:   why it is not what it was made as, in words; None when nothing speaks against it
    used_by:  guests, or paths of other volumes, that read from it
    """

    name: str
    pool: str
    path: str
    format: str
    size: int
    virtual_size: Optional[int] = None
    checksum: Optional[str] = None
    damage: Optional[str] = None
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fetch:
    """Makes the base volume from the image's source, in the place of a damaged one if there is one."""

    image: Image


@dataclass(frozen=True)
class Remove:
    volume: BaseVolume


@dataclass(frozen=True)
class Sweep:
    """Deletes what a killed run left of a base volume. path: absolute; pool: which it lies in."""

    path: str
    pool: str


Operation = Union[Sweep, Fetch, Remove]


@dataclass(frozen=True)
class Plan:
    """kept: volumes that are no longer declared, and stay because something reads from them."""

    operations: tuple[Operation, ...]
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    kept: tuple[BaseVolume, ...] = ()

    @property
    def fetched(self) -> list[str]:
        return [operation.image.name for operation in self.operations if isinstance(operation, Fetch)]


def check_sources(config: Sequence[Mapping[str, Any]]) -> None:
    """Whether each entry says where its image comes from. Before any file is read. ResourceError names the first that doesn't."""
    for name, entry in unique(config, "name", "config").items():
        where = f"config[{name}]"
        _require(_NAME.match(name), f"{where}.name", name, "an image's name has letters, digits, '.', '_', '+' and '-', at most 64, a letter or digit first")
        url, path, checksum = entry.get("url"), entry.get("path"), entry.get("checksum")
        if (url is None) == (path is None):
            found = "neither" if url is None else "both"
            raise ResourceError(f"{where}: found {found} of url and path: write one, where the image is fetched from or a file on the managed host.")
        if url is not None:
            parts = urlsplit(url)
            _require(
                parts.scheme in ("http", "https") and parts.hostname, f"{where}.url", mask_url(url), "write an address that begins with https:// or http://"
            )
            if not checksum:
                raise ResourceError(
                    f"{where}.checksum: found nothing, but the image comes from {mask_url(url)}: write what its publisher says, as sha256:<digits>."
                )
        _require(path is None or posixpath.isabs(path), f"{where}.path", path, "write the absolute path of a file on the managed host")
        cure = "write sha256: and 64 hexadecimal digits, or sha512: and 128"
        _require(not checksum or _CHECKSUM.match(checksum.lower()), f"{where}.checksum", checksum, cure)
        _require(entry["format"] in FORMATS, f"{where}.format", entry["format"], f"write one of {', '.join(FORMATS)}")
        _require(entry.get("pool"), f"{where}.pool", entry.get("pool"), "name the storage pool that the base volume belongs in")


def declare_images(config: Sequence[Mapping[str, Any]], directories: Mapping[str, str], checksums: Mapping[str, str]) -> list[Image]:
    """The declarations as values; :func:`check_sources` has passed them.

    directories: of the pools, by name
    checksums:   computed ones, by image, for those that declare none
    """
    declared = []
    for entry in config:
        name, pool = entry["name"], entry["pool"]
        if pool not in directories:
            known = ", ".join(sorted(directories)) or "none"
            raise ResourceError(
                f"config[{name}].pool: found {pool!r}, but libvirt has no such pool of type dir (it has: {known}). Declare it in platform_pools."
            )
        checksum = (entry.get("checksum") or checksums[name]).lower()
        declared.append(Image(name, pool, directories[pool], entry["format"], checksum, entry.get("url"), entry.get("path")))
    return declared


def plan_images(state: str, declared: Sequence[Image], named: Sequence[str], found: Sequence[BaseVolume], parts: Sequence[Sweep] = ()) -> Plan:
    """The whole run for ``state`` merged, overridden or deleted. ResourceError when the run must not be begun.

    named: for state deleted: the images that go, all of them when empty
    parts: leftovers of killed runs
    """
    there = {volume.path: volume for volume in found}
    wanted = {image.target for image in declared}
    fetches = [Fetch(image) for image in declared if image.target not in there or _is_replaced(image, there[image.target])]
    unwanted = [
        volume for volume in found if volume.path not in wanted and (state == "overridden" or (state == "deleted" and volume.name in (named or {volume.name})))
    ]
    gone = [volume for volume in unwanted if not volume.used_by]
    stays = [volume for volume in found if volume not in gone]
    after = [*map(describe, stays), *(describe_wanted(fetch.image) for fetch in fetches if fetch.image.target not in there)]
    return Plan(
        operations=(*parts, *fetches, *map(Remove, gone)),
        before=_sorted(map(describe, found)),
        after=_sorted(after),
        kept=tuple(volume for volume in unwanted if volume.used_by),
    )


def describe(volume: BaseVolume, details: bool = False) -> dict[str, Any]:
    """The volume for ``before`` and ``after``; with ``details`` also what only a volume that exists has."""
    entry: dict[str, Any] = {"name": volume.name, "pool": volume.pool, "format": volume.format, "volume": posixpath.basename(volume.path), "path": volume.path}
    if details:
        entry.update(
            size=volume.size,
            virtual_size=volume.virtual_size,
            checksum=volume.checksum,
            damage=volume.damage,
            used_by=list(volume.used_by),
        )
    return entry


def shell(operation: Operation, uri: str) -> str:
    """The line for a shell that does ``operation`` by hand; credentials in an address are masked."""
    if isinstance(operation, Sweep):
        return shell_line(["rm", "-f", operation.path])
    if isinstance(operation, Remove):
        return f"{shell_line(['rm', '-f', operation.volume.path])} && {_refresh(uri, operation.volume.pool)}"
    image = operation.image
    part = image.target + PART
    kind, digits = image.checksum.split(":")
    if image.url is not None:
        bring = shell_line(["curl", "--fail", "--location", "--output", part, mask_url(image.url)])
    else:
        bring = shell_line(["cp", str(image.path), part])
    return " && ".join(
        (
            bring,
            f"{shell_line(['echo', f'{digits}  {part}'])} | {kind}sum --check",
            shell_line(["qemu-img", "info", "-f", image.format, part]),
            shell_line(["chmod", "0444", part]),
            shell_line(["mv", "-T", part, image.target]),
            _refresh(uri, image.pool),
        )
    )


def mask_url(url: str) -> str:
    """``url`` with its credentials as ***: the user part, and all of the query, which is where signed addresses have them."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"***@{host}" if "@" in parts.netloc else host, query="***" if parts.query else "", fragment="").geturl()


def _is_replaced(image: Image, volume: BaseVolume) -> bool:
    if volume.damage is None:
        return False
    if volume.used_by:
        raise ResourceError(
            f"config[{image.name}]: its base volume {volume.path} is damaged ({volume.damage}), and {', '.join(volume.used_by)} read from it. "
            f"Nothing was changed. Put back a good copy of the image ({image.checksum}) under that name while they are stopped, or remove them and run again."
        )
    return True


def describe_wanted(image: Image) -> dict[str, Any]:
    """The base volume that an image is to have, as in :func:`describe`."""
    return describe(BaseVolume(image.name, image.pool, image.target, image.format, 0))


def _sorted(entries: Any) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: (entry["name"], entry["path"]))


def _refresh(uri: str, pool: str) -> str:
    return shell_line(["virsh", "-c", uri, "pool-refresh", pool])


def _require(holds: Any, path: str, found: Any, cure: str) -> None:
    if not holds:
        raise ResourceError(f"{path}: found {found!r}: {cure}.")


def no_space(image: Image, needed: Optional[int], written: int, free: int) -> ResourceError:
    """The refusal of an image that does not fit. needed: its size, written: what of it was there; 0 or None where unknown; all in bytes."""
    if needed is not None:
        size = f"is {size_text(needed)} long"
    else:
        size = f"is longer than {size_text(written)}" if written else "does not fit"
    return ResourceError(
        f"config[{image.name}].pool: found {image.pool!r}, but the image {size}, and {image.directory} has {size_text(free)} free. "
        "Nothing of it was left there. Make room, or choose another pool."
    )
