# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads, their images and their secrets: what runs, whatever runs it (a Swarm service, an ECS service).

Values of these types have been checked (check_workloads.py); they are data without I/O.
Memory and sizes in MiB, times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

# From where a published port may be reached, beside the names of segments.
INTERNET, TAILNET, HOST = "internet", "tailnet", "host"


@dataclass(frozen=True)
class Secret:
    """Where a secret's value comes from: ``value`` itself, or a file of the machine that runs Ansible. Never printed."""

    name: str
    value: Optional[str] = field(default=None, repr=False)
    file: Optional[str] = None


@dataclass(frozen=True)
class ContainerImage:
    """One of: ``reference`` (pulled by digest), ``context`` (a directory that is built), ``rootfs`` (a tar that becomes one layer).

    base: name of the image that the build starts from, its build argument BASE
    """

    name: str
    reference: Optional[str] = None
    context: Optional[str] = None
    rootfs: Optional[str] = None
    base: Optional[str] = None
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """A port of the Docker host, led to ``target`` in the container.

    sources: INTERNET, TAILNET, HOST and names of segments; what is not named is refused
    """

    published: int
    target: int
    sources: tuple[str, ...]
    protocol: str = "tcp"


@dataclass(frozen=True)
class FileUse:
    """A secret or a config as the container sees it.

    target:        absolute path
    mode:          permission bits
    content, file: of a config, one of them: its text, or a file of the machine that runs Ansible
    """

    name: str
    target: str
    mode: int = 0o400
    uid: str = "0"
    gid: str = "0"
    content: Optional[str] = field(default=None, repr=False)
    file: Optional[str] = None


@dataclass(frozen=True)
class Volume:
    """A named volume, or where ``source`` starts with / a directory of the host."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Tmpfs:
    target: str
    size_mb: int = 16


@dataclass(frozen=True)
class Health:
    command: tuple[str, ...]
    interval_seconds: int = 10
    timeout_seconds: int = 5
    retries: int = 3
    start_seconds: int = 10


@dataclass(frozen=True)
class Update:
    """How a new version takes the place of the old one.

    order:               ``stop-first`` or ``start-first``
    max_failure_percent: of tasks that may fail before on_failure (``rollback`` or ``pause``)
    deadline_seconds:    after which a rollout that has not come to its end is an error
    """

    order: str = "stop-first"
    parallelism: int = 1
    delay_seconds: int = 0
    monitor_seconds: int = 5
    max_failure_percent: int = 0
    on_failure: str = "rollback"
    deadline_seconds: int = 300


@dataclass(frozen=True)
class Workload:
    """One service. None = the image's own, or no limit.

    target: ``swarm`` or ``ecs``
    log:    ``engine`` (as the engine keeps logs by default) or ``journal`` (the host's, under the name <stack>_<name>, where fail2ban reads it)
    """

    name: str
    image: str
    stack: str
    target: str = "swarm"
    command: Optional[tuple[str, ...]] = None
    args: Optional[tuple[str, ...]] = None
    environment: Mapping[str, str] = field(default_factory=dict)
    user: Optional[str] = None
    workdir: Optional[str] = None
    hostname: Optional[str] = None
    replicas: int = 1
    cpus: Optional[float] = None
    memory_mb: Optional[int] = None
    reserve_cpus: Optional[float] = None
    reserve_memory_mb: Optional[int] = None
    read_only: bool = True
    cap_drop: tuple[str, ...] = ("ALL",)
    cap_add: tuple[str, ...] = ()
    init: bool = True
    tmpfs: tuple[Tmpfs, ...] = ()
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[FileUse, ...] = ()
    configs: tuple[FileUse, ...] = ()
    networks: tuple[str, ...] = ("default",)
    ports: tuple[Port, ...] = ()
    health: Optional[Health] = None
    stop_seconds: int = 30
    update: Update = Update()
    placement: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    log: str = "engine"
