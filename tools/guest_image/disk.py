# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a directory to a disk image that boots with a BIOS and with UEFI (Secure Boot too), without mounting anything.

The boot partition is FAT: SYSLINUX boots it from a BIOS, Debian's signed shim and GRUB from UEFI; both load the same kernel from it.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from tools.guest_image.layout import SECTOR, Partition, master_boot_record, partitions
from tools.guest_image.recipes import FILES, Recipe
from tools.sandbox.machine import find_command
from tools.sandbox.progress import output

BOOT_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
# Where UEFI looks on a disk that it has no entry for; shim loads grubx64.efi from beside itself, and Debian's signed GRUB reads /EFI/debian/grub.cfg.
EFI_FILES = {"usr/lib/shim/shimx64.efi.signed": "EFI/BOOT/BOOTX64.EFI", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "EFI/BOOT/grubx64.efi"}
LABEL_BOOT, LABEL_ROOT = "BOOT", "root"


def configuration(name: str, cmdline: str) -> str:
    """A boot loader's file with the kernel's command line."""
    return (FILES / name).read_text(encoding="utf-8").replace("@CMDLINE@", cmdline)


def boot_partition(image: Path, size: int, kernel: Path, initrd: Path, cmdline: str, loaders: Path) -> Path:
    """Writes the FAT file system with kernel, initramfs and both boot loaders.

    :param image: file to write
    :param size: bytes
    :param loaders: directory with the unpacked packages of the signed loaders
    """
    tree = image.with_suffix(".tree")
    for source, target in {kernel: "vmlinuz", initrd: "initrd.img", **{loaders / source: target for source, target in EFI_FILES.items()}}.items():
        _put(tree / target, source.read_bytes())
    _put(tree / "syslinux.cfg", configuration("syslinux.cfg", cmdline).encode())
    _put(tree / "EFI/debian/grub.cfg", configuration("grub.cfg", cmdline).encode())
    with image.open("wb") as stream:
        stream.truncate(size)
    output([find_command("mkfs.vfat"), "-F", "16", "-n", LABEL_BOOT, str(image)])
    output(["mcopy", "-i", str(image), "-s", *(str(path) for path in sorted(tree.iterdir())), "::"])
    output(["syslinux", "--install", str(image)])
    shutil.rmtree(tree)
    return image


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def assemble(recipe: Recipe, build: Path, boot: Path, root: Path, root_id: str, target: Path) -> None:
    """Writes the qcow2 image.

    :param build: directory for the parts
    :param boot: file with the boot partition
    :param root: directory with the root file system
    :param root_id: UUID of the root file system
    """
    parts = partitions(recipe.boot_size, recipe.size)
    file_system = build / "root.img"
    with file_system.open("wb") as stream:
        stream.truncate(parts[1].size)
    output(
        [
            find_command("mkfs.ext4"),
            *("-q", "-b", "4096", "-d", str(root), "-L", LABEL_ROOT, "-U", root_id, "-m", "1", "-J", f"size={recipe.journal}"),
            *("-E", f"hash_seed={root_id},lazy_itable_init=1", str(file_system)),
        ]
    )
    raw = build / "disk.raw"
    with raw.open("wb") as stream:
        stream.truncate(recipe.size)
        stream.write(master_boot_record(BOOT_CODE.read_bytes(), uuid.UUID(root_id).time_low, parts))
    for part, file in zip(parts, (boot, file_system)):
        _copy_sparse(file, raw, part)
    output(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(raw), str(target)])


def _copy_sparse(source: Path, disk: Path, part: Partition) -> None:
    chunk = 128 * SECTOR
    with source.open("rb") as reader, disk.open("r+b") as writer:
        for offset in range(0, part.size, chunk):
            data = reader.read(chunk)
            if data.strip(b"\0"):
                writer.seek(part.start + offset)
                writer.write(data)
