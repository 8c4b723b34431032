# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.platform_state import agent_state, find_warnings, read_forwards
from ansible_collections.hybridlab.platform.plugins.module_utils.host import platform_state as host
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_networks, libvirt_pools, platform_state
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import URI, Caller, define_guest
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

GIB = 2**30
PUBLIC = {"name": "public", "bridge": "br-public", "address": "10.0.1.1", "prefix": 24, "domain": "lab.local"}
NIC = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='public'/><model type='virtio'/></interface>"


@pytest.fixture
def gather(conn: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    def call(check: bool = False, **params: Any) -> dict[str, Any]:
        args = {"uri": URI, "_ansible_check_mode": check, "_ansible_remote_tmp": str(tmp_path), **params}
        return call_module(platform_state, args, capsys)

    return call


def volume(conn: Any, pool: str, name: str, gib: int, allocated: int = 0) -> None:
    xml = f"<volume><name>{name}</name><capacity unit='GiB'>{gib}</capacity><allocation unit='GiB'>{allocated}</allocation></volume>"
    conn.storagePoolLookupByName(pool).createXML(xml)


def test_an_empty_host(gather: Any) -> None:
    found = gather()
    assert found["changed"] is False
    # The node of libvirt's test driver: 2 nodes, 2 sockets, 2 cores, 2 threads; 3 GiB.
    assert (found["host"]["cores"], found["host"]["threads"], found["host"]["memory_kib"]) == (8, 16, 3 * 2**20)
    assert found["guests"] == found["forwards"] == found["host"]["load"] == found["host"]["filesystems"] == []
    assert found["capacity"]["use"] == {kind: {"used": 0, "limit": None} for kind in ("guests", "vcpus", "memory")}
    assert found["capacity"]["hook"] is None


def test_check_mode_tells_the_same(conn: Any, gather: Any) -> None:
    define_guest(conn, "web", running=True)
    assert gather(check=True)["guests"] == gather()["guests"] != []


def test_networks_and_whose_they_are(conn: Any, gather: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Caller(libvirt_networks, capsys, tmp_path / "rollback")([PUBLIC])
    rows = {row["name"]: row for row in gather()["networks"]}
    assert rows["public"] == {"name": "public", "ours": True, "active": True, "autostart": True, "bridge": "br-public", "address": "10.0.1.1/24"}
    assert rows["default"]["ours"] is False


def test_pools_with_their_worst_case(conn: Any, gather: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Caller(libvirt_pools, capsys, tmp_path / "rollback")([{"name": "fast", "path": "/srv/fast"}])
    volume(conn, "fast", "web-root.qcow2", 10, 1)
    volume(conn, "fast", "web-data.qcow2", 200)
    volume(conn, "fast", "image-debian-12-0123456789ab.qcow2", 2)
    row = next(row for row in gather()["pools"] if row["name"] == "fast")
    assert (row["ours"], row["active"], row["volumes"], row["virtual"]) == (True, True, 3, 212 * GIB)
    assert row["promised"] == 209 * GIB
    assert row["available"] < row["promised"]
    assert [text for text in gather()["attention"] if text.startswith("pool fast: thin volumes may take 209.0 GiB more")]


def test_guests_of_others(conn: Any, gather: Any) -> None:
    define_guest(conn, "web", interface=NIC, running=True)
    define_guest(conn, "db")
    db, web = gather()["guests"]
    assert (db["name"], db["state"], db["ours"], db["platform"], db["interfaces"]) == ("db", "stopped", False, None, [])
    assert (web["state"], web["memory_mb"], web["vcpus"], web["agent"], web["uptime_seconds"]) == ("running", 64, 1, None, None)
    assert [(row["network"], row["mac"]) for row in web["interfaces"]] == [("public", "52:54:00:00:00:01")]
    conn.lookupByName("web").suspend()
    assert gather()["guests"][1]["state"] == "suspended"


def test_snapshots_and_their_age(conn: Any, gather: Any) -> None:
    domain = define_guest(conn, "web")
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    xml = f"<domainsnapshot><name>before</name><state>shutoff</state><creationTime>86400</creationTime>{domain.XMLDesc(0)}</domainsnapshot>"
    domain.snapshotCreateXML(xml, flags)
    found = gather()
    assert found["guests"][0]["snapshots"] == [{"name": "before", "created": 86400}]
    assert any(text.startswith("guest web: snapshot before is ") for text in found["attention"])
    assert not any("snapshot" in text for text in gather(snapshot_days=10**6)["attention"])


def test_capacity_counts_what_runs_with_its_largest(conn: Any, gather: Any) -> None:
    define_guest(conn, "web", running=True)
    define_guest(conn, "db")
    found = gather(capacity={"guests": 0, "vcpus": 8, "vcpus_per_core": 2.0, "memory_mb": 64, "reserve_cores": 5})["capacity"]
    assert found["ok"] is False
    assert found["excesses"] == ["guests: 1 over the limit (guests)"]
    assert found["use"] == {"guests": {"used": 1, "limit": 0}, "vcpus": {"used": 1, "limit": 6}, "memory": {"used": 65536, "limit": 65536}}
    assert "web       1      64  running, not ours" in found["table"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"capacity": {"memory_percent": 170}}, "capacity.memory_percent: found 170. Give a percentage from 0 to 100."),
        ({"uri": "test:///no/such/file"}, "no connection to libvirt at test:///no/such/file"),
    ],
)
def test_what_cannot_be_answered(gather: Any, params: dict[str, Any], message: str) -> None:
    found = gather(**params)
    assert found["failed"]
    assert found["msg"].startswith(message)


