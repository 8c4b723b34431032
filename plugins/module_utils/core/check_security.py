# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_security``, read and checked: nobody shall be locked out by it, and nothing that it names shall be left undone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Optional, TypeVar, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_cloud_init import login_name, read_keys
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, as_flag, labels
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import (
    HOST_JAILS,
    MAIL_JAILS,
    Account,
    Fail2ban,
    Jail,
    Security,
    Ssh,
    Updates,
)

KEYS = ("accounts", "ssh", "fail2ban", "updates", "sysctl", "audit", "selinux", "selinux_booleans")
ACCOUNT_KEYS = ("name", "ssh_keys", "groups", "sudo", "sudo_password", "shell")
JAIL_NUMBERS = ("retries", "find_seconds", "ban_seconds")
JAIL_KEYS = ("name", "enabled", *JAIL_NUMBERS)
JAILS = (*HOST_JAILS, *MAIL_JAILS)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MODES = ("enforcing", "permissive")

# Accounts that Debian 12 (base-passwd) and EL9 (setup) bring, and those of services that share the host.
SYSTEM_ACCOUNTS = frozenset(
    [
        "adm",
        "backup",
        "bin",
        "daemon",
        "dbus",
        "dnsmasq",
        "ftp",
        "games",
        "gnats",
        "halt",
        "irc",
        "libvirt-qemu",
        "list",
        "lp",
        "lxc-dnsmasq",
        "mail",
        "man",
        "messagebus",
        "news",
        "nobody",
        "operator",
        "polkitd",
        "proxy",
        "qemu",
        "shutdown",
        "sshd",
        "sync",
        "sys",
        "systemd-network",
        "systemd-resolve",
        "systemd-timesync",
        "tss",
        "uucp",
        "www-data",
        "_apt",
    ]
)
# Networks wider than these leave nobody to ban.
WIDEST_NEVER_BAN = {4: 8, 6: 16}

_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z")
_SYSCTL = re.compile(r"[a-z][a-z0-9_-]*(\.[A-Za-z0-9_:/-]+)+\Z")
_BOOLEAN = re.compile(r"[a-z][a-z0-9_]*\Z")
# What a host of guests and containers cannot do without, with the reason.
_HOST_NEEDS = (
    (re.compile(r"net\.ipv4\.(ip_forward|conf\.[^.]+\.forwarding)\Z"), "is what carries the traffic of guests and containers, and kvm_host sets it"),
    (re.compile(r"net\.ipv4\.conf\.[^.]+\.rp_filter\Z"), "is loose (2) here: strict, the kernel drops replies that come back by another bridge"),
    (re.compile(r"net\.bridge\."), "belongs to Docker, which sets it for its own bridges"),
)

Item = TypeVar("Item")


def read_security(faults: Faults, raw: Any, context: Optional[Context], mail: bool = False) -> Optional[Security]:
    """``platform_security``. Without a context the noun alone. mail: whether there is a platform_mail, whose jails are on unless they are turned off."""
    table = Table.read(faults, "platform_security", raw, KEYS, ("accounts",))
    if table is None:
        return None
    if context is not None:
        _check_ports(faults, context)
    ssh = _part(faults, table, "ssh", _read_ssh) or Ssh()
    return Security(
        accounts=_read_accounts(faults, table, ssh),
        ssh=ssh,
        fail2ban=_read_fail2ban(faults, table.at("fail2ban"), table.value.get("fail2ban", {}), mail, alone=context is None) or Fail2ban(),
        updates=_part(faults, table, "updates", _read_updates) or Updates(),
        sysctl=_read_sysctl(faults, table),
        audit=table.flag("audit", default=True),
        selinux=table.choice("selinux", MODES) or MODES[0],
        selinux_booleans=_read_booleans(faults, table),
    )


def _part(faults: Faults, table: Table, key: str, read: Callable[[Faults, str, Any], Optional[Item]]) -> Optional[Item]:
    return read(faults, table.at(key), table.value[key]) if key in table.value else None


