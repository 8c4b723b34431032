# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a mail probe: messages go out by some connections at a time, one more connection watches them arrive and takes them away."""

from __future__ import annotations

import heapq
import secrets
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_probe_errors as errors
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import Batch, Probe, mark_of, message, text_digest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_errors import ProbeError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_report import Outcome, Trace, progress_line
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_probe_link import INBOX, ImapLink, SmtpLink

# How often the inbox is looked at, and what is for spam. It is the accuracy of delivery times.
LOOK, LOOK_ELSEWHERE = 0.05, 1.0
PROGRESS = 1.0
# Bytes of text that are fetched at a time.
CHUNK = 4 << 20
# Messages that are deleted at a time. RFC 7162 has lines of 8192 bytes in mind, which a thousand numbers fit into.
BUNDLE = 500
# What ends a run: with the next message it would be the same.
HOPELESS = (errors.TLS_FAILED, errors.LOGIN_REFUSED)


def connect(probe: Probe) -> Outcome:
    """Connect, encrypt, log in; no message."""
    outcome = Outcome(_token(), fetching=probe.imap is not None, connect_only=True)
    begun = time.monotonic()
    for kind, open_link in (("imap", ImapLink), ("smtp", SmtpLink)):
        if getattr(probe, kind) is None:
            continue
        try:
            link = open_link(probe)
        except ProbeError as error:
            outcome.error = outcome.error or error
            continue
        setattr(outcome, kind, link.facts)
        link.close()
    outcome.seconds = time.monotonic() - begun
    return outcome


def run(probe: Probe, progress: Optional[Callable[[str], None]] = None) -> Outcome:
    """The whole of it. progress: gets a line each second."""
    outcome = Outcome(_token(), fetching=probe.imap is not None)
    begun = time.monotonic()
    reader: Optional[Reader] = None
    try:
        # First the reader: a probe that nobody could fetch is not sent.
        if probe.imap is not None:
            reader = Reader(probe, outcome)
        first = _first(probe)
    except ProbeError as error:
        outcome.error = error
        outcome.seconds = time.monotonic() - begun
        if reader is not None:
            reader.link.close()
        return outcome
    outcome.smtp = first.facts
    outcome.traces = [Trace() for _number in range(probe.batch.count)]
    sender = Sender(probe, outcome, first)
    try:
        _wait(probe, outcome, sender, reader, begun, progress)
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        sender.stop()
        if reader is not None:
            reader.stop()
            outcome.left = reader.left
    for crash in (sender.crash, reader.crash if reader is not None else None):
        if crash is not None:
            raise crash
    _judge(probe, outcome, reader)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _first(probe: Probe) -> SmtpLink:
    """The first connection. A server that says 4xx is asked again; one that is not there at all is told at once."""
    attempt = 1
    while True:
        try:
            return SmtpLink(probe)
        except ProbeError as error:
            if error.exit != errors.PUT_OFF or attempt > probe.batch.retries:
                raise
        time.sleep(probe.batch.again(attempt))
        attempt += 1


def _wait(probe: Probe, outcome: Outcome, sender: Sender, reader: Optional[Reader], begun: float, progress: Optional[Callable[[str], None]]) -> None:
    """Until all is sent and fetched, or the time is up."""
    sender.start()
    if reader is not None:
        reader.start()
    told = begun
    ended: Optional[float] = None
    while True:
        if ended is None and not sender.busy():
            ended = time.monotonic()
            if reader is not None:
                reader.all_sent.set()
        if ended is not None and (reader is None or not reader.busy() or time.monotonic() > ended + probe.deadline):
            return
        if progress is not None and time.monotonic() - told >= PROGRESS:
            told = time.monotonic()
            progress(progress_line(told - begun, outcome.traces, outcome.fetching))
        # A thread that ends wakes nobody up: a short wait keeps one message's time short.
        time.sleep(0.02)


def _judge(probe: Probe, outcome: Outcome, reader: Optional[Reader]) -> None:
    """Give what was accepted and did not arrive its reason."""
    if reader is None or outcome.interrupted:
        return
    for trace in outcome.traces:
        if trace.accepted is not None and trace.arrived is None:
            trace.error = reader.error or errors.late(probe.deadline, " or ".join(reader.folders))


