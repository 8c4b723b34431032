# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_mail.domains``: each with its mailboxes, aliases and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_mail_address as addresses
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail_dns import read_cnames, read_dkim
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Alias, Group, Mailbox, MailDomain

DOMAIN_KEYS = ("name", "relay", "catch_all", "quota_mb", "dkim", "dmarc", "mta_sts", "cnames", "mailboxes", "aliases", "groups")
MAILBOX_KEYS = ("local", "name", "password", "quota_mb", "enabled", "forward_to", "keep_copy")
ALIAS_KEYS = ("local", "to")
GROUP_KEYS = ("local", "members", "senders")
DMARC = ("none", "quarantine", "reject")
MTA_STS = ("none", "testing", "enforce")
SENDERS = ("members", "anyone")

# 16 TiB: more than a disk has; whoever writes it counted in smaller units.
QUOTA_MAX_MB = 16 * 1024 * 1024
# postconf(5): virtual_alias_expansion_limit. Mail to a longer list is deferred until it comes back.
LIST_MAX = 1000


@dataclass(frozen=True)
class Defaults:
    """What domains have in common. relays: names; relay: of domains that name none; message_mb: the largest mail."""

    relays: Sequence[str]
    relay: Optional[str]
    subaddress: Optional[str]
    message_mb: int


@dataclass(frozen=True)
class Draft:
    """A domain and where it stands. paths: of each of its addresses; targets: (path, address) of each place that mail to an address goes on to."""

    path: str
    domain: MailDomain
    paths: Mapping[str, str]
    targets: Mapping[str, Sequence[tuple[str, str]]]


class _Book:
    """Addresses of one domain, each given out once."""

    def __init__(self, faults: Faults, domain: str, subaddress: Optional[str]) -> None:
        self.faults = faults
        self.domain = domain
        self.subaddress = subaddress
        self.paths: dict[str, str] = {}
        self.targets: dict[str, list[tuple[str, str]]] = {}

    def take(self, item: Table, kind: str) -> Optional[str]:
        """The whole address of the row, which is a ``kind``."""
        path = item.at("local")
        local = addresses.own_local(self.faults, path, item.text("local"), self.subaddress, login=kind == "mailbox")
        if local is None:
            return None
        found = addresses.address(self.faults, path, f"{local}@{self.domain}", None)
        if found is None:
            return None
        if found in self.paths:
            reason = f"is the address of {self.paths[found]} too"
            self.faults.add("mail-address-twice", path, found, reason, "Keep one of them: mailbox, alias or group")
            return None
        self.paths[found] = item.path
        return found

    def lead(self, item: Table, key: str, own: Optional[str]) -> tuple[str, ...]:
        """The addresses of a list; ``own``: the address whose mail goes there."""
        rows = item.words(key)
        if item.value.get(key) == []:
            self.faults.add("mail-no-targets", item.at(key), [], "names nobody, and mail would be lost", "Name one address at least")
        if len(rows) > LIST_MAX:
            reason = f"has {len(rows)} addresses, and Postfix expands {LIST_MAX} for one mail"
            self.faults.add("mail-list-long", item.at(key), None, reason, "Split it into several lists, or use a mailing list program")
        found: list[tuple[str, str]] = []
        for index, text in enumerate(rows):
            path = f"{item.at(key)}[{index}]"
            if text.startswith(("|", "/", ":")):
                reason = "is no address: mail runs no programs here, and is written to no files"
                self.faults.add("mail-target-program", path, text, reason, "Name an address; Sieve rules of its mailbox sort what arrives")
                continue
            target = addresses.address(self.faults, path, text, self.domain)
            if target is None:
                continue
            if target in [other for _path, other in found]:
                self.faults.add("mail-target-twice", path, target, "is named twice", "Remove one of them")
                continue
            found.append((path, target))
        if own is not None:
            self.targets[own] = found
        return tuple(target for _path, target in found)


def read_domains(faults: Faults, table: Table, defaults: Defaults, context: Context) -> list[Draft]:
    """``domains``, each once."""
    rows = table.rows("domains")
    if table.value.get("domains") == []:
        faults.add("mail-no-domains", table.at("domains"), [], "has no domain, and there is no mail", "Name one at least, or remove platform_mail")
    found: list[Draft] = []
    for path, row in zip(labels(table.at("domains"), rows), rows):
        draft = _read_domain(faults, path, row, defaults, context)
        if draft is None:
            continue
        twin = next((other.path for other in found if other.domain.name == draft.domain.name), None)
        if twin is not None:
            reason = f"is the domain of {twin} too"
            faults.add("mail-domain-twice", f"{path}.name", draft.domain.name, reason, "Put both into one entry")
        else:
            found.append(draft)
    return found


def _read_domain(faults: Faults, path: str, raw: Any, defaults: Defaults, context: Context) -> Optional[Draft]:
    table = Table.read(faults, path, raw, DOMAIN_KEYS, ("name",))
    if table is None:
        return None
    name = addresses.mail_domain(faults, table.at("name"), table.text("name"))
    if name is None:
        return None
    book = _Book(faults, name, defaults.subaddress)
    quota = _quota(faults, table, 0, defaults.message_mb)
    mailboxes = _read_mailboxes(faults, table, book, quota, defaults.message_mb, context)
    aliases = _read_aliases(faults, table, book)
    groups = _read_groups(faults, table, book)
    dkim = read_dkim(faults, table)
    domain = MailDomain(
        name=name,
        relay=read_relay(faults, table, defaults.relays) if "relay" in table.value else defaults.relay,
        catch_all=_read_catch_all(faults, table, book),
        dkim=dkim,
        dmarc=table.choice("dmarc", DMARC) or MailDomain.dmarc,
        mta_sts=table.choice("mta_sts", MTA_STS) or MailDomain.mta_sts,
        cnames=read_cnames(faults, table, dkim),
        mailboxes=mailboxes,
        aliases=aliases,
        groups=groups,
    )
    return Draft(path, domain, book.paths, book.targets)


