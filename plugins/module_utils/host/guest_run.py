# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How libvirt_guests goes through its plan: one guest after the other, then one wait for all that came up."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_xml import console_log
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import Wanted
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import GrowVolume, GuestOperation, MakeVolume, RemoveFiles, WriteSeed
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_plan import GuestPlan, GuestStep
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Backup, Define
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guests import apply, refresh_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import keep_definition
from ansible_collections.hybridlab.platform.plugins.module_utils.host.waits import Wait, WaitFailed, wait_for_all

# Where nobody said how long a moved interface may take to get its new address, in seconds.
_MOVE_LIMIT_S = 120
# For a guest that ran before: it has long reached what it is to reach, or never will.
_RECHECK_LIMIT_S = 20


@dataclass
class Run:
    """directories: of the pools, by name; backups: guest -> file that keeps its old definition; reached: guest -> how its wait ended, in words."""

    conn: Any
    directories: Mapping[str, str]
    backup_dir: str
    warn: Callable[[str], None]
    backups: dict[str, str] = field(default_factory=dict)
    reached: dict[str, str] = field(default_factory=dict)

    def go(self, plan: GuestPlan) -> None:
        """Does every step, then waits. ResourceError says how far it came."""
        steps = [step for step in plan.steps if step.operations]
        waits: list[Wait] = []
        for position, step in enumerate(steps):
            began = time.time()
            self._step(steps, position)
            if step.wanted is not None and step.moved:
                # One at a time: the next guest is not touched before this one answers in its new place.
                self._wait([_wait(step.wanted, "address", began, _MOVE_LIMIT_S)])
            if step.wanted is not None and step.starts and step.wanted.wait is not None:
                waits.append(_wait(step.wanted, step.wanted.wait, began, step.wanted.wait_seconds))
        refresh_pools(self.conn, self._pools(plan), self.warn)
        # The others too: the run that started one may have failed, or been killed, in its wait.
        waits += [_wait(guest, guest.wait, 0.0, min(guest.wait_seconds, _RECHECK_LIMIT_S)) for guest in _up_already(plan) if guest.wait is not None]
        # The limit of each begins here, when all are up: eight guests that boot at once are as slow as the slowest.
        self._wait(waits)

    def _pools(self, plan: GuestPlan) -> list[str]:
        """Those in which files came, went or grew."""
        paths = [path for operation in plan.operations if isinstance(operation, (MakeVolume, GrowVolume, WriteSeed)) for path in [operation.path]]
        paths += [path for operation in plan.operations if isinstance(operation, RemoveFiles) for path in operation.paths]
        touched = {posixpath.dirname(path) for path in paths}
        return sorted(name for name, directory in self.directories.items() if directory in touched)

    def _step(self, steps: Sequence[GuestStep], position: int) -> None:
        step = steps[position]
        done: list[GuestOperation] = []
        try:
            for operation in step.operations:
                if isinstance(operation, Backup):
                    self.backups[step.name] = keep_definition(operation, self.backup_dir)
                else:
                    apply(self.conn, operation, self.warn)
                done.append(operation)
        except ResourceError as error:
            finished = ", ".join(earlier.name for earlier in steps[:position]) or "none"
            rest = ", ".join(later.name for later in steps[position + 1 :]) or "none"
            kept = f" Its old definition is kept in {self.backups[step.name]}." if step.name in self.backups else self._undo(step, done)
            raise ResourceError(
                f"guest {step.name} ({position + 1} of {len(steps)}) at {words(step.operations[len(done)])}: {error}.{kept} "
                f"Done before it: {finished}. Not begun: {rest}. Repair the cause and run again.",
                backups=sorted(self.backups.values()),
            ) from None

    def _undo(self, step: GuestStep, done: Sequence[GuestOperation]) -> str:
        """Removes the files of a new guest that nothing defines: else nobody would know any more whose they are."""
        files = [operation.path for operation in done if isinstance(operation, (MakeVolume, WriteSeed))]
        if step.before is not None or not files or any(isinstance(operation, Define) for operation in done):
            return ""
        try:
            apply(self.conn, RemoveFiles(tuple(files)), self.warn)
        except ResourceError as error:
            return f" Its new files stay: {error}."
        return " Its new files were removed again."

    def _wait(self, waits: Sequence[Wait]) -> None:
        if not waits:
            return
        outcomes = wait_for_all(self.conn, waits)
        failed = [str(outcome) for outcome in outcomes.values() if isinstance(outcome, WaitFailed)]
        for wait in waits:
            outcome = outcomes[wait.name]
            if isinstance(outcome, WaitFailed):
                continue
            self.reached[wait.name] = outcome.detail
            if wait.address is not None and outcome.address not in (None, wait.address):
                self.warn(
                    f"guest {wait.name}: it has the address {outcome.address} and not {wait.address}. "
                    f"Reserve that for {wait.mac} in network {wait.network}; the guest takes it at its next boot"
                )
        if failed:
            others = ", ".join(sorted(self.reached)) or "none"
            raise ResourceError(
                "\n".join([*failed, f"Their definitions are as declared, and they run on. Reached by: {others}."]), backups=sorted(self.backups.values())
            )


def _up_already(plan: GuestPlan) -> list[Wanted]:
    return [step.wanted for step in plan.steps if step.wanted is not None and step.wanted.power == "running" and not step.starts]


def _wait(guest: Wanted, goal: str, since: float, seconds: int) -> Wait:
    nic = guest.domain.nics[0] if guest.domain.nics else None
    record = guest.domain.record
    return Wait(
        guest.name,
        goal,
        seconds,
        network=None if nic is None else nic.segment,
        mac=None if nic is None else nic.mac,
        address=None if nic is None or nic.address is None else str(nic.address),
        port=(record.ssh_port if record is not None else None) or 22,
        console_log=console_log(guest.name) if guest.domain.console else None,
        since=since,
    )


def words(operation: GuestOperation) -> str:
    """The class name, spaced: MakeVolume becomes ``make volume``."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(operation).__name__).strip()
