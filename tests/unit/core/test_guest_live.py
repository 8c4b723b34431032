# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to a guest while it runs, wherever somebody, or a run that was killed, left it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_xml import write_disk, write_nic
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import GIB
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import AttachDevice, DetachDevice, GrowLive, GrowVolume, SetMemory, SetVcpus
from ansible_collections.hybridlab.platform.tests.unit.core.guest_host import GuestHost, entry, volume_path
from ansible_collections.hybridlab.platform.tests.unit.core.guest_values import DATA, ROOT, at_point, kinds, made, nic, plan, run

MOVED = nic(1, "private")
MAC = "52:54:00:00:00:01"


def live_root(host: GuestHost) -> ET.Element:
    return ET.fromstring(str(host.machines["web"].live))


def without(host: GuestHost, path: str, words: str, live: bool = True, kept: bool = False) -> None:
    """Takes the first device at ``path`` whose XML has these words, as somebody could by hand."""
    machine = host.machines["web"]
    for side in [*(["live"] if live else []), *(["xml"] if kept else [])]:
        root = ET.fromstring(getattr(machine, side))
        devices = root.find("devices")
        assert devices is not None
        devices.remove(next(device for device in devices.iterfind(path) if words in ET.tostring(device, encoding="unicode")))
        setattr(machine, side, ET.tostring(root, encoding="unicode"))


def targets(host: GuestHost) -> list[str]:
    return [target.get("dev", "") for target in live_root(host).iterfind("devices/disk/target")]


def settled(host: GuestHost, config: dict[str, Any]) -> None:
    run(host, config)
    second = plan(host, config)
    assert second.operations == []
    assert second.warnings == ()


def test_memory_and_vcpus_follow_while_it_runs() -> None:
    host = made(entry())
    answer = plan(host, entry(memory_mb=512, vcpus=2))
    assert [operation for operation in answer.operations if isinstance(operation, (SetMemory, SetVcpus))] == [SetMemory("web", 512), SetVcpus("web", 2)]
    assert answer.disruptive == []
    settled(host, entry(memory_mb=512, vcpus=2))
    settled(host, entry(memory_mb=256, vcpus=1))


def test_what_the_balloon_has_come_to_is_the_guest_s_doing() -> None:
    host = made(entry())
    host.apply(SetMemory("web", 200))
    assert plan(host, entry()).operations == []


def test_vcpus_taken_by_hand_are_given_back() -> None:
    host = made(entry(vcpus=2))
    host.apply(SetVcpus("web", 1))
    assert plan(host, entry(vcpus=2)).operations == [SetVcpus("web", 2)]


def test_vcpus_that_were_not_given_back_are_told_and_not_asked_for_again() -> None:
    host = made(entry(vcpus=2))
    run(host, entry(vcpus=1))
    host.apply(SetVcpus("web", 2))
    answer = plan(host, entry(vcpus=1))
    assert answer.operations == []
    assert answer.warnings == ("guest web: it has not given back 1 vCPUs, and will have 1 after its next start",)


@pytest.mark.parametrize("pointed", [True, False])
def test_a_disk_grows_where_the_guest_writes(pointed: bool) -> None:
    host = made(entry(disks=[ROOT, DATA]))
    for disk, pool in (("root", "fast"), ("data", "large")):
        if pointed:
            at_point(host, "good", disk, pool)
    config = entry(disks=[{**ROOT, "size_gb": 4}, {**DATA, "size_gb": 5}])
    growth = [operation for operation in plan(host, config).operations if isinstance(operation, (GrowLive, GrowVolume))]
    assert growth == [GrowLive("web", "root", "vda", 4 * GIB, True), GrowLive("web", "data", "vdb", 5 * GIB, False)]
    before = dict(host.volumes)
    settled(host, config)
    changed = {path for path, volume in host.volumes.items() if before[path] != volume}
    end = "@good.qcow2" if pointed else ".qcow2"
    assert changed == {f"/pools/fast/web-root{end}", f"/pools/large/web-data{end}"}


def test_new_disks_get_targets_of_their_own() -> None:
    host = made(entry())
    config = entry(disks=[ROOT, DATA, {**DATA, "name": "logs"}])
    answer = run(host, config)
    assert kinds(answer.operations) == ["MakeVolume", "MakeVolume", "Backup", "AttachDevice", "AttachDevice", "SetMark", "Define"]
    assert sorted(targets(host)) == ["vda", "vdb", "vdc", "vdz"]
    assert plan(host, config).operations == []


def test_a_disk_that_only_the_kept_definition_has_is_plugged_in() -> None:
    host = made(entry(disks=[ROOT, DATA]))
    without(host, "disk", "web-data")
    answer = plan(host, entry(disks=[ROOT, DATA]))
    assert kinds(answer.operations) == ["AttachDevice", "SetMark"]
    settled(host, entry(disks=[ROOT, DATA]))


