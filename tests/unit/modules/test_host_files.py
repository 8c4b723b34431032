# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_files on real directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.hybridlab.platform.plugins.modules import host_files
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

Call = Callable[..., dict[str, Any]]
SECRET = "tok3n-nobody-may-see"


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(check: bool = False, **params: Any) -> dict[str, Any]:
        args = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(tmp_path / "tmp"), **params}
        return call_module(host_files, args, capsys)

    return run


def declared(root: Path, **changes: Any) -> dict[str, Any]:
    return {
        "directories": [{"path": str(root / "lib"), "exclusive": True}, {"path": str(root / "state"), "mode": "0700"}],
        "config": [{"path": str(root / "lib/sub/a.py"), "content": "a = 1\n"}, {"path": str(root / "bin/tool"), "content": "#!/bin/sh\n", "mode": "0755"}],
        "secrets": json.dumps([{"path": str(root / "etc/tool.json"), "content": SECRET}]),
        **changes,
    }


def test_check_mode_foresees_the_run_and_the_second_run_changes_nothing(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "host"
    foreseen = call(check=True, **declared(root))
    assert not root.exists()
    done = call(**declared(root))
    assert foreseen == done
    assert done["changed"]
    modes = {path: oct((root / path).stat().st_mode)[-4:] for path in ("lib", "state", "bin/tool", "lib/sub/a.py", "etc/tool.json")}
    assert modes == {"lib": "0755", "state": "0700", "bin/tool": "0755", "lib/sub/a.py": "0644", "etc/tool.json": "0600"}
    again = call(**declared(root))
    assert (again["changed"], again["commands"], again["before"], again["diff"]) == (False, [], done["after"], [])


def test_drift_in_content_and_mode_is_repaired_and_strays_are_removed(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "host"
    call(**declared(root))
    (root / "lib/sub/a.py").write_text("a = 2\n", encoding="utf-8")
    (root / "bin/tool").chmod(0o777)
    (root / "lib/old").mkdir()
    (root / "lib/old/module.py").write_text("", encoding="utf-8")
    (root / "state/kept").write_text("", encoding="utf-8")
    done = call(**declared(root))
    assert [command.splitlines()[0] for command in done["commands"]] == [
        f"install -D -m 0644 /dev/stdin {root}/lib/sub/a.py <<'EOF'",
        f"chmod 0755 {root}/bin/tool",
        f"rm -rf -- {root}/lib/old",
    ]
    assert (root / "lib/sub/a.py").read_text(encoding="utf-8") == "a = 1\n"
    assert (not (root / "lib/old").exists(), (root / "state/kept").exists()) == (True, True)
    assert not call(**declared(root))["changed"]


def test_a_secret_is_shown_nowhere(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "host"
    done = call(**declared(root))
    other = json.dumps([{"path": str(root / "etc/tool.json"), "content": "another " + SECRET}])
    changed = call(**declared(root, secrets=other))
    assert (root / "etc/tool.json").read_text(encoding="utf-8") == "another " + SECRET
    assert changed["changed"]
    assert SECRET not in json.dumps([done, changed])
    assert [(row["path"][-9:], row["content"]) for row in changed["before"] if "etc" in row["path"][-13:]] == [("tool.json", "other")]


def test_what_the_validator_refuses_is_not_written(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "host"
    row = {"path": str(root / "etc/tool.json"), "content": "old", "validate": ["sh", "-c", 'grep -q old "$1" || { echo "$1: no" >&2; exit 1; }', "sh", "%s"]}
    call(secrets=json.dumps([row]))
    refused = call(secrets=json.dumps([{**row, "content": SECRET}]))
    assert refused["failed"]
    assert refused["msg"] == f"config[{root}/etc/tool.json]: not written, the old one stays: {root}/etc/tool.json: no"
    assert (root / "etc/tool.json").read_text(encoding="utf-8") == "old"
    missing = call(secrets=json.dumps([{**row, "content": "new old", "validate": ["/no/such/tool", "%s"]}]))
    assert "it can't be checked: /no/such/tool" in missing["msg"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"config": [{"path": "/x", "content": "", "mode": "rw"}]}, "config[/x].mode: found 'rw'"),
        ({"config": [{"path": "/x", "content": ""}, {"path": "/x", "content": "y"}]}, "Name each only once"),
        ({"secrets": "{"}, "secrets: is not the JSON text of a list of files"),
        ({"secrets": '[{"path": "/x"}]'}, "secrets: is not the JSON text of a list of files"),
        ({"config": [{"path": "/etc", "content": ""}]}, "there is a directory of this name"),
        ({"directories": [{"path": "/etc/passwd"}]}, "there is a file of this name"),
    ],
)
def test_wrong_input_is_named(call: Call, params: dict[str, Any], words: str) -> None:
    answer = call(check=True, **params)
    assert answer["failed"]
    assert words in answer["msg"]


def test_a_removal_takes_what_was_declared_and_nothing_else(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "host"
    call(**declared(root))
    (root / "state/kept").write_text("", encoding="utf-8")
    assert call(state="gathered", **declared(root))["commands"] == []
    foreseen = call(check=True, state="deleted", **declared(root))
    done = call(state="deleted", **declared(root))
    assert foreseen == done
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["bin", "etc", "state", "state/kept"]
    assert not call(state="deleted", **declared(root))["changed"]
