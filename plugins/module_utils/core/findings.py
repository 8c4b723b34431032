# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a model, in words that let the reader repair it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One fault of the model.

    path:   where it is set, as a variable path: ``platform_segments[1].dhcp[0].first`` or ``platform_segments[public].cidr``
    found:  the value that stands there
    reason: why it cannot be built
    cure:   what to write instead
    rule:   short stable name of the rule, such as ``overlap``; tests and documents refer to it
    """

    path: str
    found: Any
    reason: str
    cure: str
    rule: str = ""

    def __str__(self) -> str:
        found = "nothing" if self.found is None else repr(self.found)
        return f"{self.path}: found {found}: {self.reason}. {self.cure}"


class ModelError(ValueError):
    """The model cannot be built; carries every finding, not the first one alone."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        count = len(self.findings)
        head = f"the platform model has {count} fault{'' if count == 1 else 's'}; nothing was changed"
        super().__init__("\n".join([head, *(f"  - {finding}" for finding in self.findings)]))
