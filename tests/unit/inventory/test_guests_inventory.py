# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin on real inventories: hosts, groups, ways to connect, refreshing, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.utils.display import Display
from ansible_collections.hybridlab.platform.plugins.inventory import guests
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_inventory import SnapshotError, group_name, read_snapshot

CHECKOUT = Path(__file__).resolve().parents[3]
WEB = {
    "name": "web",
    "state": "running",
    "segment": "public",
    "segments": ["public", "storage-net"],
    "addresses": ["10.0.1.20/24", "10.0.5.20"],
    "ssh_port": 2211,
    "user": "admin",
    "aliases": ["www"],
    "image": "debian-12",
    "autostart": True,
}
OLD = {"name": "old", "state": "stopped", "segment": "private", "addresses": [None], "ssh_port": None}


def snapshot(*listed: dict[str, Any], written: Any = None) -> str:
    return json.dumps({"platform": "lab", "kvm_host": "dell", "written": time.time() if written is None else written, "guests": list(listed)})


class Source:
    """An inventory file for the plugin, with its snapshot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "platform.guests.yml"
        self.snapshot = folder / ".guests-dell.json"
        self.write(snapshot(WEB, OLD))

    def write(self, text: str, age: float = 0) -> None:
        self.snapshot.write_text(text, encoding="utf-8")
        os.utime(self.snapshot, (time.time() - age,) * 2)

    def read(self, inventory: Optional[InventoryData] = None, cache: bool = True, **options: Any) -> InventoryData:
        settings = {"plugin": "hybridlab.platform.guests", "snapshot": ".guests-dell.json", "host_address": "dell.lab", **options}
        self.file.write_text(json.dumps(settings), encoding="utf-8")
        found = inventory or InventoryData()
        plugin = inventory_loader.get("hybridlab.platform.guests")
        assert plugin.verify_file(str(self.file))
        plugin.parse(found, DataLoader(), str(self.file), cache=cache)
        found.reconcile_inventory()
        return found


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _self, msg, *_args, **_kwargs: said.append(msg))
    return said


def members(inventory: InventoryData, group: str) -> list[str]:
    return sorted(host.name for host in inventory.groups[group].hosts)


def test_groups_and_variables(source: Source) -> None:
    inventory = source.read()
    assert members(inventory, "guests") == ["old", "web"]
    for group in ("segment_public", "segment_storage_net", "guest_state_running", "image_debian_12"):
        assert members(inventory, group) == ["web"], group
    assert members(inventory, "guest_state_stopped") == members(inventory, "segment_private") == ["old"]
    web = inventory.hosts["web"].vars
    assert {key: value for key, value in web.items() if key.startswith("guest_")} == {
        "guest_platform": "lab",
        "guest_kvm_host": "dell",
        "guest_state": "running",
        "guest_segment": "public",
        "guest_segments": ["public", "storage-net"],
        "guest_addresses": ["10.0.1.20", "10.0.5.20"],
        "guest_ssh_port": 2211,
        "guest_aliases": ["www"],
        "guest_image": "debian-12",
        "guest_autostart": True,
    }
    assert inventory.hosts["old"].vars["guest_addresses"] == []
    assert "ansible_host" not in inventory.hosts["old"].vars


def test_through_the_forward(source: Source) -> None:
    web = source.read(user="root", private_key_file="keys/lab").hosts["web"].vars
    assert (web["ansible_host"], web["ansible_port"], web["ansible_user"]) == ("dell.lab", 2211, "admin")
    assert web["ansible_ssh_private_key_file"] == str(source.folder / "keys/lab")
    known = source.folder / ".guests-dell.json.known_hosts"
    assert web["ansible_ssh_common_args"] == f"-o 'UserKnownHostsFile=\"{known}\"' -o StrictHostKeyChecking=accept-new -o HostKeyAlias=web.lab"


def test_a_guest_without_a_forward_is_reached_at_its_address(source: Source) -> None:
    source.write(snapshot({**WEB, "ssh_port": None, "user": None}))
    web = source.read(user="root", known_hosts="", ssh_args="-o Compression=yes").hosts["web"].vars
    assert (web["ansible_host"], web["ansible_port"], web["ansible_user"]) == ("10.0.1.20", 22, "root")
    assert web["ansible_ssh_common_args"] == "-o Compression=yes"


def ssh_settings(variables: dict[str, Any]) -> dict[str, str]:
    """What the real ssh makes of the variables, without connecting."""
    command = f"ssh -G {variables['ansible_ssh_common_args']} -p {variables['ansible_port']} {variables['ansible_host']}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_through_a_jump_host(source: Source) -> None:
    web = source.read(connect="jump", jump="admin@dell.lab:2222").hosts["web"].vars
    settings = ssh_settings(web)
    assert settings["hostname"] == "10.0.1.20" and settings["port"] == "22"
    assert settings["proxyjump"] == "admin@dell.lab:2222"


def test_through_a_command(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    spaced = Source(folder)
    command = "env -C '{{ inventory_dir }}' '{{ ansible_playbook_python }}' -m relay host %h %p"
    web = spaced.read(connect="proxy", proxy_command=command).hosts["web"].vars
    settings = ssh_settings(web)
    assert settings["proxycommand"] == f"env -C '{folder}' '{sys.executable}' -m relay host %h %p"
    assert settings["userknownhostsfile"] == f"{folder}/.guests-dell.json.known_hosts"
    assert settings["hostkeyalias"] == "web.lab" and settings["stricthostkeychecking"] == "accept-new"


def test_a_guest_that_was_made_anew_has_another_name_for_its_key(source: Source) -> None:
    source.write(snapshot({**WEB, "instance": "i/2"}))
    assert ssh_settings(source.read().hosts["web"].vars)["hostkeyalias"] == "web.lab.i-2"


def test_no_snapshot_is_no_guest_and_no_word(source: Source, warnings: list[str]) -> None:
    source.snapshot.unlink()
    assert source.read().hosts == {}
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", "it has no list `guests`"),
        ('{"guests": [{"name": "-oProxyCommand=x"}]}', "guests[0].name is '-oProxyCommand=x', which is no name of a guest"),
        ('{"guests": [{"name": "web"}, {"name": "web"}]}', "guests[1].name is 'web', which an earlier guest has too"),
        ('{"guests": [], "written": "soon"}', "written is 'soon', which is no time"),
    ],
)
def test_a_broken_snapshot_is_named(source: Source, text: str, message: str) -> None:
    source.write(text)
    with pytest.raises(AnsibleParserError) as caught:
        source.read()
    assert f"snapshot {source.snapshot}: {message}" in str(caught.value) and "Remove the file and run the playbook" in str(caught.value)


@pytest.mark.parametrize(("connect", "needed"), [("forward", "host_address"), ("jump", "jump"), ("proxy", "proxy_command")])
def test_each_way_to_connect_names_what_it_needs(source: Source, connect: str, needed: str) -> None:
    with pytest.raises(AnsibleParserError, match=f"connect is {connect}, which needs {needed}"):
        source.read(connect=connect, host_address="")


def test_a_guest_never_takes_over_a_host_s_name(source: Source) -> None:
    inventory = InventoryData()
    inventory.add_host("old")
    with pytest.raises(AnsibleParserError, match="guest old has the name of a host that the inventory already has"):
        source.read(inventory)
    assert sorted(inventory.hosts) == ["old"]


def test_the_same_source_twice_is_no_collision(source: Source) -> None:
    assert sorted(source.read(source.read()).hosts) == ["old", "web"]


def test_groups_and_variables_of_one_s_own(source: Source) -> None:
    inventory = source.read(
        compose={"double": "guest_ssh_port * 2"},
        groups={"www_servers": "'www' in guest_aliases"},
        keyed_groups=[{"key": "guest_aliases", "prefix": "alias"}],
        strict=False,
    )
    assert inventory.hosts["web"].vars["double"] == 4422
    assert members(inventory, "www_servers") == members(inventory, "alias_www") == ["web"]
    with pytest.raises(Exception, match="Could not set wrong for host"):
        source.read(compose={"wrong": "nosuch + 1"}, strict=True)


PLAYBOOK = """\
- hosts: dell
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        dest: "{{ guests_snapshot }}"
        content: '{"platform": "lab", "kvm_host": "dell", "guests": [{"name": "fresh", "guard": "{{ lookup("env", "HYBRIDLAB_GUESTS_REFRESH") }}"}]}'
