# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A notification, and its form for each kind of channel."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import asdict, dataclass, field
from email.message import EmailMessage
from typing import Any, Optional

from .report import moment

INFO, WARNING, CRITICAL = "info", "warning", "critical"
SEVERITIES = (INFO, WARNING, CRITICAL)
COLOURS = {INFO: 0x2ECC71, WARNING: 0xF1C40F, CRITICAL: 0xE74C3C}
# Discord counts UTF-16 units. Source: https://discord.com/developers/docs/resources/message#embed-object-embed-limits
TITLE_MAX, DESCRIPTION_MAX = 256, 4096
# A journal may hold anything; nobody reads more in a message.
SUBJECT_MAX, BODY_MAX = 200, 16_000
ZERO_WIDTH_SPACE = "\u200b"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_EVENT = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Message:
    """event: kind, such as ban or backup; the limits count by it. key: what makes two messages the same one, the subject where it is not given
    suppressed: in words, what was not sent before this one
    """

    event: str
    severity: str
    subject: str
    body: str
    time: float
    host: str
    platform: str
    key: str = ""
    suppressed: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def from_json(text: str) -> Message:
    """ValueError or TypeError when it is none."""
    return Message(**json.loads(text))


def is_event(word: str) -> bool:
    return bool(_EVENT.fullmatch(word))


def unit_event(unit: str) -> str:
    """Kind of event of a failed unit: the backup has one of its own."""
    return "backup" if unit.startswith("hybridlab-backup") else "unit-failed"


def cleaned(text: str, most: int) -> str:
    """Without control characters and no longer than ``most``; what is cut away is the middle: beginnings name, ends explain."""
    text = _CONTROL.sub("", text).strip()
    if len(text) <= most:
        return text
    mark = "\n[...]\n" if most > 400 else " [...] "
    head = (most - len(mark)) // 3
    return text[:head] + mark + text[len(text) - (most - len(mark) - head) :]


def one_line(text: str, most: int = SUBJECT_MAX) -> str:
    return cleaned(" ".join(text.split()), most)


def harmless(text: str) -> str:
    """Calls nobody: what stands in a log was perhaps written by an attacker."""
    return re.sub(r"@(everyone|here|channel|[&!]?\d+>|all\b)", lambda match: f"@{ZERO_WIDTH_SPACE}{match[1]}", text)


def clip(text: str, units: int) -> str:
    """At most ``units`` UTF-16 units, with a mark where something was cut off."""
    if _units(text) <= units:
        return text
    while _units(text) > units - 1:
        over = _units(text) - (units - 1)
        text = text[: len(text) - max(1, over // 2)]
    return text + "\u2026"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", errors="replace")) // 2


def discord(message: Message) -> dict[str, Any]:
    """One embed. The body stands in a code block, so that no markup of a log is obeyed, and nobody may be mentioned."""
    title = clip(f"{message.host}: {harmless(message.subject)}", TITLE_MAX)
    footer = f"{message.platform} \u00b7 {message.event} \u00b7 {message.severity}"
    parts = [harmless(message.suppressed)] if message.suppressed else []
    if message.body:
        room = DESCRIPTION_MAX - _units("".join(parts)) - 10
        parts.append("```\n" + clip(harmless(message.body).replace("```", "'''"), room) + "\n```")
    embed = {"title": title, "color": COLOURS[message.severity], "timestamp": moment(message.time), "footer": {"text": clip(footer, 200)}}
    if parts:
        embed["description"] = "\n".join(parts)
    return {"username": "hybridlab", "embeds": [embed], "allowed_mentions": {"parse": []}}


def generic(message: Message) -> dict[str, Any]:
    """``text`` is what chat systems show; the rest is for programs."""
    words = f"[{message.severity}] {message.host}: {message.subject}"
    return {
        "version": 1,
        "text": harmless("\n".join(part for part in (words, message.suppressed, message.body) if part)),
        "id": message.id,
        "event": message.event,
        "severity": message.severity,
        "subject": harmless(message.subject),
        "body": harmless(message.body),
        "suppressed": message.suppressed or None,
        "host": message.host,
        "platform": message.platform,
        "time": moment(message.time),
    }


def mail(message: Message, to: str, sender: Optional[str]) -> EmailMessage:
    """Plain text; marked as sent by a program, so that no holiday notice answers (RFC 3834)."""
    found = EmailMessage()
    found["Subject"] = one_line(f"[{message.severity}] {message.host}: {message.subject}")
    found["To"] = to
    if sender:
        found["From"] = sender
    found["Auto-Submitted"] = "auto-generated"
    found["Message-ID"] = f"<{message.id}@{re.sub(r'[^A-Za-z0-9.-]', '-', message.host)}>"
    found.set_content(
        "\n\n".join(part for part in (message.subject, message.suppressed, message.body) if part) + f"\n\n{moment(message.time)} {message.event}\n"
    )
    return found
