# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a probe: counts, times, failures by their reason; as data and as text. No I/O. Times in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import Endpoint
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_errors import FAILED, GOOD, INTERRUPTED, ProbeError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.x509 import Certificate

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Tls:
    """Of one connection. verified: chain and name were checked, with success."""

    version: str
    cipher: str
    verified: bool
    certificate: Certificate


@dataclass(frozen=True)
class Link:
    """A server as it was met. mechanism: how the login was made, None = without one."""

    endpoint: Endpoint
    banner: str
    tls: Optional[Tls]
    mechanism: Optional[str]


@dataclass
class Trace:
    """One message. Points in time on one clock; None = has not come about. begun: the first attempt, started: the last. copies: how often it arrived."""

    attempts: int = 0
    begun: Optional[float] = None
    started: Optional[float] = None
    accepted: Optional[float] = None
    arrived: Optional[float] = None
    folder: Optional[str] = None
    copies: int = 0
    error: Optional[ProbeError] = None


@dataclass
class Outcome:
    """A run. traces is empty for a run that only connects. left: messages that could not be deleted, in words; None = nothing was left."""

    token: str
    smtp: Optional[Link] = None
    imap: Optional[Link] = None
    fetching: bool = True
    connect_only: bool = False
    seconds: float = 0.0
    traces: list[Trace] = field(default_factory=list)
    error: Optional[ProbeError] = None
    left: Optional[str] = None
    interrupted: bool = False


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that so many percent of all do not exceed. ``values`` is sorted, and not empty."""
    return values[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def times(values: Iterable[float]) -> Optional[dict[str, float]]:
    """{p50, p95, p99, max} in milliseconds' accuracy; None for no values."""
    found = sorted(values)
    if not found:
        return None
    return {**{f"p{percent}": round(percentile(found, percent), 3) for percent in PERCENTILES}, "max": round(found[-1], 3)}


def failures(outcome: Outcome) -> list[dict[str, Any]]:
    """[{reason, count, example, exit}], the commonest first."""
    found: dict[str, dict[str, Any]] = {}
    errors = [trace.error for trace in outcome.traces if trace.error is not None]
    for error in [outcome.error, *errors] if outcome.error is not None else errors:
        entry = found.setdefault(error.reason, {"reason": error.reason, "count": 0, "example": str(error), "exit": error.exit})
        entry["count"] += 1
    return sorted(found.values(), key=lambda entry: (-entry["count"], entry["reason"]))


def exit_code(outcome: Outcome) -> int:
    """That of the only cause; FAILED for several."""
    if outcome.interrupted:
        return INTERRUPTED
    codes = {entry["exit"] for entry in failures(outcome)}
    return GOOD if not codes else codes.pop() if len(codes) == 1 else FAILED


def report(outcome: Outcome, now: datetime) -> dict[str, Any]:
    """The run as data. Every key is always there."""
    traces = outcome.traces
    sent = [trace for trace in traces if trace.accepted is not None]
    fetched = [trace for trace in sent if trace.arrived is not None]
    # Connections are made before the first message, so the rate is that of sending alone.
    spans = [trace.begun for trace in sent if trace.begun is not None]
    span = max((trace.accepted or 0.0 for trace in sent), default=0.0) - min(spans, default=0.0)
    code = exit_code(outcome)
    return {
        "ok": code == GOOD,
        "exit_code": code,
        "token": outcome.token,
        "connect_only": outcome.connect_only,
        "interrupted": outcome.interrupted,
        "count": len(traces),
        "sent": len(sent),
        "fetched": len(fetched),
        "failed_messages": sum(trace.error is not None for trace in traces),
        "retried": sum(max(0, trace.attempts - 1) for trace in traces),
        "doubled": sum(trace.copies > 1 for trace in traces),
        "folders": _counted(trace.folder for trace in fetched if trace.folder is not None),
        "seconds": round(outcome.seconds, 3),
        "sent_per_second": round(len(sent) / span, 2) if span > 0 else None,
        "send_seconds": times(trace.accepted - trace.started for trace in sent if trace.accepted is not None and trace.started is not None),
        "delivery_seconds": times(trace.arrived - trace.begun for trace in fetched if trace.arrived is not None and trace.begun is not None),
        "failures": failures(outcome),
        "smtp": _link(outcome.smtp, now),
        "imap": _link(outcome.imap, now),
        "notes": notes(outcome),
    }


