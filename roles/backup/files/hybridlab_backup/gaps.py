# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a generation should hold and does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Gap:
    """what: a part of the backup, such as ``volume db``; why: with the cure; service: whose it is, None where no service of the model names it."""

    what: str
    why: str
    service: Optional[str] = None

    @property
    def name(self) -> str:
        return self.what if self.service is None else f"{self.what} of {self.service}"

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


def concerned(gaps: Sequence[Gap], services: Optional[Iterable[str]]) -> list[Gap]:
    """Those of these services; all where it is None."""
    return list(gaps) if services is None else [gap for gap in gaps if gap.service in set(services)]


def to_json(gaps: Iterable[Gap]) -> list[dict[str, Any]]:
    return [asdict(gap) for gap in gaps]


def from_json(rows: Iterable[Mapping[str, Any]]) -> list[Gap]:
    return [Gap(**row) for row in rows]
