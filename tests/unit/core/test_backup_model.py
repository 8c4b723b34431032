# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What platform_backup becomes: the settings of the tool, and the names of its units."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.filter.backup import backup_settings
from ansible_collections.hybridlab.platform.plugins.module_utils.core.backup_settings import mount_unit
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_backup import check_nights, longest_gap
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Updates
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model

from roles.backup.files.hybridlab_backup import settings as tool

MARIADB: dict[str, Any] = yaml.safe_load(
    """
    name: database
    workload: web
    dump: {command: [sh, -c, 'MYSQL_PWD=$(cat /run/secrets/db) exec mariadb-dump --all-databases'], volumes: [demo_notes]}
    restore: {command: [mariadb], ready: [mariadb-admin, ping], timeout_seconds: 60}
    """
)


def settings(backup: dict[str, Any]) -> dict[str, Any]:
    model = lab_model()
    return backup_settings(backup, "lab", model["platform_docker"], model["platform_ranges"], model["platform_workloads"])


def test_the_lab_has_a_backup() -> None:
    backup = parse_platform(lab_model()).services.backup

    assert backup is not None and backup.target == "/mnt/backup/docker" and backup.schedule == "Sun 03:00"


def test_a_service_has_the_names_that_its_workload_has_in_the_engine() -> None:
    (row,) = settings({"services": [{"name": "web", "workload": "web", "quiesce": "pause"}]})["settings"]["services"]

    assert (row["swarm"], row["volumes"], row["dumped"], row["quiesce"]) == ("demo_web", ["demo_notes"], [], "pause")


def test_a_volume_that_is_skipped_is_none_of_its_service() -> None:
    found = settings({"services": [{"name": "web", "workload": "web"}], "skip_volumes": ["demo_notes"]})["settings"]
    assert (found["services"][0]["volumes"], found["skip"]) == ([], ["demo_notes"])


def test_a_volume_that_a_dump_stands_for_is_not_copied() -> None:
    (row,) = settings({"services": [MARIADB]})["settings"]["services"]

    assert (row["volumes"], row["dumped"]) == ([], ["demo_notes"])
    assert row["restore"] == {"command": ["mariadb"], "seconds": 60, "ready": ["mariadb-admin", "ping"]}


def test_the_tool_reads_what_the_model_writes() -> None:
    found = tool._settings(settings({"services": [MARIADB], "reserve_gb": 2, "paths": ["/srv/compose"]})["settings"])

    assert found.reserve_bytes == 2 << 30 and found.paths == ("/srv/compose",) and found.docker is True
    assert found.service("database").restore == tool.Hook(("mariadb",), 60, ("mariadb-admin", "ping"))


def test_without_an_engine_only_directories_are_saved() -> None:
    assert backup_settings({"paths": ["/srv/data"]}, "lab")["settings"]["docker"] is False


@pytest.mark.parametrize(
    ("schedule", "days"),
    [("03:00", 1), ("Sun 03:00", 7), ("Mon,Thu 03:00", 4), ("Mon..Fri 22:30", 3), ("Fri..Mon 01:00", 4), ("Mon..Wed,Sat 01:00", 3)],
)
def test_the_longest_time_between_two_runs(schedule: str, days: int) -> None:
    assert longest_gap(schedule) == days


@pytest.mark.parametrize(
    ("schedule", "updates", "apart"),
    [
        ("Sun 03:00", Updates("Sat", "04:00"), True),
        ("Sun 03:00", Updates("Sun", "08:59"), False),
        ("Sun 03:00", Updates("Sun", "09:00"), True),
        ("Mon 01:00", Updates("Sun", "23:00"), False),
        ("03:00", Updates("Wed", "01:00"), False),
        ("03:00", Updates("Wed", "15:00"), True),
        ("Mon..Fri 22:30", Updates("Sat", "02:00"), False),
    ],
)
def test_backup_and_updates_do_not_meet(schedule: str, updates: Updates, apart: bool) -> None:
    faults = Faults()
    check_nights(faults, Backup(schedule=schedule), updates)
    assert (faults.items == []) is apart


def test_the_defaults_of_backup_and_updates_do_not_meet() -> None:
    faults = Faults()
    check_nights(faults, Backup(), Updates())
    assert faults.items == []


@pytest.mark.parametrize("mount", ["/mnt/backup", "/mnt/usb-disk", "/srv/a b", "/mnt/größe"])
def test_a_mount_point_has_the_unit_that_systemd_gives_it(mount: str) -> None:
    wanted = subprocess.run(["systemd-escape", "--path", "--suffix=mount", mount], capture_output=True, text=True, check=True).stdout.strip()

    assert mount_unit(mount) == wanted
