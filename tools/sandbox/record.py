# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sandbox changes on the machine outside its own directories, noted before the change and taken back by the last sandbox.

Every checkout's sandbox shares these: ``ip_forward`` (the link of the own engine), limits of files that any systemd raises when it
starts with the right to, and directories that an engine insists on.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tools.sandbox.state import write_atomically

SETTINGS = (Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/fs/file-max"), Path("/proc/sys/fs/nr_open"))
# Where dockerd and containerd write whatever they are told; the own engine sees directories of ours in their place.
ENGINE_DIRECTORIES = (Path("/etc/docker"), Path("/opt/containerd"), Path("/run/containerd"), Path("/run/docker"))
OTHER_DIRECTORIES = (Path("/run/mount"),)


class Record:
    """``machine.json`` below the run directory of all sandboxes."""

    def __init__(self, root: Path) -> None:
        self.path = root / "machine.json"

    def note(self) -> None:
        """Writes down how the machine is, unless a sandbox has done so before."""
        if self.path.exists():
            return
        settings = {str(path): path.read_text(encoding="ascii") for path in SETTINGS if path.exists()}
        absent = [str(path) for path in (*ENGINE_DIRECTORIES, *OTHER_DIRECTORIES) if not path.exists()]
        write_atomically(self.path, json.dumps({"settings": settings, "absent": absent}, indent=2) + "\n")

    def in_use_by_others(self, own: Path) -> bool:
        """Whether a sandbox of another checkout lives on this machine."""
        return any(path.is_dir() and path != own for path in self.path.parent.iterdir()) if self.path.parent.is_dir() else False

    def take_back(self) -> None:
        """Restores the settings; removes the directories that were absent, as far as they are empty."""
        if not self.path.exists():
            return
        noted = json.loads(self.path.read_text(encoding="utf-8"))
        for name, value in noted["settings"].items():
            path = Path(name)
            if path.read_text(encoding="ascii") != value:
                path.write_text(value, encoding="ascii")
        for name in noted["absent"]:
            with contextlib.suppress(OSError):  # absent, or used by somebody else
                Path(name).rmdir()
        self.path.unlink()
