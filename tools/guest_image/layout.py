# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the partitions of an image lie: one for booting, then the root file system, which is last so that it can grow. No I/O."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tools.sandbox.errors import SandboxError

SECTOR = 512
MIB = 1024 * 1024
# Both partitions begin at a multiple of this, as every partitioning tool of today does it.
ALIGNMENT = MIB
# Types of partition in a master boot record: UEFI specification 2.10, 5.2.3 (0xEF: EFI system partition); 0x83: Linux.
EFI_SYSTEM, LINUX = 0xEF, 0x83
BOOT_CODE_SIZE = 440
ACTIVE = 0x80
# Cylinder, head and sector of partitions are not used any more: this stands for "beyond what they can say".
NO_CHS = b"\xfe\xff\xff"


@dataclass(frozen=True)
class Partition:
    """start, size: bytes; kind: type in the master boot record; active: the one that the BIOS boots."""

    start: int
    size: int
    kind: int
    active: bool = False

    def entry(self) -> bytes:
        """The 16 bytes of a partition table."""
        return struct.pack("<B3sB3sII", ACTIVE if self.active else 0, NO_CHS, self.kind, NO_CHS, self.start // SECTOR, self.size // SECTOR)


def partitions(boot_size: int, total: int) -> tuple[Partition, Partition]:
    """The boot partition, and the root partition up to the end of the disk.

    :param boot_size: bytes of the boot partition
    :param total: bytes of the disk
    :raises SandboxError: the sizes are no multiples of ALIGNMENT, or nothing is left for the root
    """
    for what, size in (("boot partition", boot_size), ("disk", total)):
        if size <= 0 or size % ALIGNMENT:
            raise SandboxError(f"the {what} of an image would have {size} bytes", f"Give a multiple of {ALIGNMENT} bytes")
    boot = Partition(ALIGNMENT, boot_size, EFI_SYSTEM, active=True)
    start = boot.start + boot.size
    if start >= total:
        raise SandboxError(f"a disk of {total} bytes leaves no root partition behind a boot partition of {boot_size} bytes", "Make the disk larger")
    return boot, Partition(start, total - start, LINUX)


def master_boot_record(code: bytes, signature: int, parts: tuple[Partition, ...]) -> bytes:
    """The first sector of the disk.

    :param code: boot code, at most 440 bytes
    :param signature: 32 bits that tell disks apart
    :param parts: at most four
    :raises SandboxError: the boot code is too long
    """
    if len(code) > BOOT_CODE_SIZE:
        raise SandboxError(f"the boot code has {len(code)} bytes; a master boot record has room for {BOOT_CODE_SIZE}", "Use the mbr.bin of syslinux-common")
    table = b"".join(part.entry() for part in parts).ljust(64, b"\0")
    return code.ljust(BOOT_CODE_SIZE, b"\0") + struct.pack("<IH", signature, 0) + table + b"\x55\xaa"