def _check_ports(faults: Faults, context: Context) -> None:
    path = "platform_host.ssh_ports"
    if any(item.path.startswith(path) or item.rule == "service-ssh" for item in faults.items):
        return  # the same fault is told already
    if not context.host_ssh_ports:
        faults.add("security-ssh-port", path, None, "names no port, and platform_security moves sshd there", "Set it, such as [2201]")
    for index, port in enumerate(context.host_ssh_ports):
        if context.ssh_ports and port not in context.ssh_ports:
            reason = "is none of the ports that the segments keep for SSH (ssh_ports)"
            faults.add("security-ssh-port", f"{path}[{index}]", port, reason, "Choose a free port of the management segment's ssh_ports")


def _read_accounts(faults: Faults, table: Table, ssh: Ssh) -> tuple[Account, ...]:
    before = len(faults.items)
    rows = table.rows("accounts")
    read = [_read_account(faults, path, row, ssh) for path, row in zip(labels(table.at("accounts"), rows), rows)]
    accounts = tuple(account for account in read if account is not None)
    names = [account.name for account in accounts]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.add("account-twice", table.at("accounts"), name, "is listed twice", "Join the two entries")
    if len(faults.items) == before and "accounts" in table.value:
        _check_way_in(faults, table.at("accounts"), accounts)
    return accounts


def _read_account(faults: Faults, path: str, raw: Any, ssh: Ssh) -> Optional[Account]:
    table = Table.read(faults, path, raw, ACCOUNT_KEYS, ("name",))
    if table is None:
        return None
    name = login_name(faults, table.at("name"), table.text("name"))
    if name in SYSTEM_ACCOUNTS:
        faults.add("account-system", table.at("name"), name, "is an account of the system, in which nobody logs in", "Choose a name of a person or a purpose")
    elif name == "root" and not ssh.root_login:
        reason = "is refused by sshd while platform_security.ssh.root_login is not true"
        faults.add("account-root", table.at("name"), name, reason, "Give another account sudo: true")
    groups = [login_name(faults, f"{table.at('groups')}[{index}]", word) for index, word in enumerate(table.words("groups"))]
    account = Account(
        name=name or "",
        ssh_keys=tuple(read_keys(faults, table)),
        groups=tuple(group for group in groups if group),
        sudo=table.flag("sudo", default=False),
        sudo_password=table.flag("sudo_password", default=False),
        shell=values.directory(faults, table.at("shell"), table.text("shell"), "shell"),
    )
    if account.sudo_password and not account.sudo:
        faults.add("account-sudo", table.at("sudo_password"), True, "says how sudo asks, and the account has no sudo", "Set sudo: true, or remove it")
    return account if name else None


def _check_way_in(faults: Faults, path: str, accounts: Sequence[Account]) -> None:
    keyed = [account for account in accounts if account.ssh_keys]
    found = [account.name for account in accounts] or None
    if not keyed:
        cure = "Give one of them ssh_keys (the lines of your *.pub files); passwords are not taken"
        faults.add("account-no-key", path, found, "no account has a key, so that nobody could log in any more", cure)
    elif not any(account.sudo or account.name == "root" for account in keyed):
        reason = "no account with a key may become root, so that nobody could manage the host any more"
        faults.add("account-no-sudo", path, [account.name for account in keyed], reason, "Set sudo: true for one of them")


def _read_ssh(faults: Faults, path: str, raw: Any) -> Optional[Ssh]:
    table = Table.read(faults, path, raw, ("root_login", "forwarding"))
    return None if table is None else Ssh(table.flag("root_login", default=False), table.flag("forwarding", default=False))


def _read_fail2ban(faults: Faults, path: str, raw: Any, mail: bool, alone: bool) -> Optional[Fail2ban]:
    table = Table.read(faults, path, raw, ("jails", "never_ban"))
    if table is None:
        return None
    rows = table.rows("jails")
    read = [_read_jail(faults, place, row) for place, row in zip(labels(table.at("jails"), rows), rows)]
    jails = tuple(jail for jail in read if jail is not None)
    names = [jail.name for jail in jails]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.add("jail-twice", table.at("jails"), name, "is listed twice", "Join the two entries")
    words = [_never_banned(faults, f"{table.at('never_ban')}[{index}]", word) for index, word in enumerate(table.words("never_ban"))]
    off = {jail.name for jail, row in zip(read, rows) if jail is not None and row.get("enabled") is False}
    found = [*(jails if "jails" in table.value else Fail2ban.jails), *(Jail(name) for name in MAIL_JAILS if mail and name not in names)]
    if not mail:
        for name in sorted({*names} & {*MAIL_JAILS}) if not alone else ():
            faults.add("jail-mail", f"{table.at('jails')}[{name}].name", name, "guards the mail system, and there is no platform_mail", "Remove it")
        found = [jail for jail in found if jail.name in HOST_JAILS]
    return Fail2ban(tuple(jail for jail in found if jail.name not in off), tuple(word for word in words if word is not None))


