# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about guests; test_guest_recovery has what becomes of it on a host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Means, Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import overlay_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import GIB, Volume
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import (
    AttachDevice,
    DetachDevice,
    GrowLive,
    GrowVolume,
    GuestOperation,
    RemoveFiles,
    SetMark,
    SetMemory,
    SetVcpus,
    ShutDown,
    WriteSeed,
    shell,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_plan import GuestPlan, plan_guests, whereabouts
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Backup, Define, Start
from ansible_collections.hybridlab.platform.tests.unit.core.guest_host import GuestHost, Machine, entry, volume_path

ROOT = {"name": "root", "pool": "fast", "size_gb": 2, "image": "tiny"}
OTHER_NIC = {"segment": "private", "mac": "52:54:00:00:00:02", "address": "10.0.2.11", "prefix": 24, "gateway": "10.0.2.1", "dhcp": True}
MOVED = {"segment": "private", "mac": "52:54:00:00:00:01", "address": "10.0.2.10", "prefix": 24, "gateway": "10.0.2.1", "dhcp": True}


def plan(host: GuestHost, *config: dict[str, Any], state: str = "merged", **facts: Any) -> GuestPlan:
    return plan_guests(state, config, replace(host.facts(), **facts), None, 60)


def made(*config: dict[str, Any]) -> GuestHost:
    host = GuestHost()
    for operation in plan(host, *config).operations:
        host.apply(operation)
    return host


def kinds(operations: list[GuestOperation]) -> list[type]:
    return [type(operation) for operation in operations]


def at_point(host: GuestHost, point: str, disk: str = "root") -> str:
    """Puts the guest's disk on an overlay, as a named point does."""
    path = volume_path("web", disk)
    overlay = overlay_path(path, point)
    host.volumes[overlay] = Volume(overlay, host.volumes[path].capacity, 0, path)
    machine = host.machines["web"]
    machine.xml = machine.xml.replace(path, overlay)
    machine.live = None if machine.live is None else machine.live.replace(path, overlay)
    return overlay


def test_live_changes_come_before_the_definition_that_asks_for_them() -> None:
    found = plan(made(entry()), entry(memory_mb=300, vcpus=2, disks=[{**ROOT, "size_gb": 3}])).operations
    assert kinds(found) == [Backup, SetMemory, SetVcpus, GrowLive, Define]


def test_an_interface_is_swapped_by_its_mac_and_keeps_its_model() -> None:
    (step,) = plan(made(entry()), entry(interfaces=[MOVED])).steps
    assert kinds(list(step.operations)) == [Backup, DetachDevice, AttachDevice, SetMark, Define]
    assert step.moved
    assert not step.disruptive
    attached = next(operation for operation in step.operations if isinstance(operation, AttachDevice))
    for word in ("52:54:00:00:00:01", 'network="private"', 'type="virtio"'):
        assert word in attached.xml


def test_vcpus_that_a_guest_does_not_give_back_are_asked_for_once() -> None:
    host = made(entry(vcpus=2))
    asked = plan(host, entry()).operations
    assert SetVcpus in kinds(asked)
    for operation in asked:
        if not isinstance(operation, SetVcpus):
            host.apply(operation)
    answer = plan(host, entry())
    assert answer.operations == []
    assert "has not given back 1 vCPUs" in answer.warnings[0]


def test_a_grown_disk_without_an_agent_is_told() -> None:
    answer = plan(made(entry(agent=False)), entry(agent=False, disks=[{**ROOT, "size_gb": 3}]))
    assert any("no guest agent" in warning for warning in answer.warnings)


@pytest.mark.parametrize(
    "changes",
    [{"memory_max_mb": 1024}, {"vcpus_max": 4}, {"firmware": "uefi"}, {"tpm": True}, {"boot": ["network"]}, {"agent": False}, {"console": False}],
)
def test_what_qemu_takes_at_its_start_alone_is_disruptive(changes: dict[str, Any]) -> None:
    answer = plan(made(entry()), entry(**changes))
    assert [reason["reason"].split(" is ")[0] for reason in answer.disruptive] == list(changes)
    assert [kind for kind in kinds(answer.operations) if kind in (ShutDown, Start)] == [ShutDown, Start]
    assert plan(made(entry(state="stopped")), entry(**changes)).disruptive == []


def test_cloud_init_of_a_guest_that_lives_is_kept_for_the_next_instance() -> None:
    answer = plan(made(entry()), entry(cloud_init={"domain": "lab.local", "packages": ["vim"]}))
    assert kinds(answer.operations) == [WriteSeed, Backup, SetMark, Define]
    assert "does its work once" in answer.warnings[0]
    assert answer.disruptive == []


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_guest_on_a_named_point_needs_nothing(state: str) -> None:
    host = made(entry(state=state))
    at_point(host, "before-upgrade")
    answer = plan(host, entry(state=state))
    assert answer.operations == []
    assert answer.before == answer.after


def test_the_overlay_that_the_guest_writes_to_is_what_grows() -> None:
    larger = entry(state="stopped", disks=[{**ROOT, "size_gb": 5}])
    host = made(entry(state="stopped"))
    overlay = at_point(host, "before-upgrade")
    (growth,) = [operation for operation in plan(host, larger).operations if isinstance(operation, GrowVolume)]
    assert growth == GrowVolume(overlay, 5 * GIB)
    host.apply(growth)
    # Nothing is asked of the pool any more, though the declared volume is as small as before.
    assert plan(host, larger, space={name: replace(pool, available=0) for name, pool in host.facts().space.items()}).operations == []


def test_with_its_disks_go_the_overlays_of_its_points() -> None:
    host = made(entry(), entry("web-2", interfaces=[OTHER_NIC], ssh_port=2212))
    overlay = at_point(host, "before-upgrade")
    (removal,) = [operation for operation in plan(host, entry(state="absent", remove_disks=True)).operations if isinstance(operation, RemoveFiles)]
    assert set(removal.paths) == {volume_path("web", "root"), overlay, "/pools/fast/web-seed.iso"}


def test_what_a_leaving_guest_has_is_free() -> None:
    host = made(entry())
    heir = entry("heir")
    with pytest.raises(ResourceError, match="is that of guest web already"):
        plan(host, heir)
    answer = plan(host, heir, entry(state="absent", remove_disks=True))
    assert [step.name for step in answer.steps] == ["web", "heir"]


def test_a_doubled_address_is_refused() -> None:
    doubled = {**OTHER_NIC, "address": "10.0.1.10"}
    with pytest.raises(ResourceError, match=r"config\[app\]: its address 10.0.1.10 is that of guest web already"):
        plan(GuestHost(), entry(), entry("app", interfaces=[doubled], ssh_port=2212))


def test_capacity_counts_what_a_guest_may_grow_to_and_whoever_runs() -> None:
    host = made(entry())
    theirs = "<domain type='qemu'><name>theirs</name><uuid>5a0d1f6e-2f9b-4b52-9d0c-b7a2d1e0c001</uuid><memory unit='MiB'>2048</memory><vcpu>3</vcpu></domain>"
    host.machines["theirs"] = Machine(theirs, theirs)
    new = entry("app", interfaces=[OTHER_NIC], ssh_port=2212)
    # web may have 2 vCPUs, theirs 3, app 2: together 7.
    assert plan(host, entry(), new, policy=Policy(vcpus=7)).operations
    with pytest.raises(ResourceError, match="vCPUs: 1 over the limit") as refusal:
        plan(host, entry(), new, policy=Policy(vcpus=6))
    for word in ("running, not ours", "to be started", "theirs"):
        assert word in str(refusal.value)
    with pytest.raises(ResourceError, match="memory"):
        plan(host, entry(memory_max_mb=4096), policy=Policy(memory_percent=70), means=Means(4, 8 * 2**20))
    assert plan(host, entry(), policy=Policy(guests=1)).operations == []


def test_space_is_asked_for_the_whole_set() -> None:
    host = GuestHost(available=3 * GIB)
    assert plan(host, entry()).operations
    with pytest.raises(ResourceError, match=r"web-root.qcow2 2.0 GiB, app-root.qcow2 2.0 GiB"):
        plan(host, entry(), entry("app", interfaces=[OTHER_NIC], ssh_port=2212))


def test_each_operation_has_its_line() -> None:
    disks = [{**ROOT, "size_gb": 3}, {"name": "data", "pool": "large", "size_gb": 1}]
    wanted = entry(interfaces=[MOVED], memory_mb=300, vcpus=2, disks=disks, autostart=False)
    lines = [shell(operation, "qemu:///system", "/backup") for operation in plan(made(entry()), wanted).operations]
    assert [line.split()[3] if line.startswith("virsh") else line.split()[0] for line in lines] == [
        "qemu-img",
        "install",
        "setmem",
        "setvcpus",
        "blockresize",
        "attach-device",
        "detach-device",
        "attach-device",
        "metadata",
        "define",
        "autostart",
    ]


def test_a_leased_address_is_told_where_none_is_declared() -> None:
    found = plan(made(entry(interfaces=[{**MOVED, "address": None}])), entry(interfaces=[{**MOVED, "address": None}])).after[0]
    leases = [{"mac": "52:54:00:00:00:01", "address": "10.0.2.101"}]
    assert whereabouts(found)["addresses"] == []
    assert whereabouts(found, leases)["addresses"] == ["10.0.2.101"]
