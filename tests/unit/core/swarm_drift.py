# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads that differ from FULL in one field each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Tmpfs, Workload
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_engine import FULL, first


def _part(name: str, **changes: Any) -> Workload:
    """FULL with something else in its health or its update."""
    return replace(FULL, **{name: replace(getattr(FULL, name), **changes)})


# Each field of a workload and of its parts -> a workload that differs from FULL in it alone.
ALTERED: dict[str, Workload] = {
    "image": replace(FULL, image="edge"),
    "command": replace(FULL, command=None),
    "args": replace(FULL, args=("8000", "a", "b")),
    "environment": replace(FULL, environment={"LISTEN": "8001", "GREETING": "it's = fine"}),
    "user": replace(FULL, user=None),
    "workdir": replace(FULL, workdir=None),
    "hostname": replace(FULL, hostname="web-2"),
    "replicas": replace(FULL, replicas=3),
    "cpus": replace(FULL, cpus=None),
    "memory_mb": replace(FULL, memory_mb=65),
    "reserve_cpus": replace(FULL, reserve_cpus=0.2),
    "reserve_memory_mb": replace(FULL, reserve_memory_mb=None),
    "read_only": replace(FULL, read_only=True),
    "cap_drop": replace(FULL, cap_drop=("NET_RAW",)),
    "cap_add": replace(FULL, cap_add=()),
    "init": replace(FULL, init=True),
    "tmpfs": replace(FULL, tmpfs=(*FULL.tmpfs, Tmpfs("/run", 16))),
    "tmpfs.target": replace(FULL, tmpfs=first(FULL.tmpfs, target="/var/tmp")),
    "tmpfs.size_mb": replace(FULL, tmpfs=first(FULL.tmpfs, size_mb=9)),
    "volumes": replace(FULL, volumes=FULL.volumes[:1]),
    "volumes.source": replace(FULL, volumes=first(FULL.volumes, source="/srv/data")),
    "volumes.target": replace(FULL, volumes=first(FULL.volumes, target="/var/lib/data")),
    "volumes.read_only": replace(FULL, volumes=first(FULL.volumes, read_only=True)),
    "secrets": replace(FULL, secrets=()),
    "secrets.name": replace(FULL, secrets=first(FULL.secrets, name="other")),
    "secrets.target": replace(FULL, secrets=first(FULL.secrets, target="/run/secrets/web")),
    "secrets.mode": replace(FULL, secrets=first(FULL.secrets, mode=0o400)),
    "secrets.uid": replace(FULL, secrets=first(FULL.secrets, uid="0")),
    "secrets.gid": replace(FULL, secrets=first(FULL.secrets, gid="0")),
    "log": replace(FULL, log="engine"),
    "configs": replace(FULL, configs=FULL.configs[:1]),
    "configs.name": replace(FULL, configs=first(FULL.configs, name="page")),
    "configs.target": replace(FULL, configs=first(FULL.configs, target="/etc/page")),
    "configs.mode": replace(FULL, configs=first(FULL.configs, mode=0o440)),
    "configs.uid": replace(FULL, configs=first(FULL.configs, uid="1")),
    "configs.gid": replace(FULL, configs=first(FULL.configs, gid="1")),
    "configs.content": replace(FULL, configs=first(FULL.configs, content="two\n")),
    "configs.file": replace(FULL, configs=(FULL.configs[0], replace(FULL.configs[1], file="files/other"))),
    "networks": replace(FULL, networks=("default",)),
    "ports": replace(FULL, ports=FULL.ports[:1]),
    "ports.published": replace(FULL, ports=first(FULL.ports, published=8081)),
    "ports.target": replace(FULL, ports=first(FULL.ports, target=81)),
    "ports.protocol": replace(FULL, ports=first(FULL.ports, protocol="udp")),
    "health": replace(FULL, health=None),
    **{
        f"health.{key}": _part("health", **{key: value})
        for key, value in {"command": ("true",), "interval_seconds": 6, "timeout_seconds": 4, "retries": 3, "start_seconds": 0}.items()
    },
    "stop_seconds": replace(FULL, stop_seconds=10),
    **{
        f"update.{key}": _part("update", **{key: value})
        for key, value in {
            "order": "stop-first",
            "parallelism": 1,
            "delay_seconds": 0,
            "monitor_seconds": 5,
            "max_failure_percent": 26,
            "on_failure": "rollback",
        }.items()
    },
    "placement": replace(FULL, placement=("node.role == manager",)),
    "labels": replace(FULL, labels={}),
}
# What the engine is not told: the name that everything goes by, who runs it, whom the firewall lets in, how long the run waits.
NOT_TOLD = {"name", "stack", "target", "update", "ports.sources", "update.deadline_seconds", "secrets.content", "secrets.file"}
