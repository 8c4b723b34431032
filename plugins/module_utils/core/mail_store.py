# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has mail, as rows: the two SQLite files that Dovecot and Postfix read while they run.

``directory.sqlite`` says who exists and where mail goes, ``passwords.sqlite`` who may log in. Addresses are whole and in lower case.

What readers should ask:

* Postfix virtual_alias_maps:       SELECT target FROM routes WHERE address = '%s'
* Postfix virtual_mailbox_domains:  SELECT name FROM domains WHERE name = '%s' AND active = 1
* Postfix virtual_mailbox_maps:     SELECT address FROM recipients WHERE address = '%s'
* Postfix smtpd_sender_login_maps:  SELECT login FROM senders WHERE address = '%s'
* Dovecot userdb:                   SELECT ... FROM mailboxes WHERE address = '%u'        (whatever active says: delivery goes on)
* Dovecot passdb:                   SELECT hash FROM passwords WHERE address = '%u' AND active = 1

A mailbox with active = 0 is shut to its owner (no login, no sending) and goes on receiving: mail that was refused for five days
would be returned to its senders, and nobody here would know. Who wants it refused removes the mailbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail, MailDomain

SCHEMA_VERSION = "1"
MIB = 1024 * 1024
# What every domain answers to (RFC 2142; postmaster: RFC 5321, 4.5.1).
ROLES = ("abuse", "hostmaster", "postmaster")

