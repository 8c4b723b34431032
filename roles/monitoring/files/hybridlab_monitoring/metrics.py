# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every metric that the checks may give, and the text format of Prometheus' textfile collector.

Names follow Prometheus' conventions: one prefix, base units (seconds, bytes, ratios), unit last. All are gauges.
Source: https://prometheus.io/docs/practices/naming/ and .../instrumenting/exposition_formats/
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from .model import NUMBERS, Check, Metric, metric

METRICS = {
    "hybridlab_backup_last_success_timestamp_seconds": "When the last good backup ended, in seconds since 1970; 0 when there is none.",
    "hybridlab_backup_size_bytes": "Size of the last backup.",
    "hybridlab_certificate_expiry_timestamp_seconds": "When a certificate ends, in seconds since 1970.",
    "hybridlab_check_status": "Result of a check: 0 ok, 1 warning, 2 critical, 3 unknown.",
    "hybridlab_container_cpu_ratio": "Share of one core that a container takes.",
    "hybridlab_container_memory_ratio": "Share of its memory limit that a container takes.",
    "hybridlab_containers": "Containers by state.",
    "hybridlab_docker_reclaimable_bytes": "What docker system prune could free, by type.",
    "hybridlab_docker_used_bytes": "What Docker keeps on disk, by type.",
    "hybridlab_failed_units": "Units of systemd that failed.",
    "hybridlab_fail2ban_banned_addresses": "Addresses that are banned now, by jail.",
    "hybridlab_fail2ban_failures": "Failures that a jail has counted since it was started.",
    "hybridlab_filesystem_inodes_used_ratio": "Used share of a file system's inodes.",
    "hybridlab_filesystem_used_ratio": "Used share of a file system.",
    "hybridlab_guests": "Guests by state.",
    "hybridlab_health_duration_seconds": "How long the checks took.",
    "hybridlab_health_last_run_timestamp_seconds": "When the checks ended, in seconds since 1970.",
    "hybridlab_journal_errors": "Messages of priority err or worse in the last hour.",
    "hybridlab_journal_size_bytes": "What the journal keeps on disk.",
    "hybridlab_load_per_core": "Load of the last five minutes, for each core.",
    "hybridlab_mail_platform_queue_messages": "Messages that wait in the queue of the mail system.",
    "hybridlab_mail_platform_queue_oldest_seconds": "How long the oldest of them waits.",
    "hybridlab_mail_signature_age_days": "Age of the newest signatures of the virus scanner.",
    "hybridlab_mail_queue_messages": "Messages, for each recipient one, that this host itself has still to deliver.",
    "hybridlab_mail_queue_oldest_seconds": "How long the oldest of them waits.",
    "hybridlab_memory_used_ratio": "Share of memory that is not available to new programs.",
    "hybridlab_notifications_spooled": "Notifications that wait to be sent.",
    "hybridlab_pool_used_ratio": "Used share of a storage pool.",
    "hybridlab_reboot_required": "Whether an update waits for a reboot.",
    "hybridlab_selinux_denials": "Accesses that SELinux denied in the last seven days.",
    "hybridlab_service_replicas": "Running replicas of a Swarm service.",
    "hybridlab_service_replicas_wanted": "Replicas that a Swarm service should have.",
    "hybridlab_ssh_failures": "Failed SSH logins in the last hour.",
    "hybridlab_time_synchronized": "Whether the clock is synchronised.",
    "hybridlab_updates_pending": "Packages that can be updated, by kind.",
}


def health_metrics(checks: Sequence[Check], finished: float, seconds: float) -> list[Metric]:
    """What the checks measured, their results, and the run itself."""
    rows = [metric("hybridlab_check_status", NUMBERS[check.severity], check=check.name, subject=check.subject) for check in checks]
    rows += [item for check in checks for item in check.metrics]
    return [*rows, metric("hybridlab_health_last_run_timestamp_seconds", finished), metric("hybridlab_health_duration_seconds", seconds)]


def exposition(rows: Iterable[Metric], run: str) -> str:
    """Prometheus' text format. ``run`` becomes a label of each number: two runs may measure the same thing, and both keep a file."""
    by_name: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.name not in METRICS:
            raise ValueError(f"{row.name} is not one of metrics.METRICS")
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted((*row.labels, ("run", run))))
        by_name.setdefault(row.name, {})[labels] = row.value
    lines = []
    for name in sorted(by_name):
        lines += [f"# HELP {name} {METRICS[name]}", f"# TYPE {name} gauge"]
        lines += [f"{name}{{{labels}}} {_number(value)}" for labels, value in sorted(by_name[name].items())]
    return "".join(line + "\n" for line in lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def write_atomically(path: str, text: str, mode: int) -> None:
    """Replace ``path`` in one step: whoever reads it sees the old text or the new one. Beside it no file ends in what readers look for."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=str(target.parent), prefix=f".{target.name}.", suffix=".new")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink()
        raise
