# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.host import libvirt as host_libvirt
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_pools
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import Caller, define_guest

FAST: dict[str, Any] = {"name": "fast", "path": "/srv/fast"}
LARGE: dict[str, Any] = {"name": "large", "path": "/srv/large", "mode": "0750", "autostart": False}
VOLUME = "<volume><name>a.img</name><capacity unit='GiB'>1</capacity><target><format type='raw'/></target></volume>"


@pytest.fixture
def call(conn: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Caller:
    return Caller(libvirt_pools, capsys, tmp_path / "rollback")


def snapshot(conn: Any) -> dict[str, Any]:
    return {pool.name(): (pool.XMLDesc(0), pool.isActive(), pool.autostart()) for pool in conn.listAllStoragePools()}


def test_create_and_again(conn: Any, call: Caller) -> None:
    done = call.same_in_check_mode([FAST, LARGE])
    assert done["after"] == [
        {"name": "fast", "path": "/srv/fast", "mode": "0711", "autostart": True, "active": True},
        {"name": "large", "path": "/srv/large", "mode": "0750", "autostart": False, "active": True},
    ]
    verbs = [line.split()[3] for line in done["commands"]]
    assert verbs == ["pool-define", "pool-build", "pool-start", "pool-autostart", "pool-define", "pool-build", "pool-start"]
    assert conn.storagePoolLookupByName("large").isActive()


def test_gathered_counts_bytes_and_volumes(conn: Any, call: Caller) -> None:
    call([FAST])
    conn.storagePoolLookupByName("fast").createXML(VOLUME)
    (found,) = call(state="gathered")["gathered"]
    assert (found["volumes"], found["allocation"]) == (1, 1024**3)
    assert found["capacity"] == found["allocation"] + found["available"]
    assert [entry["name"] for entry in call([{"name": "default-pool"}], state="gathered")["gathered"]] == ["default-pool"]


def test_a_pool_with_volumes_keeps_its_path_and_its_volumes(conn: Any, call: Caller) -> None:
    call([FAST])
    conn.storagePoolLookupByName("fast").createXML(VOLUME)
    there = snapshot(conn)
    failed = call([{**FAST, "path": "/srv/new"}], allow_disruption=True)
    assert failed["failed"] is True
    assert "holds volumes (1) in" in failed["msg"]
    assert snapshot(conn) == there
    assert conn.storagePoolLookupByName("fast").listVolumes() == ["a.img"]


@pytest.mark.parametrize("changes", [{"path": "/srv/new"}, {"mode": "0700"}])
def test_disruptive_changes_are_refused_or_done(conn: Any, call: Caller, changes: dict[str, Any]) -> None:
    call([FAST])
    there = snapshot(conn)
    refused = call([{**FAST, **changes}])
    assert refused["failed"] is True
    assert "Nothing was changed" in refused["msg"]
    assert snapshot(conn) == there
    assert call([{**FAST, **changes}], check=True)["disruptive"] == refused["disruptive"]
    done = call.same_in_check_mode([{**FAST, **changes}], allow_disruption=True)
    assert len(done["backups"]) == 1
    assert next(iter(changes.values())) in conn.storagePoolLookupByName("fast").XMLDesc(0)


@pytest.mark.parametrize("survived", range(4))
def test_a_run_that_was_cut_short_is_completed(conn: Any, call: Caller, survived: int) -> None:
    xml = call([FAST], state="rendered")["rendered"][0]["xml"]
    actions = [
        lambda: conn.storagePoolDefineXML(xml),
        lambda: conn.storagePoolLookupByName("fast").build(0),
        lambda: conn.storagePoolLookupByName("fast").create(),
        lambda: conn.storagePoolLookupByName("fast").setAutostart(1),
    ]
    for action in actions[:survived]:
        action()
    done = call.same_in_check_mode([FAST])
    assert done["changed"] is True
    assert done["commands"][-1] == "virsh -c test:///default pool-autostart fast"


def test_a_foreign_pool_is_used_as_it_is(conn: Any, call: Caller) -> None:
    done = call.same_in_check_mode([{"name": "default-pool", "path": "/default-pool"}])
    assert [line.split()[3] for line in done["commands"]] == ["pool-autostart"]
    assert done["after"] == [{"name": "default-pool", "path": "/default-pool", "mode": None, "autostart": True, "active": True}]
    failed = call([{"name": "default-pool", "path": "/other"}], allow_disruption=True)
    assert failed["failed"] is True
    assert "did not make" in failed["msg"]
    assert call(state="deleted")["changed"] is False
    assert conn.storagePoolLookupByName("default-pool").isActive()


def test_overridden_and_deleted(conn: Any, call: Caller) -> None:
    call([FAST, LARGE])
    done = call.same_in_check_mode([LARGE], state="overridden")
    assert {pool.name() for pool in conn.listAllStoragePools()} == {"default-pool", "large"}
    assert [Path(path).name.split("-")[0] for path in done["backups"]] == ["fast"]
    assert call.same_in_check_mode(state="deleted")["after"] == []
    assert {pool.name() for pool in conn.listAllStoragePools()} == {"default-pool"}


def test_a_pool_that_guests_use_is_not_removed(conn: Any, call: Caller) -> None:
    call([FAST])
    define_guest(conn, "web", disk="<disk type='file' device='disk'><source file='/srv/fast/web.img'/><target dev='vda'/></disk>")
    failed = call(state="deleted")
    assert failed["failed"] is True
    assert "guests web have disks" in failed["msg"]
    assert call.same_in_check_mode(state="deleted", allow_disruption=True)["after"] == []


def test_a_host_without_libvirt(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = call([FAST], check=True)
    monkeypatch.setattr(host_libvirt, "libvirt", None)
    assert "python3-libvirt" in call([FAST])["msg"]
    assert call([FAST], state="deleted")["changed"] is False
    checked = call([FAST], check=True)
    assert {key: checked[key] for key in ("before", "after", "commands", "diff")} == {key: usual[key] for key in ("before", "after", "commands", "diff")}
