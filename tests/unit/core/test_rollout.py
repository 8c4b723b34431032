# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a rollout has come, judged from what the engine answers."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.rollout import BEGIN_SECONDS, Goal, explain, failed_tasks, judge, needs_wait, resumed

GOAL = Goal("demo_web", "service1", 60)


def service(state: Optional[str] = None, replicas: int = 2, running: int = 2) -> dict[str, Any]:
    return {
        "ID": "service1",
        "Spec": {"Mode": {"Replicated": {"Replicas": replicas}}},
        "UpdateStatus": {"State": state} if state else None,
        "ServiceStatus": {"RunningTasks": running, "DesiredTasks": replicas},
    }


def task(number: int, state: str = "running", desired: str = "running", error: str = "") -> dict[str, Any]:
    return {"ID": f"task{number}", "CreatedAt": f"2026-01-01T00:00:0{number}Z", "DesiredState": desired, "Status": {"State": state, "Err": error}}


RUNNING = [task(1), task(2)]


@pytest.mark.parametrize(
    ("state", "tasks", "seconds", "done"),
    [
        ("completed", RUNNING, 1, True),
        ("completed", [task(1)], 1, False),
        ("updating", RUNNING, 1, False),
        (None, RUNNING, 1, False),  # the engine has not begun yet
        (None, RUNNING, BEGIN_SECONDS, True),  # and will not: no task has to be replaced
        ("completed", [task(1), task(2, "starting")], 1, False),
        ("completed", [task(1), task(2, "running", "shutdown")], 1, False),
    ],
)
def test_an_update_is_done_when_the_engine_says_so_and_all_tasks_run(state: Optional[str], tasks: list[dict[str, Any]], seconds: float, done: bool) -> None:
    verdict = judge(GOAL, service(state), tasks, seconds)
    assert (verdict.done, verdict.failed) == (done, False)


def test_a_new_service_is_done_as_soon_as_its_tasks_run() -> None:
    assert judge(Goal("demo_web", "service1", 60, created=True), service(), RUNNING, 0).done


def test_a_change_that_replaces_no_task_is_done_at_once() -> None:
    assert judge(Goal("demo_web", "service1", 60, restarts=False), service(), RUNNING, 0).done


def test_no_task_is_enough_for_a_service_of_none() -> None:
    assert judge(GOAL, service("completed", replicas=0), [], 0).done


def test_a_rollback_is_waited_for_and_is_a_failure() -> None:
    assert judge(GOAL, service("rollback_started"), RUNNING, 5) == judge(GOAL, service("updating"), RUNNING, 5)
    tasks = [*RUNNING, task(3, "failed", "shutdown", "task: non-zero exit (3)"), task(4, "complete", "shutdown")]
    verdict = judge(GOAL, service("rollback_completed"), tasks, 9)
    assert verdict.failed
    assert explain(GOAL, verdict, "  (health check) no answer") == (
        "demo_web: the new version failed, and the engine went back to the old one. Task task3 was last seen failed: task: non-zero exit (3). "
        "Its last lines:\n  (health check) no answer\nSee: docker service ps --no-trunc demo_web"
    )


def test_the_way_back_is_not_blamed() -> None:
    tasks = [*RUNNING, task(5, "starting"), task(3, "starting")]
    assert judge(GOAL, service("rollback_completed"), tasks, 9).task == task(3, "starting")


def test_a_rollback_that_hangs_ends_at_the_deadline() -> None:
    assert judge(GOAL, service("rollback_started"), RUNNING, 60).failed


@pytest.mark.parametrize("state", ["paused", "rollback_paused"])
def test_an_update_that_stands_still_is_a_failure_each_time_it_is_looked_at(state: str) -> None:
    found = service(state)
    assert needs_wait(found)
    verdict = judge(resumed("demo_web", found, 60), found, RUNNING, 0)
    assert verdict.failed
    assert "docker service update --force demo_web" in verdict.why


def test_tasks_that_the_engine_rejects_are_not_waited_for() -> None:
    tasks = [task(number, "rejected", "shutdown", "No such image: hybridlab/web:x") for number in range(3)]
    goal = Goal("demo_web", "service1", 60, created=True)
    assert not judge(goal, service(), tasks[:2], 10).failed
    verdict = judge(goal, service(), tasks, 10)
    assert verdict.failed
    assert "No such image" in explain(goal, verdict, "")


def test_faults_of_before_are_not_held_against_an_update() -> None:
    old = [task(number, "rejected", "shutdown", "No such image") for number in range(3)]
    goal = Goal("demo_web", "service1", 60, earlier=failed_tasks(old))
    assert not judge(goal, service(), [*old, task(4, "starting")], 10).failed


def test_tasks_that_do_not_come_to_run_are_a_failure_at_the_deadline() -> None:
    tasks = [task(1), task(2, "pending", error="no suitable node (insufficient resources on 1 node)")]
    assert not judge(GOAL, service("updating"), tasks, 59).failed
    verdict = judge(GOAL, service("updating"), tasks, 60)
    assert verdict.failed
    text = explain(GOAL, verdict, "")
    assert "after 60 s (update.deadline_seconds) 1 of 2 tasks run" in text
    assert "insufficient resources" in text


def test_a_service_that_runs_as_declared_needs_no_wait() -> None:
    assert not needs_wait(service())
    assert not needs_wait(service("completed"))
    # The model was taken back too, and the old version is what it declares.
    assert not needs_wait(service("rollback_completed"))
    assert needs_wait(service(running=1))


def test_an_update_that_an_earlier_run_began_can_still_fail() -> None:
    goal = resumed("demo_web", service("updating"), 60)
    assert judge(goal, service("rollback_completed"), RUNNING, 9).failed


def test_a_way_back_to_what_is_declared_is_no_failure() -> None:
    goal = resumed("demo_web", service("rollback_started"), 60)
    assert judge(goal, service("rollback_completed"), RUNNING, 9).done
