# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as declared, and what libvirt 9.0 with QEMU 7.2 made of their definitions (domains/*.xml, kept form; *-live.xml the running one)."""

from __future__ import annotations

import uuid
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Disk, Domain, Nic, Record

POOL = "/var/lib/libvirt/images"
_ECHOES = Path(__file__).parent / "domains"


def echo(name: str) -> str:
    return (_ECHOES / f"{name}.xml").read_text(encoding="utf-8")


def disk(guest: str, name: str, pool: str = "fast") -> Disk:
    return Disk(name, pool, f"{POOL}/{guest}-{name}.qcow2")


def guest(name: str, **changes: Any) -> Domain:
    values: dict[str, Any] = {
        "name": name,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "vcpus": 1,
        "memory_mb": 256,
        "vcpus_max": 2,
        "memory_max_mb": 512,
        "nics": (Nic("segx", "52:54:00:00:00:0a", IPv4Address("10.9.3.20")),),
        "disks": (disk(name, "root"),),
        "accelerator": "qemu",
        "record": Record("lab", 2211, ("www",), "debian-12", "ab" * 32),
        **changes,
    }
    return Domain(**values)


WEB = guest(
    "web",
    nics=(Nic("segy", "52:54:00:00:00:0b"), Nic("segx", "52:54:00:00:00:0a", IPv4Address("10.9.3.20"))),
    disks=(disk("web", "root"), disk("web", "data", "large")),
    seed=f"{POOL}/web-seed.iso",
    boot=("disk", "network"),
)
PLAIN = guest("plain", firmware="uefi", console=False, agent=False)
SAFE = guest("safe", firmware="uefi-secure", tpm=True)
