# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mail system as the health checks see it: by what mailctl says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring import mail_checks, suites
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.probe import Output
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.settings import Settings
from ansible_collections.hybridlab.platform.tests.unit.monitoring.fake_host import FakeHost


def queue(count: int, seconds: Any) -> FakeHost:
    reasons = [{"reason": "connection timed out", "count": count}] if count else []
    return FakeHost({"mailctl queue --json": json.dumps({"count": count, "oldest_seconds": seconds, "reasons": reasons})})


@pytest.mark.parametrize(("count", "seconds", "severity"), [(0, None, "ok"), (3, 3599, "ok"), (3, 3600, "warning"), (1, 86400, "critical")])
def test_mail_that_waits_is_judged_by_the_oldest(count: int, seconds: Any, severity: str) -> None:
    (check,) = mail_checks.platform_queue(queue(count, seconds), Settings())
    assert check.severity == severity
    assert ("connection timed out" in check.message) == bool(count)
    assert [row.value for row in check.metrics] == [count, seconds or 0]


@pytest.mark.parametrize(
    ("told", "severity"),
    [
        ([{"file": "daily.cld", "days": 2}, {"file": "main.cvd", "days": 400}], "ok"),
        ([{"file": "daily.cld", "days": 3}], "warning"),
        ([{"file": "daily.cld", "days": 14}], "critical"),
        ([], "critical"),
        ("no container of mail_clamav runs here", "unknown"),
    ],
)
def test_signatures_are_judged_by_the_newest(told: Any, severity: str) -> None:
    (check,) = mail_checks.signatures(FakeHost({"mailctl status --json": json.dumps({"signatures": told})}), Settings())
    assert check.severity == severity and bool(check.cure) == (severity != "ok")


@pytest.mark.parametrize("output", [Output(1, "", "mailctl: no container runs"), Output(0, "no JSON"), Output(0, "[]")])
def test_a_mail_system_that_cannot_be_asked_is_unknown(output: Output) -> None:
    for look in (mail_checks.platform_queue, mail_checks.signatures):
        assert [check.severity for check in look(FakeHost({"mailctl": output}), Settings())] == ["unknown"]


def test_without_a_mail_system_nothing_is_asked() -> None:
    names = {check.name for check in suites.examine(FakeHost(), Settings(), "all")}
    assert not {name for name in names if name.startswith("mail_platform") or name == "mail_signatures"}
