# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that every host starts from: a bare Debian 12 with systemd and Python, nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from tools.sandbox.aptsources import RELEASE, machine_options, machine_sources
from tools.sandbox.errors import SandboxError
from tools.sandbox.leftovers import end_build
from tools.sandbox.machine import BASE_NEEDS, addresses_of, find_command
from tools.sandbox.names import INIT, LABEL, Identity, Settings
from tools.sandbox.progress import Step, output, run_logged

PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "netbase",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# The package lists stay, as on any installed Debian: a check run on the bare host needs them to plan an installation.
FLAGS = ("--variant=minbase", "--format=tar", "--skip=cleanup/apt/lists")
CUSTOMIZE = Path(__file__).with_name("customize.sh")


class Base:
    """A tarball below ``.cache/base``, named by a hash of everything that goes into it, and its image in the engine."""

    def __init__(self, identity: Identity, settings: Settings) -> None:
        self.identity = identity
        self.settings = settings

    def recipe(self) -> tuple[str, list[str]]:
        """(text of the .sources file, lines of apt.conf)."""
        if not find_command("apt-config"):
            raise SandboxError(
                "this machine is no Debian, so a base image cannot be built from its packages", "Set HYBRIDLAB_BASE_IMAGE to an image of Debian 12"
            )
        sources = machine_sources(self.settings.apt_sources)
        return sources, machine_options(output(["apt-config", "dump"]), os.environ)

    def reached(self) -> list[str]:
        """Addresses that hosts need for their packages; the sandbox's own ranges must leave them alone."""
        if self.settings.base_image:
            return []
        sources, options = self.recipe()
        return addresses_of("\n".join([sources, *options]))

    def key(self) -> str:
        if self.settings.base_image:
            recipe: tuple[Any, ...] = (self.settings.base_image,)
        else:
            recipe = (*self.recipe(), output(["dpkg", "--print-architecture"]))
        return hashlib.sha256(repr((FLAGS, PACKAGES, recipe, CUSTOMIZE.read_text(encoding="utf-8"))).encode()).hexdigest()[:12]

    def ensure(self, client: Any) -> str:
        """Name of the image in the engine, made where it is missing."""
        import docker.errors

        name = f"{self.identity.tag}/base:{self.key()}"
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            if self.settings.base_image:
                self._from_registry(client, name)
            else:
                self._import(client, self.tarball(), name)
        return name

    def needs(self) -> dict[str, str]:
        """Commands that have to be there, with their packages."""
        there = self.settings.base_image or (self.identity.base_dir / f"{self.key()}.tar").exists()
        return {} if there else BASE_NEEDS

    def tarball(self) -> Path:
        path = self.identity.base_dir / f"{self.key()}.tar"
        if not path.exists():
            self._build(path)
        return path

    def _build(self, path: Path) -> None:
        sources, options = self.recipe()
        path.parent.mkdir(parents=True, exist_ok=True)
        build, partial = self.identity.build_dir, path.with_suffix(".tar.new")
        end_build(self.identity)
        build.mkdir(parents=True)
        build.chmod(0o755)
        listed = build / "machine.sources"
        listed.write_text(sources, encoding="utf-8")
        argv = ["mmdebstrap", *FLAGS, f"--include={','.join(PACKAGES)}", f'--customize-hook=sh {CUSTOMIZE} "$1"']
        argv += [f"--aptopt={line}" for line in options]
        argv += [RELEASE, str(partial), str(listed)]
        with Step("base image from Debian's packages"):
            run_logged(
                argv,
                self.identity.log_dir / "mmdebstrap.log",
                "Check that this machine itself can run 'apt-get update'; HYBRIDLAB_APT_SOURCES and HYBRIDLAB_BASE_IMAGE are the ways round",
                env={"TMPDIR": str(build)},
            )
        shutil.rmtree(build)
        partial.replace(path)
        for other in path.parent.glob("*.tar*"):
            if other != path:
                other.unlink()

    def _import(self, client: Any, tarball: Path, name: str) -> None:
        repository, tag = name.split(":")
        with Step("base image into the engine"):
            client.api.import_image_from_file(
                str(tarball), repository=repository, tag=tag, changes=[f'CMD ["{INIT}"]', "ENV container=docker", f"LABEL {LABEL}={self.identity.id}"]
            )

    def _from_registry(self, client: Any, name: str) -> None:
        """A registry's image, with the packages that it lacks and the same masking."""
        import docker.errors

        repository, tag = name.split(":")
        with Step(f"base image {self.settings.base_image}"):
            try:
                client.images.pull(self.settings.base_image)
            except docker.errors.APIError as error:
                raise SandboxError(
                    f"HYBRIDLAB_BASE_IMAGE={self.settings.base_image} cannot be pulled ({error.explanation or error})",
                    "Name another, or unset the variable to build the base from Debian's packages",
                ) from error
            script = (
                f"export DEBIAN_FRONTEND=noninteractive; apt-get update && apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
                f" && {{ cat <<'CUSTOMIZE' | sh -s /\n{CUSTOMIZE.read_text(encoding='utf-8')}CUSTOMIZE\n}}"
            )
            made = client.containers.create(
                self.settings.base_image, ["sh", "-c", script], name=self.identity.container("base"), labels=self.identity.labels, entrypoint=[]
            )
            try:
                made.start()
                if made.wait(timeout=900)["StatusCode"]:
                    logs = made.logs(tail=20).decode(errors="replace")
                    raise SandboxError(
                        f"{self.settings.base_image} could not be prepared:\n{logs}\n", "It must be an image of Debian 12 that reaches its packages"
                    )
                made.commit(repository, tag, changes=[f'CMD ["{INIT}"]', "ENV container=docker", f"LABEL {LABEL}={self.identity.id}"])
            finally:
                made.remove(force=True, v=True)
