# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail that this host itself could not deliver: of dma and of postfix. A mail system in containers has queues of its own."""

from __future__ import annotations

import json
from typing import Optional

from .host_checks import judged
from .model import Check, metric, unknown
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


def _postfix(text: str) -> Optional[list[float]]:
    """When each message came, from the JSON lines of postqueue(1); None where they are none."""
    try:
        return [float(json.loads(line)["arrival_time"]) for line in text.splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError):
        return None


def _shown(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
