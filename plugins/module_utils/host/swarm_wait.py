# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for rollouts of Swarm services. Each wait ends: with the rollout, with its failure, or at its deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.rollout import Goal, Verdict, explain, failed_tasks, judge, running_tasks, telling
from ansible_collections.hybridlab.platform.plugins.module_utils.host.engine_api import Engine

_PAUSE = 0.5  # seconds between two looks
_LINES = 10
_WIDTH = 300  # characters of a line that are worth reading
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# Each piece of a container's output has a header: stream, three zeros, length (Engine API, /containers/{id}/attach).
_FRAME = re.compile(rb"[\x01\x02]\x00\x00\x00[\x00-\xff]{4}")


def tasks_of(engine: Engine, service: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.get("/tasks", filters={"service": [service]})
    return found


def failed_before(engine: Engine, service: str) -> frozenset[str]:
    return failed_tasks(tasks_of(engine, service))


def wait_for(engine: Engine, goals: Sequence[Goal], hide: Callable[[str], str]) -> list[str]:
    """Wait for all goals side by side; the failures, each in words for a person.

    hide: takes values of secrets out of what a task has said
    """
    started = time.monotonic()
    left, failures = [_Watch(engine, goal) for goal in goals], []
    while left:
        for watch in list(left):
            verdict = watch.look(time.monotonic() - started)
            if verdict.done or verdict.failed:
                left.remove(watch)
            if verdict.failed:
                failures.append(explain(watch.goal, verdict, hide(watch.output(verdict))))
        if left:
            time.sleep(_PAUSE)
    return failures


class _Watch:
    """One goal, and what was seen of tasks that are gone since: the engine removes those of an update that it takes back."""

    def __init__(self, engine: Engine, goal: Goal) -> None:
        self.engine = engine
        self.goal = goal
        self.seen: dict[str, Mapping[str, Any]] = {}
        self.outputs: dict[str, str] = {}

    def look(self, seconds: float) -> Verdict:
        # The service first: tasks that are older than its state could be those of before the update.
        service = self.engine.get(f"/services/{self.goal.id}")
        tasks = {str(task["ID"]): task for task in tasks_of(self.engine, self.goal.id)}
        for task in telling(self.goal, list(tasks.values())):
            identity = str(task["ID"])
            self.seen[identity] = task
            self.outputs[identity] = _output(self.engine, task) or self.outputs.get(identity, "")
        for task in running_tasks(list(tasks.values())):
            self.seen.pop(str(task["ID"]), None)
        # One that was stopped before it ever ran may have ended in good order: as it was seen before, it tells more.
        return judge(self.goal, service, list({**tasks, **self.seen}.values()), seconds)

    def output(self, verdict: Verdict) -> str:
        """The last lines of the task that tells most."""
        return "" if verdict.task is None else self.outputs.get(str(verdict.task["ID"])) or _output(self.engine, verdict.task)


def wait_gone(engine: Engine, services: Iterable[str], deadline: float) -> None:
    """Until no task of removed services runs any more: their networks cannot be removed before. ResourceError after ``deadline`` seconds."""
    names = list(services)
    end = time.monotonic() + deadline
    while names:
        labels = [item.get("Labels") or {} for item in engine.get("/containers/json")]
        running = {label.get("com.docker.swarm.service.name") for label in labels}
        names = [name for name in names if name in running]
        if names and time.monotonic() > end:
            raise ResourceError(f"{', '.join(names)}: removed, yet its tasks still run after {deadline:.0f} s. See: docker ps. Run again when they have ended.")
        if names:
            time.sleep(_PAUSE)


def wait_networks_gone(engine: Engine, names: Iterable[str], deadline: float) -> None:
    """Until the engine lists none of the removed networks: it lets one go with the last that was attached. ResourceError after ``deadline`` seconds."""
    wanted = set(names)
    end = time.monotonic() + deadline
    while wanted:
        wanted &= {str(item.get("Name")) for item in engine.get("/networks")}
        if wanted and time.monotonic() > end:
            left = ", ".join(sorted(wanted))
            raise ResourceError(f"{left}: removed, yet the engine still lists it after {deadline:.0f} s. See: docker network inspect. Run again then.")
        if wanted:
            time.sleep(_PAUSE)


def _output(engine: Engine, task: Mapping[str, Any]) -> str:
    """The last lines of a task, and of its health check; empty where it ran on another node, or never did."""
    status: Mapping[str, Any] = (task.get("Status") or {}).get("ContainerStatus") or {}
    container = status.get("ContainerID")
    if not container:
        return ""
    try:
        # The container's own log: that of a service can hang for minutes when it is busy.
        text = _FRAME.sub(b"", engine.text(f"/containers/{container}/logs", stdout=1, stderr=1, tail=_LINES)).decode("utf-8", "replace")
        health = (engine.get(f"/containers/{container}/json").get("State") or {}).get("Health") or {}
    except ResourceError:
        return ""
    probes = health.get("Log") or []
    lines = text.splitlines() + ([f"(health check) {line}" for line in str(probes[-1].get("Output", "")).splitlines()] if probes else [])
    return "\n".join(f"  {_CONTROL.sub(' ', line)[:_WIDTH]}" for line in lines[-2 * _LINES :])


def hider(values: Mapping[str, bytes]) -> Callable[[str], str]:
    """A function that replaces values of secrets in a text."""
    texts = sorted({value.decode("utf-8", "replace").strip() for value in values.values()} - {""}, key=len, reverse=True)

    def hide(text: str) -> str:
        for value in texts:
            text = text.replace(value, "********")
        return text

    return hide
