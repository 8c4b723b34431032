# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of a mail probe: SMTP and IMAP with TLS and a login, by Python's own libraries. Each fault is a ProbeError."""

from __future__ import annotations

import base64
import imaplib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from typing import Any, Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_probe_errors as errors
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import (
    AUTO,
    HEADER,
    IMPLICIT,
    LOGIN,
    NONE,
    OFFERED,
    PLAIN,
    Endpoint,
    Login,
    Message,
    Probe,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_errors import ProbeError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_report import Link
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_probe_tls import network_faults, open_socket, tls_context, tls_facts

INBOX = "INBOX"
# RFC 3501, date-month: whatever the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UID = re.compile(rb"\bUID (\d+)")
_FOLDER = re.compile(rb'\((?P<flags>[^)]*)\) (?:"[^"]*"|NIL) (?P<name>.+)$')


class _Smtp(smtplib.SMTP):
    """smtplib knows one name for a server; here it is the certificate's, and the address is the endpoint's."""

    def __init__(self, endpoint: Endpoint, timeout: float, context: ssl.SSLContext) -> None:
        self.endpoint, self.context, self.banner = endpoint, context, ""
        # smtplib would ask DNS for a name of this host, and wait for it.
        super().__init__(endpoint.expected, endpoint.port, local_hostname="localhost", timeout=timeout)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = open_socket(self.endpoint, timeout, self.context)
        own = made.getsockname()[0]
        self.local_hostname = f"[IPv6:{own}]" if ":" in own else f"[{own}]"
        return made

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        code, text = super().connect(host, port)
        self.banner = text.decode("utf-8", "replace")
        return code, text


class _Imap(imaplib.IMAP4):
    """The same for IMAP."""

    def __init__(self, endpoint: Endpoint, timeout: float, context: ssl.SSLContext) -> None:
        self.endpoint, self.context = endpoint, context
        super().__init__(endpoint.expected, endpoint.port, timeout)

    def _create_socket(self, timeout: float) -> socket.socket:
        return open_socket(self.endpoint, timeout, self.context)


class SmtpLink:
    """An SMTP connection, ready for messages. ProbeError when it cannot be made."""

    def __init__(self, probe: Probe) -> None:
        self.probe, self.endpoint = probe, probe.smtp
        self.stage = errors.CONNECT
        with self._faults(lambda endpoint: _smtp_in_tls(endpoint, probe.timeout).sock):
            self.smtp = _smtp_in_tls(self.endpoint, probe.timeout, self._at)
        try:
            with self._faults():
                self.stage = errors.AUTH
                mechanism = _smtp_login(self.smtp, self.endpoint, probe.smtp_login) if probe.smtp_login is not None else None
                self.facts = Link(self.endpoint, self.smtp.banner, tls_facts(self.smtp.sock, self.endpoint), mechanism)
        except ProbeError:
            self.smtp.close()
            raise

    def send(self, message: Message) -> None:
        """One transaction. ProbeError for a refusal; after that the connection is ready again, or the error says to drop it."""
        try:
            with self._faults():
                options = [f"size={len(message.data)}"] if self.smtp.has_extn("size") else []
                self.stage = errors.MAIL
                self._expect(250, self.smtp.mail(self.probe.sender, options))
                self.stage = errors.RCPT
                self._expect(250, self.smtp.rcpt(self.probe.recipient))
                self.stage = errors.DATA
                reply = self.smtp.data(message.data)
                self.stage = errors.BODY
                self._expect(250, reply)
        except ProbeError as error:
            error.drop = error.drop or not self._reset()
            raise

    def _reset(self) -> bool:
        """Whether the connection is ready for another transaction."""
        try:
            return bool(self.smtp.rset()[0] == 250)
        except (OSError, smtplib.SMTPException):
            return False

    def close(self) -> None:
        with suppress(OSError, smtplib.SMTPException):
            self.smtp.quit()
        self.smtp.close()

    def _at(self, stage: str) -> None:
        self.stage = stage

    def _expect(self, wanted: int, reply: tuple[int, bytes]) -> None:
        code, text = reply
        if code != wanted:
            raise errors.answered(self.endpoint, self.stage, code, text.decode("utf-8", "replace"))

    @contextmanager
    def _faults(self, again: Optional[Callable[[Endpoint], Any]] = None) -> Iterator[None]:
        """again: makes the connection anew, for the certificate of a server that is not trusted."""
        try:
            with network_faults(self.endpoint, self.probe.timeout, again, lambda: self.stage):
                yield
        except smtplib.SMTPServerDisconnected as error:
            raise errors.unreachable(self.endpoint, error, self.probe.timeout, self.stage) from error
        except smtplib.SMTPResponseException as error:
            words = str(error.smtp_error, "utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            raise errors.answered(self.endpoint, self.stage, error.smtp_code, words) from error


def _smtp_in_tls(endpoint: Endpoint, timeout: float, at: Callable[[str], None] = lambda stage: None) -> _Smtp:
    """Connected, greeted, and in TLS where the endpoint wants it."""
    smtp = _Smtp(endpoint, timeout, tls_context(endpoint))
    try:
        at(errors.EHLO)
        smtp.ehlo_or_helo_if_needed()
        wanted = endpoint.tls not in (IMPLICIT, NONE)
        offered = smtp.has_extn("starttls")
        if wanted and not offered and endpoint.tls != OFFERED:
            raise errors.no_starttls(endpoint)
        if wanted and offered:
            at(errors.STARTTLS)
            code, text = smtp.starttls(context=smtp.context)
            if code != 220:
                raise errors.answered(endpoint, errors.STARTTLS, code, text.decode("utf-8", "replace"))
            smtp.ehlo()
    except BaseException:
        smtp.close()
        raise
    return smtp


def _smtp_login(smtp: _Smtp, endpoint: Endpoint, login: Login) -> str:
    """The mechanism. smtplib's own would send ASCII only, and try one after the other: three wrong logins for one."""
    offered = smtp.esmtp_features.get("auth", "").upper().split()
    mechanism = _mechanism(endpoint, login, offered)
    if mechanism == PLAIN:
        code, text = smtp.docmd("AUTH", f"PLAIN {_base64(_plain(login))}")
    else:
        code, text = smtp.docmd("AUTH", "LOGIN")
        for word in (login.user, login.password):
            if code == 334:
                code, text = smtp.docmd(_base64(word.encode()))
    if code not in (235, 503):
        raise errors.answered(endpoint, errors.AUTH, code, text.decode("utf-8", "replace"))
    return mechanism.upper()


def _mechanism(endpoint: Endpoint, login: Login, offered: Sequence[str]) -> str:
    known = [name for name in (PLAIN, LOGIN) if name.upper() in offered and login.mechanism in (AUTO, name)]
    if not known:
        raise errors.no_mechanism(endpoint, "PLAIN or LOGIN" if login.mechanism == AUTO else login.mechanism.upper(), " ".join(offered))
    return known[0]


class ImapLink:
    """An IMAP connection, logged in. ProbeError when it cannot be made."""

    def __init__(self, probe: Probe) -> None:
        if probe.imap is None or probe.imap_login is None:
            raise ValueError("a probe without IMAP")
        self.probe, self.endpoint = probe, probe.imap
        self.selected: Optional[str] = None
        with self._faults(errors.CONNECT, lambda endpoint: _imap_in_tls(endpoint, probe.timeout).sock):
            self.imap = _imap_in_tls(self.endpoint, probe.timeout)
        try:
            with self._faults(errors.AUTH):
                mechanism = _imap_login(self.imap, self.endpoint, probe.imap_login)
                banner = self.imap.welcome.decode("utf-8", "replace").strip()
                self.facts = Link(self.endpoint, banner, tls_facts(self.imap.sock, self.endpoint), mechanism)
                # What a server can do may change with the login.
                _kind, words = self.imap.capability()
                self.uidplus = b"UIDPLUS" in b" ".join(word for word in words if word).upper()
        except ProbeError:
            _drop(self.imap)
            raise

    def folders(self) -> list[str]:
        """Where mail may arrive: the inbox, and what the server says is for spam (RFC 6154)."""
        found = [INBOX]
        for line in self._ok("LIST", *self._asked("LIST", self.imap.list)):
            match = _FOLDER.search(line) if isinstance(line, bytes) else None
            if match and b"\\JUNK" in match["flags"].upper():
                found.append(match["name"].decode("ascii", "replace").strip('"'))
        return found

    def next_uid(self, folder: str) -> int:
        """All messages that come later have this number or a higher one."""
        data = self._ok("STATUS", *self._asked("STATUS", lambda: self.imap.status(_quoted(folder), "(UIDNEXT)")))
        found = re.search(rb"UIDNEXT (\d+)", b" ".join(part for part in data if isinstance(part, bytes)))
        return int(found[1]) if found else 1

    def marks(self, folder: str, start: int) -> list[tuple[int, bytes]]:
        """(UID, our header field) of each message from ``start`` on."""
        self._select(folder)
        # The server looks for new mail before it answers (RFC 3501, 6.1.2).
        self._ok("NOOP", *self._asked("NOOP", self.imap.noop))
        return [(uid, text) for uid, text in self._fetch(f"{start}:*", f"BODY.PEEK[HEADER.FIELDS ({HEADER})]") if uid >= start]

    def texts(self, folder: str, uids: Sequence[int]) -> dict[int, bytes]:
        """The texts of messages, without their headers."""
        self._select(folder)
        return dict(self._fetch(_set(uids), "BODY.PEEK[TEXT]"))

    def earlier(self, folder: str, before: date) -> list[int]:
        """UIDs of probes of any run that arrived before a day."""
        self._select(folder)
        day = f"{before.day}-{_MONTHS[before.month - 1]}-{before.year}"
        data = self._ok("SEARCH", *self._asked("SEARCH", lambda: self.imap.uid("SEARCH", "BEFORE", day, "HEADER", HEADER, '""')))
        return [int(uid) for uid in b" ".join(part for part in data if part).split()]

    def delete(self, folder: str, uids: Sequence[int]) -> None:
        """Take messages away for good; where the server cannot do that for single ones (RFC 4315), mark them only."""
        self._select(folder)
        self._ok("STORE", *self._asked("STORE", lambda: self.imap.uid("STORE", _set(uids), "+FLAGS.SILENT", r"(\Deleted)")))
        if self.uidplus:
            self._ok("EXPUNGE", *self._asked("EXPUNGE", lambda: self.imap.uid("EXPUNGE", _set(uids))))

    def close(self) -> None:
        with suppress(OSError, imaplib.IMAP4.error):
            self.imap.logout()

    def _select(self, folder: str) -> None:
        if self.selected != folder:
            self.selected = None
            self._ok("SELECT", *self._asked("SELECT", lambda: self.imap.select(_quoted(folder))))
            self.selected = folder

    def _fetch(self, which: str, what: str) -> list[tuple[int, bytes]]:
        data = self._ok("FETCH", *self._asked("FETCH", lambda: self.imap.uid("FETCH", which, f"(UID {what})")))
        found = []
        for index, part in enumerate(data):
            if not isinstance(part, tuple):
                continue
            # Some servers name the UID after the text.
            after = data[index + 1] if index + 1 < len(data) and isinstance(data[index + 1], bytes) else b""
            match = _UID.search(part[0]) or _UID.search(after)
            if match:
                found.append((int(match[1]), part[1]))
        return found

    def _asked(self, stage: str, ask: Callable[[], tuple[str, list[Any]]]) -> tuple[str, list[Any]]:
        with self._faults(stage):
            return ask()

    def _ok(self, stage: str, kind: str, data: list[Any]) -> list[Any]:
        if kind != "OK":
            words = [str(part, "utf-8", "replace") for part in data if isinstance(part, bytes)]
            raise errors.imap_refused(self.endpoint, stage, " ".join([kind, *words]))
        return data

    @contextmanager
    def _faults(self, stage: str, again: Optional[Callable[[Endpoint], Any]] = None) -> Iterator[None]:
        try:
            with network_faults(self.endpoint, self.probe.timeout, again, lambda: stage):
                yield
        except imaplib.IMAP4.abort as error:
            raise errors.unreachable(self.endpoint, error, self.probe.timeout, stage) from error
        except imaplib.IMAP4.error as error:
            told = error.args[0] if error.args else ""
            raise errors.imap_refused(self.endpoint, stage, str(told, "utf-8", "replace") if isinstance(told, bytes) else str(told)) from error


def _imap_in_tls(endpoint: Endpoint, timeout: float) -> _Imap:
    imap = _Imap(endpoint, timeout, tls_context(endpoint))
    try:
        if endpoint.tls != IMPLICIT:
            if "STARTTLS" not in imap.capabilities:
                raise errors.no_starttls(endpoint)
            imap.starttls(imap.context)
    except BaseException:
        _drop(imap)
        raise
    return imap


def _drop(imap: _Imap) -> None:
    """End it without a word. After a handshake that failed, imaplib still holds the socket that it was begun with, which is gone."""
    with suppress(OSError):
        imap.shutdown()


def _imap_login(imap: _Imap, endpoint: Endpoint, login: Login) -> str:
    """The mechanism. The command LOGIN stands for the mechanism of that name where only the command is there."""
    offered = [word[5:].upper() for word in imap.capabilities if word.startswith("AUTH=")]
    if "LOGINDISABLED" not in imap.capabilities and LOGIN.upper() not in offered and (login.mechanism == LOGIN or PLAIN.upper() not in offered):
        if login.mechanism == PLAIN:
            raise errors.no_mechanism(endpoint, PLAIN.upper(), " ".join(offered))
        if not (login.user + login.password).isascii():
            raise errors.no_mechanism(endpoint, "a login or password that is not all ASCII", "the command LOGIN only")
        imap.login(login.user, login.password)
        return "the command LOGIN"
    mechanism = _mechanism(endpoint, login, offered)
    words = [login.user.encode(), login.password.encode()]
    imap.authenticate(mechanism.upper(), lambda _challenge: _plain(login) if mechanism == PLAIN else words.pop(0) if words else None)
    return mechanism.upper()


def _plain(login: Login) -> bytes:
    """RFC 4616."""
    return f"\0{login.user}\0{login.password}".encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _quoted(folder: str) -> str:
    escaped = folder.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _set(uids: Sequence[int]) -> str:
    return ",".join(map(str, uids))