SCHEMA_DIRECTORY = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS domains (
  name TEXT PRIMARY KEY, active INTEGER NOT NULL, relay TEXT, catch_all TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mailboxes (
  address TEXT PRIMARY KEY, domain TEXT NOT NULL, local TEXT NOT NULL, name TEXT NOT NULL,
  quota_bytes INTEGER NOT NULL, active INTEGER NOT NULL, keep_copy INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS aliases (
  address TEXT NOT NULL, target TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('alias', 'group', 'forward', 'role')),
  PRIMARY KEY (address, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
  address TEXT PRIMARY KEY, senders TEXT NOT NULL CHECK (senders IN ('members', 'anyone'))) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (address TEXT NOT NULL, login TEXT NOT NULL, PRIMARY KEY (address, login)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS senders (address TEXT NOT NULL, login TEXT NOT NULL, PRIMARY KEY (address, login)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (address TEXT PRIMARY KEY, since TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removals (
  address TEXT PRIMARY KEY, mail TEXT NOT NULL CHECK (mail IN ('archive', 'delete'))) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS recipients AS
  SELECT m.address AS address FROM mailboxes m JOIN domains d ON d.name = m.domain WHERE d.active = 1;
CREATE VIEW IF NOT EXISTS routes AS
  SELECT address, target FROM aliases
  UNION ALL
  SELECT m.address, m.address FROM mailboxes m
    WHERE m.keep_copy = 1 OR NOT EXISTS (SELECT 1 FROM aliases a WHERE a.address = m.address AND a.kind = 'forward')
  UNION ALL
  SELECT '@' || name, catch_all FROM domains WHERE catch_all IS NOT NULL AND active = 1;
INSERT OR IGNORE INTO meta (key, value) VALUES ('schema', '1');
"""

SCHEMA_PASSWORDS = """
CREATE TABLE IF NOT EXISTS passwords (
  address TEXT PRIMARY KEY, hash TEXT NOT NULL, active INTEGER NOT NULL, changed_at TEXT NOT NULL) WITHOUT ROWID;
"""

# Columns of the directory's tables. holds: mailboxes that `mailctl disable` has shut, which the model does not open again.
# removals: mailboxes that are gone and whose files still have to be put away.
COLUMNS = {
    "domains": ("name", "active", "relay", "catch_all"),
    "mailboxes": ("address", "domain", "local", "name", "quota_bytes", "active", "keep_copy"),
    "aliases": ("address", "target", "kind"),
    "groups": ("address", "senders"),
    "members": ("address", "login"),
    "senders": ("address", "login"),
    "holds": ("address", "since", "reason"),
    "removals": ("address", "mail"),
}
# How many of the columns, from the first, are the key.
KEYS = {"domains": 1, "mailboxes": 1, "aliases": 2, "groups": 1, "members": 2, "senders": 2, "holds": 1, "removals": 1}

# Table -> key -> whole row.
Row = tuple[Any, ...]
Rows = dict[str, dict[Row, Row]]


def no_rows() -> Rows:
    return {table: {} for table in COLUMNS}


def copied(rows: Rows) -> Rows:
    return {table: dict(rows[table]) for table in COLUMNS}


def put(rows: Rows, table: str, *row: Any) -> None:
    rows[table][row[: KEYS[table]]] = row


def put_mailbox(rows: Rows, address: str, name: str, quota_mb: int, enabled: bool, keep_copy: bool) -> None:
    local, domain = address.rsplit("@", 1)
    put(rows, "mailboxes", address, domain, local, name, quota_mb * MIB, int(enabled), int(keep_copy))


def put_targets(rows: Rows, address: str, targets: Iterable[str], kind: str) -> None:
    """Make ``targets`` all of the address's targets of this kind."""
    for key in [key for key, row in rows["aliases"].items() if key[0] == address and row[2] == kind]:
        del rows["aliases"][key]
    add_targets(rows, address, targets, kind)


def add_targets(rows: Rows, address: str, targets: Iterable[str], kind: str) -> None:
    for target in targets:
        put(rows, "aliases", address, target, kind)


def wanted_rows(mail: Mail) -> Rows:
    """What the model says, as rows. The tables that follow from others are left to ``derive``."""
    rows = no_rows()
    relays = {relay.name: f"[{relay.host}]:{relay.port}" for relay in mail.relays}
    for domain in mail.domains:
        put(rows, "domains", domain.name, 1, relays[domain.relay] if domain.relay else None, domain.catch_all)
        _put_addresses(rows, domain)
        for role in ROLES:
            address = f"{role}@{domain.name}"
            if not any(address in named for named in _named(domain)):
                add_targets(rows, address, (admin for admin in mail.admins if admin != address), "role")
    return rows


def _named(domain: MailDomain) -> tuple[set[str], ...]:
    return (
        {mailbox.address for mailbox in domain.mailboxes},
        {alias.address for alias in domain.aliases},
        {group.address for group in domain.groups},
    )


def _put_addresses(rows: Rows, domain: MailDomain) -> None:
    for mailbox in domain.mailboxes:
        put_mailbox(rows, mailbox.address, mailbox.name, mailbox.quota_mb, mailbox.enabled, mailbox.keep_copy)
        add_targets(rows, mailbox.address, mailbox.forward_to, "forward")
    for alias in domain.aliases:
        add_targets(rows, alias.address, alias.targets, "alias")
    for group in domain.groups:
        put(rows, "groups", group.address, group.senders)
        add_targets(rows, group.address, group.members, "group")


def derive(rows: Rows) -> Rows:
    """The rows with what follows from them: who may send as an address, and who to a closed group.

    A mailbox's owner may send as its address, and as every alias that leads to it. A group gives no such right: a list of all the staff is not everybody's
    to speak for. To a closed group may write who is a member, directly or by way of an alias or another group.
    """
    derived = copied(rows)
    derived["senders"], derived["members"] = {}, {}
    targets: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for address, target, kind in rows["aliases"].values():
        if kind != "forward":
            targets.setdefault(address, []).append(target)
            kinds[address] = kind
    for (address,) in rows["mailboxes"]:
        put(derived, "senders", address, address)
    for address, kind in kinds.items():
        if kind in ("alias", "role"):
            for login in _reached(address, targets, rows["mailboxes"], kinds, groups=False):
                put(derived, "senders", address, login)
    for address, senders in rows["groups"].values():
        if senders == "members":
            for login in _reached(address, targets, rows["mailboxes"], kinds, groups=True):
                put(derived, "members", address, login)
    return derived


def _reached(start: str, targets: Mapping[str, list[str]], mailboxes: Mapping[Row, Row], kinds: Mapping[str, str], groups: bool) -> set[str]:
    """The mailboxes that ``start`` leads to; through groups only where ``groups`` says so."""
    seen, ahead, found = {start}, [start], set()
    while ahead:
        for target in targets.get(ahead.pop(), ()):
            if (target,) in mailboxes:
                found.add(target)
            elif target not in seen and (groups or kinds.get(target) != "group"):
                seen.add(target)
                ahead.append(target)
    return found
