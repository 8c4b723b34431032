# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The noun platform_mail as typed values. They have been checked (check_mail.py).

Domains stand as A-labels (``xn--...``), addresses in lower case and whole (``local@domain``). Sizes in MiB, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

# What a listener is called in the model, and the port it has where the model gives none.
LISTENERS = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "managesieve": 4190,
    "lmtp": 2525,
    "https": 443,
    "webmail": 8443,
}


@dataclass(frozen=True)
class Listener:
    """A port of the host. sources: as in model_workloads.Port. None in Mail.listeners = not published."""

    name: str
    port: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Relay:
    """A smarthost. password: name in platform_secrets; ca: file on the machine that runs Ansible, where the public CAs are not meant.

    tls: ``verify`` (name and chain) or ``encrypt`` (some certificate)
    spf: a term of SPF that names the relay's senders, such as ``include:<name>``; None where the relay puts an envelope sender of its own
    """

    name: str
    host: str
    port: int = 587
    username: Optional[str] = None
    password: Optional[str] = None
    tls: str = "verify"
    ca: Optional[str] = None
    spf: Optional[str] = None


@dataclass(frozen=True)
class Mailbox:
    """password: name in platform_secrets of its first password, or of a hash ``{SCHEME}...``; a later change by its owner stays.

    quota_mb: 0 = no limit
    forward_to: further addresses; keep_copy: whether the mailbox gets the mail too
    """

    address: str
    password: Optional[str] = None
    name: str = ""
    quota_mb: int = 0
    enabled: bool = True
    forward_to: tuple[str, ...] = ()
    keep_copy: bool = True


@dataclass(frozen=True)
class Alias:
    """An address that stands for others, of this platform or outside."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """A list of addresses. senders: ``members`` (of this platform, logged in) or ``anyone``."""

    address: str
    members: tuple[str, ...]
    senders: str = "anyone"


@dataclass(frozen=True)
class Dkim:
    """selectors: all of them are published; active: the one that signs."""

    selectors: tuple[str, ...] = ("s1", "s2")
    active: str = "s1"
    bits: int = 2048


@dataclass(frozen=True)
class MailDomain:
    """relay: name of a Relay, None = straight to the recipient's MX. catch_all: a whole address, for local parts that nothing else names.

    dmarc: ``none``, ``quarantine`` or ``reject``; mta_sts: ``none``, ``testing`` or ``enforce``
    cnames: (name below the domain, target) of records that a relay asks for, such as its own DKIM keys
    """

    name: str
    relay: Optional[str] = None
    catch_all: Optional[str] = None
    dkim: Dkim = Dkim()
    dmarc: str = "quarantine"
    mta_sts: str = "testing"
    cnames: tuple[tuple[str, str], ...] = ()
    mailboxes: tuple[Mailbox, ...] = ()
    aliases: tuple[Alias, ...] = ()
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Antivirus:
    """update: fetch signatures (freshclam). memory_mb: limit of the daemon; official signatures take about 1.3 GiB, twice that while they are read again."""

    enabled: bool = True
    update: bool = True
    memory_mb: int = 3072


@dataclass(frozen=True)
class Spam:
    """Scores of Rspamd's actions. gtube: ``reject`` or ``file`` (into Junk). rate_per_hour: mails that one login may send; 0 = no limit."""

    reject: float = 15.0
    junk: float = 6.0
    greylist: bool = False
    gtube: str = "reject"
    rate_per_hour: int = 200


@dataclass(frozen=True)
class Tls:
    """certificate (a chain, leaf first), ca: files on the machine that runs Ansible; key: name in platform_secrets. All None: a CA of the host's own signs."""

    certificate: Optional[str] = None
    key: Optional[str] = None


@dataclass(frozen=True)
class Mail:
    """hostname: what the mail host is called to the outside, the MX of each domain where no gateway stands before it.

    directory: of the host; it holds mail, home, accounts, passwords, dkim, tls
    stack:     of the workloads; base: the image, by its name, that the parts are built from
    admins:    who gets postmaster@, abuse@, hostmaster@ of every domain where the model names nobody else, and reports
    subaddress: the character between a local part and a detail; None = no details
    """

    hostname: str
    domains: tuple[MailDomain, ...]
    admins: tuple[str, ...]
    directory: str = "/data/mail"
    stack: str = "mail"
    base: str = "base"
    relays: tuple[Relay, ...] = ()
    listeners: tuple[Listener, ...] = ()
    tls: Tls = Tls()
    antivirus: Antivirus = Antivirus()
    spam: Spam = Spam()
    message_mb: int = 25
    subaddress: Optional[str] = "+"
    webmail: bool = True

    def listener(self, name: str) -> Optional[Listener]:
        return next((one for one in self.listeners if one.name == name), None)
