# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into each kind of guest image, and the key that stands for all of it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.guest_image.layout import MIB

HERE = Path(__file__).parent
FILES = HERE / "files"
# The agent's packages and the loaders that Secure Boot accepts are Debian's own, as everything else.
LOADERS = ("grub-efi-amd64-signed", "shim-signed")
# <root> is the root file system's UUID. panic=10: a guest that cannot go on restarts, rather than hang unseen.
CMDLINE = "root=UUID=<root> rw console=ttyS0 panic=10"


@dataclass(frozen=True)
class Recipe:
    """A kind of image.

    summary:   for the help text
    variant:   mmdebstrap's; ``extract`` unpacks the packages and runs none of their scripts
    packages:  Debian packages besides what the variant has
    boot_size, size: bytes of the boot partition and of the whole virtual disk; the root partition is the rest
    cmdline:   the kernel's, further words
    journal:   MiB of the root file system's journal
    """

    summary: str
    variant: str
    packages: tuple[str, ...]
    boot_size: int
    size: int
    cmdline: str
    journal: int


RECIPES = {
    "tiny": Recipe(
        summary="a few seconds to boot, 128 MiB of memory; BusyBox, Dropbear, Python, guest agent",
        variant="extract",
        packages=(
            "base-passwd",
            "bash",
            "busybox-static",
            "dropbear-bin",
            "e2fsprogs",
            "fdisk",
            "kmod",
            "libpam-modules",
            "linux-image-cloud-amd64",
            "login",
            "netbase",
            "openssh-sftp-server",
            "passwd",
            "python3",
            "python3-yaml",
            "qemu-guest-agent",
            "sudo",
            "util-linux",
        ),
        boot_size=32 * MIB,
        size=512 * MIB,
        # swiotlb: with room for hot-plugged memory the kernel sets 64 MiB aside for old devices, half of what this guest has; it has none such.
        cmdline="quiet loglevel=3 swiotlb=noforce",
        journal=4,
    ),
    "debian": Recipe(
        summary="a full Debian 12 with systemd, cloud-init and OpenSSH; 512 MiB of memory",
        variant="minbase",
        packages=(
            "apt-utils",
            "bash-completion",
            "ca-certificates",
            "cloud-guest-utils",
            "cloud-init",
            "dbus",
            "e2fsprogs",
            "fdisk",
            "iproute2",
            "iputils-ping",
            "kmod",
            "less",
            "libpam-systemd",
            "linux-image-cloud-amd64",
            "netbase",
            "openssh-server",
            "procps",
            "python3",
            "python3-apt",
            "qemu-guest-agent",
            "sudo",
            "systemd",
            "systemd-resolved",
            "systemd-sysv",
            "systemd-timesyncd",
            "udev",
            "vim-tiny",
        ),
        boot_size=128 * MIB,
        size=3072 * MIB,
        cmdline="console=tty0 console=ttyS0 net.ifnames=0",
        journal=32,
    ),
}


def own_files(kind: str) -> str:
    """Everything of this directory that decides about an image: the programs and the files that go in, without those of the other kinds."""
    others = set(RECIPES) - {kind}
    paths = sorted(path for path in HERE.rglob("*") if path.is_file() and path.suffix != ".pyc" and not others & {path.stem, path.parent.name})
    return "".join(f"{path.relative_to(HERE)}\n{path.read_text(encoding='utf-8')}\n" for path in paths)


def key(kind: str, sources: str, options: Sequence[str], architecture: str) -> str:
    """Twelve hexadecimal digits: another recipe, other files or other sources of packages make another image."""
    return hashlib.sha256(repr((kind, RECIPES[kind], LOADERS, sources, tuple(options), architecture, own_files(kind))).encode()).hexdigest()[:12]


def root_uuid(kind: str, image_key: str) -> str:
    """UUID of the root file system, the same for the same image."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:hybridlab:platform:1:image:{kind}:{image_key}"))


def cmdline(kind: str, root: str) -> str:
    return f"{CMDLINE.replace('<root>', root)} {RECIPES[kind].cmdline}"