def test_forwards_of_the_loaded_rules() -> None:
    lines = ["tcp dport 2231 dnat ip to 10.0.3.9:2231", "tcp dport 2211 counter dnat to 10.0.1.20:22", "ct status dnat accept", "tcp dport 22 accept"]
    assert read_forwards(lines) == [
        {"port": 2211, "address": "10.0.1.20", "to_port": 22},
        {"port": 2231, "address": "10.0.3.9", "to_port": 2231},
    ]


@pytest.mark.parametrize(("state", "told"), [("state='connected'", "connected"), ("state='disconnected'", "silent"), ("", "silent")])
def test_the_agents_channel(state: str, told: str) -> None:
    channel = f"<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' {state}/></channel>"
    assert agent_state(f"<domain><devices>{channel}</devices></domain>") == told
    assert agent_state("<domain><devices/></domain>") is None


def test_the_hook_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, off = tmp_path / "hook", tmp_path / "off"
    monkeypatch.setattr(host, "HOOK", hook)
    monkeypatch.setattr(host, "HOOK_OFF", off)
    assert host._hook_state() == "absent"
    hook.touch(mode=0o644)
    assert host._hook_state() == "absent"
    hook.chmod(0o755)
    assert host._hook_state() == "on"
    off.touch()
    assert host._hook_state() == "off"


def test_what_the_file_system_keeps_for_root_is_not_for_guests(tmp_path: Path) -> None:
    assert host.usable(str(tmp_path), 2**70) < 2**70
    assert host.usable(str(tmp_path), 1) == 1
    assert host.usable(str(tmp_path / "missing"), 5) == 5


def test_file_systems_each_once() -> None:
    rows = host.read_filesystems(["/", "/no/such/directory", "/proc"])
    assert [row["mount"] for row in rows] == ["/", "/proc"]
    assert 0 < rows[0]["available"] < rows[0]["size"]


def state_with(**changed: Any) -> dict[str, Any]:
    use = {"guests": {"used": 1, "limit": 8}, "vcpus": {"used": 1, "limit": None}, "memory": {"used": 1, "limit": None}}
    whole = {
        "host": {"load": [], "threads": 4},
        "networks": [],
        "pools": [],
        "guests": [],
        "forwards": [],
        "capacity": {"excesses": [], "hook": "on", "use": use},
    }
    return {**whole, **changed}


def a_guest(**changed: Any) -> dict[str, Any]:
    nics = [{"address": "10.0.1.20"}]
    row = {"name": "web", "ours": True, "state": "running", "autostart": True, "agent": "connected", "interfaces": nics, "snapshots": [], "ssh_port": None}
    return {**row, **changed}


def a_network(**changed: Any) -> dict[str, Any]:
    return {"name": "public", "ours": True, "active": True, "autostart": True, **changed}


CAPACITY = state_with()["capacity"]
POOL = {"name": "fast", "active": True, "promised": 2 * GIB, "available": GIB}
FORWARD = {"port": 2211, "address": "10.0.1.20", "to_port": 2211}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        ({"capacity": {**CAPACITY, "excesses": ["guests: 1 over"]}}, "capacity: guests: 1 over"),
        ({"capacity": {**CAPACITY, "hook": "off"}}, "capacity: starts by hand are let through"),
        ({"capacity": {**CAPACITY, "hook": "absent"}}, "capacity: starts by hand are not checked"),
        ({"capacity": {**CAPACITY, "hook": "absent", "use": {"guests": {"limit": None}}}}, None),
        ({"host": {"load": [9.0, 4.5, 1.0], "threads": 4}}, "host: load 4.5 over 5 minutes on 4 threads"),
        ({"host": {"load": [9.0, 4.0, 1.0], "threads": 4}}, None),
        ({"networks": [a_network(name="default", ours=False)]}, "network default: the stock network is active"),
        ({"networks": [a_network(name="default", ours=False, active=False)]}, "network default: the stock network is started at boot"),
        ({"networks": [a_network(name="default", ours=False, active=False, autostart=False)]}, None),
        ({"networks": [a_network(name="default")]}, None),
        ({"networks": [a_network(active=False)]}, "network public: it does not run"),
        ({"networks": [a_network(autostart=False)]}, "network public: autostart is off"),
        ({"pools": [POOL]}, "pool fast: thin volumes may take 2.0 GiB more, 1.0 GiB are available"),
        ({"pools": [{**POOL, "available": 2 * GIB}]}, None),
        ({"pools": [{**POOL, "active": False}]}, "pool fast: it does not run"),
        ({"guests": [a_guest()]}, None),
        ({"guests": [a_guest(state="crashed")]}, "guest web: it is crashed"),
        ({"guests": [a_guest(state="stopped", autostart=False, agent=None)]}, None),
        ({"guests": [a_guest(autostart=False)]}, "guest web: autostart is off"),
        ({"guests": [a_guest(agent="silent")]}, "guest web: its agent is silent"),
        ({"guests": [a_guest(interfaces=[{"address": None}])]}, "guest web: it has no address"),
        ({"guests": [a_guest(snapshots=[{"name": "p", "created": 0}])]}, "guest web: snapshot p is 31 days old"),
        ({"guests": [a_guest(snapshots=[{"name": "p", "created": 86400}])]}, None),
        ({"guests": [a_guest(ssh_port=2211)]}, "guest web: port 2211 of the host is not forwarded to 10.0.1.20"),
        ({"guests": [a_guest(ssh_port=2211)], "forwards": [FORWARD]}, None),
    ],
)
def test_what_needs_attention(changed: dict[str, Any], told: str | None) -> None:
    found = find_warnings(state_with(**changed), 31 * 86400 + 5, ["default"], 30)
    if told is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith(told)
