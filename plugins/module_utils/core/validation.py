# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of a built platform: questions to the host, and what their answers say against the model. No I/O.

A question is a command that only reads. All are asked first; the answers are then judged, each against what the model declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Answer:
    """What a command said. rc: None where it could not be run, or did not end in time; err then says why."""

    rc: Optional[int]
    out: str = ""
    err: str = ""

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.out.splitlines() if line.strip()]

    @property
    def why(self) -> str:
        """In one line, why there is no good answer."""
        said = (self.err or self.out).strip().splitlines()
        return said[-1][:160] if said else f"ended with {self.rc}"


@dataclass(frozen=True)
class Row:
    """One check. area: what is judged, such as ``networks``."""

    area: str
    check: str
    expected: str
    found: str
    ok: bool

    def to_dict(self) -> dict[str, Any]:
        return {"area": self.area, "check": self.check, "expected": self.expected, "found": self.found, "ok": self.ok}


Questions = Mapping[str, Sequence[str]]
Answers = Mapping[str, Answer]


def equal(area: str, check: str, expected: str, answer: Answer) -> Row:
    """The command's output is exactly this."""
    found = answer.out.strip() if answer.rc is not None and answer.out.strip() else answer.why
    return Row(area, check, expected, found, answer.rc is not None and answer.out.strip() == expected)


def given(area: str, check: str, expected: Any, found: Any) -> Row:
    """Two values that were read are equal."""
    return Row(area, check, _text(expected), _text(found), expected == found)


def judged(area: str, check: str, expected: str, answer: Answer, ok: bool, found: Optional[str] = None, codes: Sequence[int] = (0,)) -> Row:
    """A judgement of the caller's. An answer that is none is never good; codes: exit codes of a true answer."""
    if answer.rc not in codes:
        return Row(area, check, expected, answer.why, False)
    return Row(area, check, expected, (found if found is not None else answer.out.strip()) or answer.why, ok)


def active_units(area: str, units: Iterable[str], answer: Answer) -> Iterator[Row]:
    """Units against the output of ``systemctl show --property=Id,ActiveState,UnitFileState``: each active, and started at boot."""
    states = show_blocks(answer)
    for unit in units:
        state = states.get(unit)
        if state is None:
            yield Row(area, f"unit {unit}", "active, enabled", answer.why if answer.rc is None else "no such unit", False)
            continue
        found = f"{state.get('ActiveState') or 'unknown'}, {state.get('UnitFileState') or 'not enabled'}"
        good = state.get("ActiveState") == "active" and state.get("UnitFileState") in ("enabled", "static", "indirect", "alias", "generated")
        yield Row(area, f"unit {unit}", "active, enabled", found, good)


def show_units(units: Iterable[str]) -> tuple[str, ...]:
    """The command whose output ``active_units`` reads."""
    return ("systemctl", "show", "--no-pager", "--property=Id,LoadState,ActiveState,UnitFileState,NextElapseUSecRealtime", *units)


def show_blocks(answer: Answer) -> dict[str, dict[str, str]]:
    """Properties by unit, of units that are loaded."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in answer.out.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block and block.get("LoadState") != "not-found"}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)
