# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line. A password is no part of it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Sequence
from typing import Optional


def parse(argv: Optional[Sequence[str]]) -> Namespace:
    """action: its words, such as ``alias add``."""
    parser = ArgumentParser(
        prog="mailctl", description="Mail accounts, queue and state of this host. What the model declares comes back with its next run: docs/mail-accounts.md"
    )
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _accounts(verbs)
    _others(verbs)
    _views(verbs)
    _mail(verbs)
    given = parser.parse_args(argv)
    if getattr(given, "verb", None):
        given.action = f"{given.action} {given.verb}"
    return given


def _accounts(verbs: _SubParsersAction[ArgumentParser]) -> None:
    add = _addressed(verbs, "add", "a new mailbox")
    add.add_argument("--name", default="", help="what people call its owner")
    add.add_argument("--quota", type=int, default=0, metavar="MIB", help="0: no limit")
    _secret(add).add_argument("--no-password", action="store_true", help="nobody can log in until there is one")
    _secret(_addressed(verbs, "password", "a new password"))
    _addressed(verbs, "name", "change what people call its owner").add_argument("name")
    _addressed(verbs, "quota", "change how much it may hold").add_argument("megabytes", type=int, metavar="MIB", help="0: no limit")
    forward = _addressed(verbs, "forward", "send its mail on; without a target no more")
    forward.add_argument("targets", nargs="*", metavar="TARGET")
    forward.add_argument("--no-copy", action="store_true", help="the mailbox itself gets none")
    disable = _addressed(verbs, "disable", "shut its owner out, and let it go on receiving")
    disable.add_argument("--reason", default="", help="shown by mailctl show")
    disable.add_argument("--no-hold", action="store_true", help="the model may open it again")
    _addressed(verbs, "enable", "let its owner in again")
    remove = _addressed(verbs, "remove", "remove it; its mail goes into an archive")
    _anyway(remove)
    ways = remove.add_mutually_exclusive_group()
    for way, words in (("archive", "pack its mail (default)"), ("keep", "leave its mail where it is"), ("delete", "delete its mail")):
        ways.add_argument(f"--{way}", dest="removed_mail", action="store_const", const=way, default="archive", help=words)
    tidy = verbs.add_parser("tidy", help="finish what was cut short: removals, changes of the accounts")
    tidy.add_argument("--running", action="store_true", help="also have a new certificate read, and copy the accounts for the backup")
    verbs.add_parser("reload", help="have the running parts read their certificate again; open connections are kept")


def _others(verbs: _SubParsersAction[ArgumentParser]) -> None:
    alias = verbs.add_parser("alias", help="addresses that stand for others").add_subparsers(dest="verb", required=True, metavar="add|set|remove")
    for verb, count, words in (("add", "+", "add targets"), ("set", "+", "make these all of its targets"), ("remove", "*", "remove targets, or all of it")):
        one = _addressed(alias, verb, words)
        one.add_argument("targets", nargs=count, metavar="TARGET")
        if verb == "remove":
            _anyway(one)
        if verb == "set":
            one.add_argument("--role", action="store_true", help="made for the administrators (postmaster and the like)")
    group = verbs.add_parser("group", help="lists of addresses").add_subparsers(dest="verb", required=True, metavar="set|remove")
    members = _addressed(group, "set", "make these all of its members")
    members.add_argument("members", nargs="+", metavar="MEMBER")
    members.add_argument("--senders", choices=("members", "anyone"), default="anyone", help="who may write to it")
    _anyway(_addressed(group, "remove", "remove the list"))
    domain = verbs.add_parser("domain", help="domains of this host").add_subparsers(dest="verb", required=True, metavar="set|remove")
    made = domain.add_parser("set", help="add a domain, or change it")
    made.add_argument("domain")
    out = made.add_mutually_exclusive_group()
    out.add_argument("--relay", metavar="[HOST]:PORT", help="where its mail goes out: a relay of the model")
    out.add_argument("--direct", action="store_true", help="straight to the recipients' servers; default of a new domain")
    caught = made.add_mutually_exclusive_group()
    caught.add_argument("--catch-all", metavar="ADDRESS", help="who gets mail to addresses that there are not")
    caught.add_argument("--no-catch-all", action="store_true", help="nobody does; default of a new domain")
    domain.add_parser("remove", help="remove a domain without addresses").add_argument("domain")


