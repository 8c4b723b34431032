# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the libvirt modules go through a plan: ask, refuse or apply, verify, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import (
    Backup,
    Define,
    Destroy,
    Operation,
    Plan,
    Start,
    Step,
    shell,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import LibvirtUnavailableError, connection, keep_definition


@dataclass
class Kind:
    """What differs between the modules.

    word:   for messages, such as network
    virsh:  the prefix of virsh's commands, such as net
    plan:   the plan for a connection; for None, a host without libvirt
    apply:  one operation
    remains: what a step that has been done still leaves to do; empty when it holds
    """

    word: str
    virsh: str
    plan: Callable[[Optional[Any]], Plan]
    apply: Callable[[Any, Operation], None]
    remains: Callable[[Any, Step], list[str]]
    backups: list[str] = field(default_factory=list)


def open_connection(module: Any, stack: ExitStack) -> Optional[Any]:
    """A connection that ``stack`` closes. None in check mode on a host that has no libvirt yet, with a warning."""
    try:
        return stack.enter_context(connection(module.params["uri"]))
    except LibvirtUnavailableError as error:
        if not module.check_mode:
            raise
        module.warn(f"{error}. Planned as if the host had nothing yet.")
        return None


def reconcile(module: Any, kind: Kind) -> dict[str, Any]:
    """The result of state merged, overridden or deleted."""
    params = module.params
    with ExitStack() as stack:
        conn = open_connection(module, stack)
        plan = kind.plan(conn)
        after = plan.after
        if plan.disruptive and not params["allow_disruption"]:
            _refuse(module, kind, plan)
        if not module.check_mode and plan.operations:
            _apply(conn, kind, plan, params["backup_dir"])
            # Read back. What only this run had to do with, a network of somebody else that it retired, is no longer listed there.
            retired = [step.after for step in plan.steps if step.wanted is None and step.operations and step.after is not None]
            after = sorted([*kind.plan(conn).before, *retired], key=lambda row: str(row["name"]))
    commands = [shell(operation, params["uri"], kind.virsh, params["backup_dir"]) for operation in plan.operations]
    answer = result(plan.before, after, commands, diff=module._diff, header=f"{kind.word}s of {params['uri']}")
    return {**answer, "disruptive": plan.disruptive, "backups": kind.backups}


def _refuse(module: Any, kind: Kind, plan: Plan) -> None:
    reasons = "; ".join(f"{kind.word} {entry['name']}: {entry['reason']}" for entry in plan.disruptive)
    message = f"this would interrupt what is in use: {reasons}"
    if not module.check_mode:
        raise ResourceError(f"{message}. Nothing was changed. Set allow_disruption: true when that is acceptable.", disruptive=plan.disruptive)
    module.warn(f"{message}. The real run refuses it as long as allow_disruption is not true.")


def _apply(conn: Any, kind: Kind, plan: Plan, backup_dir: str) -> None:
    steps = [step for step in plan.steps if step.operations]
    for position, step in enumerate(steps):
        done: list[Operation] = []
        try:
            for operation in step.operations:
                if isinstance(operation, Backup):
                    kind.backups.append(keep_definition(operation, backup_dir))
                else:
                    kind.apply(conn, operation)
                done.append(operation)
            remains = kind.remains(conn, step)
            if remains:
                raise ResourceError(f"libvirt accepted everything, but reading back shows: {'; '.join(remains)}")
        except ResourceError as error:
            failed = "" if len(done) == len(step.operations) else f" at {type(step.operations[len(done)]).__name__.lower()}"
            rest = ", ".join(later.name for later in steps[position + 1 :]) or "none"
            finished = ", ".join(earlier.name for earlier in steps[:position]) or "none"
            raise ResourceError(
                f"{kind.word} {step.name} ({position + 1} of {len(steps)}){failed}: {error}.{_put_back(conn, kind, step, done)} "
                f"Done before it: {finished}. Not begun: {rest}. Repair the cause and run again.",
                backups=kind.backups,
            ) from None


def _put_back(conn: Any, kind: Kind, step: Step, done: list[Operation]) -> str:
    """Brings back what ran before, when a restart failed halfway; says so."""
    old = next((operation for operation in done if isinstance(operation, Backup)), None)
    stopped = any(isinstance(operation, Destroy) for operation in done)
    starts = any(isinstance(operation, Start) for operation in step.operations)
    if old is None or not stopped or not starts or any(isinstance(operation, Start) for operation in done):
        return ""
    try:
        kind.apply(conn, Define(step.name, old.xml))
        kind.apply(conn, Start(step.name))
    except ResourceError as error:
        return f" The old definition could not be started again either ({error}); it is kept in {kind.backups[-1]}."
    return " The old definition was put back and started."
