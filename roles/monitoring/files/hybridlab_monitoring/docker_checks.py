# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker: disk use, containers, Swarm services, statistics."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from .host_checks import judged
from .model import CRITICAL, OK, WARNING, Check, metric, unknown
from .probe import Host, Output
from .settings import Settings

_SIZE = re.compile(r"([0-9.]+) ?([kMGTP]?)B")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_REPLICAS = re.compile(r"(\d+)/(\d+)")
_BAD_STATES = ("restarting", "dead", "removing")
CURE = "systemctl status docker; journalctl -u docker -n 50"


def size(text: str) -> float:
    """Bytes of '1.2GB', '512kB' or '0B (0%)'; Docker counts in powers of ten."""
    found = _SIZE.match(text.strip())
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def _rows(output: Output) -> list[dict[str, Any]]:
    """One JSON object a line. ValueError when a line is none."""
    return [json.loads(line) for line in output.text.splitlines() if line.strip()]


def _asked(host: Host, name: str, argv: list[str], seconds: float) -> tuple[list[dict[str, Any]], list[Check]]:
    """Docker's rows, or why there are none."""
    output = host.run(["docker", *argv, "--format", "{{json .}}"], seconds)
    if not output.good:
        return [], [unknown(name, f"Docker can't be asked: {output.why('docker ' + argv[0])}", CURE)]
    try:
        return _rows(output), []
    except ValueError:
        return [], [unknown(name, f"docker {' '.join(argv)} did not answer in JSON: {output.text.strip()[:100]!r}", "Run it by hand")]


def disk_use(host: Host, settings: Settings) -> list[Check]:
    rows, fault = _asked(host, "docker_disk", ["system", "df"], 90)
    if fault:
        return fault
    limits = settings.thresholds["docker_reclaimable_gb"]
    free = sum(size(row.get("Reclaimable", "")) for row in rows) / 10**9
    words = ", ".join(f"{row.get('Type')} {row.get('Size')}" for row in rows)
    measured = [metric("hybridlab_docker_used_bytes", size(row.get("Size", "")), type=str(row.get("Type"))) for row in rows]
    measured += [metric("hybridlab_docker_reclaimable_bytes", size(row.get("Reclaimable", "")), type=str(row.get("Type"))) for row in rows]
    cure = "docker system df -v shows them; docker image prune and docker builder prune free what nothing uses. Never prune volumes unseen"
    message = f"Docker keeps {words}; {free:.1f} GB of it could be freed"
    return [judged("docker_disk", limits.judge(free), message, round(free, 1), str(limits), cure, *measured)]


def containers(host: Host, settings: Settings) -> list[Check]:
    """Unhealthy ones and ones that start again and again. Tasks of Swarm that have ended stay for a while and are no fault."""
    rows, fault = _asked(host, "container", ["ps", "--all"], 30)
    if fault:
        return fault
    states = Counter(str(row.get("State", "unknown")) for row in rows)
    measured = [metric("hybridlab_containers", count, state=state) for state, count in sorted(states.items())]
    found = []
    for row in rows:
        name, status = str(row.get("Names")), str(row.get("Status"))
        subject = _task(name)
        cure = f"docker inspect --format '{{{{json .State}}}}' {name}; docker logs --tail 50 {name}"
        if "(unhealthy)" in status:
            found.append(Check("container", CRITICAL, f"Container {name} is unhealthy ({status})", subject, "unhealthy", "healthy", cure))
        elif row.get("State") in _BAD_STATES:
            found.append(Check("container", CRITICAL, f"Container {name} is {row['State']} ({status})", subject, str(row["State"]), "running", cure))
    message = "; ".join(f"{count} containers {state}" for state, count in sorted(states.items())) or "No containers"
    return [Check("containers", OK, message, value=len(rows), metrics=tuple(measured)), *found]


def _task(name: str) -> str:
    """A container's name without the task's id, which is a new one at each start: web.1 of web.1.x3k9..."""
    return re.sub(r"(\.(?:\d+|[a-z0-9]{25}))\.[a-z0-9]{25}$", r"\1", name)


def services(host: Host, settings: Settings) -> list[Check]:
    """Swarm services that run fewer replicas than they should."""
    if "swarm" not in settings.expect:
        return []
    rows, fault = _asked(host, "service", ["service", "ls"], 30)
    if fault:
        return fault
    found = []
    for row in rows:
        name, replicas = str(row.get("Name")), _REPLICAS.match(str(row.get("Replicas", "")))
        if replicas is None or "job" in str(row.get("Mode", "")):
            continue
        runs, wanted = int(replicas[1]), int(replicas[2])
        severity = OK if runs >= wanted else WARNING if runs else CRITICAL
        measured = [metric("hybridlab_service_replicas", runs, service=name), metric("hybridlab_service_replicas_wanted", wanted, service=name)]
        cure = f"docker service ps --no-trunc {name}"
        found.append(judged("service", severity, f"Service {name} runs {runs} of {wanted} replicas", runs, str(wanted), cure, *measured, subject=name))
    return found


def statistics(host: Host, settings: Settings) -> list[Check]:
    """One look at what each container takes."""
    rows, fault = _asked(host, "container_memory", ["stats", "--no-stream"], 60)
    if fault:
        return fault
    limits = settings.thresholds["container_memory_percent"]
    found = []
    for row in rows:
        name = str(row.get("Name"))
        used, cpu = _percent(row.get("MemPerc")), _percent(row.get("CPUPerc"))
        message = f"Container {name} takes {used:.0f} % of its memory ({row.get('MemUsage')}) and {cpu:.0f} % of a core"
        label = _task(name)
        measured = [
            metric("hybridlab_container_memory_ratio", used / 100, container=label),
            metric("hybridlab_container_cpu_ratio", cpu / 100, container=label),
        ]
        cure = f"Give it more by memory_mb of its workload, or find the leak: docker top {name}"
        found.append(judged("container_memory", limits.judge(used), message, round(used, 1), str(limits), cure, *measured, subject=label))
    return found


def _percent(text: Any) -> float:
    """0 for what Docker does not know ('--')."""
    words = str(text).rstrip("%")
    try:
        return float(words)
    except ValueError:
        return 0.0
