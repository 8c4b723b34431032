# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to change so that exactly the declared have mail: rows found and rows declared become a plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_commands import commands
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import (
    KEYS,
    MIB,
    Row,
    Rows,
    copied,
    derive,
    no_rows,
    put,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# A hash as Dovecot stores it: its scheme in braces before it. What nobody should store is not taken for one.
_HASH = re.compile(r"\{(ARGON2ID|ARGON2I|BLF-CRYPT|SHA512-CRYPT|SHA256-CRYPT|CRYPT|PBKDF2|SCRAM-SHA-256)\}\S{20,}\Z")
_SCHEME = re.compile(r"\{[A-Za-z0-9.-]+\}")
_LONGEST = 1024


@dataclass(frozen=True)
class Password:
    """A row of passwords.sqlite. The hash is shown by nothing that prints this."""

    hash: str = field(repr=False)
    active: bool
    changed_at: str


@dataclass(frozen=True)
class Found:
    """What the two files hold."""

    rows: Rows = field(default_factory=no_rows)
    passwords: Mapping[str, Password] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to write.

    removed, stored: by table, keys to delete and rows to insert or replace
    new_passwords:   addresses that get the password which was given
    active:          address -> whether its login works, for passwords that stay and change in this
    dropped:         addresses whose passwords go
    shut:            mailboxes whose sessions have to end
    gone:            mailboxes that are removed
    lost:            other addresses, and domains (@domain), that are there no more
    """

    before: dict[str, Any]
    after: dict[str, Any]
    commands: tuple[str, ...]
    removed: dict[str, list[Row]]
    stored: dict[str, list[Row]]
    new_passwords: tuple[str, ...]
    active: dict[str, bool]
    dropped: tuple[str, ...]
    shut: tuple[str, ...]
    gone: tuple[str, ...]
    held: tuple[str, ...]
    lost: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return any((*self.removed.values(), *self.stored.values(), self.new_passwords, self.active, self.dropped))


def is_hash(value: str) -> bool:
    """Whether ``value`` is a password's hash. ResourceError where it looks like one and must not be stored."""
    if _HASH.match(value):
        return True
    if _SCHEME.match(value):
        raise ResourceError(
            "found a password that begins with a scheme in braces and is no hash that may be stored. Give {ARGON2ID}$argon2id$..., or the password"
        )
    return False


def check_passwords(passwords: Mapping[str, str]) -> None:
    """ResourceError naming the addresses (never a password) that cannot be stored."""
    for address, value in passwords.items():
        where = f"passwords[{address}]"
        if not isinstance(value, str) or not value:
            raise ResourceError(f"{where}: found no text. Give the password, or a hash {{ARGON2ID}}...")
        if len(value) > _LONGEST or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
            raise ResourceError(f"{where}: found a control character, or more than {_LONGEST} characters. Nobody could type that: give another password")
        try:
            is_hash(value)
        except ResourceError as error:
            raise ResourceError(f"{where}: {error}") from error


def target_rows(found: Rows, declared: Rows, state: str) -> Rows:
    """The rows that there shall be, after ``state`` (merged, overridden, deleted)."""
    if state == "deleted":
        return derive(_without(found, declared))
    base = no_rows() if state == "overridden" else copied(found)
    if state == "merged":
        _forget_targets(base, declared)
    for table in ("holds", "removals"):
        base[table] = dict(found[table])
    for table in ("domains", "mailboxes", "aliases", "groups"):
        base[table].update(declared[table])
    for (address,) in list(base["holds"]):
        _hold(base, address)
    return derive(base)


def _hold(rows: Rows, address: str) -> None:
    """A mailbox that somebody has shut by hand stays shut; a hold on nothing ends."""
    mailbox = rows["mailboxes"].get((address,))
    if mailbox is None:
        del rows["holds"][(address,)]
    else:
        rows["mailboxes"][(address,)] = (*mailbox[:5], 0, *mailbox[6:])


def _forget_targets(rows: Rows, declared: Rows) -> None:
    """What is declared of an address replaces all that was there of it: mailbox, alias or group."""
    named = {key[0] for table in ("mailboxes", "aliases", "groups") for key in declared[table]}
    for table in ("mailboxes", "aliases", "groups"):
        rows[table] = {key: row for key, row in rows[table].items() if key[0] not in named}


def _without(found: Rows, declared: Rows) -> Rows:
    """``found`` without the declared domains, or without anything when none is declared."""
    rows = no_rows()
    rows["removals"] = dict(found["removals"])
    domains = set(declared["domains"])
    if domains:
        rows["domains"] = {key: row for key, row in found["domains"].items() if key not in domains}
        for table in ("mailboxes", "aliases", "groups", "holds"):
            rows[table] = {key: row for key, row in found[table].items() if (key[0].rsplit("@", 1)[1],) not in domains}
    return rows


def plan(found: Found, wanted: Rows, passwords: Iterable[str] = (), replaced: Iterable[str] = (), removed_mail: str = "archive") -> Plan:
    """What leads from ``found`` to ``wanted``.

    passwords:    addresses that a password is given for; those that have one already keep theirs
    replaced:     addresses that get the given password although they have one
    removed_mail: archive, keep or delete
    """
    wanted = copied(wanted)
    gone = tuple(sorted(key[0] for key in found.rows["mailboxes"] if key not in wanted["mailboxes"]))
    if removed_mail != "keep":
        for address in gone:
            put(wanted, "removals", address, removed_mail)
    mailboxes = wanted["mailboxes"]
    again = set(replaced)
    fresh = tuple(sorted(address for address in set(passwords) if (address,) in mailboxes and (address not in found.passwords or address in again)))
    active = {
        address: bool(mailboxes[(address,)][5])
        for address, password in found.passwords.items()
        if (address,) in mailboxes and address not in fresh and bool(mailboxes[(address,)][5]) != password.active
    }
    dropped = tuple(sorted(address for address in found.passwords if (address,) not in mailboxes))
    removed, stored = _differences(found.rows, wanted)
    after_passwords = {address: True for address in (*found.passwords, *fresh) if address not in dropped}
    return Plan(
        before=report(found.rows, found.passwords),
        after=report(wanted, after_passwords),
        commands=tuple(commands(found.rows, wanted, fresh, removed_mail)),
        removed=removed,
        stored=stored,
        new_passwords=fresh,
        active=active,
        dropped=dropped,
        shut=tuple(sorted({address for address, works in active.items() if not works} | set(gone) | again.intersection(fresh, found.passwords))),
        gone=gone,
        held=tuple(sorted(address for (address,) in wanted["holds"])),
        lost=tuple(sorted(_addresses(found.rows) - _addresses(wanted) - set(gone))),
    )


def _addresses(rows: Rows) -> set[str]:
    """All that takes mail: mailboxes, aliases, groups, and @domain for domains."""
    return {key[0] for table in ("mailboxes", "aliases", "groups") for key in rows[table]} | {f"@{name}" for (name,) in rows["domains"]}


def undeclared(found: Rows, declared: Rows) -> list[str]:
    """Addresses and domains that are there, and that nobody declares."""
    return sorted(_addresses(found) - _addresses(declared))


def _differences(found: Rows, wanted: Rows) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    removed = {table: sorted(key for key in found[table] if key not in wanted[table]) for table in KEYS}
    stored = {table: [row for key, row in sorted(wanted[table].items()) if found[table].get(key) != row] for table in KEYS}
    return removed, stored


def report(rows: Rows, passwords: Iterable[str]) -> dict[str, Any]:
    """The rows as the model would say them. Of a password nothing but whether there is one."""
    having = set(passwords)
    targets: dict[tuple[str, str], list[str]] = {}
    for address, target, kind in sorted(rows["aliases"].values()):
        targets.setdefault((address, kind), []).append(target)
    return {
        "domains": [{"name": name, "relay": relay, "catch_all": catch_all} for name, _active, relay, catch_all in sorted(rows["domains"].values())],
        "mailboxes": [_mailbox(row, targets, having) for row in sorted(rows["mailboxes"].values())],
        "aliases": [{"address": address, "targets": found, "kind": kind} for (address, kind), found in targets.items() if kind in ("alias", "role")],
        "groups": [
            {"address": address, "members": targets.get((address, "group"), []), "senders": senders} for address, senders in sorted(rows["groups"].values())
        ],
    }


def _mailbox(row: Row, targets: Mapping[tuple[str, str], Sequence[str]], having: set[str]) -> dict[str, Any]:
    address, _domain, _local, name, quota, active, keep_copy = row
    return {
        "address": address,
        "name": name,
        "quota_mb": quota // MIB,
        "enabled": bool(active),
        "forward_to": list(targets.get((address, "forward"), [])),
        "keep_copy": bool(keep_copy),
        "password": "set" if address in having else "none",
    }
