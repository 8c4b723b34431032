# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the libvirt modules go through a plan: ask, refuse or apply, verify, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import (
    Attach,
    Backup,
    Define,
    Destroy,
    Operation,
    Plan,
    Start,
    Step,
    shell,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import (
    LibvirtMissingError,
    LibvirtUnavailableError,
    attach,
    connection,
    keep_definition,
)

# Of the modules' argument_spec, what the documentation fragment libvirt describes, and the states.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "default": "merged", "choices": ["merged", "overridden", "deleted", "gathered", "rendered"]},
    "uri": {"type": "str", "default": "qemu:///system"},
    "allow_disruption": {"type": "bool", "default": False},
    "backup_dir": {"type": "path", "default": "/var/lib/hybridlab/rollback"},
}


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
    """A connection that ``stack`` closes. None, with a warning, on a host that has no libvirt yet, in check mode or when things are to be removed.

    A real removal takes only libvirt that is not installed for nothing to remove: a daemon that doesn't answer may have networks.
    """
    try:
        return stack.enter_context(connection(module.params["uri"]))
    except LibvirtUnavailableError as error:
        nothing_to_remove = module.params["state"] == "deleted" and isinstance(error, LibvirtMissingError)
        if not module.check_mode and not nothing_to_remove:
            raise
        taken_for = "There is nothing to remove without it" if nothing_to_remove else "Planned as if the host had nothing yet"
        module.warn(f"{error}. {taken_for}.")
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
            _apply(module, conn, kind, plan)
            # Read back. What only this run had to do with, a network of somebody else that it retired, is no longer listed there.
            retired = [step.after for step in plan.steps if step.wanted is None and step.operations and step.after is not None]
            after = sorted([*kind.plan(conn).before, *retired], key=lambda row: str(row["name"]))
    answer = result(plan.before, after, _commands(module, kind.virsh, plan), diff=module._diff, header=f"{kind.word}s of {params['uri']}")
    return {**answer, "disruptive": plan.disruptive, "backups": kind.backups}


def rendered(module: Any, virsh: str, plan: Plan) -> dict[str, Any]:
    """The result of state rendered for a plan of an empty host. ``virsh`` as in Kind."""
    definitions = [{"name": operation.name, "xml": operation.xml} for operation in plan.operations if isinstance(operation, Define)]
    return {"changed": False, "rendered": definitions, "commands": _commands(module, virsh, plan)}


def _commands(module: Any, virsh: str, plan: Plan) -> list[str]:
    return [shell(operation, module.params["uri"], virsh, module.params["backup_dir"]) for operation in plan.operations]


def _refuse(module: Any, kind: Kind, plan: Plan) -> None:
    reasons = "; ".join(f"{kind.word} {entry['name']}: {entry['reason']}" for entry in plan.disruptive)
    message = f"this would interrupt what is in use: {reasons}"
    if not module.check_mode:
        raise ResourceError(f"{message}. Nothing was changed. Set allow_disruption: true when that is acceptable.", disruptive=plan.disruptive)
    module.warn(f"{message}. The real run refuses it as long as allow_disruption is not true.")


def _apply(module: Any, conn: Any, kind: Kind, plan: Plan) -> None:
    steps = [step for step in plan.steps if step.operations]
    for position, step in enumerate(steps):
        done: list[Operation] = []
        try:
            for operation in step.operations:
                if isinstance(operation, Backup):
                    kind.backups.append(keep_definition(operation, module.params["backup_dir"]))
                elif isinstance(operation, Attach):
                    _attach(module, conn, operation)
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
                f"{kind.word} {step.name} ({position + 1} of {len(steps)}){failed}: {error}.{_put_back(module, conn, kind, step, done)} "
                f"Done before it: {finished}. Not begun: {rest}. Repair the cause and run again.",
                backups=kind.backups,
            ) from None


def _attach(module: Any, conn: Any, operation: Attach) -> None:
    # A warning, because the other guests are to be served too, and the network itself is as declared.
    try:
        attach(conn, operation)
    except ResourceError as error:
        module.warn(f"{error}.")


def _put_back(module: Any, conn: Any, kind: Kind, step: Step, done: list[Operation]) -> str:
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
    for operation in step.operations:
        if isinstance(operation, Attach) and step.before is not None:
            _attach(module, conn, replace(operation, bridge=step.before["bridge"], mtu=None))
    return " The old definition was put back and started."
