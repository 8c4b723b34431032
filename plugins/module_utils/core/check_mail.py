# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_mail``, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_mail_address as addresses
from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail_dns import read_spf
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail_domains import Defaults, Draft, faulty, read_domains, read_relay, secret_name
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail_listeners import read_listeners
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail_routes import Routes, check_routes
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import serves_web
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Antivirus, Mail, Relay, Spam, Tls

MAIL_KEYS = (
    *("hostname", "domains", "admins", "directory", "stack", "base", "relay", "relays", "listeners", "tls"),
    *("antivirus", "spam", "message_mb", "subaddress", "webmail"),
)
RELAY_KEYS = ("name", "host", "port", "username", "password", "tls", "ca", "spf")
TLS_KEYS = ("certificate", "key")
ANTIVIRUS_KEYS = ("enabled", "update", "memory_mb")
SPAM_KEYS = ("reject", "junk", "greylist", "gtube", "rate_per_hour")
RELAY_TLS = ("verify", "encrypt")
GTUBE = ("reject", "file")
SUBADDRESS = ("+", "-", "=", "_", ".")

# Larger mails are refused by nearly everybody, and the memory limits of the scanners have no room for them.
MESSAGE_MAX_MB = 100
# The official signatures alone (clamd reads new ones before it drops the old), and those of a person's own.
ANTIVIRUS_LEAST_MB, ANTIVIRUS_OWN_LEAST_MB = 2048, 128
_SYSTEM = ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr")


def read_mail(faults: Faults, raw: Any, context: Context) -> Optional[Mail]:
    """``platform_mail``; None when it is wrong."""
    count = len(faults.items)
    table = Table.read(faults, "platform_mail", raw, MAIL_KEYS, ("hostname", "domains", "admins"))
    if table is None:
        return None
    _check_engine(faults, context)
    hostname = _read_hostname(faults, table)
    relays = _read_relays(faults, table, hostname, context)
    names = tuple(relay.name for relay in relays)
    message_mb = _read_message_mb(faults, table)
    subaddress = _read_subaddress(faults, table)
    defaults = Defaults(names, read_relay(faults, table, names), subaddress, message_mb)
    drafts = read_domains(faults, table, defaults, context)
    admins = _read_admins(faults, table, drafts)
    check_routes(faults, drafts, Routes(drafts, admins, subaddress))
    webmail = table.flag("webmail", Mail.webmail)
    mail = Mail(
        hostname=hostname or "",
        domains=tuple(draft.domain for draft in drafts),
        admins=tuple(address for _path, address in admins),
        directory=_read_directory(faults, table, context) or Mail.directory,
        stack=values.name(faults, table.at("stack"), table.text("stack"), "stack") or Mail.stack,
        base=_read_base(faults, table, context),
        relays=relays,
        listeners=read_listeners(faults, table, context, webmail),
        tls=_read_tls(faults, table, context),
        antivirus=_read_antivirus(faults, table),
        spam=_read_spam(faults, table),
        message_mb=message_mb,
        subaddress=subaddress,
        webmail=webmail,
    )
    _check_hostname(faults, table, hostname, drafts)
    _check_policies(faults, drafts, mail)
    return mail if len(faults.items) == count else None


def backup_hint(mail: Mail, backup: Optional[Backup]) -> Optional[str]:
    """What to say where nothing of platform_backup saves the mail; None where it is saved."""
    if backup is None:
        return f"{mail.directory} holds all mail, and this platform has no platform_backup"
    saved = [*backup.paths, *(path for service in backup.services for path in service.paths)]
    if any(mail.directory == path or mail.directory.startswith(f"{path.rstrip('/')}/") for path in saved):
        return None
    return f"{mail.directory} holds all mail, and platform_backup saves it nowhere: add it to platform_backup.paths"


def _check_engine(faults: Faults, context: Context) -> None:
    if context.docker is None and not faulty(faults, "platform_docker", "platform_ranges"):
        cure = "Add platform_docker with a swarm"
        faults.add("mail-engine", "platform_mail", None, "runs in containers of a Swarm, and this platform has no platform_docker", cure)
    elif context.docker is not None and context.docker.swarm is None:
        faults.add("mail-engine", "platform_mail", None, "runs in containers of a Swarm, and platform_docker has none", "Add platform_docker.swarm")


def _read_hostname(faults: Faults, table: Table) -> Optional[str]:
    path = table.at("hostname")
    found = values.host_name(faults, path, table.text("hostname"), dotted=True)
    if found is not None and ("." not in found or found.rpartition(".")[2].isdecimal()):
        reason = "is not fully qualified: other mail servers look it up, and certificates carry it"
        faults.add("mail-hostname", path, found, reason, "Write the name by which the Internet finds the host, such as 'mail.example.com'")
        return None
    return found


def _check_hostname(faults: Faults, table: Table, hostname: Optional[str], drafts: Sequence[Draft]) -> None:
    if any(draft.domain.name == hostname for draft in drafts):
        reason = "is one of the domains too: the addresses of its web site would have to be those of the mail host"
        faults.add("mail-hostname", table.at("hostname"), hostname, reason, f"Write a name of its own, such as 'mail.{hostname}'")


