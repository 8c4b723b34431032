# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that the kernel unpacks, and the modules in it."""

from __future__ import annotations

import gzip
import stat

import pytest

from tools.guest_image import cpio, modules
from tools.sandbox.errors import SandboxError

DEPENDENCIES = """\
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/fs/nls/nls_iso8859-1.ko.xz:
"""


def read_archive(data: bytes) -> list[tuple[str, int, bytes]]:
    """(path, mode, content) of each record: an independent reading of the format."""
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        size, name_size = fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        begin = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, fields[1], data[begin : begin + size]))
        at = (begin + size + 3) // 4 * 4


def test_the_archive_reads_back() -> None:
    entries = [
        cpio.directory("bin"),
        cpio.file("bin/tool", b"12345", 0o755),
        cpio.link("bin/sh", "tool"),
        cpio.file("init", b""),
        cpio.character_device("console", 5, 1),
    ]
    assert read_archive(gzip.decompress(cpio.initramfs(entries))) == [
        ("bin", stat.S_IFDIR | 0o755, b""),
        ("bin/tool", stat.S_IFREG | 0o755, b"12345"),
        ("bin/sh", stat.S_IFLNK | 0o777, b"tool"),
        ("init", stat.S_IFREG | 0o644, b""),
        ("console", stat.S_IFCHR | 0o600, b""),
    ]


def test_the_same_files_make_the_same_archive() -> None:
    assert cpio.initramfs([cpio.file("init", b"x")]) == cpio.initramfs([cpio.file("init", b"x")])


def test_a_module_comes_after_all_that_it_needs_and_once() -> None:
    order = modules.load_order(["virtio_pci", "virtio_blk"], modules.parse_dependencies(DEPENDENCIES))
    names = [path.rsplit("/", 1)[1] for path in order]
    assert names == ["virtio_ring.ko", "virtio.ko", "virtio_pci_modern_dev.ko", "virtio_pci.ko", "virtio_blk.ko"]


def test_hyphens_and_compression_do_not_hide_a_module() -> None:
    assert modules.load_order(["nls_iso8859-1"], modules.parse_dependencies(DEPENDENCIES)) == ["kernel/fs/nls/nls_iso8859-1.ko.xz"]


def test_a_module_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(SandboxError, match="no module virtio_net"):
        modules.load_order(["virtio_net"], modules.parse_dependencies(DEPENDENCIES))
