# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module systemd_units with real files and a systemctl of our own; on real systemd it is proved by the roles' scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import units
from ansible_collections.hybridlab.platform.plugins.modules import systemd_units
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

# Keeps one file a unit, "enabled active" as yes/no words; units exist when they have such a file or a unit file.
SYSTEMCTL = """#!/bin/sh
state={state}; units={units}; verb=$1; for unit; do :; done
echo "$*" >>{log}
case $verb in daemon-reload) exit 0 ;; esac
if [ "$verb" = show ]; then
    if [ -e "$state/$unit" ] || [ -e "$units/$unit" ]; then
        read -r enabled active <"$state/$unit" 2>/dev/null || {{ enabled=disabled; active=inactive; }}
        printf 'LoadState=loaded\\nUnitFileState=%s\\nActiveState=%s\\nNeedDaemonReload=no\\n' "$enabled" "$active"
    else
        printf 'LoadState=not-found\\nUnitFileState=\\nActiveState=inactive\\nNeedDaemonReload=no\\n'
    fi
    exit 0
fi
[ "$unit" != broken.service ] || {{ echo 'Job for broken.service failed.' >&2; exit 1; }}
read -r enabled active <"$state/$unit" 2>/dev/null || {{ enabled=disabled; active=inactive; }}
case $verb in
    enable) enabled=enabled ;; disable) enabled=disabled ;; start | restart) active=active ;; stop) active=inactive ;;
esac
echo "$enabled $active" >"$state/$unit"
"""


class Host:
    """A directory of unit files and a systemctl that acts on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.units, self.state, self.log = root / "system", root / "state", root / "log"
        self.capsys = capsys
        for folder in (self.units, self.state):
            folder.mkdir()
        self.log.touch()
        program = root / "systemctl"
        program.write_text(SYSTEMCTL.format(state=self.state, units=self.units, log=self.log), encoding="utf-8")
        program.chmod(0o755)

    def __call__(self, config: list[dict[str, Any]], check: bool = False, **params: Any) -> dict[str, Any]:
        args = {"config": config, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self.state.parent), **params}
        return call_module(systemd_units, args, self.capsys)

    def package(self, name: str, enabled: str = "disabled", active: str = "inactive") -> None:
        (self.state / name).write_text(f"{enabled} {active}\n", encoding="utf-8")

    def actions(self) -> list[str]:
        return [line for line in self.log.read_text(encoding="utf-8").splitlines() if not line.startswith("show")]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(units, "UNIT_DIR", str(tmp_path / "system"))
    return Host(tmp_path, capsys)


OURS = {"name": "ours.service", "content": "[Service]\nExecStart=/bin/true\n", "enabled": True, "running": True}
PACKAGED = {"name": "packaged.service", "enabled": True, "running": True}


def test_check_mode_foretells_the_run_and_the_second_run_changes_nothing(host: Host) -> None:
    host.package("packaged.service")
    foretold = host([OURS, PACKAGED], check=True)
    assert host.actions() == []
    assert list(host.units.iterdir()) == []
    done = host([OURS, PACKAGED])
    for key in ("changed", "before", "after", "diff", "commands"):
        assert done[key] == foretold[key], key
    assert done["changed"] is True
    assert (host.units / "ours.service").read_text(encoding="utf-8") == OURS["content"]
    assert (host.units / "ours.service").stat().st_mode & 0o777 == 0o644
    assert host.actions() == ["daemon-reload", "enable ours.service", "start ours.service", "enable packaged.service", "start packaged.service"]
    again = host([OURS, PACKAGED])
    assert (again["changed"], again["commands"]) == (False, [])


@pytest.mark.parametrize(("assumed", "changed"), [("started", False), ("stopped", True)])
def test_check_mode_plans_a_unit_whose_package_is_not_installed_yet(host: Host, assumed: str, changed: bool) -> None:
    answer = host([PACKAGED], check=True, absent_units=assumed)
    assert answer["changed"] is changed
    assert "packaged.service does not exist yet" in answer["warnings"][0]


@pytest.mark.parametrize(("assumed", "package"), [("started", ("enabled", "active")), ("stopped", ("disabled", "inactive"))])
def test_check_mode_foretells_what_the_run_finds_when_the_package_has_come(host: Host, assumed: str, package: tuple[str, str]) -> None:
    wanted = [{**PACKAGED, "running": False, "dropins": {"10-x.conf": "[Unit]\n"}}]
    foretold = host(wanted, check=True, absent_units=assumed)
    host.package("packaged.service", *package)
    done = host(wanted)
    for key in ("changed", "before", "after", "diff", "commands"):
        assert done[key] == foretold[key], key


def test_a_real_run_refuses_an_unknown_unit_before_any_change(host: Host) -> None:
    answer = host([OURS, PACKAGED])
    assert answer["failed"] is True
    assert "packaged.service" in answer["msg"]
    assert list(host.units.iterdir()) == []


def test_what_systemd_says_is_passed_on(host: Host) -> None:
    host.package("broken.service")
    answer = host([{"name": "broken.service", "running": True}])
    assert answer["failed"] is True
    assert "Job for broken.service failed." in answer["msg"]
    assert "journalctl -u broken.service" in answer["msg"]


def test_a_drop_in_comes_and_goes_without_stopping_the_packages_unit(host: Host) -> None:
    host.package("packaged.service", "enabled", "active")
    config = [{"name": "packaged.service", "dropins": {"10-x.conf": "[Unit]\n"}, "on_change": "none"}]
    assert host(config)["changed"] is True
    dropin = host.units / "packaged.service.d" / "10-x.conf"
    assert dropin.exists()
    assert host(config, state="deleted")["changed"] is True
    assert not dropin.exists()
    assert host(config, state="deleted")["changed"] is False
    assert host.actions() == ["daemon-reload", "daemon-reload"]


def test_gathered_reports_and_changes_nothing(host: Host) -> None:
    host.package("packaged.service", "enabled", "inactive")
    answer = host([PACKAGED], state="gathered")
    assert answer["before"] == [{"name": "packaged.service", "enabled": True, "running": False}]
    assert (answer["changed"], host.actions()) == (False, [])