def notes(outcome: Outcome) -> list[str]:
    """What a reader has to know beside the counts."""
    found = []
    unverified = [str(link.endpoint) for link in (outcome.smtp, outcome.imap) if link is not None and link.tls is not None and not link.tls.verified]
    if unverified:
        found.append(f"INSECURE: the certificate of {' and '.join(unverified)} was not checked; anybody in between could have answered")
    if outcome.smtp is not None and outcome.smtp.tls is None:
        found.append(f"the connection to {outcome.smtp.endpoint} was not encrypted")
    elsewhere = sorted({trace.folder for trace in outcome.traces if trace.folder not in (None, "INBOX")}, key=str)
    if elsewhere:
        found.append(f"mail was filed in {', '.join(map(str, elsewhere))}: the scanner takes it for spam")
    doubled = sum(trace.copies > 1 for trace in outcome.traces)
    if doubled:
        found.append(f"{doubled} of the messages arrived more than once")
    untried = sum(not trace.attempts for trace in outcome.traces)
    if untried:
        found.append(f"{untried} of the messages were not tried, because the run ended before")
    return [*found, outcome.left] if outcome.left else found


def text(report_: Mapping[str, Any]) -> str:
    """``report`` for a person."""
    lines = [f"{name}: {_link_line(report_[name])}" for name in ("smtp", "imap") if report_[name] is not None]
    if report_["connect_only"]:
        lines.append("no message was sent: only connected")
    elif report_["count"]:
        fetched = f", {report_['fetched']} fetched" if report_["imap"] is not None else ""
        rate = f", {report_['sent_per_second']:g} sent a second" if report_["count"] > 1 and report_["sent_per_second"] else ""
        counts = f"{report_['sent']} sent{fetched}, {report_['failed_messages']} failed, {report_['retried']} retried"
        lines.append(f"{report_['count']} message{'' if report_['count'] == 1 else 's'}: {counts}{rate}")
        lines += [_times_line(name, report_[key]) for name, key in (("send", "send_seconds"), ("delivery", "delivery_seconds")) if report_[key] is not None]
    lines += [f"note: {line}" for line in report_["notes"]]
    lines += [f"failed: {entry['count']} x {entry['reason']}: {entry['example']}" for entry in report_["failures"]]
    verdict = "interrupted" if report_["interrupted"] else "ok" if report_["ok"] else "FAILED"
    return "\n".join([*lines, f"{verdict} in {report_['seconds']:.2f} s (token {report_['token']})"])


def progress_line(seconds: float, traces: Sequence[Trace], fetching: bool) -> str:
    """A run on its way."""
    sent = sum(trace.accepted is not None for trace in traces)
    fetched = f", {sum(trace.arrived is not None for trace in traces)} fetched" if fetching else ""
    failed = sum(trace.error is not None for trace in traces)
    again = sum(max(0, trace.attempts - 1) for trace in traces)
    return f"{seconds:.0f} s: {sent}/{len(traces)} sent{fetched}, {failed} failed, {again} retried"


def _counted(values: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def _link(link: Optional[Link], now: datetime) -> Optional[dict[str, Any]]:
    if link is None:
        return None
    tls = None
    if link.tls is not None:
        certificate = link.tls.certificate
        tls = {
            "version": link.tls.version,
            "cipher": link.tls.cipher,
            "verified": link.tls.verified,
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "names": list(certificate.names),
            "not_after": certificate.not_after.isoformat(),
            "days": certificate.days(now),
        }
    return {"host": link.endpoint.host, "port": link.endpoint.port, "banner": link.banner, "tls": tls, "auth": link.mechanism}


def _link_line(link: Mapping[str, Any]) -> str:
    host = f"[{link['host']}]" if ":" in link["host"] else link["host"]
    words = [f"{host}:{link['port']}"]
    tls = link["tls"]
    if tls is None:
        words.append("no TLS")
    else:
        checked = "" if tls["verified"] else " NOT CHECKED"
        names = ", ".join(tls["names"]) or tls["subject"]
        words.append(f"{tls['version']} {tls['cipher']}, certificate of {tls['issuer']!r}{checked} for {names}, {tls['days']} days left")
    words.append(f"login by {link['auth']}" if link["auth"] else "no login")
    return f"{', '.join(words)}; {link['banner']}"


def _times_line(name: str, found: Mapping[str, float]) -> str:
    if len(set(found.values())) == 1:
        return f"{name}: {found['max']:.3f} s"
    return f"{name}: " + ", ".join(f"{key.upper() if key != 'max' else key} {value:.3f} s" for key, value in found.items())
