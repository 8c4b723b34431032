# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """ours and peer: the least of several runs, in seconds unless ``note`` says otherwise. goal: the ratio ours/peer that is not to be exceeded."""

    name: str
    ours: float
    peer: float
    goal: float
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.peer

    def __str__(self) -> str:
        verdict = "ok" if self.ratio <= self.goal else "missed"
        line = f"bench {self.name} ours={self.ours:.3f} peer={self.peer:.3f} ratio={self.ratio:.3f} goal={self.goal:g} {verdict}"
        return f"{line}\n    {self.note}" if self.note else line
