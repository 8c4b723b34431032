# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe of a mail server is asked for, when each message is due, and how it looks; no I/O. Times in seconds, sizes in bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail_address import mail_domain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

STARTTLS, IMPLICIT, OFFERED, NONE = "starttls", "implicit", "offered", "none"
TLS = (STARTTLS, IMPLICIT, OFFERED, NONE)
AUTO, PLAIN, LOGIN = "auto", "plain", "login"
AUTH = (AUTO, PLAIN, LOGIN)
# The way in which each port is spoken to where nothing else is said (RFC 8314, RFC 3207). Another server of mail cannot insist on port 25.
PORT_TLS = {25: OFFERED, 465: IMPLICIT, 993: IMPLICIT}
SMTP_PORT, IMAP_PORT = 587, 993
# <run> of all messages of a run, <run>-<number> of one.
HEADER = "X-Mail-Probe"
# RFC 5321, 4.5.3.1.6 allows lines of 998; everybody can show 72.
_LINE = 72
_WORDS = b"This line is here to give the message its size. "
SMALLEST = 512
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_SERVER = re.compile(r"(?:\[(?P<six>[^\[\]\s]+)\]|(?P<host>[^\s:\[\]/@]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Endpoint:
    """tls: one of TLS. name: what the certificate has to be for, where that is not ``host``. ca: file with the CAs to trust, None = the system's."""

    host: str
    port: int
    tls: str
    name: Optional[str] = None
    ca: Optional[str] = None
    insecure: bool = False

    @property
    def expected(self) -> str:
        return self.name or self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Login:
    """mechanism: one of AUTH."""

    user: str
    password: str = field(repr=False)
    mechanism: str = AUTO


@dataclass(frozen=True)
class Batch:
    """rate: messages a second, 0 = as fast as it goes. per_connection: messages before a connection is made anew, 0 = all.

    size: of one message, 0 = as small as it is. retries: further attempts after an answer 4xx, the first after ``pause``, each twice as late as the one before
    """

    count: int = 1
    rate: float = 0.0
    connections: int = 1
    per_connection: int = 0
    size: int = 0
    retries: int = 3
    pause: float = 1.0

    def due(self, number: int) -> float:
        """When message ``number`` (from 0) is to be sent, after the start."""
        return number / self.rate if self.rate else 0.0

    def again(self, attempt: int) -> float:
        """How long to wait after attempt ``attempt`` (from 1) was put off."""
        return float(self.pause * 2 ** (attempt - 1))


@dataclass(frozen=True)
class Probe:
    """imap None: nothing is fetched. deadline: for a message to arrive, from the last one accepted. timeout: for one answer of a server.

    sweep: whether messages of earlier days, which came too late for their run, are deleted first
    """

    sender: str
    recipient: str
    smtp: Endpoint
    smtp_login: Optional[Login] = None
    imap: Optional[Endpoint] = None
    imap_login: Optional[Login] = None
    batch: Batch = Batch()
    deadline: float = 60.0
    timeout: float = 30.0
    keep: bool = False
    sweep: bool = False


@dataclass(frozen=True)
class Message:
    """mark: value of the header. digest: of the text, as ``text_digest`` takes it."""

    mark: str
    data: bytes
    digest: str


def plan(given: Mapping[str, Any]) -> Probe:
    """From the options of the module, which are those of the command too. ResourceError for what cannot be.

    given: {sender, recipient, smtp: {host, port, tls, name}, imap: the same or None, ca, insecure, auth, login, password, imap_login, imap_password,
    keep, sweep, deadline, timeout, count, rate, connections, per_connection, size, retries}. What is left out or None takes its default.
    """
    options = {key: value for key, value in given.items() if value is not None}
    recipient = address("recipient", options["recipient"])
    sender = address("sender", options.get("sender", recipient))
    smtp = _endpoint(options, "smtp", SMTP_PORT)
    imap = _endpoint(options, "imap", IMAP_PORT) if options.get("imap") else None
    if imap is not None and imap.tls in (NONE, OFFERED):
        raise ResourceError(f"imap.tls: found {imap.tls!r}, with which the password could be read on its way. Choose {STARTTLS} or {IMPLICIT}")
    login = _login(options, "login", "password")
    if login is not None and smtp.tls in (NONE, OFFERED):
        raise ResourceError(f"smtp.tls: found {smtp.tls!r} for {smtp}, with which the password could be read on its way. Choose {STARTTLS} or {IMPLICIT}")
    imap_login = None
    if imap is not None:
        reader = {"login": recipient, **({"password": options["password"]} if "password" in options else {})}
        reader.update({key: options[f"imap_{key}"] for key in ("login", "password") if f"imap_{key}" in options})
        imap_login = _login({**reader, "auth": options.get("auth", AUTO)}, "login", "password", "imap_")
    return Probe(
        sender,
        recipient,
        smtp,
        login,
        imap,
        imap_login,
        _batch(options),
        _within(options, "deadline", 60.0, 0.1),
        _within(options, "timeout", 30.0, 0.1),
        bool(options.get("keep")),
        bool(options.get("sweep")),
    )


def address(path: str, text: str) -> str:
    """``text`` with its domain as A-labels. ResourceError for what SMTP takes only with extensions."""
    local, at, domain = text.rpartition("@")
    if not at or len(local) > 64 or _LOCAL.fullmatch(local) is None:
        raise ResourceError(f"{path}: found {text!r}, which is no address. Write it like anna@example.com, in ASCII before the '@'")
    faults = Faults()
    name = mail_domain(faults, path, domain)
    if name is None:
        raise ResourceError("\n".join(str(finding) for finding in faults.items))
    return f"{local}@{name}"


def host_and_port(text: str) -> tuple[str, Optional[int]]:
    """From ``host`` or ``host:port``; an address of IPv6 stands in brackets. ResourceError for others."""
    found = _SERVER.fullmatch(text)
    if found is None:
        raise ResourceError(f"found {text!r}, which names no server. Write it like mail.example.com or mail.example.com:587, an address of IPv6 in brackets")
    return found["six"] or found["host"], int(found["port"]) if found["port"] else None


def message(probe: Probe, run: str, number: int, now: datetime) -> Message:
    """Message ``number`` (from 1) of ``run``. Each line of it ends with CR LF."""
    mark = f"{run}-{number}"
    domain = probe.sender.rpartition("@")[2]
    head = (
        f"Date: {format_datetime(now)}\r\n"
        f"From: Mail probe <{probe.sender}>\r\n"
        f"To: {probe.recipient}\r\n"
        f"Subject: Probe of the mail service {mark}\r\n"
        f"Message-ID: <{mark}@{domain}>\r\n"
        f"{HEADER}: {mark}\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
    ).encode("ascii")
    text = f"This message proves that mail gets from its sender to its reader. Nobody\r\nhas to read it. Its token: {mark}\r\n".encode("ascii")
    text += filler(probe.batch.size - len(head) - len(text))
    return Message(mark, head + text, text_digest(text))


def filler(size: int) -> bytes:
    """Lines of ``size`` bytes in all; nothing for less than a line's end."""
    if size < 2:
        return b""
    line = (_WORDS * 2)[:_LINE] + b"\r\n"
    count, rest = divmod(size, len(line))
    # A line's end that would not fit is taken from the line before it.
    if rest == 1:
        count, rest = count - 1, rest + len(line)
    tail = (_WORDS * 2)[: rest - 2] + b"\r\n" if rest else b""
    return line * count + tail


def text_digest(text: bytes) -> str:
    """The same whether lines end with LF or CR LF, and with or without empty lines at the end: servers may change that much."""
    lines = [line.rstrip(b"\r") for line in text.split(b"\n")]
    return hashlib.sha256(b"\n".join(lines).rstrip(b"\n")).hexdigest()


def mark_of(header: bytes, run: str) -> Optional[str]:
    """The mark in the header fields of a message; None when it is not of ``run``."""
    found = re.search(rf"^{HEADER}:[ \t]*({re.escape(run)}-\d+)\s*$".encode("ascii"), header, re.IGNORECASE | re.MULTILINE)
    return found[1].decode("ascii") if found else None


def _endpoint(options: Mapping[str, Any], kind: str, default_port: int) -> Endpoint:
    given = {key: value for key, value in options[kind].items() if value is not None}
    port = int(given.get("port", default_port))
    if not 0 < port < 65536:
        raise ResourceError(f"{kind}.port: found {port}. A port is 1 to 65535")
    tls = given.get("tls", PORT_TLS.get(port, STARTTLS))
    if tls not in TLS:
        raise ResourceError(f"{kind}.tls: found {tls!r}. Choose one of {', '.join(TLS)}")
    return Endpoint(given["host"], port, tls, given.get("name"), options.get("ca"), bool(options.get("insecure")))


def _login(options: Mapping[str, Any], user: str, password: str, prefix: str = "") -> Optional[Login]:
    if user not in options:
        return None
    if not options.get(password):
        raise ResourceError(f"{prefix}{password}: is missing for the login {options[user]!r}")
    if "\0" in options[user] + options[password]:
        raise ResourceError(f"{prefix}{password}: login and password cannot have a NUL in them (RFC 4616)")
    return Login(options[user], options[password], options.get("auth", AUTO))


def _batch(options: Mapping[str, Any]) -> Batch:
    size = int(_within(options, "size", 0, 0, 1 << 30))
    if 0 < size < SMALLEST:
        raise ResourceError(f"size: found {size}. A message with its header has {SMALLEST} bytes or more; 0 makes it as small as it can be")
    count = int(_within(options, "count", 1, 1, 1_000_000))
    return Batch(
        count=count,
        rate=_within(options, "rate", 0.0, 0.0),
        connections=min(count, int(_within(options, "connections", 1, 1, 100))),
        per_connection=int(_within(options, "per_connection", 0, 0)),
        size=size,
        retries=int(_within(options, "retries", 3, 0, 20)),
    )


def _within(options: Mapping[str, Any], name: str, default: float, least: float, most: float = 1e9) -> float:
    value = options.get(name, default)
    if not least <= value <= most:
        raise ResourceError(f"{name}: found {value}. Give {least:g} to {most:g}")
    return float(value)
