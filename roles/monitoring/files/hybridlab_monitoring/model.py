# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One check's result, and what it measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional, Union

OK, WARNING, CRITICAL, UNKNOWN = "ok", "warning", "critical", "unknown"
# Numbers of Nagios' plugins: what a dashboard colours by.
NUMBERS = {OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3}
# What could not be looked at is not good; it is also not known to be bad.
EXIT_CODES = {OK: 0, UNKNOWN: 1, WARNING: 1, CRITICAL: 2}

Value = Union[int, float, str, None]


@dataclass(frozen=True)
class Metric:
    """One number of Prometheus' text format; its name stands in ``metrics.METRICS``."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Limits:
    """From which value on a check warns, and from which on it is critical."""

    warning: float
    critical: float

    def judge(self, value: float) -> str:
        """Severity of ``value``. Where critical is the smaller one, less is worse."""
        if self.critical < self.warning:
            return Limits(-self.warning, -self.critical).judge(-value)
        if value >= self.critical:
            return CRITICAL
        return WARNING if value >= self.warning else OK

    def __str__(self) -> str:
        return f"{self.warning:g}/{self.critical:g}"


@dataclass(frozen=True)
class Check:
    """name: of the check, subject: what it looked at (a mount point, a unit), empty where there is one thing only.

    severity: OK, WARNING, CRITICAL or UNKNOWN
    value:    what was found, threshold: what it was held against
    message:  in words, cure: what to do, empty for an OK one
    metrics:  what was measured
    """

    name: str
    severity: str
    message: str
    subject: str = ""
    value: Value = None
    threshold: Optional[str] = None
    cure: str = ""
    metrics: tuple[Metric, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.name}:{self.subject}" if self.subject else self.name


def unknown(name: str, reason: str, cure: str, subject: str = "") -> Check:
    """A check that could not be made."""
    return Check(name, UNKNOWN, reason, subject=subject, cure=cure)


def metric(name: str, value: float, **labels: str) -> Metric:
    return Metric(name, float(value), tuple(sorted(labels.items())))


def exit_code(checks: Iterable[Check]) -> int:
    """0 when all is well, 1 for a warning or something that is not known, 2 for something critical."""
    return max((EXIT_CODES[check.severity] for check in checks), default=0)
