# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One attempt to deliver a message: webhook by HTTPS, or mail by the local sendmail. No error ever holds a URL."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from .message import Message, discord, generic, mail
from .probe import PATH
from .settings import Settings, Webhook

SECONDS = 10.0
ANSWER_MAX = 4096
MAIL = "mail"


@dataclass(frozen=True)
class Outcome:
    """delivered: done. again: whether another attempt may succeed by itself. wait: seconds that the server asks for. why: for a person.

    refused: whether it is this message that the server does not take; another one may pass
    """

    delivered: bool
    again: bool = False
    wait: Optional[float] = None
    why: str = ""
    refused: bool = False


def channel_names(settings: Settings) -> list[str]:
    return [*(webhook.name for webhook in settings.webhooks), *([MAIL] if settings.mail_to else [])]


def attempt(settings: Settings, channel: str, message: Message) -> Outcome:
    if channel == MAIL:
        return send_mail(settings, message)
    webhook = next((webhook for webhook in settings.webhooks if webhook.name == channel), None)
    if webhook is None:
        return Outcome(False, why=f"{channel}: there is no such webhook any more")
    return post(webhook, message)


def post(webhook: Webhook, message: Message, seconds: float = SECONDS) -> Outcome:
    """One POST. Redirects are not followed: they would hand the message to somebody else."""
    payload = json.dumps(discord(message) if webhook.kind == "discord" else generic(message)).encode()
    parts = urlsplit(webhook.url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        headers = {"Content-Type": "application/json", "User-Agent": "hybridlab-notify/1", "Connection": "close"}
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), payload, headers)
        answer = connection.getresponse()
        return _judge(webhook.name, answer.status, answer.getheader("Retry-After"), _body(answer, seconds))
    except (OSError, http.client.HTTPException) as fault:
        return Outcome(False, again=True, why=f"{webhook.name}: {reason(fault)}")
    finally:
        connection.close()


def _body(answer: http.client.HTTPResponse, seconds: float) -> bytes:
    """What the server says, up to a limit of length and time: only Retry-After may stand in it."""
    found, until = b"", time.monotonic() + seconds
    while len(found) < ANSWER_MAX and time.monotonic() < until:
        part = answer.read1(ANSWER_MAX)
        if not part:
            break
        found += part
    return found


def _judge(name: str, status: int, retry_after: Optional[str], body: bytes) -> Outcome:
    if 200 <= status < 300:
        return Outcome(True)
    words = f"{name}: the server answered {status} {http.client.responses.get(status, '')}".strip()
    if status == 429 or status >= 500:
        return Outcome(False, again=True, wait=_wait(retry_after, body), why=words)
    if status in (401, 403, 404, 410):
        cure = "Correct the secret in the inventory and run playbooks/monitoring.yml"
        return Outcome(False, why=f"{words}: it does not know this webhook (any more). {cure}")
    return Outcome(False, why=f"{words}: it does not take this message", refused=True)


def _wait(header: Optional[str], body: bytes) -> Optional[float]:
    """Seconds from the header, or from Discord's JSON."""
    for text in (header, _field(body)):
        try:
            found = float(text) if text is not None else -1.0
        except ValueError:  # a date: the server's clock need not be ours
            continue
        if 0 <= found < 86400:
            return found
    return None


def _field(body: bytes) -> Optional[str]:
    try:
        return str(json.loads(body)["retry_after"])
    except (ValueError, KeyError, TypeError):
        return None


def reason(fault: BaseException) -> str:
    """What went wrong, in words that can't hold the URL."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted ({fault.verify_message})"
    if isinstance(fault, socket.gaierror):
        return "the server's name is not found"
    if isinstance(fault, (socket.timeout, TimeoutError)):
        return "no answer in time"
    if isinstance(fault, OSError) and fault.strerror:
        return f"no connection ({fault.strerror})"
    return f"no connection ({type(fault).__name__})"


def send_mail(settings: Settings, message: Message) -> Outcome:
    program = shutil.which("sendmail", path=PATH)
    if program is None or settings.mail_to is None:
        return Outcome(False, why="mail: this host has no sendmail; install a mail agent, such as dma")
    letter = mail(message, settings.mail_to, settings.mail_from).as_bytes()
    try:
        done = subprocess.run([program, "-i", "--", settings.mail_to], input=letter, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        return Outcome(False, again=True, why=f"mail: sendmail failed ({type(fault).__name__})")
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return Outcome(
        done.returncode == 0, again=True, why="" if done.returncode == 0 else f"mail: sendmail ended with {done.returncode}: {' '.join(words)[:200]}"
    )
