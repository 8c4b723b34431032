# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory, file systems, load, units, journal, clock, failed logins, backup's age."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime, timezone
from typing import Any, Optional

from .model import CRITICAL, OK, WARNING, Check, metric, unknown
from .probe import Host
from .settings import Settings

GIB = 1024**3
DAY = 86400
# File systems that are full by nature, or no disks at all.
_NO_DISKS = ("tmpfs", "devtmpfs", "squashfs", "iso9660", "efivarfs", "ramfs")
# Lines of sshd for a login that failed; the first two are of OpenSSH itself, the third of PAM's users who do not exist.
_SSH_FAILURE = re.compile(r"^(Failed \S+ for |Connection closed by authenticating user |Invalid user )")
# More is not counted: the answer is the same.
JOURNAL_MAX = 5000


def memory(host: Host, settings: Settings) -> list[Check]:
    rows = dict(re.findall(r"^(\w+):\s+(\d+) kB", host.read("/proc/meminfo") or "", re.MULTILINE))
    if "MemTotal" not in rows or "MemAvailable" not in rows:
        return [unknown("memory", "/proc/meminfo does not say how much memory is available", "Look at it: cat /proc/meminfo")]
    total, available = int(rows["MemTotal"]) * 1024, int(rows["MemAvailable"]) * 1024
    used = 100 * (total - available) / total
    limits = settings.thresholds["memory_percent"]
    message = f"{used:.0f} % of {total / GIB:.1f} GiB memory is used, {available / GIB:.1f} GiB is available"
    cure = "See what takes it: ps -eo rss,comm --sort=-rss | head; docker stats --no-stream; virsh list"
    return [judged("memory", limits.judge(used), message, round(used, 1), str(limits), cure, metric("hybridlab_memory_used_ratio", used / 100))]


def filesystems(host: Host, settings: Settings) -> list[Check]:
    """df of each local file system; its inodes too."""
    exclude = [word for kind in _NO_DISKS for word in ("-x", kind)]
    output = host.run(["df", "-l", "-B1", "--output=fstype,size,avail,pcent,itotal,ipcent,target", *exclude])
    rows = [line.split(None, 6) for line in output.text.splitlines()[1:]]
    rows = [row for row in rows if len(row) == 7 and row[1].isdecimal() and int(row[1]) > 0 and _is_disk(row[0], row[6])]
    if not rows:
        return [unknown("disk", f"No file system could be looked at: {output.why('df')}", "Run df by hand; a mount that hangs makes it wait")]
    found = []
    for _kind, size, avail, percent, inodes, inodes_percent, target in rows:
        found.append(_space(settings, target, int(size), int(avail), _percent(percent)))
        if inodes.isdecimal() and int(inodes) > 0:
            found.append(_inodes(settings, target, _percent(inodes_percent)))
    return found


def _is_disk(kind: str, target: str) -> bool:
    # An overlay is a container's view of a disk that is counted already, unless this host is itself one.
    return target == "/" or (kind != "overlay" and not target.startswith(("/run/", "/proc/", "/sys/", "/etc/", "/snap/")))


def _percent(text: str) -> int:
    return int(text.rstrip("%")) if text.rstrip("%").isdecimal() else 0


def _space(settings: Settings, target: str, size: int, avail: int, used: int) -> Check:
    limits = settings.thresholds["disk_percent"]
    message = f"{target} is {used} % full, {avail / GIB:.1f} of {size / GIB:.1f} GiB are free"
    cure = f"See what takes it: du -xh --max-depth=2 {target} | sort -h | tail; docker system df; journalctl --disk-usage"
    measured = metric("hybridlab_filesystem_used_ratio", used / 100, mountpoint=target)
    return judged("disk", limits.judge(used), message, used, str(limits), cure, measured, subject=target)


def _inodes(settings: Settings, target: str, used: int) -> Check:
    limits = settings.thresholds["inodes_percent"]
    cure = f"See where the many files are: du -x --inodes --max-depth=2 {target} | sort -n | tail"
    measured = metric("hybridlab_filesystem_inodes_used_ratio", used / 100, mountpoint=target)
    return judged("inodes", limits.judge(used), f"{used} % of the inodes of {target} are used", used, str(limits), cure, measured, subject=target)


