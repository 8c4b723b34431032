# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes messages, holds back what is too much, delivers to each channel, and keeps what could not be delivered."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional

from . import limits
from .channels import Outcome, attempt, channel_names
from .message import BODY_MAX, INFO, WARNING, Message, cleaned, one_line
from .settings import Settings
from .spool import Spool

# Waits between attempts; whoever called must not be kept longer than BUDGET. What is left waits for the next run.
BACKOFF = (1.0, 2.0, 4.0)
BUDGET_SECONDS = 25.0

Sleep = Callable[[float], None]
Attempt = Callable[[Settings, str, Message], Outcome]


def tell(words: str) -> None:
    """To whoever reads standard error: a person, or the journal."""
    sys.stderr.write(f"hybridlab-notify: {words}\n")


class Courier:
    """attempt, sleep: how a delivery is tried, and how time passes; tests replace them."""

    def __init__(self, settings: Settings, attempt: Attempt = attempt, sleep: Sleep = time.sleep, budget: float = BUDGET_SECONDS) -> None:
        self.settings = settings
        self.spool = Spool(f"{settings.state}/notify")
        self.attempt = attempt
        self.sleep = sleep
        self.budget = budget

    def message(self, event: str, severity: str, subject: str, body: str = "", key: str = "") -> Message:
        subject = one_line(subject)
        return Message(event, severity, subject, cleaned(body, BODY_MAX), time.time(), self.settings.host, self.settings.platform, key or subject)

    def send(self, message: Message) -> bool:
        """Deliver the message now, keep it for later, or hold it back. Whether nothing of it is left to do."""
        paths = self.accept(message)
        return paths is None or (bool(paths) and self.deliver(paths))

    def accept(self, message: Message, repeat: bool = False) -> Optional[list[Path]]:
        """Put the message into the spool: a file for each channel. None when the limits hold it back."""
        with self.spool.limits() as state:
            told = limits.admit(state, message.event, message.key, message.time, repeat)
            if told is None:
                tell(f"held back, the limit of {message.event} is reached: {message.subject}")
                return None
            # Inside the lock: what the limits count as sent is in the spool, also after a kill.
            paths = [self.spool.add(replace(message, suppressed=told), channel) for channel in channel_names(self.settings)]
        if not paths:
            tell(f"no webhook and no mail is configured, nobody is told: {message.subject}")
        return paths

    def over(self, event: str, key: str) -> None:
        """The matter has ended: the next message about it is no repetition."""
        with self.spool.limits() as state:
            limits.forget(state, event, key, time.time())

    def flush(self) -> bool:
        """Deliver what waits, each channel until its first fault, and tell what was held back for long."""
        lost = self.spool.prune(time.time())
        if lost:
            tell(f"{lost} undelivered messages were too old or too many and are dropped")
        with self.spool.limits() as state:
            for event, words in limits.overdue(state, time.time()):
                summary = replace(self.message(event, WARNING, f"Messages about {event} were held back"), suppressed=words)
                for channel in channel_names(self.settings):
                    self.spool.add(summary, channel)
        return self.deliver(self.spool.waiting(), waits=())

    def deliver(self, paths: list[Path], waits: tuple[float, ...] = BACKOFF) -> bool:
        """Whether every one of ``paths`` is delivered. What is not stays in the spool."""
        until = time.monotonic() + self.budget
        stuck: set[str] = set()
        whole = True
        for path in paths:
            with self.spool.taken(path) as found:
                if found is None:
                    continue
                channel, message = found[0], found[1]
                if channel not in channel_names(self.settings):
                    tell(f"{channel} is no channel any more, dropped: {message.subject}")
                    path.unlink(missing_ok=True)
                    continue
                if channel in stuck or time.monotonic() > until:
                    whole = False
                    continue
                outcome = self._persist(channel, message, waits, until)
                if outcome.delivered:
                    path.unlink(missing_ok=True)
                    continue
                whole = False
                if not outcome.refused:
                    stuck.add(channel)
                tell(f"{outcome.why}. Kept, and sent later: {message.subject}")
        return whole

    def _persist(self, channel: str, message: Message, waits: tuple[float, ...], until: float) -> Outcome:
        """Try, wait as long as the server asks or longer each time, and try again, while time is left."""
        outcome = self.attempt(self.settings, channel, message)
        for pause in waits:
            pause = pause if outcome.wait is None else max(outcome.wait, 0.1)
            if outcome.delivered or not outcome.again or time.monotonic() + pause > until:
                break
            self.sleep(pause)
            outcome = self.attempt(self.settings, channel, message)
        return outcome

    def test(self) -> bool:
        """One message to each channel, past all limits; whether all arrived. Nothing is kept."""
        channels = channel_names(self.settings)
        if not channels:
            tell("no webhook and no mail is configured in platform_monitoring")
            return False
        message = self.message("test", INFO, "This is a test", "Somebody asked hybridlab-notify --test for it. Nothing has happened.")
        until = time.monotonic() + self.budget
        whole = True
        for channel in channels:
            outcome = self._persist(channel, message, BACKOFF, until)
            tell(f"{channel}: delivered" if outcome.delivered else outcome.why)
            whole = whole and outcome.delivered
        return whole
