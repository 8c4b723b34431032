# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who this sandbox is: every name and path that it uses, derived from the checkout alone.

Nothing has to be remembered to find it again: ``down`` works after a kill at any point, and after the state file is lost.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.sandbox.errors import SandboxError

CHECKOUT = Path(__file__).resolve().parents[2]
LABEL = "hybridlab.sandbox"
PREFIX = "hlsbx"
RUN_ROOT = Path("/run/hybridlab-sandbox")
TEMP_ROOT = Path(tempfile.gettempdir())
DEFAULT_NAME = "host"
INTERNET = "internet"
INIT = "/lib/systemd/systemd"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]|[a-z]")


@dataclass(frozen=True)
class Identity:
    """Names and paths of one checkout's sandbox.

    id: six hex digits, a hash of the checkout's real path; stands in every name and label.
    cache: the checkout's ``.cache``; only ``base`` below it survives ``down``.
    run_root: directory of sockets, shared by the sandboxes of every checkout.
    temp_root: where a base image is put together.
    """

    id: str
    cache: Path
    run_root: Path = RUN_ROOT
    temp_root: Path = TEMP_ROOT

    @classmethod
    def of(cls, checkout: Path = CHECKOUT) -> Identity:
        return cls(hashlib.sha256(str(checkout.resolve()).encode()).hexdigest()[:6], checkout / ".cache")

    @property
    def tag(self) -> str:
        """Name of the network, the namespace, the nftables table and the prefix of containers, volumes and images."""
        return f"{PREFIX}-{self.id}"

    @property
    def link(self) -> str:
        """The machine's end of the veth pair (at most 15 characters); the other end has ``n`` for ``h``."""
        return f"{PREFIX}{self.id}h"

    @property
    def peer(self) -> str:
        return f"{PREFIX}{self.id}n"

    @property
    def bridge(self) -> str:
        return f"{PREFIX}{self.id}b"

    @property
    def cgroup(self) -> str:
        return f"/{self.tag}"

    @property
    def label(self) -> str:
        return f"{LABEL}={self.id}"

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL: self.id}

    @property
    def state_dir(self) -> Path:
        return self.cache / "sandbox"

    @property
    def base_dir(self) -> Path:
        return self.cache / "base"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "log"

    @property
    def hosts_dir(self) -> Path:
        """One JSON file for each host; the inventory reads it."""
        return self.state_dir / "hosts"

    @property
    def engine_data(self) -> Path:
        return self.state_dir / "engine"

    @property
    def run_dir(self) -> Path:
        """Short, because a Unix socket's path must stay under 108 bytes."""
        return self.run_root / self.id

    @property
    def build_dir(self) -> Path:
        return self.temp_root / self.tag

    def container(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def volume(self, name: str, use: str) -> str:
        return f"{self.tag}-{name}-{use}"


def checked_name(name: str) -> str:
    """A host's name, fit for a container and a DNS label."""
    if name == INTERNET:
        raise SandboxError(f"the name '{INTERNET}' belongs to the container that plays the Internet", "Choose another with --name")
    if not _NAME.fullmatch(name):
        raise SandboxError(f"'{name}' cannot be a host's name", "Use up to 32 lower-case letters, digits and hyphens, a letter first")
    return name


@dataclass(frozen=True)
class Settings:
    """What the environment may set.

    engine: ``auto``, ``own`` or the URL of a local engine's socket.
    base_image: image reference to pull in place of a base built from packages; empty for none.
    apt_sources: file of APT sources to use in place of the machine's own; empty for none.
    uplink: CIDR of the uplink network; empty chooses one that the machine does not reach (addresses.UPLINKS).
    dns: resolvers in place of the machine's.
    boot_seconds: how long a host may take to boot.
    """

    engine: str = "auto"
    base_image: str = ""
    apt_sources: str = ""
    uplink: str = ""
    dns: tuple[str, ...] = ()
    boot_seconds: int = 180

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        seconds = env.get("HYBRIDLAB_BOOT_SECONDS", "180")
        if not seconds.isdigit() or int(seconds) == 0:
            raise SandboxError(f"HYBRIDLAB_BOOT_SECONDS is '{seconds}'", "Give a number of seconds, such as 180")
        return cls(
            engine=env.get("HYBRIDLAB_SANDBOX_ENGINE", "") or "auto",
            base_image=env.get("HYBRIDLAB_BASE_IMAGE", ""),
            apt_sources=env.get("HYBRIDLAB_APT_SOURCES", ""),
            uplink=env.get("HYBRIDLAB_SANDBOX_UPLINK", ""),
            dns=tuple(env.get("HYBRIDLAB_SANDBOX_DNS", "").replace(",", " ").split()),
            boot_seconds=int(seconds),
        )