def load(host: Host, settings: Settings) -> list[Check]:
    words = (host.read("/proc/loadavg") or "").split()
    if len(words) < 3:
        return [unknown("load", "/proc/loadavg can't be read", "Look at it: cat /proc/loadavg")]
    cores = host.cores()
    each = float(words[1]) / cores
    limits = settings.thresholds["load_per_core"]
    message = f"Load is {', '.join(words[:3])} (1, 5, 15 minutes) on {cores} cores"
    measured = metric("hybridlab_load_per_core", each)
    return [judged("load", limits.judge(each), message, round(each, 2), str(limits), "See what runs: top; docker stats; virt-top", measured)]


def units(host: Host, settings: Settings) -> list[Check]:
    """The daemons that the platform needs."""
    if not settings.units:
        return []
    output = host.run(["systemctl", "show", "--property=Id,LoadState,ActiveState,SubState", *settings.units])
    if not output.good:
        return [unknown("unit", f"systemd can't be asked: {output.why('systemctl')}", "Run systemctl status by hand")]
    found = []
    for name, block in zip(settings.units, output.text.strip().split("\n\n")):
        state = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        active = state.get("ActiveState", "unknown")
        good = active in ("active", "reloading")
        message = f"{name} is {active} ({state.get('SubState', '')})"
        if state.get("LoadState") == "not-found":
            message = f"{name} does not exist on this host"
        cure = f"systemctl status {name}; journalctl -u {name} -n 50; systemctl start {name}"
        found.append(judged("unit", OK if good else CRITICAL, message, active, "active", cure, subject=name))
    return found


