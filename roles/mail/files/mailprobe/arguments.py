# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, and what it asks for in the terms of core/mail_probe.py. A password is no part of it."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import AUTH, TLS, host_and_port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

EPILOG = """exit codes:
  0  everything was sent, and fetched
  1  messages failed for several causes, or arrived changed
  2  wrong arguments, or a file that cannot be read
  3  a server cannot be reached
  4  TLS or a certificate
  5  the login was refused
  6  the mail was refused for good (5xx)
  7  the mail was put off (4xx), also after all attempts
  8  not delivered in time
130  interrupted
"""
# What goes by the same name in core/mail_probe.plan.
SAME = ("ca", "insecure", "auth", "keep", "sweep", "deadline", "timeout", "count", "rate", "connections", "per_connection", "size", "retries")


def parse(argv: Optional[Sequence[str]]) -> Namespace:
    parser = ArgumentParser(
        prog="mailprobe", description="Send real mail with a token, fetch it again, delete it.", epilog=EPILOG, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("recipient", metavar="RECIPIENT", help="where the mail goes, and who logs in to fetch it")
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="sender (default: the recipient)")
    _servers(parser)
    _logins(parser)
    _batch(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="the summary for programs")
    output.add_argument("--quiet", action="store_true", help="no progress on standard error")
    given = parser.parse_args(argv)
    if not (given.smtp or given.server):
        parser.error("say which server: --server HOST, or --smtp HOST[:PORT]")
    return given


def _servers(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("servers")
    group.add_argument("--server", metavar="HOST", help="of both, where --smtp or --imap does not say otherwise")
    group.add_argument("--smtp", metavar="HOST[:PORT]", help="port 587 unless given")
    group.add_argument("--imap", metavar="HOST[:PORT]", help="port 993 unless given")
    for kind in ("smtp", "imap"):
        group.add_argument(f"--{kind}-tls", choices=TLS, help="default: by the port; 465 and 993 implicit, 25 where offered, others STARTTLS")
    group.add_argument("--no-fetch", action="store_true", help="only send")
    group.add_argument("--connect-only", action="store_true", help="connect and log in, send nothing")
    group.add_argument("--server-name", metavar="NAME", help="what the certificates have to be for (default: the host)")
    group.add_argument("--ca", metavar="FILE", help="certificates of the authorities to trust (default: the system's)")
    group.add_argument("--insecure", action="store_true", help="trust any certificate; the report says so")
    group.add_argument("--timeout", type=float, metavar="SECONDS", help="for one answer of a server (30)")
    group.add_argument("--deadline", type=float, metavar="SECONDS", help="for mail to arrive, after the last one was accepted (60)")
    group.add_argument("--keep", action="store_true", help="do not delete what arrived")
    group.add_argument("--sweep", action="store_true", help="first delete messages of mailprobe that arrived before yesterday: too late for their own run")


def _logins(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "logins", "Passwords are asked for, or come from a file or standard input: first that of SMTP, then that of IMAP where the login is another."
    )
    group.add_argument("--login", metavar="USER", help="of SMTP (default: the sender; on port 25 none)")
    group.add_argument("--no-login", action="store_true", help="send without a login")
    group.add_argument("--imap-login", metavar="USER", help="of IMAP (default: the recipient)")
    group.add_argument("--auth", choices=AUTH, help="PLAIN or LOGIN (default: PLAIN where it is offered, else LOGIN)")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--password-file", metavar="FILE", help="a password a line")
    source.add_argument("--stdin", action="store_true", help="a password a line from standard input")


def _batch(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("many messages")
    group.add_argument("--count", type=int, metavar="N", help="messages (1)")
    group.add_argument("--rate", type=float, metavar="N", help="messages a second (as fast as it goes)")
    group.add_argument("--connections", type=int, metavar="N", help="at a time (1)")
    group.add_argument("--per-connection", type=int, metavar="N", help="messages before a connection is made anew (all)")
    group.add_argument("--size", type=int, metavar="BYTES", help="of a message with its header (as small as it is)")
    group.add_argument("--retries", type=int, metavar="N", help="attempts after an answer 4xx, after 1, 2, 4, ... seconds (3)")


def options(given: Namespace) -> dict[str, Any]:
    """For core/mail_probe.plan, with the passwords. ResourceError for a server that is none, or a password that is missing."""
    found: dict[str, Any] = {name: getattr(given, name) for name in SAME}
    found.update(recipient=given.recipient, sender=given.sender, smtp=_server(given, "smtp"))
    if not given.no_fetch and (given.imap or given.server):
        found["imap"] = _server(given, "imap")
    elif not given.no_fetch and not given.connect_only:
        raise ResourceError("--imap: is missing, so nobody could fetch the mail. Name the server, or say --no-fetch")
    login = None
    if not given.no_login and (given.login or found["smtp"]["port"] != 25):
        login = found["login"] = given.login or given.sender or given.recipient
    reader = None
    if "imap" in found:
        reader = found["imap_login"] = given.imap_login or given.recipient
    users = list(dict.fromkeys(user for user in (login, reader) if user is not None))
    passwords = dict(zip(users, _passwords(given, users)))
    found.update({key: passwords[user] for key, user in (("password", login), ("imap_password", reader)) if user is not None})
    return found


def _server(given: Namespace, kind: str) -> dict[str, Any]:
    try:
        host, port = host_and_port(getattr(given, kind) or given.server)
    except ResourceError as error:
        raise ResourceError(f"--{kind if getattr(given, kind) else 'server'}: {error}") from error
    return {"host": host, "port": port, "tls": getattr(given, f"{kind}_tls"), "name": given.server_name}


def _passwords(given: Namespace, users: Sequence[str]) -> list[str]:
    """One for each user."""
    if not users:
        return []
    if given.password_file:
        try:
            lines = Path(given.password_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ResourceError(f"--password-file: {given.password_file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    elif given.stdin:
        lines = [sys.stdin.readline().rstrip("\r\n") for _user in users]
    elif sys.stdin.isatty():
        lines = [getpass.getpass(f"Password of {user}: ") for user in users]
    else:
        raise ResourceError("there is no terminal to ask for a password. Give it with --stdin or --password-file, or say --no-login")
    if len(lines) < len(users) or not all(lines[: len(users)]):
        raise ResourceError(f"found {sum(map(bool, lines))} passwords. Give one a line for {', then for '.join(users)}")
    return lines[: len(users)]
