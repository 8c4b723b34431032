# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import read_guest
from ansible_collections.hybridlab.platform.plugins.module_utils.host import libvirt as host_libvirt
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_networks
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import Caller, define_guest

MAC = "52:54:00:00:01:10"
PUBLIC: dict[str, Any] = {
    "name": "public",
    "bridge": "br-public",
    "address": "10.0.1.1",
    "prefix": 24,
    "domain": "lab.local",
    "dhcp": [{"first": "10.0.1.100", "last": "10.0.1.200"}],
    "hosts": [{"mac": MAC, "name": "web", "address": "10.0.1.10"}],
    "dns": [{"address": "10.0.1.10", "names": ["web.lab.local", "web"]}],
}
DATABASE: dict[str, Any] = {"name": "database", "bridge": "br-database", "address": "10.0.3.1", "prefix": 24, "domain": "lab.local"}
IN_DEFAULT = "<interface type='network'><source network='default'/></interface>"
IN_PUBLIC = "<interface type='network'><source network='public'/></interface>"


@pytest.fixture
def call(conn: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Caller:
    return Caller(libvirt_networks, capsys, tmp_path / "rollback")


def snapshot(conn: Any) -> dict[str, Any]:
    return {net.name(): (net.XMLDesc(0), net.isActive(), net.autostart()) for net in conn.listAllNetworks()}


def test_create_and_again(conn: Any, call: Caller) -> None:
    done = call.same_in_check_mode([PUBLIC, DATABASE])
    assert done["changed"] is True
    assert done["before"] == []
    assert done["after"] == [
        {**DATABASE, "mtu": None, "dhcp": [], "hosts": [], "dns": [], "autostart": True, "active": True},
        {**PUBLIC, "mtu": None, "autostart": True, "active": True},
    ]
    assert [line.split()[3] for line in done["commands"] if line.startswith("virsh")] == ["net-define", "net-start", "net-autostart"] * 2
    assert done["disruptive"] == done["backups"] == []
    assert "- name: database\n  bridge: br-database\n" in done["diff"]["after"]
    net = conn.networkLookupByName("public")
    assert (net.isActive(), net.autostart(), net.bridgeName()) == (1, 1, "br-public")
    assert "<forward mode='open'/>" in net.XMLDesc(0)


@pytest.mark.parametrize(
    ("changes", "verbs"),
    [
        ({"hosts": [*PUBLIC["hosts"], {"mac": "52:54:00:00:01:11", "address": "10.0.1.11"}]}, ["add-last ip-dhcp-host"]),
        ({"hosts": [{"mac": MAC, "name": "web", "address": "10.0.1.12"}]}, ["modify ip-dhcp-host"]),
        ({"hosts": []}, ["delete ip-dhcp-host"]),
        ({"dns": [*PUBLIC["dns"], {"address": "10.0.3.10", "names": ["db"]}]}, ["add-last dns-host"]),
        ({"dns": [{"address": "10.0.1.10", "names": ["web"]}]}, ["delete dns-host", "add-last dns-host"]),
        ({"dns": []}, ["delete dns-host"]),
        ({"dhcp": [*PUBLIC["dhcp"], {"first": "10.0.1.50", "last": "10.0.1.60"}]}, ["add-last ip-dhcp-range"]),
        ({"dhcp": [{"first": "10.0.1.100", "last": "10.0.1.150"}]}, ["delete ip-dhcp-range", "add-last ip-dhcp-range"]),
        ({"dhcp": []}, ["delete ip-dhcp-range"]),
    ],
)
def test_live_changes_do_not_stop_the_network(conn: Any, call: Caller, changes: dict[str, Any], verbs: list[str]) -> None:
    call([PUBLIC])
    define_guest(conn, "web", IN_PUBLIC, running=True)
    done = call.same_in_check_mode([{**PUBLIC, **changes}])
    assert [" ".join(line.split()[5:7]) for line in done["commands"]] == verbs
    assert all(line.endswith("--live --config") for line in done["commands"])
    assert done["disruptive"] == done["backups"] == []
    assert next(iter(changes)) in done["diff"]["before"] + done["diff"]["after"]


@pytest.mark.parametrize(
    "changes",
    [{"bridge": "br-dmz"}, {"address": "10.0.1.2"}, {"prefix": 23}, {"domain": "example.org"}, {"mtu": 1400}],
)
def test_disruptive_changes_are_refused_or_done(conn: Any, call: Caller, changes: dict[str, Any]) -> None:
    call([PUBLIC])
    define_guest(conn, "web", IN_PUBLIC, running=True)
    uuid = conn.networkLookupByName("public").UUIDString()
    old, there = conn.networkLookupByName("public").XMLDesc(0), snapshot(conn)
    # The second network could be made without harm, but not even that is done.
    wanted = [{**PUBLIC, **changes}, DATABASE]
    checked = call(wanted, check=True)
    refused = call(wanted)
    assert refused["failed"] is True
    assert f"public: {next(iter(changes))} is" in refused["msg"]
    assert "running guests web" in refused["msg"]
    assert "allow_disruption" in refused["msg"]
    assert refused["disruptive"] == checked["disruptive"]
    assert "allow_disruption" in str(checked["warnings"])
    assert snapshot(conn) == there

    done = call.same_in_check_mode(wanted, allow_disruption=True)
    assert {key: done[key] for key in ("before", "after", "diff", "commands", "disruptive")} == {
        key: checked[key] for key in ("before", "after", "diff", "commands", "disruptive")
    }
    assert conn.networkLookupByName("public").UUIDString() == uuid
    assert [Path(path).read_text() for path in done["backups"]] == [old]


def test_backups_are_for_root_alone(conn: Any, call: Caller) -> None:
    call.backup_dir.mkdir(mode=0o755)
    call([PUBLIC])
    done = call([{**PUBLIC, "mtu": 1400}], allow_disruption=True)
    done["backups"] += call(state="deleted")["backups"]
    assert len(done["backups"]) == len({*done["backups"]}) == 2
    assert stat.S_IMODE(call.backup_dir.stat().st_mode) == 0o700
    for path in map(Path, done["backups"]):
        assert path.name.startswith("public-20")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        conn.networkDefineXML(path.read_text())


def test_an_unusable_backup_dir_stops_before_the_change(conn: Any, call: Caller) -> None:
    call([PUBLIC])
    call.backup_dir.write_text("a file")
    there = snapshot(conn)
    failed = call(state="deleted")
    assert failed["failed"] is True
    assert "backup_dir" in failed["msg"]
    assert snapshot(conn) == there


def test_a_restart_that_fails_puts_the_old_network_back(conn: Any, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    call([PUBLIC])
    define_guest(conn, "web", IN_PUBLIC, running=True)
    genuine = host_libvirt.apply_network

    def broken(opened: Any, operation: Any) -> None:
        if type(operation).__name__ == "Define" and "br-dmz" in operation.xml:
            operation = type(operation)(operation.name, "<network/>")
        genuine(opened, operation)

    monkeypatch.setattr(libvirt_networks, "apply_network", broken)
    there = snapshot(conn)
    failed = call([{**PUBLIC, "bridge": "br-dmz"}, DATABASE], allow_disruption=True)
    assert failed["failed"] is True
    assert "network public (1 of 2) at define:" in failed["msg"]
    assert "old definition was put back and started" in failed["msg"]
    assert "Not begun: database" in failed["msg"]
    assert "guest web: " in str(failed["warnings"])
    assert "master br-public" in str(failed["warnings"])
    assert snapshot(conn) == there


def test_a_change_that_does_not_hold_is_an_error(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt_networks, "apply_network", lambda _conn, _operation: None)
    failed = call([PUBLIC])
    assert failed["failed"] is True
    assert "reading back shows: define is still needed" in failed["msg"]


@pytest.mark.parametrize("survived", range(4))
def test_a_run_that_was_cut_short_is_completed(conn: Any, call: Caller, survived: int) -> None:
    call([DATABASE])
    xml = call([PUBLIC], state="rendered")["rendered"][0]["xml"]
    actions = [
        lambda: conn.networkDefineXML(xml),
        lambda: conn.networkLookupByName("public").create(),
        lambda: conn.networkLookupByName("public").setAutostart(1),
    ]
    for action in actions[:survived]:
        action()
    done = call.same_in_check_mode([PUBLIC, DATABASE])
    assert done["changed"] is (survived < 3)
    assert len(done["commands"]) == 3 - survived


@pytest.mark.parametrize("stage", ["stopped", "redefined"])
def test_a_restart_that_was_cut_short_is_completed_without_leave(conn: Any, call: Caller, stage: str) -> None:
    call([PUBLIC])
    net = conn.networkLookupByName("public")
    net.destroy()
    if stage == "redefined":
        conn.networkDefineXML(net.XMLDesc(0).replace("br-public", "br-dmz"))
    done = call.same_in_check_mode([{**PUBLIC, "bridge": "br-dmz"}])
    assert done["disruptive"] == []
    assert conn.networkLookupByName("public").bridgeName() == "br-dmz"


def test_drift_is_repaired(conn: Any, call: Caller) -> None:
    call([PUBLIC])
    net = conn.networkLookupByName("public")
    net.update(2, 10, -1, "<host ip='10.0.1.10'/>", 3)
    net.setAutostart(0)
    done = call.same_in_check_mode([PUBLIC])
    assert done["before"][0]["dns"] == []
    assert [line.split()[3] for line in done["commands"]] == ["net-update", "net-autostart"]


def test_overridden_removes_only_ours(conn: Any, call: Caller) -> None:
    call([PUBLIC, DATABASE])
    done = call.same_in_check_mode([DATABASE], state="overridden")
    assert [line.split()[3] for line in done["commands"] if line.startswith("virsh")] == ["net-destroy", "net-undefine"]
    assert {net.name() for net in conn.listAllNetworks()} == {"database", "default"}
    assert len(done["backups"]) == 1


def test_deleted(conn: Any, call: Caller) -> None:
    call([PUBLIC, DATABASE, {**DATABASE, "name": "x", "bridge": "br-x", "address": "10.0.9.1"}])
    done = call.same_in_check_mode([{"name": "x"}], state="deleted")
    assert [found["name"] for found in done["after"]] == ["database", "public"]
    assert call.same_in_check_mode(state="deleted")["after"] == []
    assert {net.name() for net in conn.listAllNetworks()} == {"default"}


def test_a_network_that_guests_use_is_not_removed(conn: Any, call: Caller) -> None:
    call([PUBLIC])
    define_guest(conn, "off", IN_PUBLIC)
    for params in ({"state": "deleted"}, {"state": "overridden", "config": [DATABASE]}):
        failed = call(**params)
        assert failed["failed"] is True
        assert "guests off" in failed["msg"]
    assert conn.networkLookupByName("public").isActive()
    assert call.same_in_check_mode(state="deleted", allow_disruption=True)["after"] == []


def test_foreign_network(conn: Any, call: Caller) -> None:
    config = [{"name": "default", "bridge": "virbr0", "address": "192.168.122.1", "prefix": 24}]
    there = snapshot(conn)
    for state in ("merged", "overridden", "deleted"):
        failed = call(config, state=state)
        assert failed["failed"] is True
        assert "adopt: true" in failed["msg"]
    assert snapshot(conn) == there
    done = call.same_in_check_mode(config, adopt=True, allow_disruption=True)
    assert done["before"][0]["deviations"] == ["forward mode is nat, not open"]
    assert done["after"][0]["dhcp"] == [{"first": "192.168.122.2", "last": "192.168.122.254"}]
    assert call(config)["changed"] is False


def test_decommission_is_refused_while_a_guest_is_defined_there(conn: Any, call: Caller) -> None:
    define_guest(conn, "old-vm", IN_DEFAULT)
    there = snapshot(conn)
    for check in (True, False):
        failed = call([PUBLIC], decommission=["default"], check=check)
        assert failed["failed"] is True
        assert "old-vm" in failed["msg"]
        assert "segments_decommission" in failed["msg"]
        assert failed["guests"] == ["old-vm"]
    assert snapshot(conn) == there


def test_decommission(conn: Any, call: Caller) -> None:
    conn.networkLookupByName("default").setAutostart(1)
    done = call.same_in_check_mode([PUBLIC], decommission=["default", "absent"])
    assert done["before"] == [{"name": "default", "autostart": True, "active": True}]
    assert done["after"][0] == {"name": "default", "autostart": False, "active": False}
    net = conn.networkLookupByName("default")
    assert (net.isActive(), net.autostart()) == (0, 0)


def test_rendered_touches_no_host(conn: Any, call: Caller) -> None:
    there = snapshot(conn)
    done = call([PUBLIC], state="rendered", uri="nowhere:///at/all")
    assert done["changed"] is False
    assert [entry["name"] for entry in done["rendered"]] == ["public"]
    assert conn.networkDefineXML(done["rendered"][0]["xml"]).name() == "public"
    assert done["commands"][1] == "virsh -c nowhere:///at/all net-start public"
    conn.networkLookupByName("public").undefine()
    assert snapshot(conn) == there


def test_gathered_can_be_declared_again(call: Caller) -> None:
    call([PUBLIC, DATABASE])
    done = call(state="gathered")
    assert [entry["name"] for entry in done["gathered"]] == ["database", "public"]
    assert done["leases"] == []
    assert call(done["gathered"], state="overridden")["changed"] is False
    assert [entry["name"] for entry in call([{"name": "default"}], state="gathered")["gathered"]] == ["default"]


def test_a_stopped_network_is_stopped_and_started(conn: Any, call: Caller) -> None:
    call([PUBLIC])
    assert call.same_in_check_mode([{**PUBLIC, "active": False, "autostart": False}])["after"][0]["active"] is False
    define_guest(conn, "web", IN_PUBLIC)
    assert call.same_in_check_mode([PUBLIC])["after"][0]["active"] is True


def test_interfaces_of_running_guests_are_plugged_in_again(conn: Any, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    call([PUBLIC])
    guest = define_guest(conn, "web", IN_PUBLIC, running=True)
    device = read_guest("web", True, [guest.XMLDesc(0)]).taps[0].device
    ran: list[tuple[list[str], str]] = []

    def run(line: list[str], **_options: Any) -> None:
        ran.append((line, conn.networkLookupByName("public").bridgeName()))

    monkeypatch.setattr(host_libvirt.subprocess, "run", run)
    done = call.same_in_check_mode([{**PUBLIC, "bridge": "br-dmz"}], allow_disruption=True)
    sized, plugged = f"ip link set dev {device} mtu 1500", f"ip link set dev {device} master br-dmz"
    assert done["commands"][-1] == f"{sized} && {plugged}"
    assert ran == [(sized.split(), "br-dmz"), (plugged.split(), "br-dmz")]
    assert "warnings" not in done


@pytest.mark.parametrize("reason", ["no device", "no program", "other host"])
def test_a_guest_that_stays_cut_off_is_named(conn: Any, call: Caller, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    call([PUBLIC])
    # The test driver's guests have no taps.
    define_guest(conn, "web", IN_PUBLIC, running=True)
    if reason == "no program":
        monkeypatch.setenv("PATH", "")
    if reason == "other host":
        monkeypatch.setattr(libvirt.virConnect, "getURI", lambda _conn: "qemu+ssh://root@elsewhere/system")
    done = call.same_in_check_mode([{**PUBLIC, "bridge": "br-dmz"}], allow_disruption=True)
    (warning,) = done["warnings"]
    assert "guest web:" in str(warning)
    assert f"Run `{done['commands'][-1]}`" in str(warning)
    assert {"no device": "Cannot find device", "no program": "No such file", "other host": "another host"}[reason] in str(warning)


def test_an_interface_without_a_bridge_is_plugged_in(conn: Any, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    call([PUBLIC])
    define_guest(conn, "web", IN_PUBLIC, running=True)
    unplugged = True

    def run(_line: list[str], **_options: Any) -> None:
        nonlocal unplugged
        unplugged = False

    monkeypatch.setattr(host_libvirt, "_is_unplugged", lambda _device: unplugged)
    monkeypatch.setattr(host_libvirt.subprocess, "run", run)
    done = call.same_in_check_mode([PUBLIC])
    assert len(done["commands"]) == 1
    assert done["disruptive"] == []


def test_whether_a_device_is_in_a_bridge() -> None:
    assert host_libvirt._is_unplugged("lo") is True
    assert host_libvirt._is_unplugged("absent0") is False


def test_nothing_is_removed_where_libvirt_is_not_installed(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = call(state="deleted", uri="qemu+unix:///system?socket=/nonexistent")
    assert daemon["failed"] is True
    assert "Start libvirtd" in daemon["msg"]
    monkeypatch.setattr(host_libvirt, "libvirt", None)
    for config in ([], [{"name": "public"}]):
        done = call(config, state="deleted", decommission=["default"])
        assert (done["changed"], done["before"], done["after"], done["commands"]) == (False, [], [], [])
        assert "python3-libvirt" in str(done["warnings"])
        assert "nothing to remove" in str(done["warnings"])


@pytest.mark.parametrize("missing", ["library", "daemon"])
def test_a_host_without_libvirt(call: Caller, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    usual = call([PUBLIC], check=True)
    uri: dict[str, Any] = {"uri": "qemu+unix:///system?socket=/nonexistent"} if missing == "daemon" else {}
    if missing == "library":
        monkeypatch.setattr(host_libvirt, "libvirt", None)
    failed = call([PUBLIC], **uri)
    assert failed["failed"] is True
    assert ("python3-libvirt" if missing == "library" else "Start libvirtd") in failed["msg"]
    checked = call([PUBLIC], check=True, **uri)
    assert (checked["before"], checked["after"]) == (usual["before"], usual["after"])
    assert len(checked["commands"]) == len(usual["commands"])
    assert "as if the host had nothing yet" in str(checked["warnings"])
    assert call(state="gathered", check=True, **uri)["gathered"] == []
