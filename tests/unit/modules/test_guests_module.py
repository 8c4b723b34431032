# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task of libvirt_guests gives back, and how it refuses: the module's edges. test_libvirt_guests has its everyday work."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guest_run
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guests as host_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.host.waits import Reached, Wait
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_guests
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import Caller
from ansible_collections.hybridlab.platform.tests.unit.modules.test_libvirt_guests import DATA, ROOT, Host, guest


@pytest.fixture
def host(conn: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(host_guests, "choose_accelerator", lambda _wanted: "test")
    return Host(conn, Caller(libvirt_guests, capsys, tmp_path / "rollback"), tmp_path)


def told(**user_data: Any) -> dict[str, Any]:
    return {"domain": "lab.local", "user_data": json.dumps(user_data)}


def test_short_values_of_user_data_blot_nothing_out(host: Host) -> None:
    plain = host([guest(cloud_init=told(swap={"size": 7, "name": "x"}))], check=True)
    told_more = host([guest(cloud_init=told(swap={"size": 1, "name": "web", "at": "10.0.1.10"}))], check=True)
    for key in ("guests", "disruptive"):
        assert told_more[key] == plain[key]
    assert told_more["guests"][0]["addresses"] == ["10.0.1.10"]
    assert "********" not in json.dumps(told_more)
    assert "VALUE_SPECIFIED" not in json.dumps(told_more)


def test_user_data_is_in_nothing_that_a_failure_says(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    failed = host([guest(cloud_init=told(write_files="correct-horse"))])
    assert failed["failed"] is True
    assert "config[web].cloud_init.user_data.write_files: found no list" in failed["msg"]
    assert "correct-horse" not in json.dumps(failed) + capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interfaces": [{"segment": "public", "mac": "52:54:00:00:01"}]}, "config[web].interfaces[0].mac: found '52:54:00:00:01'"),
        ({"interfaces": [{"segment": "public", "mac": "52:54:00:00:01:01", "address": "10.0.1"}]}, "config[web].interfaces[0].address: found '10.0.1'"),
        ({"interfaces": [{"segment": "public", "mac": "52:54:00:00:01:01", "dhcp": False}]}, "config[web].interfaces[0].address: found nothing"),
        ({"name": "../web"}, "config[../web].name: found '../web'"),
        ({"disks": [ROOT, {**DATA, "name": "a/b"}]}, "config[web].disks[1].name: found 'a/b'"),
        ({"disks": [ROOT, {**DATA, "size_gb": 0}]}, "config[web].disks[1].size_gb: found 0"),
        ({"vcpus": -1}, "config[web].vcpus: found -1"),
        ({"disks": [{**ROOT, "image": None}]}, "config[web].image: found 'tiny'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_first_change(host: Host, changes: dict[str, Any], words: str) -> None:
    assert words in host.refused([guest("first", 30), guest(**changes)])


def test_a_segment_that_comes_with_the_same_playbook_can_be_planned(host: Host) -> None:
    config = [guest(interfaces=[{"segment": "new", "mac": "52:54:00:00:01:10"}])]
    assert "there is no such network" in host.refused(config)
    assert "there is no such network" in host.refused(config, networks=["new"])
    foretold = host(config, check=True, networks=["new"])
    host.conn.networkDefineXML("<network><name>new</name><bridge name='br-new'/></network>").create()
    done = host(config, networks=["new"])
    for key in ("before", "after", "commands", "diff"):
        assert done[key] == foretold[key], key


def test_a_file_in_the_place_of_a_disk_is_never_overwritten(host: Host) -> None:
    file = host.large / "web-data.qcow2"
    file.write_text("precious", encoding="utf-8")
    config = [guest("first", 30), guest(disks=[ROOT, DATA])]
    failed = host(config)
    assert f"config[web].disks[data]: {file} exists already, and is no qcow2 file" in failed["msg"]
    assert host(config, check=True)["msg"] == failed["msg"]
    assert file.read_text(encoding="utf-8") == "precious"
    assert host.conn.listAllDomains() == []


def test_a_disk_whose_volume_is_gone_is_not_made_anew(host: Host) -> None:
    host([guest(state="stopped")])
    (host.fast / "web-root.qcow2").unlink()
    assert "web-root.qcow2 is gone" in host.refused([guest()])
    # It can still be removed, and then be made anew.
    host.same([{"name": "web", "state": "absent", "remove_disks": True}])
    host.same([guest()])


def test_a_disk_of_a_guest_with_a_point_grows_in_its_overlay(host: Host) -> None:
    host([guest(state="stopped")])
    base, overlay = host.fast / "web-root.qcow2", host.fast / "web-root@good.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(overlay)], check=True, timeout=60)
    host.conn.defineXML(host.conn.lookupByName("web").XMLDesc().replace(str(base), str(overlay)))
    assert host([guest(state="stopped")])["changed"] is False
    host.same([guest(state="stopped", disks=[{**ROOT, "size_gb": 2}])])
    assert (host.size(base)[0], host.size(overlay)[0]) == (2**30, 2**31)
    host.same([{"name": "web", "state": "absent", "remove_disks": True}])
    assert [path.name for path in host.fast.iterdir()] == [host.image.name]


def test_another_platforms_guest_is_not_removed(host: Host) -> None:
    host([guest()])
    assert "platform lab made that guest" in host.refused([{"name": "web", "platform": "other", "state": "absent", "remove_disks": True}])
    assert host([{"name": "web", "platform": "lab", "state": "absent", "remove_disks": True}])["changed"] is True


def test_a_guest_that_only_runs_is_removed_whole(host: Host) -> None:
    host([guest()])
    xml = host.conn.lookupByName("web").XMLDesc()
    host.conn.lookupByName("web").destroy()
    host.conn.lookupByName("web").undefine()
    host.conn.createXML(xml)
    assert "runs without a kept definition" in host.refused([guest()])
    done = host.same([{"name": "web", "state": "absent", "remove_disks": True}])
    assert done["after"] == []
    assert host.conn.listAllDomains() == []
    assert [path.name for path in host.fast.iterdir()] == [host.image.name]


def test_a_seed_that_is_no_longer_told_goes_with_a_restart(host: Host) -> None:
    host([guest()])
    assert "seed is" in host.refused([guest(cloud_init=None)])
    host.same([guest(cloud_init=None)], allow_disruption=True)
    assert not (host.fast / "web-seed.iso").exists()


def test_guests_that_stop_make_room_for_those_that_start(host: Host) -> None:
    host([guest(), guest("app", 20)])
    done = host.same([guest("third", 30), guest("app", 20, state="stopped"), guest()], capacity={"guests": 2})
    order = [line.split()[3:5] for line in done["commands"] if line.split()[0] == "virsh" and line.split()[3] in ("start", "shutdown")]
    assert order == [["shutdown", "app;"], ["start", "third"]]


def test_rendered_asks_nothing_of_the_machine_that_it_runs_on(host: Host) -> None:
    pools = {"pools": [{"name": "fast", "path": str(host.fast)}]}
    before = host([guest()], state="rendered", **pools)["rendered"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(host.fast / "web-root.qcow2"), "1M"], check=True, timeout=60)
    assert host([guest()], state="rendered", capacity={"guests": 0}, **pools)["rendered"] == before


def test_a_policy_that_is_none_is_refused(host: Host) -> None:
    assert "capacity.guest: there is no such limit" in host.refused([guest()], capacity={"guest": 8})
    assert "capacity.memory_percent: found 101" in host.refused([guest()], capacity={"memory_percent": 101})


def test_a_text_of_user_data_is_one_json_object(host: Host) -> None:
    message = host.refused([guest(cloud_init={"domain": "lab.local", "user_data": {"password": "correct-horse"}})])
    assert "config[web].cloud_init.user_data: found no JSON object" in message
    assert "correct-horse" not in message


def test_each_platform_sees_its_own_guests(host: Host) -> None:
    ours, theirs = guest(), guest("app", 20, platform="other")
    host([ours, theirs])
    assert [entry["name"] for entry in host(state="gathered", platform="other")["gathered"]] == ["app"]
    assert {entry["name"] for entry in host(state="gathered")["gathered"]} == {"app", "web"}
    assert host([ours], platform="lab")["undeclared"] == []
    host.same([ours], state="overridden", remove_disks=True, platform="lab")
    host.same(state="deleted", remove_disks=True, platform="lab")
    assert [domain.name() for domain in host.conn.listAllDomains()] == ["app"]
    assert (host.fast / "app-root.qcow2").exists()


def test_a_wait_that_failed_is_not_forgotten(host: Host) -> None:
    config = [guest(wait_for="address", wait_seconds=1), guest("app", 20)]
    assert host(config)["failed"] is True
    again = host(config)
    assert again["failed"] is True
    assert "guest web:" in again["msg"]
    assert "expected: 10.0.1.10" in again["msg"]
    # A check waits for nobody.
    assert host(config, check=True)["changed"] is False
    assert host([guest(wait_for="address", wait_seconds=1, state="stopped")])["changed"] is True


def test_guests_that_ran_before_are_looked_at_together_and_briefly(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Wait]] = []

    def reach(_conn: Any, waits: Sequence[Wait]) -> dict[str, Reached]:
        asked.append(list(waits))
        return {wait.name: Reached(0.1, "there") for wait in waits}

    monkeypatch.setattr(guest_run, "wait_for_all", reach)
    host([guest(wait_for="ssh", wait_seconds=5), guest("app", 20, wait_for="agent")])
    assert host([guest(wait_for="ssh", wait_seconds=5), guest("app", 20, wait_for="agent"), guest("third", 30)])["reached"] == {"web": "there", "app": "there"}
    first, second = asked
    assert [(wait.name, wait.seconds, wait.since > 0) for wait in first] == [("web", 5, True), ("app", 300, True)]
    assert [(wait.name, wait.goal, wait.seconds, wait.since) for wait in second] == [("web", "ssh", 5, 0.0), ("app", "agent", 20, 0.0)]


def test_an_image_is_named_once(host: Host) -> None:
    images = host.common["images"]
    assert "images[1].name: found 'tiny'" in host.refused([guest()], images=[*images, *images])


def test_an_overlay_that_somebody_made_keeps_its_base(host: Host) -> None:
    host([guest(state="stopped")])
    base, clone = host.fast / "web-root.qcow2", host.large / "clone.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "../fast/web-root.qcow2", "-F", "qcow2", str(clone)], check=True, timeout=60)
    message = host.refused([{"name": "web", "state": "absent", "remove_disks": True}])
    assert str(clone) in message
    assert str(base) in message
