# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one run of the checks to the next: only what changes is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .courier import Courier
from .message import CRITICAL, INFO, WARNING, unit_event
from .metrics import write_atomically
from .model import OK, Check

# Something is well again when it was well so many times in a row: a value that swings around its threshold tells once, not all day long.
GOOD_RUNS = 2
# The kind of event of each check that is not about units; what is not named is of the kind health.
EVENTS = {
    "memory": "memory",
    "disk": "disk",
    "inodes": "disk",
    "pool": "disk",
    "container": "container",
    "service": "container",
    "backup": "backup",
    "ssh_failures": "brute-force",
    "mail_queue": "mail",
    "mail_platform_queue": "mail",
}
# Whose subject is a unit: its own alert may have told of it already, with the same event and key.
UNITS = ("failed_units", "unit")
_WORSE = {"ok": 0, "unknown": 1, "warning": 1, "critical": 2}

State = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Change:
    """severity: OK when something is well again. key: of the matter, for the limits. repeat: whether it is surely no repetition."""

    event: str
    severity: str
    subject: str
    body: str
    key: str
    repeat: bool = True


def compare(known: Mapping[str, Mapping[str, Any]], checks: Sequence[Check]) -> tuple[State, list[Change]]:
    """What is known after these checks, and what has changed. known: as the last run left it, empty at first."""
    state: State = {}
    changes = []
    seen = {check.key: check for check in checks}
    for key, check in seen.items():
        before = known.get(key, {"severity": OK})
        if check.severity == OK:
            if before["severity"] == OK:
                continue
            well = int(before.get("well", 0)) + 1
            if well < GOOD_RUNS:
                state[key] = {**before, "well": well}
            else:
                changes.append(_recovered(check.name, check.subject, check.message))
            continue
        state[key] = {"name": check.name, "subject": check.subject, "severity": check.severity, "message": check.message}
        if _WORSE[check.severity] > _WORSE[before["severity"]]:
            changes.append(_bad(check))
    for key in sorted(set(known) - set(seen)):
        # What is no longer there, such as a container that was replaced, has no fault either.
        before = known[key]
        well = int(before.get("well", 0)) + 1
        if well < GOOD_RUNS:
            state[key] = {**before, "well": well}
        else:
            changes.append(_recovered(before["name"], before["subject"], f"No longer so: {before['message']}"))
    return state, changes


def _event(name: str, subject: str) -> str:
    return unit_event(subject) if name in UNITS else EVENTS.get(name, "health")


def _key(name: str, subject: str) -> str:
    return subject if name in UNITS else f"{name}:{subject}"


def _bad(check: Check) -> Change:
    own = check.name not in UNITS
    return Change(_event(check.name, check.subject), check.severity, check.message, f"What to do: {check.cure}", _key(check.name, check.subject), own)


def _recovered(name: str, subject: str, message: str) -> Change:
    return Change(_event(name, subject), OK, f"Well again: {message}", "", _key(name, subject))


def watch(courier: Courier, checks: Sequence[Check], path: str) -> list[Change]:
    """Put the changes since the last run, whose state is the file ``path``, into the spool."""
    try:
        known = json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        known = {}
    # The state of the notifier itself is nothing that could be notified.
    state, changes = compare(known, [check for check in checks if check.name not in ("notify", "mail")])
    for change in changes:
        severity = {OK: INFO, "critical": CRITICAL}.get(change.severity, WARNING)
        if change.severity == OK:
            courier.over(change.event, change.key)
        key = f"{change.key}: well again" if change.severity == OK else change.key
        courier.accept(courier.message(change.event, severity, change.subject, change.body, key), change.repeat)
    # Last: a run that is killed before tells again, and the limits hold back what was told.
    write_atomically(path, json.dumps(state, ensure_ascii=False), 0o600)
    return changes
