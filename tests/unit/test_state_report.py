# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tools import state_read, state_report
from tools.playbook import Outcome, TaskResult

GIB = 2**30
TABLE = "              limit     used    asked         over  limit set by\nguests            8        1        0            -  guests"
STOPPED: dict[str, Any] = {"state": "stopped", "uptime_seconds": None, "cpu_percent": None, "rss_kib": None, "agent": None, "ssh_port": None}
SEGMENTS = ("public", "private", "mail", "ci", "vpn")


def interface(network: str, address: str | None) -> dict[str, Any]:
    return {"network": network, "mac": "52:54:00:00:00:01", "address": address, "source": "lease" if address else None}


def guest(name: str, **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "ours": True,
        "platform": "lab",
        "ssh_port": 2211,
        "state": "running",
        "autostart": True,
        "accelerator": "kvm",
        "vcpus": 1,
        "vcpus_max": 2,
        "memory_mb": 512,
        "memory_max_mb": 512,
        "rss_kib": 262_143,
        "cpu_percent": 1.4,
        "uptime_seconds": 3700,
        "agent": "connected",
        "interfaces": [interface("public", "10.0.1.20")],
        "snapshots": [],
    }
    return {**found, **changed}


def pool(name: str, available: int, promised: int) -> dict[str, Any]:
    figures = {"capacity": 100 * GIB, "allocation": 100 * GIB - available, "available": available, "promised": promised, "virtual": 50 * GIB, "volumes": 3}
    return {"name": name, "ours": True, "active": True, "path": f"/srv/{name}", **figures}


@pytest.fixture
def state() -> dict[str, Any]:
    return {
        "host": {
            "name": "dell",
            "kernel": "5.14",
            "libvirt": "10.10.0",
            "cores": 6,
            "threads": 12,
            "load": [0.5, 0.4, 0.3],
            "uptime_seconds": 90061,
            "memory_kib": 32 * 2**20,
            "memory_available_kib": 20 * 2**20,
            "filesystems": [{"mount": "/", "size": 65 * GIB, "available": 40 * GIB}],
        },
        "networks": [
            {"name": name, "ours": True, "active": True, "autostart": True, "bridge": f"br-{name}", "address": f"10.0.{index}.1/24"}
            for index, name in enumerate(SEGMENTS, 1)
        ],
        "pools": [pool("fast", 60 * GIB, 20 * GIB), pool("large", 90 * GIB, 0)],
        "guests": [
            guest("web"),
            guest(
                "db", state="stopped", uptime_seconds=None, cpu_percent=None, rss_kib=None, agent=None, interfaces=[interface("private", None)], ssh_port=None
            ),
            guest("old", ours=False, platform=None, interfaces=[], memory_max_mb=1024),
        ],
        "forwards": [{"port": 2211, "address": "10.0.1.20", "to_port": 2211}, {"port": 2231, "address": "10.0.3.9", "to_port": 2231}],
        "capacity": {
            "ok": True,
            "table": TABLE,
            "excesses": [],
            "use": {"guests": {"used": 2, "limit": 8}, "vcpus": {"used": 4, "limit": 8}, "memory": {"used": 1024 * 1024 + 1, "limit": 22_937_601}},
            "hook": "on",
        },
        "attention": [],
    }


def test_the_status_is_one_screen(state: Mapping[str, Any]) -> None:
    text = state_report.status(state)
    lines = text.splitlines()
    assert len(lines) <= state_report.LINES
    assert max(map(len, lines)) <= state_report.WIDTH
    assert lines[:3] == [
        "host dell   6 cores / 12 threads   up 1d 1h   load 0.50 0.40 0.30   libvirt 10.10.0",
        "memory 32.0 GiB, 20.0 GiB free   / 65.0 GiB, 40.0 GiB free",
        "taken of limit:   guests 2/8   vCPUs 4/8   memory 1025/22400 MiB   starts by hand: checked",
    ]
    assert "\033" not in text


def test_networks_pools_and_guests(state: Mapping[str, Any]) -> None:
    lines = [line.split() for line in state_report.status(state).splitlines()]
    assert ["public", "10.0.1.1/24", "br-public", "active", "1", "of", "1", "run", "ours"] in lines
    assert ["private", "10.0.2.1/24", "br-private", "active", "0", "of", "1", "run", "ours"] in lines
    assert ["fast", "/srv/fast", "100.0", "GiB", "60.0", "GiB", "20.0", "GiB", "3", "ours"] in lines
    assert ["web", "running", "public", "10.0.1.20", "2211", "1h", "1m", "1", "of", "2", "512", "256", "MiB", "1", "%", "connected"] in lines
    assert ["db", "stopped", "private", "-", "-", "-", "1", "of", "2", "512", "-", "-", "-"] in lines
    assert ["old", "(not", "ours)", "running", "-", "-", "2211", "1h", "1m", "1", "of", "2", "512", "of", "1024", "256", "MiB", "1", "%", "connected"] in lines
    assert ["forwards:", "2211", "->", "web:2211", "2231", "->", "10.0.3.9:2231"] in lines
    assert lines[-1] == ["nothing", "needs", "attention"]


