# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with a probe of a mail server: a sentence for a person, a reason to group by, an exit code. No I/O."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import NONE, Endpoint
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.x509 import Certificate

# Exit codes. Where messages of a batch failed for different causes, it is FAILED.
GOOD, FAILED, USAGE, UNREACHABLE, TLS_FAILED, LOGIN_REFUSED, REFUSED, PUT_OFF, LATE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 8, 130

CONNECT, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, BODY = "connect", "EHLO", "STARTTLS", "AUTH", "MAIL FROM", "RCPT TO", "DATA", "the message"

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")
# RFC 5321, RFC 4954, RFC 3463; each with what the mail system of this platform means by it.
_CURES = {
    421: "It closes the connection: too many at once, too many a minute, or it is about to stop. Use fewer connections or a lower rate",
    450: "It puts the mail off. Its log says why",
    451: "It puts the mail off for a fault of its own, such as a scanner that is away. Its log says why",
    452: "It has no room now, or the mailbox is full",
    454: "It cannot do that now, because something that it needs is away: what checks passwords, its scanner, its key. Its log says why",
    500: "It does not know this command. Is this the right port?",
    502: "It does not know this command. Is this the right port?",
    530: "It wants STARTTLS or a login first. Give a login, and do not turn TLS off",
    534: "It wants another way to log in",
    535: "The login or the password is wrong, or the login is shut. A whole address is the login",
    538: "It wants TLS before a login",
    550: "There is no such address here, or this sender may not write to it",
    552: "The mailbox is full, or the message is larger than is taken",
    553: "The sender is none of the addresses of this login. Give --from an address of its own",
    554: "It takes no such mail: relaying without a login, or something in the message that its scanner refuses",
}
# By the numbers of OpenSSL, x509_vfy.h.
_NOT_YET, _EXPIRED, _OWN_SIGNED, _OWN_SIGNED_CHAIN, _NO_ISSUER, _NO_ISSUER_LEAF = 9, 10, 18, 19, 20, 21
_OTHER_NAME, _OTHER_ADDRESS = 62, 64


class ProbeError(ResourceError):
    """reason: short, equal for equal causes. exit: one of the codes. temporary: a later attempt may succeed. drop: the connection is of no more use."""

    def __init__(self, message: str, reason: str, code: int, temporary: bool = False, drop: bool = True) -> None:
        super().__init__(message)
        self.reason, self.exit, self.temporary, self.drop = reason, code, temporary, drop


def answered(endpoint: Endpoint, stage: str, code: int, text: str) -> ProbeError:
    """A reply of an SMTP server that is none of success."""
    text = " ".join(text.split())
    found = _ENHANCED.match(text)
    reason = f"{code}{f' {found[0]}' if found else ''} at {stage}"
    temporary = 400 <= code < 500
    kind = LOGIN_REFUSED if stage == AUTH else REFUSED
    if stage in (CONNECT, EHLO):
        kind = UNREACHABLE
    elif stage == STARTTLS:
        kind = TLS_FAILED
    if code == 530:
        kind = LOGIN_REFUSED
    cure = _CURES.get(code, "It puts the mail off. Its log says why" if temporary else "Its log says why")
    return ProbeError(f"{endpoint} answered {code} {text} to {stage}. {cure}", reason, PUT_OFF if temporary else kind, temporary, drop=code == 421)


def unreachable(endpoint: Endpoint, error: BaseException, timeout: float, stage: str = CONNECT) -> ProbeError:
    """An error of the network, by its class: an OSError, or the protocol's word for a connection that ended."""
    reason, cure = _network(endpoint, error, timeout)
    where = "" if stage == CONNECT else f" (at {stage})"
    return ProbeError(f"{endpoint}: {reason}{where}. {cure}", f"{reason}{where}", UNREACHABLE, temporary=True)


def _network(endpoint: Endpoint, error: BaseException, timeout: float) -> tuple[str, str]:
    name = type(error).__name__
    text = getattr(error, "strerror", None) or str(error) or name
    if isinstance(error, ConnectionRefusedError):
        return "connection refused", f"Nothing listens at port {endpoint.port} there, or a firewall says no"
    # smtplib and imaplib say in their own words that it was a timeout.
    if name in ("timeout", "TimeoutError") or "timed out" in text:
        cure = "Is a firewall in between, or is this a port with another kind of TLS (465 and 993 implicit, the others STARTTLS)?"
        return f"no answer within {timeout:g} s", cure
    if name == "gaierror":
        return f"the name {endpoint.host!r} is not known", "Look at its spelling and at DNS: getent hosts NAME"
    if isinstance(error, ConnectionResetError) or name in ("SMTPServerDisconnected", "abort", "BrokenPipeError"):
        return "the connection was closed", "It may be too busy, about to stop, or this address is banned. Its log says why"
    return text[:1].lower() + text[1:], "Look at the route to it, and at firewalls"


