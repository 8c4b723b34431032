# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a plan: what comes, the wait until it runs, and then what goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.rollout import Goal, needs_wait, resumed
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import Declared
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_plan import CREATE, NETWORK, REMOVE, SERVICE, UPDATE, Found, Plan, Step
from ansible_collections.hybridlab.platform.plugins.module_utils.host.engine_api import Engine
from ansible_collections.hybridlab.platform.plugins.module_utils.host.swarm import Applier
from ansible_collections.hybridlab.platform.plugins.module_utils.host.swarm_wait import failed_before, hider, wait_for, wait_gone, wait_networks_gone

# Beyond a task's own time to end, which is a setting of its workload.
_GONE_SECONDS = 30
_STOP_SECONDS = 10  # the engine's, where a service sets none
_SECOND = 1_000_000_000


def run(engine: Engine, declared: Declared, found: Found, planned: Plan, values: Mapping[str, bytes], waits: bool = True) -> list[str]:
    """Do the plan. The failures of rollouts, in words for a person; where there is one, nothing that the old version needs is removed."""
    applier = Applier(engine, declared, found)
    coming, going = _split(planned, found)
    # An update that is still going on, or tasks that never came to run: an earlier run was killed, or it failed.
    goals = [resumed(name, found.services[name], declared.deadlines[name]) for name in unsettled(declared, found, planned)] if waits else []
    for step in coming:
        goal: Optional[Goal] = _update_goal(engine, step, planned) if (step.verb, step.kind) == (UPDATE, SERVICE) else None
        applier.apply(step)
        if (step.verb, step.kind) == (CREATE, SERVICE):
            goal = Goal(step.name, applier.ids[SERVICE][step.name], step.deadline, created=True)
        goals += [goal] if goal is not None else []
    failures = wait_for(engine, goals, hider(values))
    if failures:
        return failures
    removed = [step.name for step in going if step.kind == SERVICE]
    for step in going:
        if step.kind != SERVICE and removed:
            wait_gone(engine, removed, _stop_seconds(found, removed) + _GONE_SECONDS)
            removed = []
        applier.apply(step)
    wait_networks_gone(engine, [step.name for step in going if step.kind == NETWORK], _GONE_SECONDS)
    return []


def unsettled(declared: Declared, found: Found, planned: Plan) -> list[str]:
    """Names of services that are as declared, and have yet to come to run."""
    changed = {step.name for step in planned.steps if step.kind == SERVICE}
    return [name for name in declared.services if name in found.services and name not in changed and needs_wait(found.services[name])]


def _split(planned: Plan, found: Found) -> tuple[list[Step], list[Step]]:
    """(what comes, what goes when all that comes does run). A service that holds a port which another one gets goes first."""
    specs = {step.name: step.spec for step in planned.steps if step.kind == SERVICE and step.spec is not None}
    wanted = {port for spec in specs.values() for port in _ports(spec)}
    first, coming, going = [], [], []
    for step in planned.steps:
        if step.verb != REMOVE or (step.kind == SERVICE and step.name in specs):
            coming.append(step)
        elif step.kind == SERVICE and wanted & _ports(found.services[step.name]["Spec"]):
            first.append(step)
        else:
            going.append(step)
    return [*first, *coming], going


def _ports(spec: Mapping[str, Any]) -> set[tuple[str, int]]:
    """(protocol, number) of what a service takes on its node."""
    ports: Sequence[Mapping[str, Any]] = (spec.get("EndpointSpec") or {}).get("Ports") or ()
    return {(str(port.get("Protocol") or "tcp"), int(port.get("PublishedPort") or 0)) for port in ports}


def _update_goal(engine: Engine, step: Step, planned: Plan) -> Goal:
    """Taken before the update, so that what failed earlier is not held against it."""
    identity = str(step.id)
    return Goal(step.name, identity, step.deadline, restarts=step.name in planned.restarts, earlier=failed_before(engine, identity))


def _stop_seconds(found: Found, names: Sequence[str]) -> float:
    """The longest time that a task of these services may take to end."""
    containers = [found.services[name]["Spec"]["TaskTemplate"].get("ContainerSpec") or {} for name in names]
    return max(float(container.get("StopGracePeriod") or _STOP_SECONDS * _SECOND) / _SECOND for container in containers)
