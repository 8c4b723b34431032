# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail that this host itself could not deliver (dma, postfix), and the mail system in containers, as mailctl tells of it."""

from __future__ import annotations

import json
from typing import Any, Optional

from .host_checks import judged
from .model import CRITICAL, Check, metric, unknown
from .probe import Host
from .settings import Settings

POSTQUEUE = "/usr/sbin/postqueue"
DMA = "/usr/sbin/dma"
# dma(8), FILES: a file Q<id> for each recipient of a message, beside the message itself.
DMA_SPOOL = "/var/spool/dma"


def mail_queue(host: Host, settings: Settings) -> list[Check]:
    """How long the oldest message waits. Nothing where the host has another mail agent, or none."""
    if host.changed(POSTQUEUE) is not None:
        output = host.run([POSTQUEUE, "-j"])
        arrived = _postfix(output.text) if output.good else None
        if arrived is None:
            return [unknown("mail_queue", f"The mail queue can't be read: {output.why('postqueue')}", "postqueue -p; systemctl status postfix")]
    elif host.changed(DMA) is not None:
        times = [host.changed(f"{DMA_SPOOL}/{name}") for name in host.names(DMA_SPOOL) if name.startswith("Q")]
        arrived = [time for time in times if time is not None]
    else:
        return []
    seconds = max((host.now() - time for time in arrived), default=0.0)
    limits = settings.thresholds["mail_queue_minutes"]
    old = [time for time in arrived if host.now() - time >= limits.warning * 60]
    message = f"{len(arrived)} messages wait in the mail queue of this host"
    if old:
        message += f", {len(old)} of them for more than {limits.warning:g} minutes, the oldest for {_shown(seconds)}"
    measured = (metric("hybridlab_mail_queue_messages", len(arrived)), metric("hybridlab_mail_queue_oldest_seconds", seconds))
    cure = "See what it waits for: mailq; journalctl -t dma -t postfix/smtp -n 50"
    minutes = seconds / 60
    return [judged("mail_queue", limits.judge(minutes), message, round(minutes), str(limits), cure, *measured)]


def platform_queue(host: Host, settings: Settings) -> list[Check]:
    """How long the oldest message waits in the mail system's queue."""
    told, why = _mailctl(host, "queue")
    if told is None:
        return [unknown("mail_platform_queue", f"The mail system's queue can't be read: {why}", "mailctl status; docker service ps --no-trunc mail_postfix")]
    count, seconds = int(told["count"]), float(told["oldest_seconds"] or 0)
    reasons = told.get("reasons") or []
    message = f"{count} messages wait in the mail system's queue"
    if count:
        message += f", the oldest for {_shown(seconds)}" + (f"; most: {reasons[0]['reason']}"[:200] if reasons else "")
    measured = (metric("hybridlab_mail_platform_queue_messages", count), metric("hybridlab_mail_platform_queue_oldest_seconds", seconds))
    limits = settings.thresholds["mail_queue_minutes"]
    cure = "See what it waits for: mailctl queue; mailctl log postfix"
    return [judged("mail_platform_queue", limits.judge(seconds / 60), message, round(seconds / 60), str(limits), cure, *measured)]


def signatures(host: Host, settings: Settings) -> list[Check]:
    """How old the newest signatures of the virus scanner are."""
    told, why = _mailctl(host, "status")
    found = None if told is None else told.get("signatures")
    cure = "mailctl log freshclam; a server of signatures has to be reached from here"
    if not isinstance(found, list):
        return [unknown("mail_signatures", f"The age of the virus signatures can't be read: {found or why}", cure)]
    if not found:
        return [Check("mail_signatures", CRITICAL, "The virus scanner has none of its own signatures yet", cure=cure)]
    days = min(int(one["days"]) for one in found)
    limits = settings.thresholds["signature_age_days"]
    message = f"The newest signatures of the virus scanner are {days} days old"
    return [judged("mail_signatures", limits.judge(days), message, days, str(limits), cure, metric("hybridlab_mail_signature_age_days", days))]


def _mailctl(host: Host, view: str) -> tuple[Optional[dict[str, Any]], str]:
    """What the view says, or why it says nothing."""
    output = host.run(["mailctl", view, "--json"], 90)
    if not output.good:
        return None, output.why("mailctl")
    try:
        told = json.loads(output.text)
    except ValueError:
        told = None
    return (told, "") if isinstance(told, dict) else (None, f"mailctl {view} --json did not answer in JSON")


def _postfix(text: str) -> Optional[list[float]]:
    """When each message came, from the JSON lines of postqueue(1); None where they are none."""
    try:
        return [float(json.loads(line)["arrival_time"]) for line in text.splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError):
        return None


def _shown(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
