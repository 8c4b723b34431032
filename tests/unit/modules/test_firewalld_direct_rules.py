# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module firewalld_direct_rules on a real file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_plan import DOCKER_CHAIN, DOCKER_RULE
from ansible_collections.hybridlab.platform.plugins.modules import firewalld_direct_rules
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

ROLE = yaml.safe_load((Path(__file__).resolve().parents[3] / "roles/firewalld/vars/main.yml").read_text(encoding="utf-8"))
RULES = ROLE["__firewalld_direct_rules"]
Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def module(check: bool = False, **params: Any) -> dict[str, Any]:
        args = {
            "config": RULES,
            "path": str(tmp_path / "firewalld" / "direct.xml"),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": str(tmp_path),
            **params,
        }
        return call_module(firewalld_direct_rules, args, capsys)

    return module


def test_the_role_keeps_the_rule_of_the_segments_mark() -> None:
    assert [{"chain": DOCKER_CHAIN, "rule": list(DOCKER_RULE)}] == RULES


def test_created_unchanged_and_removed(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "firewalld" / "direct.xml"
    foretold = call(check=True)
    assert not path.exists()
    done = call()
    for key in ("changed", "before", "after", "diff", "commands"):
        assert done[key] == foretold[key], key
    assert done["changed"] is True
    assert path.read_text(encoding="utf-8") == done["after"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert done["commands"][-1] == f"firewall-cmd --permanent --direct --add-rule ipv4 filter DOCKER-USER 0 {' '.join(DOCKER_RULE)}"
    again = call()
    assert (again["changed"], again["commands"]) == (False, [])
    assert call(state="deleted")["changed"] is True
    assert not path.exists()
    assert call(state="deleted")["changed"] is False


def test_the_rules_and_the_mode_of_others_stay(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "firewalld" / "direct.xml"
    path.parent.mkdir()
    path.write_text('<direct><passthrough ipv="ipv4">-A INPUT -j LOG</passthrough></direct>', encoding="utf-8")
    path.chmod(0o600)
    call()
    assert "-A INPUT -j LOG" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o600
    call(state="deleted")
    assert "-A INPUT -j LOG" in path.read_text(encoding="utf-8")


def test_a_broken_file_is_left_alone(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "firewalld" / "direct.xml"
    path.parent.mkdir()
    path.write_text("<direct>", encoding="utf-8")
    failed = call()
    assert failed["failed"] is True
    assert failed["msg"].startswith(f"{path}: this is no XML")
    assert path.read_text(encoding="utf-8") == "<direct>"
