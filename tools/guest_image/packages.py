# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's packages as directories, by mmdebstrap with this machine's own sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.sandbox.aptsources import RELEASE, machine_options, machine_sources
from tools.sandbox.errors import SandboxError
from tools.sandbox.machine import find_command
from tools.sandbox.names import Identity, Settings
from tools.sandbox.progress import output, run_logged

CURE = "Check that this machine itself can run 'apt-get update'; HYBRIDLAB_APT_SOURCES names other sources"


@dataclass(frozen=True)
class Packages:
    """sources: text of a .sources file; options: lines of apt.conf; identity: whose build directory is used."""

    sources: str
    options: tuple[str, ...]
    architecture: str
    identity: Identity

    @classmethod
    def of(cls, settings: Settings, identity: Identity) -> Packages:
        """
        :raises SandboxError: this machine is no Debian
        """
        if not find_command("apt-config"):
            raise SandboxError(
                "this machine is no Debian, so a guest image cannot be built from its packages",
                "Copy one from a Debian 12 machine, or declare an image of a distribution by its url and checksum in platform_images",
            )
        options = machine_options(output(["apt-config", "dump"]), os.environ)
        # A directory of its own: a sandbox may be building its base image at the same time.
        apart = replace(identity, temp_root=identity.temp_root / "hybridlab-images")
        return cls(machine_sources(settings.apt_sources), tuple(options), output(["dpkg", "--print-architecture"]).strip(), apart)

    @property
    def work(self) -> Path:
        """Where an image is put together; removed afterwards."""
        return self.identity.build_dir

    def log(self, name: str) -> Path:
        return self.identity.cache / "images" / "log" / f"{name}.log"

    def unpack(self, name: str, packages: Sequence[str]) -> Path:
        """The packages with all that they depend on, unpacked and not configured."""
        return self.install(name, "extract", packages)

    def install(self, name: str, variant: str, packages: Sequence[str], hooks: Sequence[str] = ()) -> Path:
        """A directory with a root file system.

        :param name: of the directory below ``work``
        :param variant: mmdebstrap's
        :param hooks: further arguments, such as ``--customize-hook=...``
        :raises SandboxError: mmdebstrap failed; the error shows the end of its log
        """
        self.work.mkdir(parents=True, exist_ok=True)
        root, listed = self.work / name, self.work / "machine.sources"
        listed.write_text(self.sources, encoding="utf-8")
        argv = ["mmdebstrap", f"--variant={variant}", "--mode=root", "--format=directory", f"--include={','.join(packages)}", *hooks]
        argv += [f"--aptopt={line}" for line in self.options]
        argv += [RELEASE, str(root), str(listed)]
        run_logged(argv, self.log(name), CURE, env={"TMPDIR": str(self.work), "DEBIAN_FRONTEND": "noninteractive"})
        return root
