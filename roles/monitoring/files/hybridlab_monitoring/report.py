# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as text for a person and as JSON for a program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone

from .model import CRITICAL, OK, UNKNOWN, WARNING, Check, exit_code

ORDER = (CRITICAL, WARNING, UNKNOWN, OK)


def as_text(checks: Sequence[Check], host: str, suite: str, finished: float) -> str:
    """A line that counts, then ``rows``."""
    return f"{host}: {suite} checks of {moment(finished)}: {counted(checks)}\n\n{rows(checks)}"


def counted(checks: Sequence[Check]) -> str:
    counts = Counter(check.severity for check in checks)
    return ", ".join(f"{counts[severity]} {severity}" for severity in ORDER if counts[severity]) or "nothing to check"


def rows(checks: Sequence[Check]) -> str:
    """A line for each check, the worst first; a cure below what needs one."""
    lines = []
    for check in sorted(checks, key=lambda check: ORDER.index(check.severity)):
        lines.append(f"{check.severity.upper():8} {check.message}")
        if check.cure:
            lines.append(f"{'':8} -> {check.cure}")
    return "".join(line + "\n" for line in lines)


def faults(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.severity != OK]


def as_json(checks: Sequence[Check], host: str, suite: str, finished: float) -> str:
    rows = [
        {
            "name": check.name,
            "subject": check.subject or None,
            "severity": check.severity,
            "value": check.value,
            "threshold": check.threshold,
            "message": check.message,
            "cure": check.cure or None,
        }
        for check in checks
    ]
    answer = {"host": host, "suite": suite, "finished": moment(finished), "exit_code": exit_code(checks), "checks": rows}
    return json.dumps(answer, indent=1, ensure_ascii=False) + "\n"


def moment(seconds: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
