# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt volumes in pools of type dir: names, and whether they fit. No I/O. All sizes are in bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

FORMATS = ("qcow2", "raw")

# Enough of a checksum that two images of one name never share it, and a name that a person can still read.
_DIGITS = 12
_IMAGE_VOLUME = re.compile(rf"image-(?P<image>.+)-(?P<digits>[0-9a-f]{{{_DIGITS}}})\.(?P<format>{'|'.join(FORMATS)})\Z")


@dataclass(frozen=True)
class ImageVolume:
    """What the name of a base volume says. digits: the first 12 of the image's checksum, hexadecimal."""

    image: str
    digits: str
    format: str


@dataclass(frozen=True)
class PoolSpace:
    """A pool as ``virsh pool-info`` reports it; of type dir these are the figures of its file system."""

    name: str
    capacity: int
    allocation: int
    available: int


@dataclass(frozen=True)
class VolumeSpace:
    """A volume: what its guest sees (capacity), and what it takes on the host now (allocation)."""

    name: str
    capacity: int
    allocation: int


def image_volume_name(image: str, checksum: str, image_format: str = "qcow2") -> str:
    """File name of an image's base volume, image-<image>-<first 12 digits of the checksum>.<format>.

    checksum: ``sha256:<hexadecimal>``, or only its digits
    """
    return f"image-{image}-{checksum.rpartition(':')[2].lower()[:_DIGITS]}.{image_format}"


def read_image_volume_name(name: str) -> Optional[ImageVolume]:
    """The reverse of :func:`image_volume_name`; None for any other name."""
    match = _IMAGE_VOLUME.match(name)
    return ImageVolume(match["image"], match["digits"], match["format"]) if match else None


def thin_worst_case(volumes: Iterable[VolumeSpace]) -> int:
    """How many bytes the volumes may still take when their guests write everywhere."""
    return sum(max(0, volume.capacity - volume.allocation) for volume in volumes)


def check_space(
    where: str,
    pool: PoolSpace,
    wanted: Sequence[tuple[str, int]],
    volumes: Iterable[VolumeSpace] = (),
    thin: str = "allocated",
) -> list[str]:
    """Warnings about a pool that could run full. ResourceError when what is wanted does not fit, with the numbers.

    where:   the variable that asks, such as config[web].disks
    wanted:  what is new: the volume's name, and its bytes (of one that grows, the growth)
    volumes: the thin volumes that the pool has
    thin:    ``allocated``: the new volumes must fit, filled, beside what is written now. ``worst_case``: beside all volumes filled
    """
    promised = thin_worst_case(volumes)
    asked = sum(size for _name, size in wanted)
    needed = asked + (promised if thin == "worst_case" else 0)
    others = f"; the thin volumes there may take {size_text(promised)} more"
    if asked and needed > pool.available:
        listed = ", ".join(f"{name} {size_text(size)}" for name, size in wanted)
        raise ResourceError(
            f"{where}: found {size_text(asked)} of new disks ({listed}), but pool {pool.name} has {size_text(pool.available)} available of "
            f"{size_text(pool.capacity)}{others if promised else ''}. Nothing was changed. Choose smaller disks (size_gb) or another pool, or make room there."
        )
    if asked and asked + promised > pool.available:
        return [
            f"pool {pool.name}: its thin volumes may take {size_text(asked + promised)} more when all are filled, but {size_text(pool.available)} are "
            f"available of {size_text(pool.capacity)}. A guest that finds no space is paused"
        ]
    return []


def size_text(size: int) -> str:
    """Bytes for a person: whole ones below 1 MiB, else MiB or GiB with one decimal."""
    if size < 2**20:
        return f"{size} bytes"
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"
