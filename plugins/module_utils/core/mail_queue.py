# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix's queue as it tells it itself, ``postqueue -j`` (postqueue(1)): one JSON object a line."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

_REASONS = 10
# What is another for each mail and hides that the cause is the same: names with addresses, times, ids.
_ADDRESS = re.compile(r"\[[0-9a-fA-F:.]+\](:\d+)?")
_MAILBOX = re.compile(r"<[^<> ]*@[^<> ]*>")
_ID = re.compile(r"\b[0-9A-F]{8,}\b|\b[A-Za-z0-9]{14,}\b")


@dataclass(frozen=True)
class Message:
    """arrived: seconds since 1970; recipients: (address, why it still waits or None)."""

    queue: str
    id: str
    arrived: int
    size: int
    sender: str
    recipients: tuple[tuple[str, Optional[str]], ...]


def read_queue(text: str) -> tuple[Message, ...]:
    """The messages, oldest first. ResourceError for what is no queue."""
    found = []
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            recipients = tuple((one["address"], one.get("delay_reason")) for one in raw["recipients"])
            found.append(Message(raw["queue_name"], raw["queue_id"], int(raw["arrival_time"]), int(raw["message_size"]), raw["sender"], recipients))
        except (ValueError, KeyError, TypeError) as error:
            raise ResourceError(f"postqueue -j: found {line[:200]!r}, which is no line of a queue ({error})") from error
    return tuple(sorted(found, key=lambda message: message.arrived))


def facts(messages: tuple[Message, ...], now: float) -> dict[str, Any]:
    """count, bytes, oldest_seconds (None for an empty queue), by queue, and the commonest reasons for waiting."""
    reasons = Counter(reason_class(reason) for message in messages for _address, reason in message.recipients if reason)
    return {
        "count": len(messages),
        "bytes": sum(message.size for message in messages),
        "oldest_seconds": max(0, int(now) - messages[0].arrived) if messages else None,
        "queues": dict(sorted(Counter(message.queue for message in messages).items())),
        "reasons": [{"reason": reason, "count": count} for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_REASONS]],
    }


def reason_class(reason: str) -> str:
    """A reason without what differs from mail to mail."""
    return _ID.sub("...", _MAILBOX.sub("<...>", _ADDRESS.sub("[...]", reason)))[:200]
