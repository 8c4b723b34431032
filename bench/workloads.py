# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten workloads that are as declared: our one task, against community.docker's stack and against ten services of its own.

All thirty run side by side on one sandbox host, from one image, with the same limits.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.host import Host
from bench.row import Row
from bench.segments import SANDBOX, Measured, row, sandbox
from tools import playbook

NAMES = ("workloads_second_stack", "workloads_second_services")
COUNT = 10
RUNS = 3
IMAGE = "bench/base:1"
COMMAND = ["/bin/sleep", "infinity"]
MEMORY_MB = 32


def rows() -> Iterator[Row]:
    sandbox("up", "--name", SANDBOX)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            variables = Path(scratch) / "bench.json"
            variables.write_text(json.dumps(_variables()), encoding="utf-8")
            yield from _measure(Host(variables))
    finally:
        sandbox("down", "--name", SANDBOX)


def _measure(host: Host) -> Iterator[Row]:
    sides = ("workloads_ours", "workloads_stack", "workloads_services")
    for name in ("workloads_prepare", *sides):
        host.play(name)
    measured: dict[str, list[Measured]] = {side: [] for side in sides}
    for _index in range(RUNS):
        for side in sides:
            measured[side].append(host.play(side))
    ours, stack, services = (measured[side] for side in sides)
    yield row("workloads_second_stack", ours, stack, 0.2, f"nothing to change in {COUNT} workloads; peer: docker_stack, one task")
    yield row("workloads_second_services", ours, services, 0.2, f"nothing to change in {COUNT} workloads; peer: docker_swarm_service, a loop of {COUNT}")


def _variables() -> dict[str, Any]:
    base = next((playbook.CHECKOUT / ".cache" / "base").glob("*.tar"))
    return {
        "bench_image": IMAGE,
        "bench_images": [{"name": "base", "rootfs": str(base)}],
        "bench_workloads": [_workload(number) for number in range(COUNT)],
        "bench_stack": {"version": "3.8", "services": {f"sleeper-{number}": _stack_service() for number in range(COUNT)}},
        "bench_services": [_service(number) for number in range(COUNT)],
    }


def _workload(number: int) -> dict[str, Any]:
    return {"name": f"sleeper-{number}", "stack": "ours", "image": "base", "command": COMMAND, "memory_mb": MEMORY_MB}


def _stack_service() -> dict[str, Any]:
    """What an operator of the stock module writes by hand, with the hardening that ours has of itself."""
    return {
        "image": IMAGE,
        "entrypoint": COMMAND,
        "read_only": True,
        "init": True,
        "cap_drop": ["ALL"],
        "stop_grace_period": "30s",
        "deploy": {"replicas": 1, "endpoint_mode": "dnsrr", "resources": {"limits": {"memory": f"{MEMORY_MB}M"}}},
    }


def _service(number: int) -> dict[str, Any]:
    return {
        "name": f"one-{number}",
        "image": IMAGE,
        "command": COMMAND,
        "read_only": True,
        "init": True,
        "cap_drop": ["ALL"],
        "stop_grace_period": "30s",
        "replicas": 1,
        "endpoint_mode": "dnsrr",
        "limits": {"memory": f"{MEMORY_MB}M"},
        "resolve_image": False,
    }
