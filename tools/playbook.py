# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ``ansible-playbook`` from the checkout and reads what each task returned."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class TaskResult:
    """One task on one host, as the JSON callback reports it."""

    name: str
    host: str
    result: Mapping[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    seconds:     wall time of the whole process
    cpu_seconds: processor time, user and system, of the process and its children on the controller; the host's own is not in it
    tasks:       results in the order of the run; empty unless the run was asked for JSON
    """

    rc: int
    seconds: float
    cpu_seconds: float
    output: str
    tasks: tuple[TaskResult, ...] = ()
    stats: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Number of changed tasks over all hosts."""
        return sum(host["changed"] for host in self.stats.values())

    def task(self, name: str) -> TaskResult:
        """The last result of the task of that name, in whatever role; KeyError when it did not run."""
        for task in reversed(self.tasks):
            if task.name.rpartition(" : ")[2] == name:
                return task
        raise KeyError(f"no task {name!r} in this run:\n{self.output[-4000:]}")

    def failures(self) -> str:
        """The messages of failed tasks, for a person."""
        return "\n".join(f"{task.name}: {task.result.get('msg')}" for task in self.tasks if task.result.get("failed"))


def command(playbook: str, inventory: str, *arguments: str) -> list[str]:
    """The command line of a run from the checkout."""
    program = Path(sys.executable).parent / "ansible-playbook"
    return [str(program), playbook, "-i", inventory, *arguments]


def environment(sandbox: Optional[str] = None, as_json: bool = False) -> dict[str, str]:
    """The environment of a run; ``sandbox`` names the throw-away host that inventories/sandbox stands for."""
    values = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}
    if sandbox is not None:
        values["HYBRIDLAB_SANDBOX_NAME"] = sandbox
    if as_json:
        values["ANSIBLE_STDOUT_CALLBACK"] = "ansible.posix.json"
    return values


def run(playbook: str, inventory: str, *arguments: str, sandbox: Optional[str] = None) -> Outcome:
    """Run quietly and return every task's result. The run's own failure is in ``rc``, not an exception."""
    used = _children_cpu_seconds()
    started = time.monotonic()
    process = subprocess.run(
        command(playbook, inventory, *arguments),
        cwd=CHECKOUT,
        env=environment(sandbox, as_json=True),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    used = _children_cpu_seconds() - used
    report = _report(process.stdout)
    return Outcome(process.returncode, seconds, used, process.stdout + process.stderr, tuple(_tasks(report)), report.get("stats", {}))


def show(playbook: str, inventory: str, *arguments: str, sandbox: Optional[str] = None) -> int:
    """Run with its output on this terminal; returns the exit code."""
    return subprocess.run(command(playbook, inventory, *arguments), cwd=CHECKOUT, env=environment(sandbox), check=False).returncode


def _children_cpu_seconds() -> float:
    """User and system time of all ended children of this process, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _report(stdout: str) -> dict[str, Any]:
    """The JSON callback's document; warnings may stand before it."""
    start = stdout.find("{\n")
    if start < 0:
        return {}
    try:
        found = json.loads(stdout[start:])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _tasks(report: Mapping[str, Any]) -> Iterator[TaskResult]:
    for play in report.get("plays", []):
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                yield TaskResult(task["task"]["name"], host, result)