def _read_relays(faults: Faults, table: Table, hostname: Optional[str], context: Context) -> tuple[Relay, ...]:
    rows = table.rows("relays")
    found: list[Relay] = []
    for path, row in zip(labels(table.at("relays"), rows), rows):
        item = Table.read(faults, path, row, RELAY_KEYS, ("name", "host"))
        if item is None:
            continue
        relay = _read_relay(faults, item, context)
        if relay.name in [other.name for other in found]:
            faults.add("mail-relay-twice", item.at("name"), relay.name, "is the name of another relay", "Give each relay a name of its own")
        elif relay.host and relay.host == hostname:
            faults.add("mail-relay-self", item.at("host"), relay.host, "is this mail host itself: mail would go round", "Name the relay's host")
        elif relay.name:
            found.append(relay)
    return tuple(found)


def _read_relay(faults: Faults, item: Table, context: Context) -> Relay:
    tls = item.choice("tls", RELAY_TLS) or Relay.tls
    username = item.text("username") if item.value.get("username") is not None else None
    given = item.value.get("password") is not None
    if (item.value.get("username") is None) == given:
        lacking = "username" if given else "password"
        faults.add("mail-relay-login", item.path, None, f"has half a login: {lacking} is missing", f"Add {lacking}, or remove the other")
    if username is not None and not username.isprintable():
        faults.add("mail-relay-login", item.at("username"), username, "has a line's end or a control character in it", "Write it on one line")
    ca = item.text("ca") if item.value.get("ca") is not None else None
    if ca is not None and tls == "encrypt":
        reason = "is a CA to judge the certificate by, and tls: encrypt judges none"
        faults.add("mail-relay-ca", item.at("ca"), ca, reason, "Write tls: verify, or remove it")
    return Relay(
        name=values.name(faults, item.at("name"), item.text("name"), "relay") or "",
        host=_read_relay_host(faults, item, tls) or "",
        port=_read_port(faults, item) or Relay.port,
        username=username,
        password=secret_name(faults, item, "password", context),
        tls=tls,
        ca=ca,
        spf=read_spf(faults, item),
    )


def _read_relay_host(faults: Faults, item: Table, tls: str) -> Optional[str]:
    text, path = item.text("host"), item.at("host")
    if text is None:
        return None
    try:
        literal = str(ip_address(text))
    except ValueError:
        return addresses.mail_domain(faults, path, text)
    if tls == "verify":
        reason = "is an address, and a certificate is verified by a name"
        faults.add("mail-relay-host", path, text, reason, "Write the relay's name, or tls: encrypt for one that you trust by its address")
        return None
    return literal


def _read_port(faults: Faults, item: Table) -> Optional[int]:
    port = item.number("port")
    if port is None or 1 <= port <= values.LAST_PORT:
        return port
    faults.add("port", item.at("port"), port, f"is no port, these are 1 to {values.LAST_PORT}", "Write the relay's: 587, or 465 for TLS from the start")
    return None


def _read_message_mb(faults: Faults, table: Table) -> int:
    found = table.number("message_mb", least=1)
    if found is not None and found > MESSAGE_MAX_MB:
        reason = "is more than mail servers and scanners take"
        faults.add("mail-message", table.at("message_mb"), found, reason, f"Write MiB, 1 to {MESSAGE_MAX_MB}; most relays take 20 to 30")
        return Mail.message_mb
    return found or Mail.message_mb


def _read_subaddress(faults: Faults, table: Table) -> Optional[str]:
    if "subaddress" not in table.value:
        return Mail.subaddress
    return table.choice("subaddress", SUBADDRESS) if table.value["subaddress"] is not None else None


def _read_admins(faults: Faults, table: Table, drafts: Sequence[Draft]) -> list[tuple[str, str]]:
    """(path, address) of each."""
    if table.value.get("admins") == []:
        reason = "names nobody, and every domain must answer at postmaster@ (RFC 5321)"
        faults.add("mail-admins", table.at("admins"), [], reason, "Name the mailbox of a person")
    enabled = {mailbox.address: mailbox.enabled for draft in drafts for mailbox in draft.domain.mailboxes}
    found: list[tuple[str, str]] = []
    for index, text in enumerate(table.words("admins")):
        path = f"{table.at('admins')}[{index}]"
        address = addresses.address(faults, path, text, None)
        if address is None:
            continue
        if address in [other for _path, other in found]:
            faults.add("mail-target-twice", path, address, "is named twice", "Remove one of them")
        elif address not in enabled:
            faults.add("mail-admin", path, address, "is no mailbox of this platform", meant(address, enabled, "mailboxes"))
        elif not enabled[address]:
            faults.add("mail-admin", path, address, "is a mailbox that is not enabled: nobody would read it", "Enable it, or name another")
        else:
            found.append((path, address))
    return found