def test_a_full_host_still_fits(state: dict[str, Any]) -> None:
    state["guests"] = [guest(f"guest-with-a-long-name-{index:02}", interfaces=[interface("public", f"10.0.1.{index}")] * 2) for index in range(60)]
    state["forwards"] = [{"port": 2211 + index, "address": f"10.0.1.{index}", "to_port": 2211 + index} for index in range(9)]
    state["attention"] = [f"guest {index}: " + "its agent is silent " * 10 for index in range(30)]
    lines = state_report.status(state).splitlines()
    assert len(lines) <= state_report.LINES
    assert max(map(len, lines)) <= state_report.WIDTH
    shown = sum(1 for line in lines if line.startswith("guest-with"))
    assert f"... and {60 - shown} more (--json)" in lines
    assert lines[-1] == "! ... and 21 more (--json)"


def test_an_empty_host(state: dict[str, Any]) -> None:
    bare = {**state, "networks": [], "pools": [], "guests": [], "forwards": []}
    bare["host"] = {**state["host"], "load": [], "uptime_seconds": None, "memory_available_kib": None, "filesystems": []}
    bare["capacity"] = {**state["capacity"], "use": {kind: {"used": 0, "limit": None} for kind in ("guests", "vcpus", "memory")}, "hook": None}
    lines = state_report.status(bare).splitlines()
    assert lines[0] == "host dell   6 cores / 12 threads   libvirt 10.10.0"
    assert lines[2] == "taken of limit:   guests 0/-   vCPUs 0/-   memory 0/- MiB"
    assert lines.count("none") == 3
    assert "forwards: none" in lines


def test_colour_only_when_asked_for(state: dict[str, Any]) -> None:
    state["attention"] = ["guest web: its agent is silent"]
    plain, coloured = state_report.status(state), state_report.status(state, colour=True)
    assert "\033[33m! guest web: its agent is silent\033[0m" in coloured
    for code in ("\033[1m", "\033[33m", "\033[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_capacity_within_its_limits(state: Mapping[str, Any]) -> None:
    lines = state_report.capacity(state).splitlines()
    assert lines[0] == "dell: 6 cores, 12 threads, memory 32768 MiB"
    assert lines[1:3] == TABLE.splitlines()
    assert lines[5].split() == ["fast", "100.0", "GiB", "40.0", "GiB", "60.0", "GiB", "20.0", "GiB", "60%", "of", "the", "pool"]
    assert lines[-1] == "everything is within its limits"


def test_capacity_that_is_exceeded(state: dict[str, Any]) -> None:
    state["capacity"]["excesses"] = ["guests: 1 over the limit (guests)"]
    state["pools"][0]["promised"] = 60 * GIB + 1
    assert state_report.excesses(state) == [
        "guests: 1 over the limit (guests)",
        "pool fast: thin volumes may take 60.0 GiB more, 60.0 GiB are available",
    ]
    assert state_report.capacity(state).splitlines()[-2].startswith("over: guests: 1 over")
    state["pools"][0]["active"] = False
    assert len(state_report.excesses(state)) == 1


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3605, "1h 0m"), (90061, "1d 1h"), (8640000, "100d 0h")])
def test_durations(seconds: int, text: str) -> None:
    assert state_report.duration(seconds) == text


def ran(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, *arguments: str) -> None:
    monkeypatch.setattr(state_read.playbook, "run", lambda *_arguments: outcome)
    monkeypatch.setattr(sys, "argv", ["tool", *arguments])


def judge(states: state_read.States) -> int:
    return int(any(state_report.excesses(found) for found in states.values()))


def test_a_run_of_the_tool(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result = {**copy.deepcopy(state), "changed": False, "invocation": {}}
    ran(monkeypatch, Outcome(0, 1, 1, "", (TaskResult(state_read.TASK, "dell", result),)))
    assert state_read.main("capacity", "", state_report.capacity, judge) == 0
    assert capsys.readouterr().out == state_report.capacity(state) + "\n"
    result["capacity"]["excesses"] = ["vCPUs: 1 over the limit (vcpus)"]
    assert state_read.main("capacity", "", state_report.capacity, judge) == 1


def test_json_is_the_whole_state_by_host(state: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran(monkeypatch, Outcome(0, 1, 1, "", (TaskResult(state_read.TASK, "dell", {**state, "changed": False}),)), "--json")
    assert state_read.main("status", "", state_report.status, lambda _states: 0) == 0
    assert json.loads(capsys.readouterr().out) == {"dell": state}


def test_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lost = TaskResult(state_read.TASK, "dell", {"unreachable": True, "msg": "Connection timed out"})
    ran(monkeypatch, Outcome(4, 1, 1, "", (lost,)), "-i", "inventories/lab")
    assert state_read.main("status", "", state_report.status, lambda _states: 0) == 2
    assert capsys.readouterr().err == "status: no state from inventories/lab: dell: Connection timed out\n"
