# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles backup, mail and monitoring bring is also in their lists of what is removed, which don't ask the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"


def variables(role: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROLES / role / "vars/main.yml").read_text(encoding="utf-8"))
    return {name.replace(f"__{role}_", "", 1): value for name, value in found.items()}


@pytest.mark.parametrize("role", ["backup", "mail", "monitoring"])
def test_every_unit_that_is_brought_is_removed(role: str) -> None:
    found = variables(role)
    rows = [row for name in ("units", "exporter_units") for row in found.get(name, [])]
    brought = {(row["name"], *sorted(row.get("dropins", ()))) for row in rows if "content" in row or "dropins" in row}
    assert {(row["name"], *sorted(row.get("dropins", ()))) for row in found["units_made"]} == brought


def test_every_file_of_the_backup_is_removed_and_nothing_that_it_saved() -> None:
    found = variables("backup")
    assert {row["path"] for row in found["files_made"]} == {row["path"] for row in found["files"]}
    kept = {row["path"] for row in found["directories"] if not row.get("exclusive")}
    assert kept == {"/var/lib/hybridlab/backup", "/var/log/docker-backup"}
    assert "selectattr('exclusive', 'defined')" in found["directories_made"]


def test_every_file_of_the_mail_system_is_removed_and_no_mail() -> None:
    found = variables("mail")
    assert {row["path"] for row in found["files_made"]} == {row["path"] for name in ("files", "ban_files") for row in found[name]}
    assert [row["path"] for row in found["directories_made"]] == ["{{ __mail_library }}"]
    assert [row["path"] for row in found["directories"] if row.get("exclusive")] == ["{{ __mail_library }}"]


def test_every_file_of_the_monitoring_is_removed_and_none_of_others() -> None:
    found = variables("monitoring")
    brought = {row["path"] for name in ("files", "logwatch_files", "secret_files") for row in found[name]}
    assert brought <= {*found["files_made"], *found["files_marked"]}
    assert all("hybridlab" in path or path == "{{ __monitoring_settings }}" for path in found["files_made"])
    texts = [path.read_text(encoding="utf-8") for path in (ROLES / "monitoring/templates").iterdir()]
    assert [sum(mark in text for text in texts) for mark in found["marks"]] == [1] * len(found["files_marked"])