def failed_units(host: Host, settings: Settings) -> list[Check]:
    output = host.run(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager", "--full"])
    if not output.good:
        return [unknown("failed_units", f"systemd can't be asked: {output.why('systemctl')}", "Run systemctl --failed by hand")]
    names = [line.split()[0] for line in output.text.splitlines() if line.strip()]
    count = metric("hybridlab_failed_units", len(names))
    if not names:
        return [Check("failed_units", OK, "No unit has failed", value=0, threshold="0", metrics=(count,))]
    cure = "journalctl -u {0} -n 50; when the cause is gone: systemctl restart {0} (or systemctl reset-failed {0})"
    return [
        Check("failed_units", CRITICAL, f"{name} has failed", name, "failed", "not failed", cure.format(name), (count,) if index == 0 else ())
        for index, name in enumerate(names)
    ]


def journal_errors(host: Host, settings: Settings) -> list[Check]:
    """Messages of priority err or worse in the last hour, and who wrote most of them."""
    argv = ["journalctl", "--since=-1h", "--priority=err", "--output=json", "--output-fields=_SYSTEMD_UNIT,SYSLOG_IDENTIFIER", "--no-pager", "--quiet"]
    output = host.run([*argv, f"--lines={JOURNAL_MAX}"], seconds=60)
    if not output.good:
        return [unknown("journal_errors", f"The journal can't be read: {output.why('journalctl')}", "Run journalctl -p err --since=-1h by hand")]
    lines = [line for line in output.text.splitlines() if line.strip()]
    writers = Counter(_writer(line) for line in lines)
    limits = settings.thresholds["journal_errors"]
    message = f"{len(lines)} errors in the journal in the last hour"
    if lines:
        message += ", most of " + ", ".join(f"{name} ({count})" for name, count in writers.most_common(5))
    cure = "journalctl -p err --since=-1h"
    return [judged("journal_errors", limits.judge(len(lines)), message, len(lines), str(limits), cure, metric("hybridlab_journal_errors", len(lines)))]


def _writer(line: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        return "?"
    return str(row.get("_SYSTEMD_UNIT") or row.get("SYSLOG_IDENTIFIER") or "kernel") if isinstance(row, dict) else "?"


def ssh_failures(host: Host, settings: Settings) -> list[Check]:
    """Failed logins whether or not an address was banned: an attack from many addresses gets none of them banned."""
    argv = ["journalctl", "--identifier=sshd", "--identifier=sshd-session", "--since=-1h", "--output=cat", "--no-pager", "--quiet"]
    output = host.run([*argv, f"--lines={JOURNAL_MAX}"], seconds=60)
    if not output.good:
        return [unknown("ssh_failures", f"The journal can't be read: {output.why('journalctl')}", "Run journalctl -t sshd --since=-1h by hand")]
    count = sum(1 for line in output.text.splitlines() if _SSH_FAILURE.match(line))
    limits = settings.thresholds["ssh_failures"]
    cure = "See from where: journalctl -t sshd --since=-1h; fail2ban-client status sshd. Many addresses at once: narrow sshd's port to the tailnet"
    measured = metric("hybridlab_ssh_failures", count)
    return [judged("ssh_failures", limits.judge(count), f"{count} failed SSH logins in the last hour", count, str(limits), cure, measured)]


def clock(host: Host, settings: Settings) -> list[Check]:
    output = host.run(["timedatectl", "show", "--property=NTPSynchronized"])
    if not output.good:
        return [unknown("time", f"The clock's state can't be read: {output.why('timedatectl')}", "Run timedatectl; on a host without it: chronyc tracking")]
    good = output.text.strip() == "NTPSynchronized=yes"
    message = "The clock is synchronised" if good else "The clock is not synchronised: certificates, one-time codes and logs depend on it"
    measured = metric("hybridlab_time_synchronized", good)
    cure = "chronyc tracking, or timedatectl timesync-status; then start chronyd or systemd-timesyncd"
    return [judged("time", OK if good else WARNING, message, "yes" if good else "no", "yes", cure, measured)]


def backup(host: Host, settings: Settings) -> list[Check]:
    """Age and result of the last backup, from the file that the backup writes."""
    if "backup" not in settings.expect:
        return []
    path = f"{settings.state}/backup/status.json"
    text = host.read(path)
    if text is None:
        reason = f"No backup has run yet: there is no {path}"
        cure = "systemctl start hybridlab-backup.service; systemctl list-timers"
        return [Check("backup", CRITICAL, reason, value="never", cure=cure, metrics=(metric("hybridlab_backup_last_success_timestamp_seconds", 0),))]
    try:
        status = json.loads(text)
        last_good = _moment(status["last_good"])
        ok, error = bool(status["ok"]), status.get("error")
        running = status.get("finished") is None
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        return [unknown("backup", f"{path} is not what the backup writes ({type(fault).__name__})", "Run a backup: systemctl start hybridlab-backup.service")]
    days = None if last_good is None else (host.now() - last_good) / DAY
    measured = [metric("hybridlab_backup_last_success_timestamp_seconds", last_good or 0)]
    size = status.get("bytes")
    if isinstance(size, (int, float)):
        measured.append(metric("hybridlab_backup_size_bytes", size))
    limits = settings.thresholds["backup_age_days"]
    severity, message = _backup_words(limits.judge(days) if days is not None else CRITICAL, days, ok or running, error)
    cure = (
        "" if severity == OK else "journalctl -u hybridlab-backup.service -n 100; ls -t /var/log/docker-backup | head; systemctl start hybridlab-backup.service"
    )
    value = None if days is None else round(days, 1)
    return [Check("backup", severity, message, value=value, threshold=str(limits), cure=cure, metrics=tuple(measured))]


def _backup_words(by_age: str, days: Optional[float], ok: bool, error: Any) -> tuple[str, str]:
    age = "there is no good one" if days is None else f"the last good one is {days:.1f} days old"
    if not ok:
        return CRITICAL, f"The last backup failed ({str(error or 'no reason given')[:300]}); {age}"
    if days is None:
        return CRITICAL, "No backup has succeeded yet"
    return by_age, f"The last good backup is {days:.1f} days old"


def _moment(text: Optional[str]) -> Optional[float]:
    """Seconds since 1970 of an ISO 8601 text; without a zone it is UTC."""
    if text is None:
        return None
    # Python 3.9 does not know the Z.
    found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def judged(name: str, severity: str, message: str, value: Any, threshold: str, cure: str, *measured: Any, subject: str = "") -> Check:
    """A check whose cure is only told where there is something to cure."""
    return Check(name, severity, message, subject, value, threshold, "" if severity == OK else cure, tuple(measured))
