# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of the host's hardening, its backup and its monitoring (procedures 3.2 and 3.3). No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import validate_accounts, validate_logs
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_monitoring import Monitoring
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import (
    Answer,
    Answers,
    Questions,
    Row,
    active_units,
    judged,
    show_blocks,
    show_units,
)

SECURITY, BACKUP, MONITORING = "security", "backup", "monitoring"

# Either distribution's timer of weekly security updates (roles/host_security/vars).
UPDATE_TIMERS = ("apt-daily-upgrade.timer", "dnf-automatic.timer")
BACKUP_TIMER = "hybridlab-backup.timer"
BACKUP_STATUS = "/var/lib/hybridlab/backup/status.json"
HEALTH_TIMERS = tuple(f"hybridlab-health-{suite}.timer" for suite in ("daily", "weekly", "watch"))
MONITORING_SETTINGS = "/etc/hybridlab/monitoring.json"
BACKUP_LOGROTATE, DOCKER_LOGROTATE = "/etc/logrotate.d/hybridlab-backup", "/etc/logrotate.d/docker"

# What every login needs, as ``sshd -T`` names it.
_SSHD = {"pubkeyauthentication": "yes", "passwordauthentication": "no", "kbdinteractiveauthentication": "no", "permitemptypasswords": "no"}


def questions(platform: Platform) -> Questions:
    services, asked = platform.services, {}
    if services.security is not None:
        asked.update(
            {
                "sshd": ("sshd", "-T"),
                "jails": ("fail2ban-client", "status"),
                "guards": show_units(("fail2ban.service", *UPDATE_TIMERS)),
                "firewalld": ("firewall-cmd", "--state"),
                "selinux": ("cat", "/sys/fs/selinux/enforce"),
                "selinux_installed": ("test", "-e", "/etc/selinux/config"),
                "selinux_denials": validate_logs.DENIALS,
                **validate_accounts.questions(services.security),
            }
        )
        for account in services.security.accounts:
            asked[f"keys {account.name}"] = ("sh", "-c", f'cat "$(getent passwd {account.name} | cut -d: -f6)/.ssh/authorized_keys"')
    if services.backup is not None:
        asked["backup_timer"] = show_units((BACKUP_TIMER,))
        asked["backup_mount"] = ("findmnt", "--noheadings", "--output", "TARGET", "--mountpoint", services.backup.mount)
        asked["backup_status"] = ("cat", BACKUP_STATUS)
        asked["backup_logrotate"] = validate_logs.logrotate(BACKUP_LOGROTATE)
        asked["now"] = ("date", "--utc", "+%s")
    if services.monitoring is not None:
        asked["health_timers"] = show_units(HEALTH_TIMERS)
        asked["docker_logrotate"] = validate_logs.logrotate(DOCKER_LOGROTATE)
        asked["journal"] = validate_logs.JOURNAL
        asked["monitoring_mode"] = ("stat", "--format", "%U %a", MONITORING_SETTINGS)
    return asked


def rows(platform: Platform, answers: Answers) -> Iterator[Row]:
    services = platform.services
    if services.security is not None:
        yield from _security(platform, services.security, answers)
    if services.backup is not None:
        yield from _backup(services.backup, answers)
    if services.monitoring is not None:
        yield from _monitoring(services.monitoring, answers)


