# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From two lines of the model to two machines that answer, and what an operator does with them next.

The tests of this module build on each other: each leaves the host as the next one's name says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.compare import assert_same, plan
from tests.integration.guest_shell import changed_guests, eventually, inside
from tests.integration.lab import INVENTORY, Lab, fresh
from tools import guest_login, playbook


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    """A host on which nothing was done yet."""
    with fresh("guests", guests=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """What earlier tests of this module leave for later ones."""
    return {}


def ad_hoc(host: Lab, *arguments: str) -> str:
    """What ``ansible`` prints when it is called with the inventory of that host."""
    program = Path(sys.executable).parent / "ansible"
    done = subprocess.run(
        [str(program), "-i", INVENTORY, *arguments],
        cwd=playbook.CHECKOUT,
        env=playbook.environment(host.name),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_check_mode_on_a_bare_host_shows_the_plan_and_changes_nothing(host: Lab, runs: dict[str, Any]) -> None:
    before = host.snapshot()
    outcome = host.played("site.yml", "--check", "--diff")
    assert_same(before, host.snapshot())
    runs["plan"] = plan(outcome)
    commands = "\n".join(runs["plan"]["hybridlab.platform.guests : Bring the guests to their declared state"]["commands"])
    assert "virsh -c qemu:///system start web" in commands


def test_the_first_run_does_what_was_planned(host: Lab, runs: dict[str, Any]) -> None:
    outcome = host.played("site.yml", "--diff")
    assert_same(json.dumps(runs["plan"], indent=1), json.dumps(plan(outcome), indent=1))
    runs["first"] = outcome


def test_the_matrix_holds_inside_the_guests(runs: dict[str, Any]) -> None:
    result = runs["first"].task("Open them again from inside the guests").result
    assert (result["pairs_ok"], result["pairs_total"], result["internet_ok"]) == (20, 20, 5)
    given = {name: segment["address"] for name, segment in result["segments"].items() if segment["probe"] == "given"}
    assert given == {"public": "10.0.1.10", "private": "10.0.2.10"}


def test_the_second_run_changes_nothing(host: Lab) -> None:
    outcome = host.played("site.yml", "--diff")
    assert outcome.changed == 0, plan(outcome)


def test_every_guest_answers_through_the_hosts_forward(host: Lab) -> None:
    logins = guest_login.through_forwards(host.name)
    assert [(login.name, login.port, login.error) for login in logins] == [("app", 2231, ""), ("web", 2211, "")]


def test_names_resolve_in_every_guest(host: Lab) -> None:
    for guest, other, address in (("web", "app", "10.0.2.10"), ("app", "www", "10.0.1.10")):
        assert address in inside(host, guest, f"nslookup {other}.lab.local || getent hosts {other}.lab.local")


def test_the_inventory_reaches_the_guests_of_a_segment(host: Lab) -> None:
    answer = ad_hoc(host, "segment_private", "-m", "ping", "-o")
    assert "app | SUCCESS" in answer
    assert "web" not in answer


def test_memory_processors_and_disks_grow_while_the_guest_runs(host: Lab, tmp_path: Path) -> None:
    def uptime() -> float:
        return float(inside(host, "web", "cat /proc/uptime").split()[0])

    def memory_kib() -> int:
        return int(inside(host, "web", "grep MemTotal /proc/meminfo").split()[1])

    def disk_kib() -> int:
        return int(inside(host, "web", "df -k / | tail -1").split()[1])

    def grow(guests: dict[str, dict[str, Any]]) -> None:
        guests["web"].update(memory_mb=256, vcpus=2, disks=[{"name": "root", "pool": "fast", "size_gb": 2}, {"name": "data", "pool": "large", "size_gb": 1}])

    memory, disk, up = memory_kib(), disk_kib(), uptime()
    arguments = changed_guests(tmp_path, grow)
    outcome = host.played("playbooks/guests.yml", "--diff", *arguments)
    assert outcome.task("Bring the guests to their declared state").result["disruptive"] == []
    assert eventually(lambda: memory_kib() > memory + 50 * 1024, 20)
    assert eventually(lambda: inside(host, "web", "nproc").strip() == "2", 20)
    assert eventually(lambda: disk_kib() > disk + 512 * 1024, 20)
    assert eventually(lambda: inside(host, "web", "cat /sys/class/block/vd*/serial /sys/class/block/vd*/size"), 20).count("data") == 1
    assert uptime() > up
    assert host.played("playbooks/guests.yml", *arguments).changed == 0


def test_what_needs_a_restart_is_refused_until_it_is_allowed(host: Lab, tmp_path: Path) -> None:
    def larger(guests: dict[str, dict[str, Any]]) -> None:
        guests["app"]["memory_max_mb"] = 512

    arguments = changed_guests(tmp_path, larger)
    before = host.sh("virsh dumpxml --inactive app")
    refused = host.play("playbooks/guests.yml", *arguments)
    assert refused.rc != 0
    assert "allow_disruption" in refused.failures()
    assert host.sh("virsh dumpxml --inactive app") == before


def test_a_guest_moves_from_the_stock_network_into_its_segment(host: Lab) -> None:
    mac = host.sh("virsh -q domiflist app").split()[-1]
    host.sh(
        "virsh net-start default; virsh net-autostart default;"
        f"virsh detach-interface app network --mac {mac} --live --config;"
        f"virsh attach-interface app network default --mac {mac} --model virtio --live --config"
    )
    eventually(lambda: "192.168.122." in host.sh("virsh net-dhcp-leases default"))
    outcome = host.played("site.yml", "--diff")
    assert "default" not in host.sh("virsh -q domiflist app")
    assert "10.0.2.10" in inside(host, "app", "busybox ip -4 addr")
    kept = outcome.task("Bring the guests to their declared state").result["backups"]
    assert any("network='default'" in host.sh(f"cat {path}") for path in kept)
    assert host.sh("virsh -q net-list --all | grep default").split() == ["default", "inactive", "no", "yes"]


def test_guests_keep_their_link_when_a_network_restarts(host: Lab) -> None:
    host.sh("virsh net-destroy private; virsh net-start private")
    host.played("playbooks/segments.yml")
    # The bridge's spanning tree listens and learns first.
    assert eventually(lambda: inside(host, "app", "hostname").strip() == "app", 60)


def test_a_point_of_the_whole_lab_brings_a_broken_guest_back(host: Lab) -> None:
    inside(host, "app", "echo kept > /root/note; sync")
    host.played("playbooks/snapshot.yml", "-e", "point=good")
    inside(host, "app", "echo lost > /root/note; rm -rf /etc/dropbear /usr/sbin/dropbear /sbin/init; sync")
    host.sh("virsh reset app")
    refused = host.play("playbooks/revert.yml", "-e", "point=good")
    assert "discard" in refused.failures()
    host.played("playbooks/revert.yml", "-e", "point=good", "-e", "discard=true")
    assert eventually(lambda: inside(host, "app", "cat /root/note").strip() == "kept", 90)
    assert eventually(lambda: inside(host, "web", "hostname").strip() == "web", 90)
    assert host.played("site.yml").changed == 0


def test_a_reboot_of_the_host_brings_the_guests_back(host: Lab) -> None:
    host.restart()
    assert eventually(lambda: [login.error for login in guest_login.through_forwards(host.name)] == ["", ""], 120)


def test_absent_guests_take_their_disks_only_when_told(host: Lab, tmp_path: Path) -> None:
    def without(guests: dict[str, dict[str, Any]]) -> None:
        guests["web"].update(state="absent", remove_disks=False)
        guests["app"].update(state="absent", remove_disks=True)

    arguments = changed_guests(tmp_path, without)
    refused = host.play("playbooks/guests.yml", *arguments)
    assert refused.rc != 0
    assert "points" in refused.failures()
    ad_hoc(host, "kvm_hosts", "-b", "-m", "hybridlab.platform.libvirt_snapshots", "-a", "state=deleted")
    host.played("playbooks/guests.yml", *arguments)
    assert host.sh("virsh -q list --all --name").split() == []
    files = host.sh("ls /var/lib/libvirt/images").split()
    assert "web-root.qcow2" in files
    assert not [name for name in files if name.startswith("app-")]
