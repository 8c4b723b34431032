# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module config_files on real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.config_files import set_values
from ansible_collections.hybridlab.platform.plugins.modules import config_files
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def module(*entries: dict[str, Any], check: bool = False) -> dict[str, Any]:
        args = {"config": list(entries), "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(tmp_path)}
        return call_module(config_files, args, capsys)

    return module


def test_whole_texts_values_and_modes(call: Call, tmp_path: Path) -> None:
    new, known, other = tmp_path / "made" / "new.conf", tmp_path / "login.defs", tmp_path / "crontab"
    known.write_text("# UMASK 022\nUMASK\t022\nKEEP me\nUMASK 000\n", encoding="utf-8")
    known.chmod(0o640)
    other.write_text("x", encoding="utf-8")
    other.chmod(0o644)
    entries = (
        {"path": str(new), "content": "a\n", "mode": "0600"},
        {"path": str(known), "values": {"UMASK": "027", "DAYS": 365}, "separator": "\t"},
        {"path": str(other), "mode": "0600"},
        {"path": str(tmp_path / "missing"), "mode": "0600"},
    )
    foretold = call(*entries, check=True)
    assert not new.exists()
    done = call(*entries)
    for key in ("changed", "before", "after", "diff", "commands"):
        assert done[key] == foretold[key], key
    assert new.read_text(encoding="utf-8") == "a\n" and new.stat().st_mode & 0o777 == 0o600
    assert known.read_text(encoding="utf-8") == "# UMASK 022\nUMASK\t027\nKEEP me\nDAYS\t365\n"
    assert known.stat().st_mode & 0o777 == 0o640
    assert other.stat().st_mode & 0o777 == 0o600
    assert len(done["commands"]) == 3 and [item["path"] for item in done["after"]] == [str(new), str(known), str(other)]
    again = call(*entries)
    assert (again["changed"], again["commands"]) == (False, [])


def test_a_refused_text_changes_nothing(call: Call, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    failed = call({"path": str(first), "content": "a\n"}, {"path": str(second), "content": "b\n", "validate": "grep -q nothing %s"})
    assert failed["failed"] is True
    assert failed["msg"].startswith(f"{second}: grep -q nothing %s refuses its new text")
    assert not first.exists() and not second.exists()


def test_text_and_values_together_are_refused(call: Call, tmp_path: Path) -> None:
    assert "has content and values" in call({"path": str(tmp_path / "a"), "content": "a", "values": {"b": "c"}})["msg"]


def test_values_are_compared_as_words() -> None:
    assert set_values("minlen=14\n", {"minlen": "14"}, " = ") == "minlen=14\n"
    assert set_values("PASS_MAX_DAYS   365\n", {"PASS_MAX_DAYS": "365"}, "\t") == "PASS_MAX_DAYS   365\n"
    assert set_values("UMASK_OTHER 1\n", {"UMASK": "027"}, " ") == "UMASK_OTHER 1\nUMASK 027\n"
