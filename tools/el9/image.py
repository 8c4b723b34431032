# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The look-alike as a tarball below ``.cache/el9``, named by a hash of everything that goes into it, and as an image in the sandbox's engine."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.el9.assemble import read_yaml
from tools.el9.spec import parse_packages
from tools.sandbox.aptsources import RELEASE, machine_options, machine_sources, parse_deb822
from tools.sandbox.base import CUSTOMIZE, INIT, PACKAGES
from tools.sandbox.errors import SandboxError
from tools.sandbox.names import CHECKOUT, LABEL, Identity, Settings
from tools.sandbox.progress import Step, output, run_logged

HERE = Path(__file__).parent
# libvirt and what belongs to it from backports, Python 3.9 from Debian 11; all else stays Debian 12's.
PREFERENCES = "Package: src:libvirt\nPin: release n=bookworm-backports\nPin-Priority: 700\n\nPackage: *\nPin: release n=bullseye\nPin-Priority: 90\n"


class Lookalike:
    """Builds the look-alike where it is missing."""

    def __init__(self, identity: Identity, settings: Settings) -> None:
        self.identity = identity
        self.settings = settings
        self.debian: dict[str, Any] = read_yaml("debian.yml")

    def sources(self) -> str:
        """The machine's sources of Debian 12, and the further suites of the same mirror.

        :raises SandboxError: no mirror of the distribution proper is known
        """
        text = machine_sources(self.settings.apt_sources)
        mirrors = [source for source in parse_deb822(text) if RELEASE in source.suites]
        if not mirrors:
            raise SandboxError(
                f"no APT source of this machine has the suite {RELEASE}, so that the mirror of {', '.join(self.debian['suites'])} is unknown",
                "Set HYBRIDLAB_APT_SOURCES",
            )
        more = replace(mirrors[0], suites=tuple(self.debian["suites"]), components=("main",))
        return f"{text}\n{more.text()}"

    def options(self) -> list[str]:
        return machine_options(output(["apt-config", "dump"]), os.environ)

    def key(self) -> str:
        own = [path.read_text(encoding="utf-8") for path in sorted(HERE.iterdir()) if path.suffix in (".py", ".yml")]
        return hashlib.sha256(repr((PACKAGES, CUSTOMIZE.read_text(encoding="utf-8"), own, self.sources(), self.options())).encode()).hexdigest()[:12]

    def path(self) -> Path:
        return self.identity.cache / "el9" / f"{self.key()}.tar"

    def tarball(self) -> Path:
        path = self.path()
        if not path.exists():
            self._build(path)
        return path

    def ensure(self, client: Any) -> str:
        """Name of the image in the engine, made where it is missing."""
        import docker.errors

        repository, tag = f"{self.identity.tag}/el9", self.key()
        try:
            client.images.get(f"{repository}:{tag}")
        except docker.errors.ImageNotFound:
            tarball = self.tarball()
            changes = [f'CMD ["{INIT}"]', "ENV container=docker", f"LABEL {LABEL}={self.identity.id}"]
            with Step("EL9 look-alike into the engine"):
                client.api.import_image_from_file(str(tarball), repository=repository, tag=tag, changes=changes)
        return f"{repository}:{tag}"

    def _build(self, path: Path) -> None:
        if not shutil.which("mmdebstrap"):
            raise SandboxError(
                "mmdebstrap, which builds the EL9 look-alike, is not installed", "Run as root: apt-get install --no-install-recommends mmdebstrap"
            )
        if output(["dpkg", "--print-architecture"]).strip() != "amd64":
            raise SandboxError("the EL9 look-alike is built for amd64 only", "Use a machine of that architecture, or a real EL9 host")
        parse_packages(read_yaml("packages.yml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("*.tar*"):
            old.unlink()
        build, partial = self.identity.build_dir / "el9", path.with_suffix(".tar.new")
        build.mkdir(parents=True, exist_ok=True)
        build.chmod(0o755)
        listed, preferences = build / "machine.sources", build / "preferences"
        listed.write_text(self.sources(), encoding="utf-8")
        preferences.write_text(PREFERENCES, encoding="ascii")
        include = sorted({*PACKAGES, *self.debian["install"]} - {"python3-apt"})
        hook = f'PYTHONPATH={shlex.quote(str(CHECKOUT))} {shlex.quote(sys.executable)} -m tools.el9.assemble "$1"'
        # The last hook has already removed what is apt's.
        argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(include)}", "--format=tar", "--skip=cleanup"]
        argv += [f'--setup-hook=install -D -m 0644 {shlex.quote(str(preferences))} "$1/etc/apt/preferences.d/el9"']
        argv += [f'--customize-hook=sh {shlex.quote(str(CUSTOMIZE))} "$1"', f"--customize-hook={hook}"]
        argv += [f"--aptopt={line}" for line in self.options()]
        argv += [RELEASE, str(partial), str(listed)]
        with Step("EL9 look-alike from Debian's packages"):
            run_logged(
                argv,
                self.identity.cache / "el9" / "build.log",
                f"Check that the mirror of Debian has the suites {' and '.join(self.debian['suites'])}; HYBRIDLAB_APT_SOURCES names another",
                env={"TMPDIR": str(build)},
            )
        shutil.rmtree(self.identity.build_dir)
        partial.replace(path)
