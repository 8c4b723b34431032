# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order a guest is changed, so that a run that is killed anywhere can be run again and ends in the same place. No I/O.

The next run learns from the kept definition what was asked for last, so that is changed when the rest is done: what a killed run left out
is found again, and no file is left that nothing names.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import ObservedDomain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import GuestOperation, Resume, SetMark, ShutDown, Suspend
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Start


@dataclass(frozen=True)
class Changes:
    """What is to be done to a guest that exists, not in order yet.

    restart:    whether it must be off in between
    live:       done to it while it runs; only where it need not be restarted
    growth:     of its volumes, done while it is off
    unused:     files that go, once nobody has them open
    definition: its new definition, its autostart
    seconds:    how long it may take to go before it is switched off
    """

    restart: bool
    live: tuple[GuestOperation, ...]
    growth: tuple[GuestOperation, ...]
    unused: tuple[GuestOperation, ...]
    definition: tuple[GuestOperation, ...]
    seconds: int


def arrange(found: ObservedDomain, power: str, changes: Changes) -> tuple[list[GuestOperation], bool]:
    """The operations in order, and whether the guest comes up by them. power: the wanted one, of domain.POWER."""
    running = power == "running"
    suspend: list[GuestOperation] = [Suspend(found.name)] if power == "suspended" else []
    if found.live is None:
        start = [] if power == "stopped" else [Start(found.name), *suspend]
        return [*changes.growth, *changes.unused, *changes.definition, *start], running
    resume: list[GuestOperation] = [Resume(found.name)] if found.power in ("suspended", "pmsuspended") else []
    stop = [*resume, ShutDown(found.name, changes.seconds)]
    if power == "stopped":
        return [*stop, *changes.growth, *changes.unused, *changes.definition], False
    if changes.restart:
        start = [Start(found.name), *suspend]
        if changes.unused:
            return [*stop, *changes.growth, *changes.unused, *changes.definition, *start], running
        # What libvirt does not accept is refused while the guest still runs.
        return [*changes.definition, *stop, *changes.growth, *start], running
    # One that stands still lets go of no device, and its agent is silent.
    wake = resume if running or any(not isinstance(operation, SetMark) for operation in changes.live) else []
    stands = bool(resume) and not wake
    return [*wake, *changes.live, *changes.unused, *changes.definition, *([] if stands else suspend)], False