"""


@pytest.fixture
def refreshing(source: Source) -> dict[str, Any]:
    """Options with which the source refreshes its snapshot, by a playbook that writes a guest named fresh."""
    (source.folder / "hosts.yml").write_text(
        f"kvm_hosts: {{hosts: {{dell: {{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}, other: {{}}}}}}\n", encoding="utf-8"
    )
    playbook = source.folder / "refresh.yml"
    playbook.write_text(PLAYBOOK, encoding="utf-8")
    # The whole directory, in which the plugin's own file is: it must not run the playbook again from within.
    return {"hosts": ".", "playbook": str(playbook)}


def test_an_old_snapshot_is_refreshed_once(source: Source, refreshing: dict[str, Any], warnings: list[str]) -> None:
    source.write(snapshot(WEB, written=time.time() - 7200), age=7200)
    assert sorted(source.read(max_age=0, **refreshing).hosts) == ["web"]
    assert sorted(source.read(**refreshing).hosts) == ["fresh"]
    assert warnings == []
    # It says nothing of its age now, and is as young as the file is.
    (source.folder / "refresh.yml").unlink()
    assert sorted(source.read(**refreshing).hosts) == ["fresh"]
    assert warnings == []


def test_a_snapshot_that_says_the_same_as_before_is_young_again(source: Source, refreshing: dict[str, Any]) -> None:
    source.write(snapshot(WEB, written=0), age=7200)
    source.read(**refreshing)
    content = source.snapshot.read_text(encoding="utf-8")
    source.write(content, age=7200)
    source.read(**refreshing)
    assert "fresh" in content and source.snapshot.read_text(encoding="utf-8") == content
    assert time.time() - source.snapshot.stat().st_mtime < 600


def test_a_flush_refreshes_what_this_run_has_not_written(source: Source, refreshing: dict[str, Any]) -> None:
    assert sorted(source.read(cache=False, **refreshing).hosts) == ["old", "web"]
    source.write(snapshot(WEB, written=guests._BEGUN - 60), age=time.time() - guests._BEGUN + 60)
    assert sorted(source.read(cache=False, **refreshing).hosts) == ["fresh"]


def test_what_cannot_be_refreshed_is_used_as_it_is(source: Source, refreshing: dict[str, Any], warnings: list[str]) -> None:
    source.write(snapshot(WEB, written="2026-01-01T00:00:00Z"), age=7200)
    (source.folder / "refresh.yml").write_text("- hosts: dell\n  gather_facts: false\n  tasks:\n    - fail: {msg: out of order}\n", encoding="utf-8")
    assert sorted(source.read(**refreshing).hosts) == ["web"]
    assert len(warnings) == 1
    assert f"snapshot {source.snapshot} could not be refreshed: the playbook ended with code 2" in warnings[0] and "out of order" in warnings[0]
    (source.folder / "refresh.yml").write_text("- hosts: dell\n  gather_facts: false\n  tasks:\n    - command: sleep 60\n", encoding="utf-8")
    begin = time.monotonic()
    assert sorted(source.read(refresh_seconds=3, **refreshing).hosts) == ["web"]
    assert "it took longer than refresh_seconds (3 s)" in warnings[1]
    assert time.monotonic() - begin < 30


def test_a_playbook_that_writes_nothing_is_told(source: Source, refreshing: dict[str, Any], warnings: list[str]) -> None:
    source.snapshot.unlink()
    (source.folder / "refresh.yml").write_text("- hosts: dell\n  gather_facts: false\n", encoding="utf-8")
    assert source.read(cache=False, **refreshing).hosts == {}
    assert "ended well, but " in warnings[0] and "there are no guests without it" in warnings[0]


def test_within_the_refreshing_playbook_nothing_is_refreshed(source: Source, refreshing: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLAB_GUESTS_REFRESH", "1")
    source.write(snapshot(WEB, written=1), age=7200)
    assert sorted(source.read(cache=False, **refreshing).hosts) == ["web"]


@pytest.mark.parametrize("name", ["guests.yml", "platform.guests.yaml"])
def test_files_are_known_by_their_names(tmp_path: Path, name: str) -> None:
    plugin = inventory_loader.get("hybridlab.platform.guests")
    for candidate in (name, "hosts.yml"):
        (tmp_path / candidate).touch()
    assert plugin.verify_file(str(tmp_path / name)) and not plugin.verify_file(str(tmp_path / "hosts.yml"))


def test_times_of_a_snapshot() -> None:
    assert read_snapshot('{"guests": [], "written": "2026-11-21T12:00:00Z"}').written == 1795262400
    assert read_snapshot('{"guests": [], "written": "2026-11-21T12:00:00"}').written == 1795262400
    assert read_snapshot('{"guests": [], "written": 5}').written == 5
    assert read_snapshot('{"guests": []}').written == 0
    with pytest.raises(SnapshotError):
        read_snapshot('{"guests": [], "written": "x"}')


def test_group_names() -> None:
    assert group_name("image", "debian-12.qcow2") == "image_debian_12_qcow2"


def test_ansible_itself_reads_a_directory_with_the_source_in_it(source: Source, refreshing: dict[str, Any]) -> None:
    source.read()
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "inventory", "-i", str(source.folder), "--list"], capture_output=True, text=True, check=False, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert sorted(listed["guests"]["hosts"]) == ["old", "web"]
    assert listed["kvm_hosts"]["hosts"] == ["dell", "other"]