def _views(verbs: _SubParsersAction[ArgumentParser]) -> None:
    listed = verbs.add_parser("list", help="mailboxes, or what is asked for")
    for kind in ("mailboxes", "aliases", "groups", "domains"):
        listed.add_argument(f"--{kind}", action="store_true")
    queue = verbs.add_parser("queue", help="mail that waits, and why")
    queue.add_argument("--limit", type=int, default=50, help="messages to show")
    status = verbs.add_parser("status", help="containers, queue, certificate, signatures, fullest mailboxes")
    for view in (listed, queue, status, _addressed(verbs, "show", "one mailbox")):
        view.add_argument("--json", action="store_true")
    log = verbs.add_parser("log", help="what a part of the mail system says")
    log.add_argument("service", nargs="?", default="postfix", help="postfix, dovecot, rspamd, clamav, roundcube, nginx, ...")
    log.add_argument("--lines", type=int, default=200)
    log.add_argument("--follow", action="store_true")
    dkim = verbs.add_parser("dkim", help="DKIM keys").add_subparsers(dest="verb", required=True, metavar="show")
    dkim.add_parser("show", help="the records that DNS needs").add_argument("domain", nargs="?")


def _mail(verbs: _SubParsersAction[ArgumentParser]) -> None:
    for verb, words in (("restore-mailbox", "all mail of a mailbox back from a backup"), ("restore-mail", "some mail of a mailbox back from a backup")):
        back = _addressed(verbs, verb, words)
        back.add_argument("--generation", default="latest", help="name, or whole path")
        back.add_argument("--into", metavar="ADDRESS", help="another mailbox that gets it")
        back.add_argument("--folder", help="below which folder; default: Restored <generation>")
        back.add_argument("--in-place", action="store_true", help="into the folders that it came from; what is still there is there twice then")
        asks = verb == "restore-mail"
        for option, help_text in (
            ("--message-id", "<...>"),
            ("--subject", "words of it"),
            ("--sender", "part of From"),
            ("--since", "YYYY-MM-DD"),
            ("--before", "YYYY-MM-DD"),
        ):
            if asks:
                back.add_argument(option, help=help_text)
            else:
                back.set_defaults(**{option.strip("-").replace("-", "_"): None})
    brought = _addressed(verbs, "import", "mail from another IMAP server; the password by prompt or standard input")
    brought.add_argument("--host", required=True)
    brought.add_argument("--user", required=True)
    brought.add_argument("--port", type=int, default=0)
    brought.add_argument("--tls", choices=("imaps", "starttls", "no"), default="imaps")
    brought.add_argument("--ca", default="/etc/ssl/certs/ca-certificates.crt", help="file of CAs, as the container sees it")
    brought.add_argument("--insecure", action="store_true", help="do not verify the server's certificate; needed for --tls no")
    brought.add_argument("--password-file", metavar="PATH", help="its first line is the password")
    brought.add_argument("--folder", action="append", default=[], help="only this one; may be given again")
    brought.add_argument("--skip", action="append", default=[], help="not this one; may be given again")


def _addressed(verbs: _SubParsersAction[ArgumentParser], verb: str, words: str) -> ArgumentParser:
    parser: ArgumentParser = verbs.add_parser(verb, help=words)
    parser.add_argument("address")
    return parser


def _anyway(parser: ArgumentParser) -> None:
    parser.add_argument("--anyway", action="store_true", help="also where another address leads to it")


def _secret(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--stdin", action="store_true", help="read the password from standard input")
    parser.add_argument("--hash", action="store_true", help="read an ARGON2ID hash from standard input")
    return parser
