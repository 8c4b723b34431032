# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of images: ``.cache/images/<kind>-<key>.qcow2``, each under a key of all that went into it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tools.guest_image import debian, disk, tiny
from tools.guest_image.packages import Packages
from tools.guest_image.recipes import LOADERS, RECIPES, cmdline, key, root_uuid
from tools.sandbox.errors import SandboxError
from tools.sandbox.leftovers import end_build
from tools.sandbox.machine import missing_packages
from tools.sandbox.names import Identity, Settings
from tools.sandbox.progress import Step

# command -> Debian package
NEEDS = {
    "mcopy": "mtools",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "syslinux": "syslinux",
}
ARCHITECTURE = "amd64"


def ensure(kind: str) -> Path:
    """Path of the image, built where it is missing.

    :param kind: a key of RECIPES
    :raises SandboxError: no such kind, this machine cannot build it, or the build failed
    """
    if kind not in RECIPES:
        raise SandboxError(f"there is no guest image '{kind}'", f"Take one of {', '.join(sorted(RECIPES))}")
    identity = Identity.of()
    packages = Packages.of(Settings.read(os.environ), identity)
    image_key = key(kind, packages.sources, packages.options, packages.architecture)
    path = identity.cache / "images" / f"{kind}-{image_key}.qcow2"
    if not path.exists():
        with _only_one(path.parent / ".lock"):
            if not path.exists():
                _refuse(packages.architecture)
                _build(kind, image_key, path, packages)
    _name_it(kind, path)
    return path


def _name_it(kind: str, path: Path) -> None:
    """``<kind>.qcow2`` beside it, which inventories name; a rename, so that two builders may do it at once."""
    scratch = path.with_name(f".{kind}.{os.getpid()}")
    scratch.symlink_to(path.name)
    scratch.replace(path.with_name(f"{kind}.qcow2"))


def _refuse(architecture: str) -> None:
    """
    :raises SandboxError: this machine cannot build an image
    """
    if architecture != ARCHITECTURE:
        raise SandboxError(f"guest images are built for {ARCHITECTURE}, and this machine is {architecture}", "Build them on another and copy the file")
    lacking = missing_packages(NEEDS) + ([] if disk.BOOT_CODE.exists() else ["syslinux-common"])
    if lacking:
        raise SandboxError(f"this machine lacks the Debian packages {' '.join(lacking)}", f"apt-get install --no-install-recommends {' '.join(lacking)}")
    if os.geteuid() != 0:
        raise SandboxError("a guest image's files belong to root, so only root can build it", "Use sudo")


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _build(kind: str, image_key: str, path: Path, packages: Packages) -> None:
    recipe, root_id = RECIPES[kind], root_uuid(kind, image_key)
    build = packages.work
    end_build(packages.identity)
    build.mkdir(parents=True, mode=0o755)
    with Step(f"guest image {kind} from Debian's packages"):
        make_tree = {"tiny": tiny.make_tree, "debian": debian.make_tree}[kind]
        root, kernel, initrd = make_tree(recipe, packages, root_id)
        loaders = packages.unpack("loaders", LOADERS)
        boot = disk.boot_partition(build / "boot.img", recipe.boot_size, kernel, initrd, cmdline(kind, root_id), loaders)
        partial = path.with_suffix(".qcow2.new")
        disk.assemble(recipe, build, boot, root, root_id, partial)
    end_build(packages.identity)
    partial.replace(path)
    for other in path.parent.glob(f"{kind}-*.qcow2*"):
        if other != path:
            other.unlink()
