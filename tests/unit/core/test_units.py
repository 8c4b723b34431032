# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd_units plans from what it finds."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.units import (
    Unit,
    UnitState,
    UnknownUnit,
    describe,
    plan_removal,
    plan_units,
)

FILE = "/etc/systemd/system/a.service"
PACKAGED = UnitState(exists=True)


def commands(wanted: Unit, found: UnitState) -> list[str]:
    return plan_units([wanted], {wanted.name: found}).commands


@pytest.mark.parametrize(
    ("declared", "found", "expected"),
    [
        ({"enabled": True, "running": True}, PACKAGED, ["systemctl enable a.service", "systemctl start a.service"]),
        ({"enabled": True, "running": True}, UnitState(exists=True, enabled=True, running=True), []),
        ({"enabled": True}, UnitState(exists=True, enabled=None), []),
        ({"enabled": False, "running": False}, UnitState(exists=True, enabled=True, running=True), ["systemctl disable a.service", "systemctl stop a.service"]),
        ({}, UnitState(exists=True, running=True), []),
        ({"masked": True, "running": False}, UnitState(exists=True, running=True), ["systemctl stop a.service", "systemctl mask a.service"]),
        (
            {"masked": False, "running": True},
            UnitState(exists=True, masked=True),
            ["systemctl unmask a.service", "systemctl start a.service"],
        ),
    ],
    ids=["start", "done", "static", "stop", "nothing declared", "mask", "unmask"],
)
def test_states(declared: dict[str, Any], found: UnitState, expected: list[str]) -> None:
    assert commands(Unit("a.service", **declared), found) == expected


def test_a_new_unit_is_written_read_enabled_and_started() -> None:
    plan = plan_units([Unit("a.service", content="[Service]\n", enabled=True, running=True)], {"a.service": UnitState(exists=False)})
    assert [step.verb for step in plan.steps] == ["write", "daemon-reload", "enable", "start"]
    assert plan.after["a.service"] == UnitState(exists=True, enabled=True, running=True, files={FILE: "[Service]\n"})


@pytest.mark.parametrize(("on_change", "last"), [("restart", "restart"), ("reload", "reload"), ("none", "daemon-reload")])
def test_a_changed_file_reaches_the_running_unit(on_change: str, last: str) -> None:
    found = UnitState(exists=True, running=True, files={FILE: "old"})
    plan = plan_units([Unit("a.service", content="new", running=True, on_change=on_change)], {"a.service": found})
    assert plan.steps[-1].verb == last


@pytest.mark.parametrize(
    ("found", "verbs"),
    [
        (UnitState(exists=True, running=True, needs_daemon_reload=True, stale=True, files={FILE: "x"}), ["daemon-reload", "restart"]),
        (UnitState(exists=True, running=True, stale=True, files={FILE: "x"}), ["restart"]),
        (UnitState(exists=True, running=True, files={FILE: "x"}), []),
    ],
    ids=["killed before daemon-reload", "killed before restart", "finished"],
)
def test_a_run_that_was_cut_short_is_completed(found: UnitState, verbs: list[str]) -> None:
    plan = plan_units([Unit("a.service", content="x", running=True)], {"a.service": found})
    assert [step.verb for step in plan.steps] == verbs


def test_an_unknown_unit_stops_before_any_step() -> None:
    wanted = [Unit("a.service", content="x", running=True), Unit("b.service", running=True)]
    with pytest.raises(UnknownUnit, match=r"b\.service.*Install the package"):
        plan_units(wanted, {"a.service": UnitState(exists=False), "b.service": UnitState(exists=False)})


def test_removal_spares_the_units_of_packages() -> None:
    ours = Unit("a.service", content="x")
    packaged = Unit("b.service", dropins={"10-x.conf": "y"})
    dropin = "/etc/systemd/system/b.service.d/10-x.conf"
    found = {
        "a.service": UnitState(exists=True, enabled=True, running=True, files={FILE: "x"}),
        "b.service": UnitState(exists=True, enabled=True, running=True, files={dropin: "y"}),
    }
    plan = plan_removal([ours, packaged], found)
    assert plan.commands == ["systemctl stop a.service", "systemctl disable a.service", f"rm -f {FILE}", f"rm -f {dropin}", "systemctl daemon-reload"]
    assert plan.after["b.service"].running
    assert plan_removal([ours, packaged], plan.after).steps == ()


@pytest.mark.parametrize(
    ("properties", "written", "expected"),
    [
        ({"LoadState": "not-found"}, 0, UnitState(exists=False)),
        ({"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}, 0, UnitState(exists=True, enabled=True, running=True)),
        ({"LoadState": "loaded", "UnitFileState": "static", "ActiveState": "inactive"}, 0, UnitState(exists=True, enabled=None)),
        ({"LoadState": "masked", "UnitFileState": "masked", "ActiveState": "inactive"}, 0, UnitState(exists=True, masked=True)),
        ({"LoadState": "loaded", "ActiveState": "active", "ActiveEnterTimestamp": "@100"}, 101.5, UnitState(exists=True, running=True, stale=True)),
        ({"LoadState": "loaded", "ActiveState": "active", "ActiveEnterTimestamp": "@100"}, 100.9, UnitState(exists=True, running=True)),
    ],
)
def test_reading_systemctl_show(properties: dict[str, str], written: float, expected: UnitState) -> None:
    assert UnitState.from_properties(properties, {}, written) == expected


@pytest.mark.parametrize(("on_change", "stale"), [("restart", True), ("reload", False)])
def test_a_reload_counts_for_a_unit_that_reloads(on_change: str, stale: bool) -> None:
    properties = {"LoadState": "loaded", "ActiveState": "active", "ActiveEnterTimestamp": "@100", "StateChangeTimestamp": "@200"}
    assert UnitState.from_properties(properties, {}, 150.0, on_change).stale is stale


def test_a_watched_file_that_is_newer_reloads_the_unit() -> None:
    unit = Unit("a.service", running=True, watch=("/etc/a.conf",), on_change="reload")
    plan = plan_units([unit], {"a.service": UnitState(exists=True, running=True, stale=True)})
    assert plan.commands == ["systemctl reload a.service"]
    assert plan_units([unit], plan.after).steps == ()


def test_only_what_is_declared_is_described() -> None:
    unit = Unit("a.service", enabled=True)
    assert describe([unit], {"a.service": UnitState(exists=True, enabled=True, running=True)}) == [{"name": "a.service", "enabled": True}]


def test_a_written_file_is_shown_as_a_here_document() -> None:
    plan = plan_units([Unit("a.service", content="[Service]")], {"a.service": UnitState(exists=False)})
    assert plan.commands[0] == f"mkdir -p /etc/systemd/system && tee {FILE} <<'EOF'\n[Service]\nEOF"


def test_what_this_run_has_changed_reloads_the_unit() -> None:
    unit = Unit("a.service", watch=("/etc/a.conf",), on_change="reload", changed=True)

    plan = plan_units([unit], {"a.service": UnitState(exists=True, running=True)})

    assert plan.commands == ["systemctl reload a.service"]
    assert plan_units([unit], {"a.service": UnitState(exists=True, running=False)}).commands == []
