# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed after any operation, and run again, ends where the whole run would have ended."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_plan import GuestPlan, plan_guests
from ansible_collections.hybridlab.platform.tests.unit.core.guest_host import GuestHost, entry, seen

DATA = {"name": "data", "pool": "large", "size_gb": 3}
ROOT = {"name": "root", "pool": "fast", "size_gb": 2, "image": "tiny"}
LARGER = {**ROOT, "size_gb": 4}
PRIVATE = [{"segment": "private", "mac": "52:54:00:00:00:01", "address": "10.0.2.10", "prefix": 24, "gateway": "10.0.2.1", "dhcp": True}]

# What the guest was declared as, and what it is declared as now.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "memory and vcpus": ({}, {"memory_mb": 512, "vcpus": 2}),
    "larger disk, running": ({}, {"disks": [LARGER]}),
    "larger disk, stopped": ({"state": "stopped"}, {"state": "stopped", "disks": [LARGER]}),
    "larger disk, to be stopped": ({}, {"state": "stopped", "disks": [LARGER]}),
    "larger disk, to be started": ({"state": "stopped"}, {"disks": [LARGER]}),
    "larger disk, with a restart": ({}, {"disks": [LARGER], "memory_max_mb": 1024}),
    "another disk": ({}, {"disks": [ROOT, DATA]}),
    "another disk, to be stopped": ({}, {"disks": [ROOT, DATA], "state": "stopped"}),
    "another disk, with a restart": ({}, {"disks": [ROOT, DATA], "firmware": "uefi"}),
    "a disk less": ({"disks": [ROOT, DATA]}, {"remove_disks": True}),
    "a disk less, with a restart": ({"disks": [ROOT, DATA]}, {"remove_disks": True, "vcpus_max": 4}),
    "a disk less, stopped": ({"disks": [ROOT, DATA], "state": "stopped"}, {"state": "stopped", "remove_disks": True}),
    "a disk less, to be stopped": ({"disks": [ROOT, DATA]}, {"state": "stopped", "remove_disks": True}),
    "another segment": ({}, {"interfaces": PRIVATE}),
    "another segment, suspended before": ({"state": "suspended"}, {"interfaces": PRIVATE, "memory_mb": 512}),
    "another segment, stopped": ({"state": "stopped"}, {"interfaces": PRIVATE, "state": "stopped"}),
    "restart": ({}, {"memory_max_mb": 1024, "memory_mb": 768}),
    "aliases, port, autostart": ({}, {"names": ["www"], "ssh_port": 2212, "autostart": False}),
    "cloud-init": ({}, {"cloud_init": {"domain": "other.local"}}),
    "suspend": ({}, {"state": "suspended"}),
    "resume": ({"state": "suspended"}, {}),
    "stop": ({}, {"state": "stopped"}),
    "stop a suspended one": ({"state": "suspended"}, {"state": "stopped"}),
    "suspended and restarted": ({"state": "suspended"}, {"state": "suspended", "vcpus_max": 4}),
    "gone with its disks": ({"disks": [ROOT, DATA]}, {"state": "absent", "remove_disks": True}),
    "gone without its disks": ({}, {"state": "absent", "remove_disks": False}),
    "gone while suspended": ({"state": "suspended"}, {"state": "absent", "remove_disks": True}),
}


def plan(host: GuestHost, config: list[dict[str, Any]]) -> GuestPlan:
    return plan_guests("merged", config, host.facts(), None, 60)


def run(host: GuestHost, config: list[dict[str, Any]], survived: int = 10**6) -> None:
    for operation in plan(host, config).operations[:survived]:
        host.apply(operation)


def made(**changes: Any) -> GuestHost:
    host = GuestHost()
    run(host, [entry(**changes)])
    return host


def test_a_new_guest_is_what_was_foretold() -> None:
    host = GuestHost()
    config = [entry(), entry("app", ssh_port=2231, interfaces=[{**PRIVATE[0], "mac": "52:54:00:00:00:02", "address": "10.0.2.11"}])]
    foretold = plan(host, config)
    run(host, config)
    again = plan(host, config)
    assert again.operations == []
    assert again.before == again.after == foretold.after
    assert [guest["state"] for guest in again.before] == ["running", "running"]


@pytest.mark.parametrize("survived", range(6))
def test_a_killed_creation_is_completed(survived: int) -> None:
    config = [entry(disks=[ROOT, DATA])]
    whole = made(disks=[ROOT, DATA])
    host = GuestHost()
    run(host, config, survived)
    run(host, config)
    assert seen(host) == seen(whole)
    assert plan(host, config).operations == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_killed_change_is_completed(change: str) -> None:
    old, new = CHANGES[change]
    config = [entry(**new)]
    start = made(**old)
    whole = copy.deepcopy(start)
    foretold = plan(whole, config)
    assert foretold.operations
    run(whole, config)
    again = plan(whole, config)
    assert again.operations == []
    assert again.before == foretold.after
    for survived in range(1, len(foretold.operations)):
        host = copy.deepcopy(start)
        run(host, config, survived)
        run(host, config)
        assert seen(host) == seen(whole), (survived, foretold.operations[:survived])
