# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools.mail_status shows and how it judges, and the files of tools.mail_dns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools import mail_dns, mail_status

TOLD: dict[str, Any] = {
    "containers": [{"name": "mail_dovecot", "state": "Up 2 hours (healthy)"}],
    "queue": {"count": 2, "oldest_seconds": 600, "reasons": [{"reason": "timed out", "count": 2}]},
    "certificate": {"days": 396, "until": "2027-12-23"},
    "signatures": [{"file": "daily.cld", "version": "1", "days": 1}],
    "quota": [{"mailbox": "anna@example.com", "used_mb": 90, "limit_mb": 100, "percent": 90}],
}


def test_all_is_on_the_screen() -> None:
    text = mail_status.screen(TOLD)
    for words in (
        "mail_dovecot  Up 2 hours",
        "2 messages, the oldest waits for 10 min; most: timed out",
        "396 days left, until 2027-12-23",
        "daily.cld 1 days old",
        "90 %",
    ):
        assert words in text
    assert mail_status.well(TOLD)


@pytest.mark.parametrize(
    "broken",
    [
        {"containers": []},
        {"containers": [{"name": "mail_dovecot", "state": "Up 2 hours (unhealthy)"}]},
        {"queue": "no container of mail_postfix runs here"},
        {"quota": "mail_dovecot: doveadm failed"},
    ],
)
def test_what_is_not_well_is_told(broken: dict[str, Any]) -> None:
    told = {**TOLD, **broken}
    assert not mail_status.well(told)
    (value,) = broken.values()
    assert (value if isinstance(value, str) else value[0]["state"] if value else "none runs") in mail_status.screen(told)


def test_a_mail_system_without_a_scanner_is_well() -> None:
    told = {**TOLD, "signatures": None}
    assert mail_status.well(told) and "not scanned for viruses" in mail_status.screen(told)


def test_each_zone_gets_a_file(tmp_path: Path) -> None:
    made = mail_dns.write({"example.com": "$ORIGIN example.com.\n"}, tmp_path / "zones")
    assert [(path.name, path.read_text(encoding="utf-8")) for path in made] == [("example.com.zone", "$ORIGIN example.com.\n")]
