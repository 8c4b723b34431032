# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges how far the rollout of a Swarm service has come. No I/O.

A task that has a health check counts as running when the check has passed for the first time (Docker's own rule), so a service whose tasks
all run answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

RUNNING = "running"
# States of a task that ended against the wish of its service (swarmkit: api/types.proto, TaskState).
_FAILED = ("failed", "rejected", "orphaned")
# States on the way to running.
_COMING = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting")
# A task that the engine rejects (no such image, no such directory) is rejected again; a program that ends may only have to wait for another.
_REJECTIONS = 3
# Seconds in which the engine begins an update that replaces tasks; one that replaces none has no state.
BEGIN_SECONDS = 5

_BACK, _GOING_BACK, _PAUSED = "rollback_completed", "rollback_started", ("paused", "rollback_paused")
_ENDED = (None, "completed", _BACK)


@dataclass(frozen=True)
class Goal:
    """What is waited for.

    name:     of the service; id: the engine's
    changed:  whether this run has changed it, so that an earlier update's end says nothing
    restarts: whether its tasks are replaced
    deadline: seconds from the beginning of the wait
    created:  whether this run has made it, so that there is nothing to go back to
    earlier:  ids of tasks that had failed before this run changed something
    """

    name: str
    id: str
    deadline: int
    changed: bool = True
    restarts: bool = True
    created: bool = False
    earlier: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """done, failed (with why), or neither of both: go on waiting. task: the one that tells most about a failure."""

    done: bool = False
    failed: bool = False
    why: str = ""
    task: Optional[Mapping[str, Any]] = None


def needs_wait(service: Mapping[str, Any]) -> bool:
    """Whether a service that is as declared has yet to come to its end: by an update that was paused or still goes on, or because tasks do not run.

    service: of GET /services?status=true
    """
    status = service.get("ServiceStatus") or {}
    return _state(service) not in _ENDED or status.get("RunningTasks", 0) < status.get("DesiredTasks", 0)


def resumed(name: str, service: Mapping[str, Any], deadline: int) -> Goal:
    """For a service that is as declared and has yet to come to its end. An update that an earlier run began may still be taken back."""
    return Goal(name, str(service["ID"]), deadline, changed=_state(service) == "updating", restarts=False)


def judge(goal: Goal, service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], seconds: float) -> Verdict:
    """service: of GET /services/ID; tasks: of GET /tasks for it, and telling ones that are gone since; seconds: since the change."""
    state = _state(service)
    worst = _worst(goal, tasks)
    if goal.changed and state in (_BACK, _GOING_BACK):
        # On its way back already: the end of that is waited for, so that nothing moves any more when the error is read.
        if state == _GOING_BACK and seconds < goal.deadline:
            return Verdict()
        return Verdict(failed=True, why="the new version failed, and the engine went back to the old one", task=worst)
    if state in _PAUSED:
        return Verdict(
            failed=True,
            why=f"the update failed and stands still, with a part of the tasks replaced (try again: docker service update --force {goal.name})",
            task=worst,
        )
    if _runs(goal, service, tasks, state, seconds):
        return Verdict(done=True)
    rejected = [task for task in tasks if task["ID"] not in goal.earlier and _task_state(task) == "rejected"]
    if state != "updating" and len(rejected) >= _REJECTIONS:
        return Verdict(failed=True, why="the engine rejects its tasks", task=worst)
    if seconds >= goal.deadline:
        running, wanted = len(running_tasks(tasks)), _replicas(service)
        return Verdict(failed=True, why=f"after {goal.deadline} s (update.deadline_seconds) {running} of {wanted} tasks run", task=worst)
    return Verdict()


def _runs(goal: Goal, service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], state: Optional[str], seconds: float) -> bool:
    if state not in _ENDED or len(running_tasks(tasks)) < _replicas(service):
        return False
    begins = goal.changed and goal.restarts and not goal.created
    return not (begins and state is None and seconds < BEGIN_SECONDS)


def failed_tasks(tasks: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Their ids, for Goal.earlier."""
    return frozenset(str(task["ID"]) for task in tasks if _task_state(task) in _FAILED)


def telling(goal: Goal, tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Tasks that may be the reason of a failure. The engine forgets those of an update that it takes back, so they are remembered while one waits."""
    return [task for task in tasks if task["ID"] not in goal.earlier and _task_state(task) in (*_FAILED, *_COMING)]


def explain(goal: Goal, verdict: Verdict, output: str) -> str:
    """One failure for a person. output: the last lines of the task, and of its health check."""
    said = f"{goal.name}: {verdict.why}."
    if verdict.task is not None:
        error = str((verdict.task.get("Status") or {}).get("Err") or "").strip()
        said += f" Task {str(verdict.task['ID'])[:12]} was last seen {_task_state(verdict.task)}{f': {error}' if error else ''}."
    if output:
        said += f" Its last lines:\n{output}\n"
    return f"{said}{'' if output else ' '}See: docker service ps --no-trunc {goal.name}"


def _worst(goal: Goal, tasks: Sequence[Mapping[str, Any]]) -> Optional[Mapping[str, Any]]:
    """The newest task that failed in this run; else the first that did not come to run: later ones may be those of the way back."""
    ordered = sorted(tasks, key=lambda task: str(task.get("CreatedAt", "")))
    failed = [task for task in reversed(ordered) if _task_state(task) in _FAILED]
    fresh = [task for task in failed if task["ID"] not in goal.earlier]
    coming = [task for task in ordered if _task_state(task) in _COMING]
    # A fault of before is still the reason where nothing new has happened yet.
    return next(iter([*fresh, *coming, *failed]), None)


def running_tasks(tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that run and are to go on."""
    return [task for task in tasks if task.get("DesiredState") == RUNNING and _task_state(task) == RUNNING]


def _replicas(service: Mapping[str, Any]) -> int:
    return int(((service["Spec"].get("Mode") or {}).get("Replicated") or {}).get("Replicas") or 0)


def _task_state(task: Mapping[str, Any]) -> str:
    return str((task.get("Status") or {}).get("State") or "")


def _state(service: Mapping[str, Any]) -> Optional[str]:
    return (service.get("UpdateStatus") or {}).get("State") or None