def _read_jail(faults: Faults, path: str, raw: Any) -> Optional[Jail]:
    table = Table.read(faults, path, raw, JAIL_KEYS, ("name",))
    if table is None:
        return None
    name = table.choice("name", JAILS)
    table.flag("enabled", default=True)
    numbers = {key: table.number(key, least=1) for key in JAIL_NUMBERS}
    return Jail(name, **{key: number for key, number in numbers.items() if number is not None}) if name else None


def _never_banned(faults: Faults, path: str, text: str) -> Optional[str]:
    try:
        network = ip_network(text)
    except ValueError as error:
        faults.add("never-ban", path, text, f"is neither an address nor a network ({error})", "Write an address, or a network such as '192.0.2.0/24'")
        return None
    if network.prefixlen < WIDEST_NEVER_BAN[network.version]:
        reason = f"spans {2 ** (network.max_prefixlen - network.prefixlen):,} addresses, and leaves hardly anybody who could be banned"
        faults.add("never-ban", path, text, reason, f"Name your own networks, /{WIDEST_NEVER_BAN[network.version]} at the widest")
        return None
    return text


def _read_updates(faults: Faults, path: str, raw: Any) -> Optional[Updates]:
    table = Table.read(faults, path, raw, ("day", "time", "reboot"))
    if table is None:
        return None
    time = table.text("time")
    if time is not None and not _TIME.match(time):
        faults.add("time", table.at("time"), time, "is no time of day", "Write hours and minutes in quotes, such as '04:00'")
        time = None
    return Updates(table.choice("day", DAYS) or Updates.day, time or Updates.time, table.flag("reboot", default=False))


def _read_sysctl(faults: Faults, table: Table) -> Mapping[str, Union[int, str]]:
    raw = _mapping(faults, table, "sysctl")
    found: dict[str, Union[int, str]] = {}
    for key, value in raw.items():
        path = f"{table.at('sysctl')}[{key}]"
        need = next((reason for pattern, reason in _HOST_NEEDS if isinstance(key, str) and pattern.match(key)), None)
        if not isinstance(key, str) or not _SYSCTL.match(key):
            faults.add("sysctl", path, key, "is no name of a kernel parameter", "Write it as 'sysctl -a' does, such as net.ipv4.tcp_syncookies")
        elif need is not None:
            faults.add("sysctl-host", path, value, need, "Remove it")
        elif isinstance(value, bool) or not isinstance(value, (int, str)) or "\n" in str(value) or not str(value).strip():
            faults.add("type", path, value, "must be a number or one line of text", "Write the value as 'sysctl -n' prints it")
        else:
            found[key] = value
    return found


def _read_booleans(faults: Faults, table: Table) -> Mapping[str, bool]:
    raw = _mapping(faults, table, "selinux_booleans")
    found: dict[str, bool] = {}
    for key, value in raw.items():
        path = f"{table.at('selinux_booleans')}[{key}]"
        if not isinstance(key, str) or not _BOOLEAN.match(key):
            faults.add("selinux-boolean", path, key, "is no name of an SELinux boolean", "Write it as 'getsebool -a' does")
        else:
            found[key] = as_flag(faults, path, value, default=False)
    return found


def _mapping(faults: Faults, table: Table, key: str) -> Mapping[Any, Any]:
    raw = table.value.get(key, {})
    if isinstance(raw, Mapping):
        return raw
    faults.add("type", table.at(key), raw, "must be a mapping", "Write a mapping of name to value, {} for none")
    return {}
