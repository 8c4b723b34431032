# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates, reboot, journal's size, log rotation, fail2ban, SELinux, certificates, the backup's log."""

from __future__ import annotations

import re
from calendar import timegm
from collections import Counter
from time import strptime

from .host_checks import DAY, judged
from .model import CRITICAL, OK, WARNING, Check, metric, unknown
from .probe import Host
from .settings import Settings

BACKUP_LOGS = "/var/log/docker-backup"
# Inst nginx [1.0] (1.1 Debian-Security:12/stable-security [amd64])
_INST = re.compile(r"^Inst (\S+) .*?\(\S+ ([^)]*)\)", re.MULTILINE)
# name.arch  version  repository, as dnf check-update prints it
_DNF = re.compile(r"^(\S+)\.(?:noarch|x86_64|aarch64|i686|ppc64le|s390x)\s+\S+\s+\S+$", re.MULTILINE)
_SIZES = {"B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_APT_LISTS = "/var/lib/apt/lists"


def backup_log(host: Host, settings: Settings) -> list[Check]:
    """The log of the last run, and the errors in it."""
    if "backup" not in settings.expect:
        return []
    names = [name for name in host.names(BACKUP_LOGS) if not name.endswith((".gz", ".xz", ".zst"))]
    if not names:
        return [unknown("backup_log", f"There is no log of a backup in {BACKUP_LOGS}", "systemctl list-timers; systemctl start hybridlab-backup.service")]
    newest = max(names, key=lambda name: host.changed(f"{BACKUP_LOGS}/{name}") or 0)
    path = f"{BACKUP_LOGS}/{newest}"
    text = host.read(path)
    if text is None:
        return [unknown("backup_log", f"{path} can't be read", "Run this as root")]
    bad = [line for line in text.splitlines() if re.search(r"\b(error|failed|fatal)\b", line, re.IGNORECASE)]
    days = (host.now() - (host.changed(path) or 0)) / DAY
    message = f"{path} was written {days:.1f} days ago, {len(bad)} of its {len(text.splitlines())} lines tell of an error"
    if bad:
        message += f": {bad[-1].strip()[:200]}"
    return [judged("backup_log", WARNING if bad else OK, message, len(bad), "0", f"Read it: less {path}")]


def updates(host: Host, settings: Settings) -> list[Check]:
    """Packages that can be updated; security ones are judged."""
    return _apt(host, settings) if settings.packages == "apt" else _dnf(host, settings)


def _apt(host: Host, settings: Settings) -> list[Check]:
    output = host.run(["apt-get", "--simulate", "--option=Debug::NoLocking=1", "dist-upgrade"], 90)
    if not output.good:
        return [unknown("updates", f"apt can't say what is pending: {output.why('apt-get')}", "apt-get --simulate dist-upgrade")]
    rows = _INST.findall(output.text)
    security = [name for name, sources in rows if "-security" in sources.lower()]
    found = [_pending(settings, len(rows), security, "apt-get update && apt-get dist-upgrade, or unattended-upgrade -d")]
    written = host.changed(f"{_APT_LISTS}/partial")
    days = None if written is None else (host.now() - written) / DAY
    if days is None or days > settings.thresholds["update_age_days"].warning:
        age = "have never been fetched" if days is None else f"are {days:.0f} days old"
        found.append(Check("package_lists", WARNING, f"apt's lists {age}: newer updates are not seen", cure="apt-get update; systemctl status apt-daily.timer"))
    return found


def _dnf(host: Host, settings: Settings) -> list[Check]:
    output = host.run(["dnf", "--quiet", "check-update"], 180)
    # dnf(8): 100 when there are updates, 0 when there are none.
    if output.problem or output.code not in (0, 100):
        return [unknown("updates", f"dnf can't say what is pending: {output.why('dnf')}", "dnf check-update")]
    pending = _DNF.findall(output.text.split("Obsoleting Packages")[0])
    output = host.run(["dnf", "--quiet", "check-update", "--security"], 180)
    if output.problem or output.code not in (0, 100):
        return [unknown("updates", f"dnf can't say which updates are for security: {output.why('dnf')}", "dnf check-update --security")]
    security = _DNF.findall(output.text.split("Obsoleting Packages")[0])
    return [_pending(settings, len(pending), security, "dnf upgrade --security, or dnf upgrade")]


def _pending(settings: Settings, count: int, security: list[str], cure: str) -> Check:
    limits = settings.thresholds["security_updates"]
    message = f"{count} updates are pending, {len(security)} of them for security"
    if security:
        message += f" ({', '.join(sorted(security)[:10])}{' ...' if len(security) > 10 else ''})"
    measured = [metric("hybridlab_updates_pending", count, kind="all"), metric("hybridlab_updates_pending", len(security), kind="security")]
    return judged("updates", limits.judge(len(security)), message, len(security), str(limits), cure, *measured)


def automatic_updates(host: Host, settings: Settings) -> list[Check]:
    """When the updates last ran by themselves, and with which errors."""
    if "updates" not in settings.expect or not settings.update_units:
        return []
    limits = settings.thresholds["update_age_days"]
    units = [f"--unit={unit}" for unit in settings.update_units]
    since = f"--since=-{limits.critical:g}d"
    output = host.run(["journalctl", *units, since, "--output=short-unix", "--no-pager", "--quiet", "--lines=2000"], 60)
    if not output.good:
        return [unknown("automatic_updates", f"The journal can't be read: {output.why('journalctl')}", f"journalctl -u {settings.update_units[0]}")]
    lines = [line for line in output.text.splitlines() if re.match(r"\d+\.\d+ ", line)]
    cure = f"systemctl list-timers; journalctl -u {settings.update_units[0]} -n 100"
    if not lines:
        message = f"No automatic update has run in the last {limits.critical:g} days"
        return [Check("automatic_updates", CRITICAL, message, value="none", threshold=str(limits), cure=cure)]
    days = (host.now() - float(lines[-1].split()[0])) / DAY
    failed = [line for line in lines if "Failed with result" in line or "error:" in line.lower()]
    severity = max(limits.judge(days), WARNING if failed else OK, key=[OK, WARNING, CRITICAL].index)
    message = f"Automatic updates ran {days:.1f} days ago" + (f", and told of an error: {failed[-1].split(' ', 1)[1][:200]}" if failed else "")
    return [judged("automatic_updates", severity, message, round(days, 1), str(limits), cure)]


def reboot(host: Host, settings: Settings) -> list[Check]:
    if settings.packages == "apt":
        # update-notifier and unattended-upgrades agree on this file.
        required = host.changed("/run/reboot-required") is not None
    else:
        output = host.run(["needs-restarting", "--reboothint"], 60)
        # 0: no reboot, 1: reboot.
        if output.problem or output.code not in (0, 1):
            return [unknown("reboot", f"It isn't known whether a reboot is due: {output.why('needs-restarting')}", "dnf install dnf-utils")]
        required = output.code == 1
    message = "An update waits for a reboot" if required else "No reboot is due"
    cure = "Plan it: guests and services stop. Then: systemctl reboot"
    return [judged("reboot", WARNING if required else OK, message, "yes" if required else "no", "no", cure, metric("hybridlab_reboot_required", required))]


def journal_size(host: Host, settings: Settings) -> list[Check]:
    output = host.run(["journalctl", "--disk-usage"])
    found = re.search(r"take up ([0-9.]+)([BKMGT])", output.text)
    if not output.good or found is None:
        return [unknown("journal_size", f"The journal's size is not known: {output.why('journalctl')}", "journalctl --disk-usage")]
    size = float(found[1]) * _SIZES[found[2]]
    limits = settings.thresholds["journal_mb"]
    mebibytes = size / 1024**2
    cure = "journalctl --vacuum-time=30d; see SystemMaxUse in /etc/systemd/journald.conf.d"
    measured = metric("hybridlab_journal_size_bytes", size)
    return [judged("journal_size", limits.judge(mebibytes), f"The journal takes {mebibytes:.0f} MiB", round(mebibytes), str(limits), cure, measured)]


def rotation(host: Host, settings: Settings) -> list[Check]:
    """logrotate writes its state at each run: an old state means that logs only grow."""
    written = host.changed(settings.logrotate_state)
    cure = "systemctl status logrotate.timer; logrotate --debug /etc/logrotate.conf"
    if written is None:
        return [unknown("rotation", f"logrotate has not run yet: there is no {settings.logrotate_state}", cure)]
    days = (host.now() - written) / DAY
    limits = settings.thresholds["logrotate_age_days"]
    return [judged("rotation", limits.judge(days), f"Logs were rotated {days:.1f} days ago", round(days, 1), str(limits), cure)]


def bans(host: Host, settings: Settings) -> list[Check]:
    """Statistics of each jail of fail2ban."""
    return [_jail(host, name) for name in settings.jails] if "fail2ban" in settings.expect else []


def _jail(host: Host, name: str) -> Check:
    output = host.run(["fail2ban-client", "status", name])
    cure = f"systemctl status fail2ban; fail2ban-client status {name}; tail /var/log/fail2ban.log"
    if output.problem:
        return unknown("fail2ban", f"fail2ban can't be asked: {output.problem}", cure, subject=name)
    if output.code != 0:
        return Check("fail2ban", CRITICAL, f"Jail {name} does not work: {output.why('fail2ban-client')}", name, "down", "up", cure)
    rows = {key: int(count) for key, count in re.findall(r"(Currently failed|Total failed|Currently banned|Total banned):\s+(\d+)", output.text)}
    if len(rows) < 4:
        return unknown("fail2ban", f"fail2ban-client status {name} gave no statistics", cure, subject=name)
    words = ", ".join(f"{key[0].lower()}{key[1:]} {count}" for key, count in rows.items())
    measured = (
        metric("hybridlab_fail2ban_banned_addresses", rows["Currently banned"], jail=name),
        metric("hybridlab_fail2ban_failures", rows["Total failed"], jail=name),
    )
    return Check("fail2ban", OK, f"Jail {name}: {words}", name, rows["Currently banned"], metrics=measured)


def selinux(host: Host, settings: Settings) -> list[Check]:
    """Denials of the last seven days, and whether SELinux enforces at all."""
    if "selinux" not in settings.expect:
        return []
    found = [_enforcing(host)]
    output = host.run(["ausearch", "--input-logs", "--message", "avc", "--start", "week-ago", "--raw"], 60)
    nothing = output.code == 1 and "<no matches>" in output.text + output.error
    if output.problem or not (output.code == 0 or nothing):
        return [*found, unknown("selinux_denials", f"The audit log can't be searched: {output.why('ausearch')}", "ausearch -m avc -ts week-ago")]
    lines = [line for line in output.text.splitlines() if "denied" in line]
    programs = Counter(match[1] for match in (re.search(r'comm="([^"]*)"', line) for line in lines) if match)
    limits = settings.thresholds["selinux_denials"]
    message = f"SELinux denied {len(lines)} accesses in the last seven days"
    if programs:
        message += ", most of " + ", ".join(f"{name} ({count})" for name, count in programs.most_common(5))
    cure = "ausearch -m avc -ts week-ago -i; say why with audit2why; label the files (restorecon, semanage fcontext) before any new rule"
    measured = metric("hybridlab_selinux_denials", len(lines))
    return [*found, judged("selinux_denials", limits.judge(len(lines)), message, len(lines), str(limits), cure, measured)]


def _enforcing(host: Host) -> Check:
    output = host.run(["getenforce"])
    if not output.good:
        return unknown("selinux", f"SELinux can't be asked: {output.why('getenforce')}", "sestatus")
    mode = output.text.strip()
    cure = "setenforce 1, and SELINUX=enforcing in /etc/selinux/config"
    return judged("selinux", OK if mode == "Enforcing" else CRITICAL, f"SELinux is {mode.lower()}", mode.lower(), "enforcing", cure)


def certificates(host: Host, settings: Settings) -> list[Check]:
    return [_certificate(host, settings, path) for path in settings.certificates]


def _certificate(host: Host, settings: Settings, path: str) -> Check:
    output = host.run(["openssl", "x509", "-noout", "-enddate", "-in", path])
    found = re.search(r"^notAfter=(.+) GMT$", output.text, re.MULTILINE)
    if not output.good or found is None:
        return unknown(
            "certificate", f"{path} is no certificate that can be read: {output.why('openssl')}", f"openssl x509 -noout -enddate -in {path}", subject=path
        )
    # The C library's names of months; every command here runs in the C locale.
    ends = timegm(strptime(found[1], "%b %d %H:%M:%S %Y"))
    days = (ends - host.now()) / DAY
    limits = settings.thresholds["certificate_days"]
    severity = limits.judge(days)
    message = f"{path} is valid for {days:.0f} days" if days > 0 else f"{path} ended {-days:.0f} days ago"
    measured = metric("hybridlab_certificate_expiry_timestamp_seconds", ends, path=path)
    return judged("certificate", severity, message, round(days), str(limits), "Renew it, and reload what uses it", measured, subject=path)
