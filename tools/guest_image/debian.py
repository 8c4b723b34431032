# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The full guest's root: an installed Debian 12 whose first boot belongs to cloud-init."""

from __future__ import annotations

from pathlib import Path

from tools.guest_image.packages import Packages
from tools.guest_image.recipes import FILES, Recipe


def make_tree(recipe: Recipe, packages: Packages, root_id: str) -> tuple[Path, Path, Path]:
    """Builds the root directory.

    :return: the root, the kernel, the initramfs
    """
    script = FILES / "debian" / "customize.sh"
    root = packages.install("root", recipe.variant, recipe.packages, [f'--customize-hook=sh {script} "$1" {root_id}'])
    # Only now: mmdebstrap clears these two at its end. An empty machine-id is filled at the first boot without applying presets.
    (root / "etc/machine-id").write_text("", encoding="ascii")
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    return root, (root / "vmlinuz").resolve(), (root / "initrd.img").resolve()