def _security(platform: Platform, security: Security, answers: Answers) -> Iterator[Row]:
    answer = answers["sshd"]
    settings: dict[str, list[str]] = {}
    for line in answer.lines:
        key, _space, value = line.partition(" ")
        settings.setdefault(key, []).append(value)
    wanted = {**_SSHD, "permitrootlogin": "prohibit-password" if security.ssh.root_login else "no"}
    for key, value in wanted.items():
        found = ", ".join(settings.get(key, [])) or None
        # OpenSSH prints the older name of the same value.
        same = {value, "without-password"} if value == "prohibit-password" else {value}
        yield judged(SECURITY, f"sshd {key}", value, answer, found in same, found)
    ports = sorted(int(port) for port in settings.get("port", []))
    yield judged(
        SECURITY,
        "sshd ports",
        ", ".join(map(str, sorted(platform.host_ssh_ports))),
        answer,
        ports == sorted(platform.host_ssh_ports),
        ", ".join(map(str, ports)),
    )
    yield from active_units(SECURITY, ("fail2ban.service",), answers["guards"])
    timer = next((name for name in UPDATE_TIMERS if name in show_blocks(answers["guards"])), UPDATE_TIMERS[0])
    yield from active_units(SECURITY, (timer,), answers["guards"])
    jails = {name.strip() for line in answers["jails"].lines if "Jail list:" in line for name in line.rpartition(":")[2].split(",")}
    for jail in security.fail2ban.jails:
        yield judged(SECURITY, f"jail {jail.name}", "active", answers["jails"], jail.name in jails, "active" if jail.name in jails else "missing")
    yield judged(SECURITY, "firewalld", "running", answers["firewalld"], answers["firewalld"].out.strip() == "running")
    if answers["selinux_installed"].rc == 0:
        mode = {"1": "enforcing", "0": "permissive"}.get(answers["selinux"].out.strip(), "disabled")
        yield judged(SECURITY, "SELinux", security.selinux, answers["selinux"], mode == security.selinux, mode)
        if mode != "disabled":
            yield validate_logs.denials(SECURITY, answers["selinux_denials"])
    for account in security.accounts:
        keys = answers[f"keys {account.name}"]
        found_keys = {_key(line) for line in keys.lines if not line.startswith("#")}
        declared = {_key(line) for line in account.ssh_keys}
        extra, missing = len(found_keys - declared), len(declared - found_keys)
        yield judged(
            SECURITY, f"keys of {account.name}", f"{len(declared)} as declared", keys, not extra and not missing, f"{extra} undeclared, {missing} missing"
        )
    docker = platform.services.docker
    yield from validate_accounts.rows(security, () if docker is None else docker.users, answers)


def _key(line: str) -> str:
    """An authorized key without its comment: type and blob, wherever options stand before them."""
    words = line.split()
    start = next((index for index, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-", "sk-"))), 0)
    return " ".join(words[start : start + 2])


def _backup(backup: Backup, answers: Answers) -> Iterator[Row]:
    yield from active_units(BACKUP, (BACKUP_TIMER,), answers["backup_timer"])
    mounted = answers["backup_mount"]
    yield judged(BACKUP, f"disk at {backup.mount}", "mounted", mounted, mounted.rc == 0, "mounted" if mounted.rc == 0 else "no mount point", (0, 1))
    yield validate_logs.rotated(BACKUP, BACKUP_LOGROTATE, answers["backup_logrotate"])
    answer, status = answers["backup_status"], _json(answers["backup_status"])
    if not status:
        yield Row(BACKUP, "last good run", f"within {backup.max_age_days} days", "none yet: systemctl start hybridlab-backup", False)
        return
    yield judged(
        BACKUP,
        "last run",
        "succeeded",
        answer,
        status.get("ok") is True,
        "succeeded" if status.get("ok") is True else str(status.get("error") or "has not ended"),
    )
    good, now = _moment(status.get("last_good")), _now(answers["now"])
    young = good is not None and now is not None and now - good <= timedelta(days=backup.max_age_days)
    yield judged(BACKUP, "last good run", f"within {backup.max_age_days} days", answer, young, "never" if good is None else good.strftime("%Y-%m-%d %H:%M UTC"))


def _monitoring(monitoring: Monitoring, answers: Answers) -> Iterator[Row]:
    yield from active_units(MONITORING, HEALTH_TIMERS, answers["health_timers"])
    # The addresses of webhooks stand in it.
    yield judged(MONITORING, "owner, mode of the settings", "root 600", answers["monitoring_mode"], answers["monitoring_mode"].out.strip() == "root 600")
    yield validate_logs.rotated(MONITORING, DOCKER_LOGROTATE, answers["docker_logrotate"])
    yield from validate_logs.journal(MONITORING, monitoring.journal, answers["journal"])


def _json(answer: Answer) -> Mapping[str, Any]:
    try:
        value = json.loads(answer.out) if answer.rc == 0 else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _moment(text: Any) -> Optional[datetime]:
    try:
        # Python 3.9 does not read the suffix Z.
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _now(answer: Answer) -> Optional[datetime]:
    return datetime.fromtimestamp(int(answer.out), timezone.utc) if answer.out.strip().isdigit() else None
