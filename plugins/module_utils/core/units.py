# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planner for systemd units: what is, what shall be, and the steps between. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import here_document, shell_line

UNIT_DIR = "/etc/systemd/system"

# What ``systemctl show`` is asked for.
PROPERTIES = ("LoadState", "UnitFileState", "ActiveState", "NeedDaemonReload", "ActiveEnterTimestamp", "StateChangeTimestamp")

_ENABLED = frozenset({"enabled", "enabled-runtime"})
# UnitFileState values of units that other units pull in; they have no [Install] section to act on.
_NOT_FOR_ENABLING = frozenset({"alias", "static", "indirect", "generated"})
_RUNNING = frozenset({"active", "activating", "reloading"})


@dataclass(frozen=True)
class Unit:
    """One unit as declared. ``None`` means: leave alone.

    content: text of the whole unit file, written to UNIT_DIR
    dropins: file name -> text, written to UNIT_DIR/<name>.d
    watch:   paths of files that others write and the unit reads, such as its configuration
    changed: whether one of these was changed in this very run, which check mode cannot see by itself
    on_change: what a running unit gets when one of all these files changed: restart, reload or none
    """

    name: str
    content: Optional[str] = None
    dropins: Mapping[str, str] = field(default_factory=dict)
    enabled: Optional[bool] = None
    running: Optional[bool] = None
    masked: Optional[bool] = None
    watch: tuple[str, ...] = ()
    on_change: str = "restart"
    changed: bool = False

    def files(self) -> dict[str, str]:
        """Path -> text of all files that this unit declares."""
        found = {f"{UNIT_DIR}/{self.name}.d/{name}": text for name, text in self.dropins.items()}
        if self.content is not None:
            found[f"{UNIT_DIR}/{self.name}"] = self.content
        return found


@dataclass(frozen=True)
class UnitState:
    """One unit as found: ``systemctl show`` and the texts of the files that the declaration names.

    enabled: None when the unit has nothing to enable
    stale:   a file was written, but systemd has not read it, or the process was not restarted or reloaded since
    """

    exists: bool
    enabled: Optional[bool] = False
    running: bool = False
    masked: bool = False
    needs_daemon_reload: bool = False
    stale: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], files: Mapping[str, str], written: float = 0.0, on_change: str = "restart") -> UnitState:
        """From the PROPERTIES as ``systemctl show --timestamp=unix`` prints them.

        files:   path -> text of the declared files that exist
        written: when the newest of these and of the watched files was written, seconds since the epoch
        on_change: as declared; a reload shows only as a change of state, a restart as a new activation
        """
        load = properties.get("LoadState", "not-found")
        file_state = properties.get("UnitFileState", "")
        needs_reload = properties.get("NeedDaemonReload", "no") == "yes"
        since = properties.get("StateChangeTimestamp" if on_change == "reload" else "ActiveEnterTimestamp", "").lstrip("@")
        return cls(
            exists=load not in ("not-found", ""),
            enabled=None if file_state in _NOT_FOR_ENABLING else file_state in _ENABLED,
            running=properties.get("ActiveState", "") in _RUNNING,
            masked=load == "masked",
            needs_daemon_reload=needs_reload,
            # The timestamp has whole seconds: a start in the second of the write counts as after it.
            stale=needs_reload or (since.isdigit() and int(written) > int(since)),
            files=dict(files),
        )


@dataclass(frozen=True)
class Step:
    """One action: ``write`` or ``remove`` a file, or a ``systemctl`` verb on a unit."""

    verb: str
    unit: str
    path: str = ""
    text: str = ""

    def command(self) -> str:
        """The shell line that does the same by hand."""
        if self.verb == "write":
            folder = shell_line(["mkdir", "-p", self.path.rsplit("/", 1)[0]])
            return f"{folder} && {here_document(['tee', self.path], self.text)}"
        if self.verb == "remove":
            return shell_line(["rm", "-f", self.path])
        if self.verb == "daemon-reload":
            return "systemctl daemon-reload"
        return shell_line(["systemctl", self.verb, self.unit])


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...]
    after: dict[str, UnitState]

    @property
    def commands(self) -> list[str]:
        return [step.command() for step in self.steps]


