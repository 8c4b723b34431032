# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The noun platform_backup as typed values. They have been checked (check_backup.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Dump:
    """A command in the service's container; what it writes to its standard output is kept. volumes: those that the dump stands for; they are not copied."""

    command: tuple[str, ...]
    volumes: tuple[str, ...] = ()
    timeout_seconds: int = 3600


@dataclass(frozen=True)
class Feed:
    """A command in the service's container that reads a dump. ready: a command that ends with 0 once it may run."""

    command: tuple[str, ...]
    ready: tuple[str, ...] = ()
    timeout_seconds: int = 3600


@dataclass(frozen=True)
class BackupService:
    """What is saved and restored together.

    workload:  name in platform_workloads; container: name of a container that is no workload
    volumes:   as the engine names them; None = those of the workload
    paths:     further directories of the host
    quiesce:   what its containers get while the last changes are copied: ``none``, ``pause`` or ``stop``
    stop_seconds: within which it stops, and is up again
    """

    name: str
    workload: Optional[str] = None
    container: Optional[str] = None
    volumes: Optional[tuple[str, ...]] = None
    paths: tuple[str, ...] = ()
    dump: Optional[Dump] = None
    restore: Optional[Feed] = None
    quiesce: str = "none"
    stop_seconds: int = 120


@dataclass(frozen=True)
class Backup:
    """mount: where the disk is mounted; target: a directory on it; schedule: days and time of day, as systemd.time(7) reads them.

    images: which images the engine saves: ``own`` (no registry has them), ``all`` or ``none``
    paths:  directories that are saved beside the volumes and restored with them
    """

    mount: str = "/mnt/backup"
    target: str = "/mnt/backup/docker"
    schedule: str = "Sun 03:00"
    keep: int = 8
    max_age_days: int = 8
    reserve_gb: int = 5
    reserve_percent: int = 5
    images: str = "own"
    paths: tuple[str, ...] = ()
    skip_volumes: tuple[str, ...] = ()
    services: tuple[BackupService, ...] = ()
