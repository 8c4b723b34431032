# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The noun platform_monitoring as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

# Where a smaller value is the worse one.
FALLING = ("certificate_days",)
# From which value on a check of the host warns, and from which on it is critical. The tool on the host has the same.
THRESHOLDS: Mapping[str, tuple[float, float]] = {
    "backup_age_days": (8, 8),
    "certificate_days": (30, 7),
    "container_memory_percent": (90, 98),
    "disk_percent": (80, 90),
    "docker_reclaimable_gb": (50, 200),
    "inodes_percent": (80, 90),
    "journal_errors": (20, 200),
    "journal_mb": (2048, 4096),
    "load_per_core": (2, 4),
    "logrotate_age_days": (2, 8),
    "mail_queue_minutes": (60, 1440),
    "memory_percent": (70, 90),
    "pool_percent": (80, 90),
    "security_updates": (1, 20),
    "selinux_denials": (1, 50),
    "signature_age_days": (3, 14),
    "ssh_failures": (30, 300),
    "update_age_days": (8, 15),
}
WEBHOOK_KINDS = ("discord", "generic")


@dataclass(frozen=True)
class Threshold:
    warning: float
    critical: float


@dataclass(frozen=True)
class Webhook:
    """url: name in platform_secrets."""

    name: str
    kind: str
    url: str


@dataclass(frozen=True)
class Mail:
    """sender: left out, the mail agent's own."""

    to: str
    sender: Optional[str] = None


@dataclass(frozen=True)
class Journal:
    days: int = 30
    max_mb: int = 2048


@dataclass(frozen=True)
class Monitoring:
    """What platform_monitoring describes.

    daily:         HH:MM
    weekly:        day and time, such as 'Mon 07:30'
    watch_minutes: between two runs of the cheap checks
    node_exporter: whether Prometheus' exporter is installed; it answers on loopback, or in node_exporter_segment only
    certificates:  files on the host whose end is watched
    """

    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    webhooks: tuple[Webhook, ...] = ()
    mail: Optional[Mail] = None
    daily: str = "07:00"
    weekly: str = "Mon 07:30"
    watch_minutes: int = 5
    journal: Journal = Journal()
    node_exporter: bool = False
    node_exporter_segment: Optional[str] = None
    certificates: tuple[str, ...] = ()
