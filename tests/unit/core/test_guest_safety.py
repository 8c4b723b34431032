# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan leaves alone, refuses or asks leave for, so that nobody loses what is theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import read_domain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import GIB, BaseImage, Volume, declare_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import RemoveFiles, ShutDown, TellSsh
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Start
from ansible_collections.hybridlab.platform.tests.unit.core.guest_host import GuestHost, Machine, entry, volume_path
from ansible_collections.hybridlab.platform.tests.unit.core.guest_values import DATA, ROOT, foreign, kinds, made, nic, numbered, plan, refusal, run

STATIC = nic(1, dhcp=False)
GONE = {"state": "absent", "remove_disks": True}
OTHERS = numbered(2, platform="other")


def told(user_data: Any) -> dict[str, Any]:
    return entry(cloud_init={"domain": "lab.local", "users": [], "packages": [], "commands": [], "user_data": user_data})


# --- whose guests they are


def test_guests_of_another_platform_are_left_alone() -> None:
    host = made(entry(), numbered(3), OTHERS)
    answer = plan(host, entry(), state="overridden", remove_disks=True, platform="lab")
    assert [step.name for step in answer.steps if step.operations] == ["guest-3"]
    assert [step.name for step in plan(host, state="deleted", remove_disks=True, platform="other").steps] == ["guest-2"]
    assert plan(host, entry(), platform="lab").undeclared == ("guest-3",)
    assert plan(host, entry()).undeclared == ("guest-2", "guest-3")


def test_a_guest_of_another_platform_is_not_removed_by_its_name_either() -> None:
    message = refusal(made(OTHERS), {"name": "guest-2", "remove_disks": True}, state="deleted", platform="lab")
    assert "platform other made that guest" in message


# --- interfaces that the guest has set itself


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (nic(1), nic(1, "private", dhcp=False)),
        (STATIC, nic(1, "private")),
        (STATIC, nic(1, "private", dhcp=False)),
        (STATIC, nic(1, address="10.0.1.99", dhcp=False)),
        (STATIC, nic(1)),
    ],
)
def test_what_the_guest_reads_of_its_seed_at_its_start_needs_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    host = made(entry(interfaces=[old]))
    (step,) = plan(host, entry(interfaces=[new])).steps
    assert len(step.disruptive) == 1
    assert "52:54:00:00:00:01" in step.disruptive[0]
    assert "at its start" in step.disruptive[0]
    assert (step.starts, step.moved) == (True, False)
    assert [kind for kind in kinds(step.operations) if kind in ("ShutDown", "Start")] == ["ShutDown", "Start"]
    run(host, entry(interfaces=[new]))
    again = plan(host, entry(interfaces=[new]))
    assert again.operations == []
    assert again.before == again.after


def test_what_dhcp_tells_needs_no_start() -> None:
    host = made(entry())
    for new in (nic(1, "private"), nic(1, address="10.0.1.99")):
        assert plan(host, entry(interfaces=[new])).disruptive == []
    bare: dict[str, Any] = {"cloud_init": None}
    assert plan(made(entry(interfaces=[STATIC], **bare)), entry(interfaces=[nic(1, "private", dhcp=False)], **bare)).disruptive == []


# --- data


@pytest.mark.parametrize("state", ["running", "suspended"])
def test_a_disk_in_use_is_removed_only_with_leave(state: str) -> None:
    answer = plan(made(entry(state=state, disks=[ROOT, DATA])), entry(state=state, remove_disks=True))
    assert [reason["reason"] for reason in answer.disruptive] == [f"its disk data ({volume_path('web', 'data', 'large')}) is unplugged and removed"]
    assert not {"ShutDown", "Start"} & set(kinds(answer.operations))
    assert plan(made(entry(state="stopped", disks=[ROOT, DATA])), entry(state="stopped", remove_disks=True)).disruptive == []
    assert plan(made(entry(state=state, disks=[ROOT, DATA])), entry(state=state)).disruptive == []


@pytest.mark.parametrize("remaining", [{"name": "web", **GONE}, entry(state="stopped", disks=[ROOT], remove_disks=True)])
def test_a_volume_that_another_is_an_overlay_on_stays(remaining: dict[str, Any]) -> None:
    host = made(entry(state="stopped", disks=[ROOT, DATA]))
    path = volume_path("web", "data", "large")
    clone = "/pools/large/clone.qcow2"
    host.volumes[clone] = Volume(clone, 3 * GIB, 0, path)
    message = refusal(host, remaining)
    for word in ("config[web]", path, clone, "Nothing was changed"):
        assert word in message
    del host.volumes[clone]
    assert any(isinstance(operation, RemoveFiles) for operation in plan(host, remaining).operations)


