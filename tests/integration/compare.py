# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs, or two states of a host, side by side."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from tools.playbook import Outcome


def plan(outcome: Outcome) -> dict[str, Any]:
    """What a run changed, or in check mode said it would change: task -> diff and commands."""
    return {task.name: {"diff": _texts(task.result), "commands": task.result.get("commands")} for task in outcome.tasks if task.changed}


def _texts(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The diffs of a task without their headers, which name temporary files. A loop has one for each turn."""
    found = [*(item.get("diff") for item in result.get("results", [])), result.get("diff")]
    flat = [diff for part in found if part for diff in (part if isinstance(part, list) else [part])]
    return [{key: diff[key] for key in ("before", "after", "prepared") if key in diff} for diff in flat]


def assert_same(before: str, after: str) -> None:
    changes = list(difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=0))
    assert not changes, "\n".join(changes[:80])


def sections(snapshot: str) -> dict[str, str]:
    """The parts of a snapshot by their names."""
    return {name: text for name, _newline, text in (part.partition("\n") for part in snapshot.split("# ")[1:])}