def _read_directory(faults: Faults, table: Table, context: Context) -> Optional[str]:
    path = table.at("directory")
    found = values.directory(faults, path, table.text("directory"), "mail-directory")
    if found is None:
        return None
    parts = found.strip("/").split("/")
    root = context.docker.data_root if context.docker is not None else None
    if len(parts) < 2 or parts[0] in _SYSTEM or found.startswith(("/var/lib/docker", "/var/lib/containerd", "/var/lib/hybridlab", "/var/run", "/var/tmp")):
        reason = "is a place of the system's or of others too, and its owners and modes are set for the mail alone"
    elif root is not None and (found == root or found.startswith(f"{root}/") or root.startswith(f"{found}/")):
        reason = f"and the engine's own directory ({root}) lie in one another"
    else:
        return found
    faults.add("mail-directory", path, found, reason, "Choose a directory of the mail's own, such as '/data/mail'")
    return None


def _read_base(faults: Faults, table: Table, context: Context) -> str:
    base = table.text("base") if "base" in table.value else Mail.base
    if base is not None and base not in context.images and not faulty(faults, "platform_container_images"):
        cure = f"{meant(base, context.images, 'images')} (a base has Debian's packages to install from)"
        faults.add("mail-base", table.at("base"), base, "is no name in platform_container_images, and every part is built from it", cure)
    return base or Mail.base


def _read_tls(faults: Faults, table: Table, context: Context) -> Tls:
    item = Table.read(faults, table.at("tls"), table.value.get("tls", {}), TLS_KEYS)
    if item is None:
        return Tls()
    given = [key for key in TLS_KEYS if item.value.get(key) is not None]
    if len(given) == 1:
        lacking = next(key for key in TLS_KEYS if key not in given)
        reason = f"has {given[0]} without {lacking}"
        faults.add("mail-tls", item.path, None, reason, f"Add {lacking}, or remove {given[0]}: the host then has a CA of its own")
    return Tls(certificate=item.text("certificate") if "certificate" in given else None, key=secret_name(faults, item, "key", context))


def _read_antivirus(faults: Faults, table: Table) -> Antivirus:
    item = Table.read(faults, table.at("antivirus"), table.value.get("antivirus", {}), ANTIVIRUS_KEYS)
    if item is None:
        return Antivirus()
    update = item.flag("update", Antivirus.update)
    enabled = item.flag("enabled", Antivirus.enabled)
    memory = item.number("memory_mb") if "memory_mb" in item.value else Antivirus.memory_mb
    least = ANTIVIRUS_LEAST_MB if update else ANTIVIRUS_OWN_LEAST_MB
    if enabled and memory is not None and memory < least:
        what = "the official signatures" if update else "the daemon"
        cure = f"Write {least} or more" + (", update: false for signatures of your own, or enabled: false" if update else ", or enabled: false")
        faults.add("mail-antivirus-memory", item.at("memory_mb"), memory, f"is less than {what} need: the kernel would end it again and again", cure)
    return Antivirus(enabled, update, memory or Antivirus.memory_mb)


def _score(faults: Faults, item: Table, key: str, default: float) -> float:
    if key not in item.value:
        return default
    value = item.value[key]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1000:
        return float(value)
    faults.add("mail-score", item.at(key), value, "is no score: these are numbers above 0, up to 1000", f"Write one such as {default}")
    return default


def _read_spam(faults: Faults, table: Table) -> Spam:
    item = Table.read(faults, table.at("spam"), table.value.get("spam", {}), SPAM_KEYS)
    if item is None:
        return Spam()
    reject, junk = _score(faults, item, "reject", Spam.reject), _score(faults, item, "junk", Spam.junk)
    if junk >= reject:
        reason = f"is not below reject ({reject:g}): nothing would be filed as junk, all of it refused"
        faults.add("mail-score", item.at("junk"), junk, reason, "Write a lower score than that of reject")
    rate = item.number("rate_per_hour")
    return Spam(
        reject=reject,
        junk=junk,
        greylist=item.flag("greylist", Spam.greylist),
        gtube=item.choice("gtube", GTUBE) or Spam.gtube,
        rate_per_hour=Spam.rate_per_hour if rate is None else rate,
    )


def _check_policies(faults: Faults, drafts: Sequence[Draft], mail: Mail) -> None:
    """``enforce`` tells the senders of the world to keep their mail until policy and certificate are right."""
    for draft in drafts:
        if draft.domain.mta_sts != "enforce":
            continue
        path = f"{draft.path}.mta_sts"
        if not serves_web(mail):
            reason = "needs the policy at https://mta-sts.<domain>, and the Internet does not reach listeners.https"
            faults.add("mail-mta-sts", path, "enforce", reason, "Add internet to listeners.https.from, or write testing or none")
        elif mail.tls.certificate is None:
            reason = "makes senders refuse certificates of unknown CAs, and the host's own CA is one"
            faults.add("mail-mta-sts", path, "enforce", reason, "Set platform_mail.tls to a certificate of a public CA, or write testing")