@pytest.mark.parametrize("element", ["<source file='{}'/>", "<source file='/else'/><backingStore type='file'><source file='{}'/></backingStore>"])
def test_a_volume_that_another_domain_uses_stays(element: str) -> None:
    host = made(entry(state="stopped"))
    path = volume_path("web", "root")
    reader = foreign("reader", running=False).xml.replace(
        "<devices>", f"<devices><disk type='file'>{element.format(path)}<target dev='sda' bus='sata'/></disk>"
    )
    host.machines["reader"] = Machine(reader)
    message = refusal(host, {"name": "web", **GONE})
    for word in ("config[web]", path, "guest reader"):
        assert word in message
    assert plan(host, {"name": "web", "state": "absent", "remove_disks": False}).operations


def test_guests_that_share_and_go_together_go() -> None:
    host = made(entry(state="stopped"), numbered(2, state="stopped"))
    path = volume_path("guest-2", "root")
    host.volumes[path] = replace(host.volumes[path], backing=volume_path("web", "root"))
    assert volume_path("guest-2", "root") in refusal(host, {"name": "web", **GONE})
    assert plan(host, {"name": "web", **GONE}, {"name": "guest-2", **GONE}).operations


def test_an_image_that_has_grown_says_nothing_about_disks_that_are_there() -> None:
    host = made(entry())
    renewed = {"tiny": BaseImage("/pools/fast/image-tiny-ffffffffffff.qcow2", "qcow2", 5 * GIB)}
    full = {name: replace(space, available=0) for name, space in host.facts().space.items()}
    assert plan(host, entry(), images=renewed, space=full).operations == []
    assert plan(host, entry(disks=[{**ROOT, "size_gb": None}]), images=renewed, space=full).operations == []
    assert "config[guest-2].disks[root].size_gb: found 2, but image tiny alone is 5.0 GiB large" in refusal(host, entry(), numbered(2), images=renewed)


def test_a_guest_keeps_its_accelerator_until_another_is_said() -> None:
    host = made(entry())
    assert plan(host, entry(), accelerator="kvm", accelerator_said=False).operations == []
    assert [reason["reason"].split(" is ")[0] for reason in plan(host, entry(), accelerator="kvm").disruptive] == ["accelerator"]
    new = plan(host, entry(), numbered(2), accelerator="kvm", accelerator_said=False)
    assert [guest["accelerator"] for guest in new.after] == ["kvm", "qemu"]


# --- its SSH port


def test_a_changed_ssh_port_is_told_the_running_guest() -> None:
    host = made(entry())
    answer = run(host, entry(ssh_port=2299))
    assert [operation for operation in answer.operations if isinstance(operation, TellSsh)] == [TellSsh("web", 2299)]
    assert answer.disruptive == []
    assert "the network and the SSH port" in answer.warnings[0]
    assert plan(host, entry(ssh_port=2299)).operations == []
    for changes in ({"ssh_port": None}, {"ssh_port": 22}, {"ssh_port": 2300, "state": "stopped"}):
        assert "TellSsh" not in kinds(plan(host, entry(**changes)).operations)
    bare = made(entry(cloud_init=None))
    assert "TellSsh" not in kinds(plan(bare, entry(cloud_init=None, ssh_port=2299)).operations)


def test_without_an_agent_the_port_follows_at_the_next_start() -> None:
    answer = plan(made(entry(agent=False)), entry(agent=False, ssh_port=2299))
    assert "TellSsh" not in kinds(answer.operations)
    assert any("sshd listens on port 2299 from its next start on" in warning for warning in answer.warnings)


# --- further keys for cloud-init


def test_user_data_is_one_json_object() -> None:
    (guest,) = declare_guests([told(json.dumps({"swap": {"size": 10}}))], GuestHost().facts())
    assert guest.documents is not None
    assert "size: 10" in guest.documents["user-data"]
    assert "and user_data, which is not shown: swap" in guest.shown["user-data"]
    for nothing in (None, "", "{}"):
        assert declare_guests([told(nothing)], GuestHost().facts())[0].documents == guest_without().documents


def guest_without() -> Any:
    return declare_guests([told(None)], GuestHost().facts())[0]


@pytest.mark.parametrize("text", ["{'password': 'hunter2'}", '["hunter2"]', '"hunter2"', "hunter2: x"])
def test_what_is_no_json_object_is_refused_without_saying_it(text: str) -> None:
    with pytest.raises(ResourceError, match=r"config\[web\]\.cloud_init\.user_data: found no JSON object") as refused:
        declare_guests([told(text)], GuestHost().facts())
    assert "hunter2" not in str(refused.value)


def test_the_mark_says_which_interfaces_are_set_by_the_guest() -> None:
    host = made(entry(interfaces=[STATIC, nic(2)]))
    assert [interface.dhcp for interface in read_domain(host.machines["web"].xml)[0].nics] == [False, True]
    assert [operation for operation in plan(host, entry(interfaces=[STATIC, nic(2)])).operations if isinstance(operation, (Start, ShutDown))] == []
