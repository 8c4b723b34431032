# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent and what is held back, so that an attack or a loop does not bury what matters. Pure: the state is a dict of JSON."""

from __future__ import annotations

from typing import Any, Optional

# The same message again within this time is not sent, but counted.
SAME_SECONDS = 900
# At most so many messages of one kind of event in this time.
COUNT, WINDOW_SECONDS = 12, 3600

State = dict[str, Any]


def admit(state: State, event: str, key: str, now: float, repeat: bool = False) -> Optional[str]:
    """None when a message is to be held back; else the words about those that were, often none. Changes ``state``.

    repeat: whether the same message may come again at once, because the caller tells changes only
    """
    row = _row(state, event, now)
    if (not repeat and key in row["same"]) or len(row["sent"]) >= COUNT:
        row["held"] += 1
        row["held_since"] = row["held_since"] or now
        row["held_keys"] = [*(item for item in row["held_keys"] if item != key), key][-5:]
        return None
    row["sent"].append(now)
    row["same"][key] = now
    return _told(row)


def forget(state: State, event: str, key: str, now: float) -> None:
    """The matter is over: the next message about it is a new one."""
    _row(state, event, now)["same"].pop(key, None)


def overdue(state: State, now: float) -> list[tuple[str, str]]:
    """Events of which messages were held back for a whole window, with the words for them: they are told even if none follows. Changes ``state``."""
    found = []
    for event in sorted(state):
        row = _row(state, event, now)
        if row["held"] and now - row["held_since"] >= WINDOW_SECONDS:
            found.append((event, _told(row)))
    return found


def _row(state: State, event: str, now: float) -> dict[str, Any]:
    row: dict[str, Any] = state.setdefault(event, {"sent": [], "same": {}, "held": 0, "held_since": 0, "held_keys": []})
    # A clock that was set back must not hold messages for years.
    row["sent"] = [time for time in row["sent"] if now - WINDOW_SECONDS < time <= now]
    row["same"] = {key: time for key, time in row["same"].items() if now - SAME_SECONDS < time <= now}
    if row["held_since"] > now:
        row["held_since"] = now
    return row


def _told(row: dict[str, Any]) -> str:
    held, keys = row["held"], row["held_keys"]
    row.update(held=0, held_since=0, held_keys=[])
    if not held:
        return ""
    return f"{held} more {'message was' if held == 1 else 'messages were'} held back, the last about: {'; '.join(keys)}"[:800]
