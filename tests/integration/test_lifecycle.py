# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bare host to five segments and back, in the order in which an operator would go.

The tests of this module build on each other: each leaves the host as the next one's name says.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.compare import assert_same, plan, sections
from tests.integration.lab import Lab
from tools.playbook import CHECKOUT

SEGMENTS = CHECKOUT / "inventories/sandbox/group_vars/all/segments.yml"


def changed_segments(tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]) -> list[str]:
    """Arguments that run a playbook with a changed copy of the model's segments."""
    segments = copy.deepcopy(yaml.safe_load(SEGMENTS.read_text(encoding="utf-8"))["platform_segments"])
    change(segments)
    path = tmp_path / "segments.json"
    path.write_text(json.dumps({"platform_segments": segments}), encoding="utf-8")
    return ["-e", f"@{path}"]


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """What earlier tests of this module leave for later ones."""
    return {}


def test_check_mode_on_a_bare_host_shows_the_plan_and_changes_nothing(bare_host: Lab, runs: dict[str, Any]) -> None:
    runs["bare"] = bare_host.snapshot()
    outcome = bare_host.played("site.yml", "--check", "--diff")
    assert_same(runs["bare"], bare_host.snapshot())
    assert outcome.changed > 5
    runs["plan"] = plan(outcome)


def test_the_first_run_does_what_was_planned(bare_host: Lab, runs: dict[str, Any]) -> None:
    outcome = bare_host.played("site.yml", "--diff")
    assert_same(json.dumps(runs["plan"], indent=1), json.dumps(plan(outcome), indent=1))
    runs["built"] = bare_host.snapshot()


def test_the_second_run_changes_nothing(bare_host: Lab, runs: dict[str, Any]) -> None:
    outcome = bare_host.played("site.yml", "--diff")
    assert outcome.changed == 0, plan(outcome)
    assert plan(outcome) == {}
    assert_same(runs["built"], bare_host.snapshot())


def test_a_bad_model_changes_nothing(bare_host: Lab, runs: dict[str, Any], tmp_path: Path) -> None:
    def overlap(segments: list[dict[str, Any]]) -> None:
        segments[1]["cidr"] = "10.0.0.128/25"

    outcome = bare_host.play("site.yml", *changed_segments(tmp_path, overlap))
    assert outcome.rc != 0
    assert "platform_segments[1].cidr" in outcome.failures() or "platform_segments[public].cidr" in outcome.failures()
    assert_same(runs["built"], bare_host.snapshot())


def test_addresses_and_names_change_while_the_networks_run(bare_host: Lab, tmp_path: Path) -> None:
    processes = "pgrep -f 'dnsmasq --conf-file=/var/lib/libvirt/dnsmasq/private.conf' | sort | head -1"
    bridge = "cat /sys/class/net/br-private/ifindex"
    before = bare_host.sh(processes), bare_host.sh(bridge)

    def add_a_host(segments: list[dict[str, Any]]) -> None:
        segments[2]["hosts"] = [{"name": "files", "address": "10.0.2.20", "mac": "52:54:00:00:02:14", "ssh_port": 2231}]

    arguments = changed_segments(tmp_path, add_a_host)
    outcome = bare_host.played("playbooks/segments.yml", *arguments)
    assert outcome.changed == 2, plan(outcome)  # rules (a forward) and networks (a reservation, five names)
    assert (bare_host.sh(processes), bare_host.sh(bridge)) == before
    assert "52:54:00:00:02:14" in bare_host.sh("virsh net-dumpxml private")
    assert bare_host.played("playbooks/segments.yml", *arguments).changed == 0
    bare_host.verified()


def test_what_would_cut_traffic_is_refused_until_it_is_allowed(bare_host: Lab, tmp_path: Path) -> None:
    def rename_the_bridge(segments: list[dict[str, Any]]) -> None:
        segments[4]["bridge"] = "br-boxes"

    arguments = changed_segments(tmp_path, rename_the_bridge)
    networks = "virsh net-dumpxml container"
    before = bare_host.snapshot()
    refused = bare_host.play("playbooks/segments.yml", *arguments)
    assert refused.rc != 0
    assert "segments_allow_disruption" in refused.failures()
    assert_same(before, bare_host.snapshot())
    allowed = bare_host.played("playbooks/segments.yml", *arguments, "-e", "segments_allow_disruption=true")
    assert "br-boxes" in bare_host.sh(networks)
    backup = allowed.task("Build the segments' networks").result["backups"][0]
    assert "br-container" in bare_host.sh(f"cat {backup}")
    assert bare_host.sh(f"stat -c %a {backup}").strip() == "600"
    bare_host.played("playbooks/verify.yml", *arguments)


def test_the_declared_state_comes_back(bare_host: Lab) -> None:
    bare_host.played("playbooks/segments.yml", "-e", "segments_allow_disruption=true")
    bare_host.verified()
    bare_host.unchanged()


def test_teardown_leaves_the_host_as_it_was(bare_host: Lab, runs: dict[str, Any]) -> None:
    bare_host.played("playbooks/teardown.yml", "-e", "teardown=sandbox")
    assert bare_host.played("playbooks/teardown.yml", "-e", "teardown=sandbox").changed == 0
    bare_host.restart()
    bare, rest = sections(runs["bare"]), sections(bare_host.snapshot())
    for name in ("links", "addresses", "forwarding"):
        assert rest[name] == bare[name], name
    assert "hybridlab_segments" not in rest["rules"]
    assert "hybridlab" not in rest["units"]
    assert "DOCKER-USER" not in bare_host.sh("iptables -S")
    assert rest["networks"].split() == ["default", "inactive", "no", "yes"]
    left = {line.split()[0] for line in set(rest["modes"].splitlines()) - set(bare["modes"].splitlines()) if "hybridlab" in line}
    assert {path for path in left if not path.startswith("/var/lib/hybridlab")} == {"/etc/firewalld/policies/hybridlab-host.xml"}


def test_teardown_wants_to_be_meant(bare_host: Lab) -> None:
    refused = bare_host.play("playbooks/teardown.yml", "-e", "teardown=lab")
    assert refused.rc != 0
    assert "-e teardown=sandbox" in refused.failures()


def test_a_host_that_was_torn_down_can_be_built_again(bare_host: Lab) -> None:
    bare_host.played("site.yml")
    bare_host.unchanged()