def untrusted(endpoint: Endpoint, code: int, text: str, found: Optional[Certificate], now: datetime) -> ProbeError:
    """A certificate that was not accepted. code, text: OpenSSL's (verify_code, verify_message). found: the certificate, when it could be read."""
    reason, told = _untrusted(endpoint, code, text, found, now)
    return ProbeError(f"{endpoint}: {told}", f"certificate: {reason}", TLS_FAILED)


def _untrusted(endpoint: Endpoint, code: int, text: str, found: Optional[Certificate], now: datetime) -> tuple[str, str]:
    issuer = f" by {found.issuer!r}" if found else ""
    if code == _EXPIRED:
        when = f" on {found.not_after:%Y-%m-%d}" if found and found.not_after < now else ""
        whose = "the certificate" if found is None or found.not_after < now else "the certificate of an authority in its chain"
        return "expired", f"{whose} expired{when}. Renew it on the server"
    if code == _NOT_YET:
        when = f" before {found.not_before:%Y-%m-%d %H:%M} UTC" if found else ""
        return "not valid yet", f"the certificate is not valid{when}. Look at the clocks of both sides"
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        names = ", ".join(found.names) if found and found.names else "no name"
        told = f"the certificate is not for {endpoint.expected!r} but for {names}"
        return "wrong name", f"{told}. Connect by one of these names, or say which one to expect (--server-name)"
    trusted = f"not in {endpoint.ca}" if endpoint.ca else "not one that this system trusts"
    if code in (_OWN_SIGNED, _OWN_SIGNED_CHAIN, _NO_ISSUER, _NO_ISSUER_LEAF):
        cure = "the file is of another authority" if endpoint.ca else "give its file (--ca)"
        whole = "the server sends no intermediate certificates, or" if code in (_NO_ISSUER, _NO_ISSUER_LEAF) else "where the authority is your own,"
        return "unknown issuer", f"the certificate was issued{issuer}, which is {trusted}: {whole} {cure}"
    return text, f"the certificate was not accepted: {text}{f' (issued{issuer})' if issuer else ''}"


def tls_failed(endpoint: Endpoint, text: str) -> ProbeError:
    """A handshake that failed for another cause than the certificate. text: as OpenSSL says it."""
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        told = "what answers there does not speak TLS at once. Use starttls for this port, or another port (465 and 993 are the implicit ones)"
        return ProbeError(f"{endpoint}: {told}", "TLS: no TLS at this port", TLS_FAILED)
    if "NO_PROTOCOLS" in text or "PROTOCOL_VERSION" in text or "UNSUPPORTED_PROTOCOL" in text:
        return ProbeError(f"{endpoint}: the server has no TLS of version 1.2 or later", "TLS: version too old", TLS_FAILED)
    return ProbeError(f"{endpoint}: the TLS handshake failed: {text}", "TLS: handshake failed", TLS_FAILED)


def no_starttls(endpoint: Endpoint) -> ProbeError:
    told = f"the server offers no STARTTLS. Is this the right port? Without TLS: tls {NONE}, and no login"
    return ProbeError(f"{endpoint}: {told}", "TLS: no STARTTLS offered", TLS_FAILED)


def no_mechanism(endpoint: Endpoint, wanted: str, offered: str) -> ProbeError:
    has = f"it has {offered}" if offered else "it offers no login at all. Is this the right port?"
    return ProbeError(f"{endpoint}: cannot log in by {wanted}: {has}", "AUTH: mechanism not offered", LOGIN_REFUSED)


def imap_refused(endpoint: Endpoint, stage: str, text: str) -> ProbeError:
    """A NO or BAD of an IMAP server."""
    text = " ".join(text.split())
    if stage == CONNECT:
        return ProbeError(f"{endpoint} answered {text} to the connection. Its log says why", "IMAP connection refused", UNREACHABLE, temporary=True)
    if stage == AUTH:
        away = "UNAVAILABLE" in text or "LIMIT" in text or "INUSE" in text
        cure = "It cannot check passwords now" if away else "The login or the password is wrong, or the login is shut. A whole address is the login"
        return ProbeError(f"{endpoint} answered {text} to the login. {cure}", "IMAP login refused", PUT_OFF if away else LOGIN_REFUSED, away)
    return ProbeError(f"{endpoint} answered {text} to {stage}. Its log says why", f"IMAP {stage} refused", REFUSED, drop=False)


def late(deadline: float, folders: str) -> ProbeError:
    where = "It waits in a queue (mailctl queue), was filed elsewhere, or was refused after it had been taken"
    return ProbeError(f"accepted, but not in {folders} {deadline:g} s after the last one. {where}", "not delivered in time", LATE)


def changed(mark: str) -> ProbeError:
    return ProbeError(f"{mark} arrived with another text than it was sent with", "text changed on the way", FAILED)