def test_a_disk_that_only_the_running_definition_has_is_kept() -> None:
    host = made(entry(disks=[ROOT, DATA]))
    without(host, "disk", "web-data", live=False, kept=True)
    assert kinds(plan(host, entry(disks=[ROOT, DATA])).operations) == ["Backup", "Define"]
    settled(host, entry(disks=[ROOT, DATA]))


def test_an_undeclared_disk_is_unplugged_from_the_overlay_that_it_is_on() -> None:
    host = made(entry(disks=[ROOT, DATA]))
    overlay = at_point(host, "good", "data", "large")
    (detach,) = [operation for operation in plan(host, entry(remove_disks=True)).operations if isinstance(operation, DetachDevice)]
    assert detach.device == "disk data"
    assert overlay in detach.xml
    assert 'dev="vdb"' in detach.xml
    settled(host, entry(remove_disks=True))
    assert [path for path in host.volumes if "data" in path] == []


def test_an_interface_is_unplugged_before_it_is_plugged_in_elsewhere() -> None:
    host = made(entry())
    (step,) = plan(host, entry(interfaces=[MOVED])).steps
    swap = [operation for operation in step.operations if isinstance(operation, (DetachDevice, AttachDevice))]
    assert kinds(swap) == ["DetachDevice", "AttachDevice"]
    assert all(MAC in operation.xml for operation in swap)
    assert [operation.device for operation in swap] == [f"interface {MAC} in public", f"interface {MAC} in private"]
    assert (step.moved, step.starts, step.disruptive) == (True, False, ())
    settled(host, entry(interfaces=[MOVED]))


@pytest.mark.parametrize("config", [entry(), entry(interfaces=[MOVED])])
def test_an_interface_that_a_killed_run_only_unplugged_is_plugged_in(config: dict[str, Any]) -> None:
    host = made(entry())
    without(host, "interface", MAC)
    answer = plan(host, config)
    assert "DetachDevice" not in kinds(answer.operations)
    assert answer.steps[0].moved
    settled(host, config)
    assert len(live_root(host).findall("devices/interface")) == 1


def test_an_interface_that_a_killed_run_has_moved_already_is_only_written_down() -> None:
    host = made(entry())
    answer = plan(host, entry(interfaces=[MOVED]))
    for operation in answer.operations:
        if isinstance(operation, (DetachDevice, AttachDevice)):
            host.apply(operation)
    assert kinds(plan(host, entry(interfaces=[MOVED])).operations) == ["Backup", "SetMark", "Define"]
    settled(host, entry(interfaces=[MOVED]))


def test_an_interface_of_ours_that_is_in_no_network_comes_back() -> None:
    host = made(entry())
    machine = host.machines["web"]
    for side in ("xml", "live"):
        text = str(getattr(machine, side)).replace('<interface type="network">', '<interface type="bridge">').replace('network="public"', 'bridge="br9"')
        setattr(machine, side, text)
    (detach,) = [operation for operation in plan(host, entry()).operations if isinstance(operation, DetachDevice)]
    assert detach.device == f"interface {MAC} in no network"
    settled(host, entry())


def test_a_suspended_guest_is_woken_for_it_and_nobody_waits_for_its_address() -> None:
    host = made(entry(state="suspended"))
    (step,) = plan(host, entry(state="suspended", interfaces=[MOVED])).steps
    assert kinds(step.operations) == ["Backup", "Resume", "DetachDevice", "AttachDevice", "SetMark", "Define", "Suspend"]
    assert not step.moved
    settled(host, entry(state="suspended", interfaces=[MOVED]))


def test_another_name_or_address_is_only_written_down() -> None:
    host = made(entry(state="suspended"))
    config = entry(state="suspended", names=["www"], interfaces=[nic(1, address="10.0.1.99")])
    (step,) = plan(host, config).steps
    assert kinds(step.operations) == ["Backup", "SetMark", "Define"]
    assert not step.moved
    settled(host, config)


def test_a_disk_that_grew_under_a_guest_without_an_agent_is_told() -> None:
    config = entry(agent=False, disks=[{**ROOT, "size_gb": 4}])
    answer = plan(made(entry(agent=False)), config)
    assert answer.warnings == ("guest web: it has no guest agent, so the file system on a grown disk follows at its next boot",)
    quiet = plan(made(entry(agent=False)), entry(agent=False, memory_mb=300))
    assert quiet.warnings == ()


def test_the_snippets_are_those_of_a_whole_definition() -> None:
    host = made(entry(disks=[ROOT, DATA]))
    domain = host.facts().domains[0].live
    assert domain is not None
    root = live_root(host)
    for snippet, words in ((write_disk(domain.disks[1], "vdb"), volume_path("web", "data", "large")), (write_nic(domain.nics[0]), MAC)):
        device = next(device for device in root.iterfind("devices/*") if words in ET.tostring(device, encoding="unicode"))
        assert ET.canonicalize(ET.tostring(device), strip_text=True) == ET.canonicalize(snippet, strip_text=True)
