# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiny guest's root: unpacked packages without what it never needs, and our few files."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.guest_image import cpio, modules
from tools.guest_image.packages import Packages
from tools.guest_image.recipes import FILES, Recipe
from tools.sandbox.errors import SandboxError
from tools.sandbox.progress import output

# Documentation and translations, and what came as a dependency of scripts that never run here (Perl, initramfs-tools, udev).
DROPS = (
    "boot",
    "etc/init.d",
    "etc/rc*.d",
    "etc/systemd",
    "lib/init",
    "lib/lsb",
    "lib/systemd",
    "lib/udev",
    "sbin/cfdisk",
    "usr/bin/*perl*",
    "usr/lib/*/gconv",
    "usr/lib/*/libdb-5*",
    "usr/lib/*/libperl*",
    "usr/lib/*/perl*",
    "usr/lib/klibc",
    "usr/lib/systemd",
    "usr/lib/udev",
    "usr/lib/valgrind",
    "usr/share/[!pz]*",
    "usr/share/perl*",
    "usr/share/pixmaps",
    "var/lib/systemd",
)
DIRECTORIES = (
    "dev",
    "etc/acpi/PWRF",
    "etc/dropbear",
    "etc/sudoers.d",
    "mnt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/lib/guest",
    "var/lib/guest",
    "var/log",
    "home",
)
ACCOUNTS = {
    "etc/passwd": ("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", 0o644),
    "etc/shadow": ("root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n", 0o640),
    "etc/group": ("root:x:0:\ntty:x:5:\nadm:x:4:\nsudo:x:27:\nshadow:x:42:\nusers:x:100:\nnogroup:x:65534:\n", 0o644),
    "etc/gshadow": ("root:*::\ntty:*::\nadm:*::\nsudo:*::\nshadow:*::\nusers:*::\nnogroup:*::\n", 0o640),
}
# sudo asks PAM; nobody has a password here, so whoever /etc/sudoers allows is let in and nobody else.
PAM = "auth sufficient pam_permit.so\naccount sufficient pam_permit.so\nsession sufficient pam_permit.so\npassword required pam_deny.so\n"
TEXTS = {
    "etc/hostname": ("guest\n", 0o644),
    "etc/shells": ("/bin/sh\n/bin/bash\n", 0o644),
    "etc/profile": ("export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", 0o644),
    "etc/nsswitch.conf": ("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n", 0o644),
    "etc/pam.d/sudo": (PAM, 0o644),
    "etc/pam.d/other": (PAM, 0o644),
    # BusyBox' acpid runs this file when the power button is pressed (EV_KEY, KEY_POWER).
    "etc/acpi/PWRF/00000080": ("#!/bin/sh\nexec /bin/busybox poweroff\n", 0o755),
    **ACCOUNTS,
}
# file of ours -> its place and mode
PROGRAMS = {
    "tiny/guest": ("usr/lib/guest/guest", 0o755),
    "tiny/read-seed": ("usr/lib/guest/read-seed", 0o644),
    "tiny/shutdown": ("sbin/shutdown", 0o755),
    "tiny/inittab": ("etc/inittab", 0o644),
}
LINKS = {
    "usr/lib/guest/lease": "guest",
    "usr/lib/guest/event": "guest",
    "usr/sbin/grow-root": "../lib/guest/guest",
}


def make_tree(recipe: Recipe, packages: Packages, _root_id: str) -> tuple[Path, Path, Path]:
    """Builds the root directory.

    :return: the root, the kernel, the initramfs
    """
    root = packages.unpack("root", recipe.packages)
    kernel = packages.work / "vmlinuz"
    shutil.copyfile(_single(root, "boot/vmlinuz-*"), kernel)
    early = _take_modules(root)
    for pattern in DROPS:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _write(root)
    # Python would do it at the guest's first boot, and that takes seconds where the processor is emulated.
    libraries = ["/usr/lib/python3", f"/{_single(root, 'usr/lib/python3.*').relative_to(root)}"]
    output(["chroot", str(root), "/usr/bin/python3", "-m", "compileall", "-q", *libraries])
    initramfs = packages.work / "initrd.img"
    initramfs.write_bytes(_initramfs(root, early))
    return root, kernel, initramfs


def _single(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        raise SandboxError(
            f"the packages hold {len(found)} files {pattern}, and one was expected", "Adapt tools/guest_image/tiny.py to what the packages hold now"
        )
    return found[0]


def _take_modules(root: Path) -> list[Path]:
    """Leaves only the modules that are wanted.

    :return: those that the initramfs loads, in order
    """
    directory = _single(root, "lib/modules/*")
    depmod = ["chroot", str(root), "/sbin/depmod", directory.name]
    output(depmod)
    dependencies = modules.parse_dependencies((directory / "modules.dep").read_text(encoding="ascii"))
    early = modules.load_order(modules.FIRST, dependencies)
    wanted = {*early, *modules.load_order(modules.LATER, dependencies)}
    for path in sorted(directory.rglob("*.ko*")):
        if str(path.relative_to(directory)) not in wanted:
            path.unlink()
    output(depmod)
    return [directory / path for path in early]


def _write(root: Path) -> None:
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "root").chmod(0o700)
    for name, (text, mode) in TEXTS.items():
        _put(root / name, text, mode)
    for source, (name, mode) in PROGRAMS.items():
        _put(root / name, (FILES / source).read_text(encoding="utf-8"), mode)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    busybox = root / "bin/busybox"
    for applet in output([str(busybox), "--list-full"]).split():
        path = root / applet
        if not any((root / place / path.name).exists() or (root / place / path.name).is_symlink() for place in ("bin", "sbin", "usr/bin", "usr/sbin")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to("/bin/busybox")


def _put(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _initramfs(root: Path, early: list[Path]) -> bytes:
    entries = [cpio.directory(name) for name in ("bin", "dev", "proc", "root", "sys")]
    entries += [cpio.character_device("dev/console", 5, 1), cpio.character_device("dev/null", 1, 3)]
    entries += [cpio.file("bin/busybox", (root / "bin/busybox").read_bytes(), 0o755)]
    entries += [cpio.link("bin/sh", "busybox"), cpio.file("init", (FILES / "initramfs-init").read_bytes(), 0o755)]
    entries += [cpio.file(path.name, path.read_bytes()) for path in early]
    entries += [cpio.file("modules", "".join(f"{path.name}\n" for path in early).encode())]
    return cpio.initramfs(entries)