class Sender:
    """The sending connections."""

    def __init__(self, probe: Probe, outcome: Outcome, first: SmtpLink) -> None:
        self.probe, self.outcome = probe, outcome
        self.schedule = Schedule(probe.batch)
        self.spare: list[SmtpLink] = [first]
        self.crash: Optional[BaseException] = None
        self.threads = [threading.Thread(target=self._run, daemon=True) for _number in range(probe.batch.connections)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def stop(self) -> None:
        """Let no more begin, and wait for what is on its way."""
        self.schedule.stop()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(self.probe.timeout)

    def _run(self) -> None:
        try:
            self._send_all()
        except Exception as error:
            # A mistake of our own: no other thread may wait for what this one has in hand.
            self.crash = error
            self.schedule.stop()

    def _send_all(self) -> None:
        link: Optional[SmtpLink] = None
        used = 0
        while True:
            number = self.schedule.take()
            if number is None:
                break
            trace = self.outcome.traces[number]
            trace.attempts += 1
            try:
                if link is None:
                    link, used = self._link(), 0
                self._send(link, number, trace)
                used += 1
            except ProbeError as error:
                self._failed(number, trace, error)
                if link is not None and error.drop:
                    link.close()
                    link = None
            else:
                self.schedule.done()
            if link is not None and self.probe.batch.per_connection and used >= self.probe.batch.per_connection:
                link.close()
                link = None
        if link is not None:
            link.close()

    def _link(self) -> SmtpLink:
        try:
            return self.spare.pop()
        except IndexError:
            return SmtpLink(self.probe)

    def _send(self, link: SmtpLink, number: int, trace: Trace) -> None:
        made = message(self.probe, self.outcome.token, number + 1, datetime.now(timezone.utc))
        trace.started = time.monotonic()
        trace.begun = trace.begun or trace.started
        link.send(made)
        trace.accepted = time.monotonic()

    def _failed(self, number: int, trace: Trace, error: ProbeError) -> None:
        if error.temporary and trace.attempts <= self.probe.batch.retries:
            self.schedule.again(number, trace.attempts)
            return
        trace.error = error
        self.schedule.done()
        if error.exit in HOPELESS:
            self.schedule.stop()


class Schedule:
    """Which message is next, and when. Numbers from 0."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.begun = time.monotonic()
        self.fresh = 0
        self.repeated: list[tuple[float, int]] = []
        self.open = batch.count
        self.stopped = False
        self.changed = threading.Condition()

    def take(self) -> Optional[int]:
        """Waits until a message is due; None when there will be no more."""
        with self.changed:
            while True:
                if self.stopped or not self.open:
                    return None
                now = time.monotonic() - self.begun
                due = [time_ for time_, _number in self.repeated[:1]]
                if self.fresh < self.batch.count:
                    due.append(self.batch.due(self.fresh))
                wait = min(due) - now if due else None
                if wait is None or wait > 0:
                    self.changed.wait(wait)
                    continue
                if self.repeated and self.repeated[0][0] <= now:
                    return heapq.heappop(self.repeated)[1]
                self.fresh += 1
                return self.fresh - 1

    def again(self, number: int, attempt: int) -> None:
        with self.changed:
            heapq.heappush(self.repeated, (time.monotonic() - self.begun + self.batch.again(attempt), number))
            self.changed.notify_all()

    def done(self) -> None:
        with self.changed:
            self.open -= 1
            if not self.open:
                self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


class Reader:
    """The connection that watches. error: why it could look no more. left: what could not be taken away."""

    def __init__(self, probe: Probe, outcome: Outcome) -> None:
        self.probe, self.outcome = probe, outcome
        self.link = ImapLink(probe)
        outcome.imap = self.link.facts
        self.folders = self.link.folders()
        self.next = {folder: self.link.next_uid(folder) for folder in self.folders}
        if probe.sweep:
            self._sweep()
        self.error: Optional[ProbeError] = None
        self.left: Optional[str] = None
        self.all_sent, self.stopped = threading.Event(), threading.Event()
        self.crash: Optional[BaseException] = None
        self.pending: dict[str, dict[int, int]] = {folder: {} for folder in self.folders}
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _sweep(self) -> None:
        """A whole day is left in between: another run may be under way, and servers know days only, each by its own clock."""
        day = datetime.now(timezone.utc).date() - timedelta(days=1)
        for folder in self.folders:
            uids = self.link.earlier(folder, day)
            for place in range(0, len(uids), BUNDLE):
                self.link.delete(folder, uids[place : place + BUNDLE])

    def start(self) -> None:
        self.thread.start()

    def busy(self) -> bool:
        return self.thread.is_alive()

    def stop(self) -> None:
        self.stopped.set()
        if self.thread.ident is not None:
            self.thread.join(self.probe.timeout)

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self.crash = error

    def _watch(self) -> None:
        elsewhere = time.monotonic() + LOOK_ELSEWHERE
        while not self.error:
            # Read before looking: what came until then is found by this look.
            last, ended = self.stopped.is_set(), self.all_sent.is_set()
            away = last or time.monotonic() >= elsewhere
            try:
                for folder in self.folders if away else [INBOX]:
                    new = self._look(folder)
                    # To take mail away would keep us from looking, and count as time of delivery: it waits for a pause.
                    if self.pending[folder] and (last or not new or len(self.pending[folder]) >= BUNDLE):
                        self._take(folder)
            except ProbeError as error:
                self._reconnect(error)
            if away:
                elsewhere = time.monotonic() + LOOK_ELSEWHERE
            if last or (ended and self._complete()):
                break
            self.stopped.wait(LOOK)
        self.link.close()

    def _complete(self) -> bool:
        return not any(self.pending.values()) and all(trace.arrived is not None or trace.accepted is None for trace in self.outcome.traces)

    def _look(self, folder: str) -> bool:
        """Note what has come. Whether there was anything."""
        found = self.link.marks(folder, self.next[folder])
        now = time.monotonic()
        for uid, header in found:
            mark = mark_of(header, self.outcome.token)
            number = int(mark.rpartition("-")[2]) if mark else 0
            if not 0 < number <= len(self.outcome.traces):
                continue
            trace = self.outcome.traces[number - 1]
            self.pending[folder][uid] = number
            trace.copies += 1
            if trace.arrived is None:
                trace.arrived, trace.folder = now, folder
        if found:
            self.next[folder] = max(uid for uid, _header in found) + 1
        return bool(found)

    def _take(self, folder: str) -> None:
        """Compare and delete what has come. It stays pending while the connection fails."""
        numbers = self.pending[folder]
        uids = sorted(numbers)
        step = max(1, CHUNK // max(self.probe.batch.size, 1024))
        for place in range(0, len(uids), step):
            for uid, text in self.link.texts(folder, uids[place : place + step]).items():
                self._compare(numbers[uid], text)
        if not self.probe.keep:
            self._delete(folder, uids)
        numbers.clear()

    def _delete(self, folder: str, uids: list[int]) -> None:
        try:
            self.link.delete(folder, uids)
        except ProbeError as error:
            self.left = f"messages were left in {folder}: {error}"
            if error.drop:
                raise
            return
        self.left = None
        if not self.link.uidplus:
            self.left = f"messages in {folder} were only marked as deleted: the server cannot remove single ones (UIDPLUS)"

    def _compare(self, number: int, text: bytes) -> None:
        made = message(self.probe, self.outcome.token, number, datetime.now(timezone.utc))
        if text_digest(text) != made.digest:
            self.outcome.traces[number - 1].error = errors.changed(made.mark)

    def _reconnect(self, error: ProbeError) -> None:
        """The server may be restarted in the middle of a run: it is asked again until the time is up."""
        self.link.close()
        while not self.stopped.wait(PROGRESS):
            try:
                self.link = ImapLink(self.probe)
                return
            except ProbeError as again:
                if not again.temporary:
                    self.error = again
                    return
        self.error = error


def _token() -> str:
    return secrets.token_hex(8)
