# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_files on real directories."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.host_files import Directory, File, Found, plan, plan_removal, set_values
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
        ({"config": [{"path": "/x", "content": "", "values": {"a": "b"}}]}, "config[/x]: has content and values"),
        ({"config": [{"path": "/x"}]}, "config[/x]: says nothing of the file"),
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


def test_values_and_modes_of_files_of_others(call: Call, tmp_path: Path) -> None:
    known, other = tmp_path / "login.defs", tmp_path / "crontab"
    known.write_text("# UMASK 022\nUMASK\t022\nKEEP me\nUMASK 000\n", encoding="utf-8")
    known.chmod(0o640)
    other.write_bytes(b"\xff")
    other.chmod(0o644)
    (tmp_path / "cron.d").mkdir(mode=0o755)
    rows = [
        {"path": str(known), "values": {"UMASK": "027", "DAYS": 365}, "separator": "\t"},
        {"path": str(other), "mode": "0600"},
        {"path": str(tmp_path / "cron.d"), "mode": "0700"},
        {"path": str(tmp_path / "missing"), "mode": "0600"},
    ]
    foreseen = call(check=True, config=rows)
    assert known.read_text(encoding="utf-8").startswith("# UMASK 022\nUMASK\t022\n")
    done = call(config=rows)
    assert foreseen == done
    assert known.read_text(encoding="utf-8") == "# UMASK 022\nUMASK\t027\nKEEP me\nDAYS\t365\n"
    assert [path.stat().st_mode & 0o777 for path in (known, other, tmp_path / "cron.d")] == [0o640, 0o600, 0o700]
    assert [row["path"] for row in done["after"]] == [str(known), str(other), str(tmp_path / "cron.d")]
    assert len(done["commands"]) == 3
    again = call(config=rows)
    assert (again["changed"], again["commands"], again["before"]) == (False, [], done["after"])
    removal = call(config=rows, state="deleted")
    assert (removal["changed"], known.exists(), other.exists()) == (False, True, True)


def test_no_value_is_set_in_what_is_no_text(call: Call, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"NAME\t\xe9\n")
    assert "is no text in UTF-8" in call(config=[{"path": str(tmp_path / "old"), "values": {"UMASK": "027"}}])["msg"]
    assert (tmp_path / "old").read_bytes() == b"NAME\t\xe9\n"


def test_a_directory_without_a_mode_keeps_its_own(call: Call, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    rows = [{"path": str(tmp_path / "there")}, {"path": str(tmp_path / "new")}]
    assert call(directories=rows)["commands"] == [f"install -d -m 0755 {tmp_path}/new"]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("there", "new")] == [0o700, 0o755]


def test_a_directory_goes_to_a_user_of_a_container(call: Call, tmp_path: Path) -> None:
    rows = [{"path": str(tmp_path / "mail"), "mode": "0750", "uid": 5000, "gid": 5001}]
    foreseen = call(check=True, directories=rows)
    assert foreseen == call(directories=rows)
    assert foreseen["commands"] == [f"install -d -m 0750 -o 5000 -g 5001 {tmp_path}/mail"]
    assert not call(directories=rows)["changed"]
    os.chown(tmp_path / "mail", 0, 0)
    repaired = call(directories=rows)
    assert repaired["commands"] == [f"chown 5000:5001 {tmp_path}/mail"]
    assert repaired["diff"] == [{"before_header": f"{tmp_path}/mail", "after_header": f"{tmp_path}/mail", "before": "0750 0:0\n", "after": "0750 5000:5001\n"}]
    assert (tmp_path / "mail").stat().st_uid == 5000
    # Who says nothing of an owner leaves alone whose it is.
    assert not call(directories=[{"path": str(tmp_path / "mail")}])["changed"]


def test_values_are_compared_as_words() -> None:
    assert set_values("minlen=14\n", {"minlen": "14"}, " = ") == "minlen=14\n"
    assert set_values("PASS_MAX_DAYS   365\n", {"PASS_MAX_DAYS": "365"}, "\t") == "PASS_MAX_DAYS   365\n"
    assert set_values("UMASK_OTHER 1\n", {"UMASK": "027"}, " ") == "UMASK_OTHER 1\nUMASK 027\n"


def test_systemd_reads_a_drop_in_that_came_back_and_one_that_went() -> None:
    dropin = File("/etc/systemd/system/service.d/50-alert.conf", "[Unit]\n")
    folder = Directory("/etc/systemd/system/service.d", exclusive=True)
    other = File("/etc/systemd/journald.conf.d/50-size.conf", "[Journal]\n")
    for found in ({}, {dropin.path: Found(0o644, "[Unit]\nOnFailure=other.service\n")}):
        planned = plan([dropin, other], [], {**found, other.path: Found(0o644, "[Journal]\n")})
        assert [step.verb for step in planned.steps] == ["write", "daemon-reload"]
        assert planned.commands[-1] == "systemctl daemon-reload"
    there = {dropin.path: Found(0o644, "[Unit]\n"), folder.path: Found(0o755)}
    assert plan([dropin], [folder], there).steps == []
    assert plan([], [folder], {folder.path: Found(0o755), dropin.path: Found(0o644)}, [dropin.path]).commands[-1] == "systemctl daemon-reload"
    assert [step.verb for step in plan_removal([dropin], [], there).steps] == ["remove", "daemon-reload"]
    assert "systemctl daemon-reload" not in plan([other], [], {}).commands
