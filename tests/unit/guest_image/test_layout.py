# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The partition table that both boot ways read."""

from __future__ import annotations

import struct

import pytest

from tools.guest_image.layout import BOOT_CODE_SIZE, EFI_SYSTEM, LINUX, MIB, SECTOR, master_boot_record, partitions
from tools.sandbox.errors import SandboxError


def test_the_root_partition_is_last_and_takes_the_rest() -> None:
    boot, root = partitions(32 * MIB, 512 * MIB)
    assert (boot.start, boot.size, boot.kind, boot.active) == (MIB, 32 * MIB, EFI_SYSTEM, True)
    assert (root.start, root.start + root.size, root.kind, root.active) == (33 * MIB, 512 * MIB, LINUX, False)


@pytest.mark.parametrize(
    ("boot", "total", "words"),
    [
        (32 * MIB + 1, 512 * MIB, "boot partition of an image would have 33554433 bytes"),
        (0, 512 * MIB, "boot partition of an image would have 0 bytes"),
        (32 * MIB, 512 * MIB - SECTOR, "disk of an image would have 536870400 bytes"),
        (32 * MIB, 33 * MIB, "leaves no root partition"),
    ],
)
def test_sizes_that_cannot_be(boot: int, total: int, words: str) -> None:
    with pytest.raises(SandboxError, match=words):
        partitions(boot, total)


def test_the_record_holds_code_signature_and_both_partitions() -> None:
    record = master_boot_record(b"\xeb\xfe", 0x12345678, partitions(32 * MIB, 512 * MIB))
    assert len(record) == SECTOR
    assert record[:2] == b"\xeb\xfe"
    assert struct.unpack_from("<I", record, 440) == (0x12345678,)
    entries = [struct.unpack_from("<BxxxBxxxII", record, 446 + 16 * number) for number in range(4)]
    assert entries == [(0x80, EFI_SYSTEM, 2048, 65536), (0, LINUX, 67584, 980992), (0, 0, 0, 0), (0, 0, 0, 0)]
    assert record[510:] == b"\x55\xaa"


def test_boot_code_that_would_overwrite_the_table_is_refused() -> None:
    with pytest.raises(SandboxError, match="has 441 bytes"):
        master_boot_record(bytes(BOOT_CODE_SIZE + 1), 0, partitions(MIB, 4 * MIB))
