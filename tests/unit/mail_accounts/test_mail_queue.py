# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of the queue, from lines as Postfix 3.7 writes them."""

from __future__ import annotations

import json
from typing import Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_queue import facts, read_queue, reason_class
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError


def line(arrived: int, reason: Optional[str] = None, queue: str = "deferred") -> str:
    recipient = {"address": "x@example.net", **({"delay_reason": reason} if reason else {})}
    raw = {
        "queue_name": queue,
        "queue_id": "4F1A2B3C4D",
        "arrival_time": arrived,
        "message_size": 100,
        "forced_expire": False,
        "sender": "",
        "recipients": [recipient],
    }
    return json.dumps(raw)


def test_facts() -> None:
    first = "host mx.example.net[192.0.2.1] said: 451 4.7.1 <x@example.net>: try later 4F1A2B3C4D"
    second = "host mx.example.net[192.0.2.9] said: 451 4.7.1 <y@example.net>: try later 5F1A2B3C4E"
    found = facts(read_queue("\n".join([line(1000, first), line(900, second), line(990, queue="active")]) + "\n"), 1060.5)
    assert found == {
        "count": 3,
        "bytes": 300,
        "oldest_seconds": 160,
        "queues": {"active": 1, "deferred": 2},
        "reasons": [{"reason": "host mx.example.net[...] said: 451 4.7.1 <...>: try later ...", "count": 2}],
    }


def test_empty() -> None:
    assert facts(read_queue(""), 5.0) == {"count": 0, "bytes": 0, "oldest_seconds": None, "queues": {}, "reasons": []}


def test_a_clock_that_went_back() -> None:
    assert facts(read_queue(line(1000)), 900.0)["oldest_seconds"] == 0


def test_words_stay() -> None:
    assert reason_class("Connection refused") == "Connection refused"


@pytest.mark.parametrize("text", ["Mail queue is empty", "{}", '{"queue_name": 1}', "[]"])
def test_no_queue(text: str) -> None:
    with pytest.raises(ResourceError, match="no line of a queue"):
        read_queue(text)
