# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checks make a daily, a weekly and a watching run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from . import docker_checks, guest_checks, host_checks, mail_checks, weekly_checks
from .model import OK, WARNING, Check, metric, unknown
from .probe import PATH, Host
from .settings import Settings

Look = Callable[[Host, Settings], list[Check]]
# A check, and the part of the platform without which there is nothing to check.
Row = tuple[Look, Optional[str]]

# Cheap ones, every few minutes; the others on their day only.
WATCH: Sequence[Row] = (
    (host_checks.memory, None),
    (host_checks.filesystems, None),
    (host_checks.load, None),
    (host_checks.units, None),
    (host_checks.failed_units, None),
    (docker_checks.containers, "docker"),
    (docker_checks.services, "docker"),
    (guest_checks.guests, "libvirt"),
    (guest_checks.pools, "libvirt"),
    (guest_checks.tables, None),
    (host_checks.ssh_failures, None),
    (host_checks.backup, None),
    (mail_checks.mail_queue, None),
    (mail_checks.platform_queue, "mail"),
)
DAILY: Sequence[Row] = (
    *WATCH,
    (docker_checks.disk_use, "docker"),
    (docker_checks.statistics, "docker"),
    (host_checks.journal_errors, None),
    (host_checks.clock, None),
    (mail_checks.signatures, "mail_signatures"),
)
WEEKLY: Sequence[Row] = (
    (host_checks.backup, None),
    (weekly_checks.backup_log, None),
    (weekly_checks.updates, None),
    (weekly_checks.automatic_updates, None),
    (weekly_checks.reboot, None),
    (weekly_checks.journal_size, None),
    (weekly_checks.rotation, None),
    (weekly_checks.bans, None),
    (weekly_checks.selinux, None),
    (weekly_checks.certificates, None),
)
SUITES = {"daily": DAILY, "weekly": WEEKLY, "watch": WATCH, "all": (*DAILY, *(row for row in WEEKLY if row not in DAILY))}


def examine(host: Host, settings: Settings, suite: str) -> list[Check]:
    """The results of all checks of the suite. A check that breaks is UNKNOWN and stops no other."""
    found: list[Check] = []
    for look, part in SUITES[suite]:
        if part is not None and part not in settings.expect:
            continue
        try:
            found += look(host, settings)
        except Exception as fault:
            name = look.__name__
            found.append(unknown(name, f"The check {name} broke: {type(fault).__name__}: {fault}", "Report it with the output of the commands that it runs"))
    return [*found, *_delivery(host, settings)]


def _delivery(host: Host, settings: Settings) -> list[Check]:
    """Whether what is found can be told to anyone."""
    waiting = [name for name in host.names(f"{settings.state}/notify/spool") if name.endswith(".json")]
    severity = WARNING if waiting else OK
    message = f"{len(waiting)} notifications wait to be sent" if waiting else "No notification waits to be sent"
    cure = "journalctl -g hybridlab-notify: -n 20; hybridlab-notify --test" if waiting else ""
    measured = (metric("hybridlab_notifications_spooled", len(waiting)),)
    found = [Check("notify", severity, message, value=len(waiting), threshold="0", cure=cure, metrics=measured)]
    if settings.mail_to and not any(host.changed(f"{folder}/sendmail") for folder in PATH.split(":")):
        found.append(Check("mail", WARNING, f"Mail shall go to {settings.mail_to}, and this host has no sendmail", cure="Install a mail agent, such as dma"))
    return found