def read_relay(faults: Faults, table: Table, relays: Sequence[str]) -> Optional[str]:
    """``relay``: a name in platform_mail.relays, null for none."""
    if table.value.get("relay") is None:
        return None
    name = table.text("relay")
    if name is not None and name not in relays:
        faults.add("mail-relay-unknown", table.at("relay"), name, "is no name in platform_mail.relays", meant(name, relays, "relays"))
        return None
    return name


def faulty(faults: Faults, *variables: str) -> bool:
    """Whether another noun has faults of its own, so that what it lacks may be there."""
    return any(finding.path.startswith(variables) for finding in faults.items)


def secret_name(faults: Faults, table: Table, key: str, context: Context) -> Optional[str]:
    """A name in platform_secrets. What stands there without being one may be the secret itself, and is not shown."""
    if table.value.get(key) is None:
        return None
    path = table.at(key)
    if not isinstance(table.value[key], str):
        faults.add("type", path, HIDDEN, "must be text", "Write the name of an entry of platform_secrets")
        return None
    name: str = table.value[key]
    if name in context.secrets or faulty(faults, "platform_secrets"):
        return name
    faults.add("mail-secret", path, HIDDEN, "is no name in platform_secrets", "Put the value there, and its name here")
    return None


def _quota(faults: Faults, table: Table, default: int, message_mb: int) -> int:
    quota = table.number("quota_mb")
    if quota is None:
        return default
    if quota > QUOTA_MAX_MB:
        reason = f"is more than {QUOTA_MAX_MB} MiB, and no disk holds it"
        faults.add("mail-quota", table.at("quota_mb"), quota, reason, "Write MiB, and 0 for no limit")
    elif 0 < quota < message_mb:
        reason = f"is less than one mail may have (platform_mail.message_mb: {message_mb})"
        faults.add("mail-quota", table.at("quota_mb"), quota, reason, f"Write {message_mb} or more, and 0 for no limit")
    return quota


def _items(faults: Faults, table: Table, key: str, known: Sequence[str], required: Sequence[str]) -> list[Table]:
    """Rows of addresses, each by its local part where that is unique."""
    rows = table.rows(key)
    named = [{"name": row.get("local")} if isinstance(row, Mapping) else row for row in rows]
    items = [Table.read(faults, path, row, known, required) for path, row in zip(labels(table.at(key), named), rows)]
    return [item for item in items if item is not None]


def _read_mailboxes(faults: Faults, table: Table, book: _Book, quota: int, message_mb: int, context: Context) -> tuple[Mailbox, ...]:
    found = []
    for item in _items(faults, table, "mailboxes", MAILBOX_KEYS, ("local",)):
        address = book.take(item, "mailbox")
        forwards = book.lead(item, "forward_to", address)
        keeps = item.flag("keep_copy", default=True)
        if not keeps and not item.value.get("forward_to"):
            reason = "keeps no copy of mail that goes nowhere else: it would be lost"
            faults.add("mail-no-copy", item.at("keep_copy"), False, reason, "Add forward_to, or remove keep_copy")
        name = item.text("name") or ""
        if not name.isprintable():
            faults.add("mail-name", item.at("name"), name, "has a line's end or a control character in it", "Write the person's name on one line")
        mailbox = Mailbox(
            address=address or "",
            password=secret_name(faults, item, "password", context),
            name=name,
            quota_mb=_quota(faults, item, quota, message_mb),
            enabled=item.flag("enabled", default=True),
            forward_to=forwards,
            keep_copy=keeps,
        )
        if address is not None:
            found.append(mailbox)
    return tuple(found)


def _read_aliases(faults: Faults, table: Table, book: _Book) -> tuple[Alias, ...]:
    found = []
    for item in _items(faults, table, "aliases", ALIAS_KEYS, ALIAS_KEYS):
        address = book.take(item, "alias")
        targets = book.lead(item, "to", address)
        if address is not None:
            found.append(Alias(address, targets))
    return tuple(found)


def _read_groups(faults: Faults, table: Table, book: _Book) -> tuple[Group, ...]:
    found = []
    for item in _items(faults, table, "groups", GROUP_KEYS, ("local", "members")):
        address = book.take(item, "group")
        members = book.lead(item, "members", address)
        senders = item.choice("senders", SENDERS) or Group.senders
        if address is not None:
            found.append(Group(address, members, senders))
    return tuple(found)


def _read_catch_all(faults: Faults, table: Table, book: _Book) -> Optional[str]:
    if table.value.get("catch_all") is None:
        return None
    path = table.at("catch_all")
    found = addresses.address(faults, path, table.text("catch_all"), book.domain)
    if found is not None:
        book.targets[f"@{book.domain}"] = [(path, found)]
    return found
