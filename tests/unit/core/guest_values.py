# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as declared, the host that they are on, and the plans for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import overlay_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import Volume
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import GuestOperation, shell
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_plan import GuestPlan, plan_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.tests.unit.core.guest_host import GuestHost, Machine, entry, volume_path

URI = "qemu:///system"
ROOT: dict[str, Any] = {"name": "root", "pool": "fast", "size_gb": 2, "image": "tiny"}
DATA: dict[str, Any] = {"name": "data", "pool": "large", "size_gb": 3}
SECONDS = 60


def nic(number: int, segment: str = "public", **changes: Any) -> dict[str, Any]:
    net = {"public": 1, "private": 2}.get(segment, 9)
    values = {"mac": f"52:54:00:00:00:{number:02x}", "address": f"10.0.{net}.{9 + number}", "prefix": 24, "gateway": f"10.0.{net}.1", "dhcp": True}
    return {"segment": segment, **values, **changes}


def numbered(number: int, **changes: Any) -> dict[str, Any]:
    """A guest that shares nothing with those of other numbers; 1 is ``web``."""
    name = "web" if number == 1 else f"guest-{number}"
    return entry(name, **{"interfaces": [nic(number)], "ssh_port": 2210 + number, **changes})


def plan(
    host: GuestHost, *config: dict[str, Any], state: str = "merged", remove_disks: Optional[bool] = None, platform: Optional[str] = None, **facts: Any
) -> GuestPlan:
    """facts: what differs from the host's."""
    return plan_guests(state, config, replace(host.facts(), **facts), remove_disks, SECONDS, platform)


def refusal(host: GuestHost, *config: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ResourceError) as caught:
        plan(host, *config, **more)
    return str(caught.value)


def run(host: GuestHost, *config: dict[str, Any], **more: Any) -> GuestPlan:
    done = plan(host, *config, **more)
    for operation in done.operations:
        host.apply(operation)
    return done


def made(*config: dict[str, Any]) -> GuestHost:
    host = GuestHost()
    run(host, *config)
    return host


def kinds(operations: Sequence[GuestOperation]) -> list[str]:
    return [type(operation).__name__ for operation in operations]


def lines(answer: GuestPlan) -> list[str]:
    return [shell(operation, URI, "/backup") for operation in answer.operations]


def at_point(host: GuestHost, point: str, disk: str = "root", pool: str = "fast") -> str:
    """Puts the disk of ``web`` on an overlay, as a named point does; the overlay's path."""
    path = volume_path("web", disk, pool)
    overlay = overlay_path(path, point)
    host.volumes[overlay] = Volume(overlay, host.volumes[path].capacity, 0, path)
    machine = host.machines["web"]
    machine.xml = machine.xml.replace(path, overlay)
    machine.live = None if machine.live is None else machine.live.replace(path, overlay)
    return overlay


def foreign(name: str, number: int = 1, vcpus: int = 1, memory_mb: int = 256, running: bool = True, mac: str = "52:54:00:aa:00:01") -> Machine:
    """A guest that somebody else made."""
    xml = (
        f"<domain type='qemu'><name>{name}</name><uuid>5a0d1f6e-2f9b-4b52-9d0c-b7a2d1e0c0{number:02x}</uuid><memory unit='MiB'>{memory_mb}</memory>"
        f"<vcpu>{vcpus}</vcpu><devices><interface type='network'><mac address='{mac}'/><source network='public'/></interface></devices></domain>"
    )
    return Machine(xml, xml if running else None)
