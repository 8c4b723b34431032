# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets and TLS of a mail probe. Each fault is a ProbeError."""

from __future__ import annotations

import imaplib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_probe_errors as errors
from ansible_collections.hybridlab.platform.plugins.module_utils.core import x509
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import IMPLICIT, Endpoint
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_report import Tls
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """ResourceError for a file of CAs that is none."""
    try:
        made = ssl.create_default_context(cafile=endpoint.ca)
    except OSError as error:
        why = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ResourceError(f"ca: found {endpoint.ca!r}, which cannot be used: {why}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 refuses authorities whose extensions are not all of RFC 5280's; other mail programs take them, and so do the Pythons before.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if endpoint.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def open_socket(endpoint: Endpoint, timeout: float, context: ssl.SSLContext) -> socket.socket:
    """Connected, and in TLS where that comes first."""
    made = socket.create_connection((endpoint.host, endpoint.port), timeout)
    # A command that waits for the acknowledgement of the one before would be measured as the server's time.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if endpoint.tls != IMPLICIT:
        return made
    try:
        return context.wrap_socket(made, server_hostname=endpoint.expected)
    except BaseException:
        made.close()
        raise


def tls_facts(sock: Any, endpoint: Endpoint) -> Optional[Tls]:
    """What was agreed with the server; None without TLS."""
    if not isinstance(sock, ssl.SSLSocket):
        return None
    cipher = sock.cipher()
    try:
        certificate = x509.read(sock.getpeercert(True) or b"")
    except ValueError as error:
        raise errors.tls_failed(endpoint, f"the certificate {error}") from error
    return Tls(sock.version() or "", cipher[0] if cipher else "", not endpoint.insecure, certificate)


@contextmanager
def network_faults(
    endpoint: Endpoint,
    timeout: float,
    again: Optional[Callable[[Endpoint], Any]],
    stage: Callable[[], str],
) -> Iterator[None]:
    """again: makes the connection anew, for the certificate of a server that is not trusted. stage: what is being done, once it has failed."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        found = _certificate(endpoint, again)
        raise errors.untrusted(endpoint, error.verify_code, error.verify_message, found, datetime.now(timezone.utc)) from error
    except ssl.SSLError as error:
        raise errors.tls_failed(endpoint, f"{error.reason or error}") from error
    except (smtplib.SMTPException, imaplib.IMAP4.error):
        # SMTPException is an OSError, and tells more than the network's part of it.
        raise
    except OSError as error:
        raise errors.unreachable(endpoint, error, timeout, stage()) from error


def _certificate(endpoint: Endpoint, again: Optional[Callable[[Endpoint], Any]]) -> Optional[x509.Certificate]:
    """That of a server which is not trusted: asked for by a second connection, because the first one ended before it could be read."""
    if again is None:
        return None
    with suppress(OSError, ValueError, ResourceError, imaplib.IMAP4.error):
        sock = again(replace(endpoint, insecure=True))
        try:
            return x509.read(sock.getpeercert(True) or b"")
        finally:
            sock.close()
    return None
