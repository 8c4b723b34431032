# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel modules the tiny guest takes along, from the kernel's own table of dependencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from tools.sandbox.errors import SandboxError

# What has to be there before the root file system is; ext4 is built into Debian's cloud kernel.
FIRST = ("virtio_pci", "virtio_blk")
# What the guest loads by itself (MODULES in files/tiny/guest), and what makes it useful in a lab.
LATER = (
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "virtio_mem",
    "button",
    "evdev",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859-1",
    "xfs",
    "overlay",
    "tun",
    "8021q",
    "tls",
)


def _name(path: str) -> str:
    """``kernel/net/virtio-net.ko.xz`` is the module virtio_net."""
    return PurePosixPath(path).name.split(".ko")[0].replace("-", "_")


def parse_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """Of ``modules.dep``: path -> paths that it needs, as the file orders them (what is loaded first stands last)."""
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {path: tuple(needs.split()) for path, needs in lines}


def load_order(names: Iterable[str], dependencies: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Paths of the modules and of all that they need, each once, in an order in which they can be loaded.

    :raises SandboxError: the kernel has no such module
    """
    by_name = {_name(path): path for path in dependencies}
    order: list[str] = []
    for name in names:
        path = by_name.get(name.replace("-", "_"))
        if path is None:
            raise SandboxError(f"the kernel package has no module {name}", "Adapt the lists in tools/guest_image/modules.py to this kernel")
        order += [needed for needed in (*reversed(dependencies[path]), path) if needed not in order]
    return order
