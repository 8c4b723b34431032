# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image's first bytes say. No I/O.

They are judged before any program opens the image: a qcow2 file can name other files of the host, as its backing file or
as its data file, and a program that opens it reads those (CVE-2024-4467 of qemu-img).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# Enough for every mark below (that of btrfs lies at 64 KiB), and for a qcow2 header with the name of its backing file.
HEADER_BYTES = 72 * 1024

# QEMU, docs/interop/qcow2.txt: all numbers are big-endian.
_QCOW2_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQI")
_INCOMPATIBLE_AT = 72
_DATA_FILE, _CORRUPT = 1 << 2, 1 << 1

# Offset and bytes, as in the magic file of file(1): boot sector, GPT, LVM, ext2..4, XFS, btrfs, ISO 9660, SquashFS, F2FS, EROFS.
_RAW_MARKS = (
    (510, b"\x55\xaa"),
    (512, b"EFI PART"),
    (4096, b"EFI PART"),
    (512, b"LABELONE"),
    (1080, b"\x53\xef"),
    (0, b"XFSB"),
    (65600, b"_BHRfS_M"),
    (32769, b"CD001"),
    (0, b"hsqs"),
    (1024, b"\x10\x20\xf5\xf2"),
    (1024, b"\xe2\xe1\xf5\xe0"),
)


@dataclass(frozen=True)
class Qcow2Header:
    """virtual_size: bytes; backing: name of the backing file as it stands there; data_file: whether the data lie in another file."""

    version: int
    virtual_size: int
    backing: Optional[str]
    data_file: bool
    encrypted: bool
    corrupt: bool


def read_qcow2(header: bytes) -> Optional[Qcow2Header]:
    """What a qcow2 file says of itself; None when it is none.

    header: its first bytes, HEADER_BYTES where it has so many
    """
    if len(header) < _INCOMPATIBLE_AT or not header.startswith(_QCOW2_MAGIC):
        return None
    _magic, version, offset, length, _cluster_bits, size, encryption = _HEADER.unpack_from(header)
    features = struct.unpack_from(">Q", header, _INCOMPATIBLE_AT)[0] if version >= 3 and len(header) >= _INCOMPATIBLE_AT + 8 else 0
    backing = header[offset : offset + length].decode(errors="replace") if offset else None
    return Qcow2Header(version, size, backing, bool(features & _DATA_FILE), bool(encryption), bool(features & _CORRUPT))


def check_header(where: str, image_format: str, header: bytes) -> None:
    """ResourceError when the bytes are not those of an image of that format that stands alone."""
    qcow2 = read_qcow2(header)
    if image_format == "raw":
        if qcow2 is not None:
            raise ResourceError(f"{where}.format: found 'raw', but the image is a qcow2 file. Write format: qcow2.")
        if not any(header[offset : offset + len(mark)] == mark for offset, mark in _RAW_MARKS):
            raise ResourceError(
                f"{where}: the raw image has no partition table, boot sector or file system (it begins with {header[:16]!r}). "
                "Name an image of a disk; a compressed one is to be unpacked first."
            )
        return
    if qcow2 is None:
        raise ResourceError(
            f"{where}.format: found 'qcow2', but the image is no qcow2 file (it begins with {header[:16]!r}). Name a qcow2 image, or write format: raw."
        )
    if qcow2.backing is not None or qcow2.data_file:
        other = f"the backing file {qcow2.backing!r}" if qcow2.backing is not None else "an external data file"
        raise ResourceError(
            f"{where}: the image reads from {other}, so it could show any file of the host to a guest. Make it stand alone: qemu-img convert -O qcow2."
        )
    if qcow2.encrypted or qcow2.corrupt:
        raise ResourceError(f"{where}: the image is {'encrypted' if qcow2.encrypted else 'marked as corrupt'}, so no guest can use it. Name another one.")


def check_info(where: str, image_format: str, text: str) -> None:
    """ResourceError when ``qemu-img info --output json`` found something else than that format.

    text: its output
    """
    info = json.loads(text)
    if info.get("format") != image_format or info.get("virtual-size", 0) <= 0:
        raise ResourceError(
            f"{where}: qemu-img sees format {info.get('format')!r} and {info.get('virtual-size')!r} bytes, declared is {image_format!r}. Name another image."
        )
