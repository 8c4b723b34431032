# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The noun platform_security as typed values, with the defaults of what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional, Union


@dataclass(frozen=True)
class Account:
    """A person or a program that logs in to the host.

    ssh_keys:      lines of its authorized_keys, all of them
    groups:        further groups
    sudo:          whether it may do everything as root
    sudo_password: whether sudo asks for the account's own password, which somebody sets on the host
    shell:         path; None for the distribution's own choice
    """

    name: str
    ssh_keys: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sudo: bool = False
    sudo_password: bool = False
    shell: Optional[str] = None


@dataclass(frozen=True)
class Ssh:
    """root_login: root by key; forwarding: TCP and stream-local forwards, of which ``ssh -J`` is one."""

    root_login: bool = False
    forwarding: bool = False


# Jails that come with the hardening, and those that come with the mail system.
HOST_JAILS = ("sshd", "docker-auth")
MAIL_JAILS = ("mail-dovecot", "mail-postfix", "mail-web")


@dataclass(frozen=True)
class Jail:
    """retries failures within find_seconds shut an address out for ban_seconds."""

    name: str
    retries: int = 5
    find_seconds: int = 600
    ban_seconds: int = 3600


@dataclass(frozen=True)
class Fail2ban:
    """jails: those that are on; never_ban: addresses and networks, beside loopback, the segments that may reach the host's sshd, and platform_ranges."""

    jails: tuple[Jail, ...] = tuple(Jail(name) for name in HOST_JAILS)
    never_ban: tuple[str, ...] = ()


@dataclass(frozen=True)
class Updates:
    """Security updates once a week, in another night than the backup's by default.

    day:  as systemd.time(7) has it; time: HH:MM; reboot: whether the host may reboot itself for one.
    """

    day: str = "Sat"
    time: str = "04:00"
    reboot: bool = False


@dataclass(frozen=True)
class Security:
    """What platform_security describes."""

    accounts: tuple[Account, ...]
    ssh: Ssh = Ssh()
    fail2ban: Fail2ban = Fail2ban()
    updates: Updates = Updates()
    sysctl: Mapping[str, Union[int, str]] = field(default_factory=dict)
    audit: bool = True
    selinux: str = "enforcing"
    selinux_booleans: Mapping[str, bool] = field(default_factory=dict)