class UnknownUnit(LookupError):
    """A declared unit does not exist on the host and the declaration does not bring its content."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(
            f"config: no such unit on this host: {', '.join(names)}. "
            "Install the package that brings it before this task, correct the name, or give its `content`"
        )


def plan_units(wanted: Sequence[Unit], found: Mapping[str, UnitState]) -> Plan:
    """Steps that bring ``found`` to ``wanted``: all files first, one daemon-reload, then each unit in the declared order.

    Raises UnknownUnit before any step when a unit neither exists nor is brought along.
    """
    missing = [unit.name for unit in wanted if unit.content is None and not found[unit.name].exists]
    if missing:
        raise UnknownUnit(missing)
    writes: list[Step] = []
    rewritten: set[str] = set()
    for unit in wanted:
        for path, text in sorted(unit.files().items()):
            if found[unit.name].files.get(path) != text:
                writes.append(Step("write", unit.name, path, text))
                rewritten.add(unit.name)
    steps = list(writes)
    if writes or any(found[unit.name].needs_daemon_reload for unit in wanted):
        steps.append(Step("daemon-reload", ""))
    after: dict[str, UnitState] = {}
    for unit in wanted:
        state = found[unit.name]
        steps += _unit_steps(unit, state, unit.name in rewritten)
        after[unit.name] = replace(
            state,
            exists=True,
            enabled=None if state.enabled is None else _settled(unit.enabled, state.enabled),
            running=_settled(unit.running, state.running),
            masked=_settled(unit.masked, state.masked),
            needs_daemon_reload=False,
            stale=False,
            files={**state.files, **unit.files()},
        )
    return Plan(tuple(steps), after)


def plan_removal(wanted: Sequence[Unit], found: Mapping[str, UnitState]) -> Plan:
    """Steps that take back what a declaration brought: units of ours are stopped, disabled and deleted, drop-ins removed.

    Units that a package brought keep running; only our drop-ins leave them.
    """
    steps: list[Step] = []
    after: dict[str, UnitState] = {}
    removed = False
    for unit in wanted:
        state = found[unit.name]
        if unit.content is not None and state.exists:
            if state.running:
                steps.append(Step("stop", unit.name))
            if state.enabled:
                steps.append(Step("disable", unit.name))
        for path in sorted(unit.files()):
            if path in state.files:
                steps.append(Step("remove", unit.name, path))
                removed = True
        gone = unit.content is not None
        after[unit.name] = UnitState(exists=False) if gone else replace(state, files={})
    if removed:
        steps.append(Step("daemon-reload", ""))
    return Plan(tuple(steps), after)


def describe(units: Sequence[Unit], states: Mapping[str, UnitState]) -> list[dict[str, Any]]:
    """States as plain data for before/after; only what the declaration manages is listed."""
    rows = []
    for unit in units:
        state = states[unit.name]
        row: dict[str, Any] = {"name": unit.name}
        for key, declared in (("enabled", unit.enabled), ("running", unit.running), ("masked", unit.masked)):
            if declared is not None:
                row[key] = getattr(state, key)
        for path in sorted(unit.files()):
            row.setdefault("files", {})[path] = state.files.get(path)
        rows.append(row)
    return rows


def _settled(declared: Optional[bool], current: bool) -> bool:
    return current if declared is None else declared


def _unit_steps(unit: Unit, state: UnitState, rewritten: bool) -> list[Step]:
    verbs: list[str] = []
    if unit.masked is False and state.masked:
        verbs.append("unmask")
    if None not in (unit.enabled, state.enabled) and unit.enabled != state.enabled:
        verbs.append("enable" if unit.enabled else "disable")
    if unit.running is not None and unit.running != state.running:
        verbs.append("start" if unit.running else "stop")
    elif state.running and unit.on_change != "none" and (rewritten or state.stale or unit.changed):
        verbs.append(unit.on_change)
    if unit.masked and not state.masked:
        verbs.append("mask")
    return [Step(verb, unit.name) for verb in verbs]
