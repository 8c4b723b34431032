# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Guest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import ObservedPool, owner_uuid, plan_pools, read_pool_xml, write_pool_xml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import Pool as Declared
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Plan


def pool(**changes: Any) -> ObservedPool:
    known: dict[str, Any] = {
        "name": "fast",
        "kind": "dir",
        "path": "/srv/fast",
        "mode": "0711",
        "autostart": True,
        "active": True,
        "xml": "<pool/>",
        "volumes": 0,
    }
    known.update(changes)
    return ObservedPool(uuid=known.pop("uuid", owner_uuid(known["name"])), **known)


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "fast", "path": "/srv/fast", "mode": None, "autostart": True, "active": True, **changes}


def kinds(plan: Plan) -> list[str]:
    return [type(operation).__name__ for operation in plan.operations]


@pytest.mark.parametrize(
    ("found", "wanted", "expected", "disruptive"),
    [
        (None, entry(), ["Define", "Build", "Start", "Autostart"], []),
        (None, entry(active=False, autostart=False), ["Define", "Build"], []),
        (pool(), entry(), [], []),
        (pool(), entry(path="/srv/fast/"), [], []),
        (pool(), entry(path=None), [], []),
        (pool(mode=None), entry(), [], []),
        # What a run that was cut short leaves behind.
        (pool(active=False, autostart=False, volumes=None), entry(), ["Build", "Start", "Autostart"], []),
        (pool(autostart=False), entry(), ["Autostart"], []),
        (pool(), entry(active=False), ["Destroy"], []),
        (pool(), entry(mode="0750"), ["Backup", "Destroy", "Define", "Build", "Start"], ["mode is 0711, wanted 0750: the pool is stopped for a moment"]),
        (pool(active=False, volumes=None), entry(mode="750"), ["Backup", "Define", "Build", "Start"], []),
        (pool(), entry(path="/srv/new"), ["Backup", "Destroy", "Define", "Build", "Start"], ["path is /srv/fast, wanted /srv/new"]),
        (
            pool(active=False, volumes=None),
            entry(path="/srv/new"),
            ["Backup", "Define", "Build", "Start"],
            ["path is /srv/fast, wanted /srv/new; it is not active, so its volumes were not counted"],
        ),
        # Somebody else's pool in the declared directory.
        (pool(uuid="x", mode="0755"), entry(), [], []),
        (pool(uuid="x", active=False, autostart=False), entry(), ["Start", "Autostart"], []),
        (pool(uuid="x"), entry(active=False, autostart=False), [], []),
    ],
)
def test_operations(found: Optional[ObservedPool], wanted: dict[str, Any], expected: list[str], disruptive: list[str]) -> None:
    plan = plan_pools("merged", [wanted], [found] if found else [])
    assert kinds(plan) == expected
    assert [found["reason"] for found in plan.disruptive] == disruptive


@pytest.mark.parametrize(
    ("config", "there", "message"),
    [
        ([entry(path="/srv/new")], [pool(volumes=3)], r"the pool holds volumes \(3\) in '/srv/fast', which are not moved"),
        ([entry(path="/srv/new")], [pool(uuid="x")], r"config\[fast\]: libvirt has a pool 'fast' \(type dir, path /srv/fast\).*did not make"),
        ([entry()], [pool(uuid="x", kind="logical")], "type logical"),
        (
            [entry()],
            [pool(name="default")],
            r"config\[fast\]\.path: found '/srv/fast', which is the directory of pool 'default'.*platform_pools\) with name: default; .*used as it is",
        ),
        ([entry(path=None)], [], r"config\[fast\]\.path: found None"),
        ([entry(path="srv")], [], r"config\[fast\]\.path: found 'srv'"),
        ([entry(mode="rwx")], [], r"config\[fast\]\.mode: found 'rwx'"),
        ([entry(name="a/b")], [], r"config\[a/b\]\.name"),
        ([entry(), entry()], [], r"config\[1\]\.name: found 'fast'"),
        ([entry(), entry(name="b", path="/srv/fast/")], [], r"config\[1\]\.path: found '/srv/fast'"),
    ],
)
def test_refusals(config: list[dict[str, Any]], there: list[ObservedPool], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        plan_pools("merged", config, there)


def test_overridden_and_deleted_take_only_ours() -> None:
    there = [pool(), pool(name="large", path="/srv/large", active=False), pool(name="default", path="/srv/x", uuid="x")]
    over = plan_pools("overridden", [entry()], there)
    assert [operation.name for operation in over.operations] == ["large", "large"]
    assert kinds(over) == ["Backup", "Undefine"]
    assert kinds(plan_pools("deleted", [], there)) == ["Backup", "Destroy", "Undefine", "Backup", "Undefine"]
    with pytest.raises(ResourceError, match="did not make that pool"):
        plan_pools("deleted", [{"name": "default"}], there)


def test_overridden_gives_a_directory_to_another_name() -> None:
    plan = plan_pools("overridden", [entry(name="quick")], [pool()])
    assert [(type(operation).__name__, operation.name) for operation in plan.operations][:4] == [
        ("Backup", "fast"),
        ("Destroy", "fast"),
        ("Undefine", "fast"),
        ("Define", "quick"),
    ]


@pytest.mark.parametrize("guest", [Guest("web", True, files=frozenset({"/srv/fast/web.img"})), Guest("web", True, pools=frozenset({"fast"}))])
def test_guests_with_disks_in_it_make_removal_and_stop_disruptive(guest: Guest) -> None:
    elsewhere = Guest("db", True, files=frozenset({"/srv/fast2/db.img"}))
    assert "guests web have disks" in plan_pools("deleted", [], [pool()], [guest, elsewhere]).disruptive[0]["reason"]
    assert "guests web have disks" in plan_pools("merged", [entry(active=False)], [pool()], [guest, elsewhere]).disruptive[0]["reason"]
    assert plan_pools("deleted", [], [pool()], [elsewhere]).disruptive == []


def test_xml_says_what_was_declared_and_whose_it_is() -> None:
    xml = write_pool_xml(Declared("fast", "/srv/fast", "0711", True, True))
    assert read_pool_xml(xml) == {"name": "fast", "uuid": owner_uuid("fast"), "kind": "dir", "path": "/srv/fast", "mode": "0711"}
    assert owner_uuid("fast") != owner_uuid("large")
    # Written in every libvirt that has a pool of ours: it must never change.
    assert owner_uuid("fast") == "b2f99f65-92f8-55d2-9059-9f7726a04f0e"
