#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_units
short_description: Reconcile a list of systemd units with their files, enablement and state
version_added: 0.1.0
description:
  - Brings a list of units to a declared state in one process, with one C(daemon-reload) for all their files.
  - Unlike a task for each unit it has a diff, and in check mode it can plan units that a package not yet installed will bring.
author:
  - hybridlab.platform contributors (@hybridlab)
attributes:
  check_mode:
    description: Can run without changing anything.
    support: full
  diff_mode:
    description: Reports what changed, or would change.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  config:
    description: The units, in the order in which they are started.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name of the unit, with its suffix.
        type: str
        required: true
      content:
        description:
          - Text of the whole unit file, written to C(/etc/systemd/system).
          - Without it the unit must come from a package.
        type: str
      dropins:
        description: Drop-in files, written to C(/etc/systemd/system/<name>.d). File name to text.
        type: dict
      enabled:
        description: Whether the unit starts at boot. Left alone when not given.
        type: bool
      running:
        description: Whether the unit runs now. Left alone when not given.
        type: bool
      masked:
        description: Whether the unit is masked. Left alone when not given.
        type: bool
      watch:
        description:
          - Files that the unit reads and another task writes, such as its configuration.
          - A unit that runs since before the newest of them was written gets O(config[].on_change). A handler would be lost when a run is cut short.
        type: list
        elements: path
      changed:
        description:
          - Whether an earlier task of this run has changed one of O(config[].watch). The times of the files tell so too, but not in check mode.
        type: bool
        default: false
      on_change:
        description: What a running unit gets when one of its files or of O(config[].watch) has changed.
        type: str
        choices: [restart, reload, none]
        default: restart
  state:
    description:
      - V(merged) makes the units as declared.
      - >-
        V(deleted) takes back what the declaration brought: units with O(config[].content) are stopped, disabled and deleted,
        drop-ins are removed; a unit of a package keeps running.
      - V(gathered) only reports.
    type: str
    choices: [merged, deleted, gathered]
    default: merged
  absent_units:
    description:
      - What check mode assumes of a unit without O(config[].content) that does not exist yet, because its package would be installed by an earlier task.
      - Debian's packages enable and start their units (V(started)), those of the Red Hat family do not (V(stopped)).
      - In a real run such a unit is an error.
    type: str
    choices: [started, stopped]
    default: stopped
"""

EXAMPLES = r"""
- name: Daemons of the KVM host
  hybridlab.platform.systemd_units:
    config:
      - {name: virtlogd.socket, enabled: true, running: true}
      - name: libvirtd.service
        enabled: true
        running: true
        dropins:
          10-segments.conf: |
            [Unit]
            After=hybridlab-segments.service

- name: What runs
  hybridlab.platform.systemd_units:
    state: gathered
    config:
      - {name: libvirtd.service, enabled: true, running: true}
"""

RETURN = r"""
before:
  description: The managed properties of each unit as found; in check mode those of a unit whose package is not there yet are what O(absent_units) says.
  returned: always
  type: list
  elements: dict
  sample: [{name: libvirtd.service, enabled: true, running: false}]
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is not V(gathered)
  type: list
  elements: dict
  sample: [{name: libvirtd.service, enabled: true, running: true}]
commands:
  description: The shell lines that do the same by hand.
  returned: always
  type: list
  elements: str
  sample: [systemctl start libvirtd.service]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import result
from ansible_collections.hybridlab.platform.plugins.module_utils.core.units import (
    PROPERTIES,
    Plan,
    Step,
    Unit,
    UnitState,
    UnknownUnit,
    describe,
    plan_removal,
    plan_units,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files


class CommandFailed(RuntimeError):
    """systemctl refused; the message holds its words."""


class UnitManager:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.units = [_unit(item) for item in module.params["config"]]

    def run(self) -> dict[str, Any]:
        found = self.read()
        if self.module.params["state"] == "gathered":
            return {"changed": False, "before": describe(self.units, found), "commands": []}
        if self.module.check_mode and self.module.params["state"] == "merged":
            found = {name: self.assumed(name, state) for name, state in found.items()}
        plan = self.plan(found)
        if not self.module.check_mode:
            for step in plan.steps:
                self.apply(step)
        return result(describe(self.units, found), describe(self.units, plan.after), plan.commands, changed=bool(plan.steps), diff=self.module._diff)

    def read(self) -> dict[str, UnitState]:
        systemctl = self.module.get_bin_path("systemctl", required=True)
        found: dict[str, UnitState] = {}
        for unit in self.units:
            rc, out, err = self.module.run_command([systemctl, "show", "--timestamp=unix", f"--property={','.join(PROPERTIES)}", unit.name])
            if rc != 0:
                raise CommandFailed(f"systemctl show {unit.name}: {err.strip() or out.strip()}")
            properties = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
            texts = {path: text for path, text in ((path, files.read_text(path)) for path in unit.files()) if text is not None}
            watched = [path for path in unit.watch if Path(path).exists()]
            written = max((Path(path).stat().st_mtime for path in [*texts, *watched]), default=0.0)
            found[unit.name] = UnitState.from_properties(properties, texts, written, unit.on_change)
        return found

    def plan(self, found: dict[str, UnitState]) -> Plan:
        if self.module.params["state"] == "deleted":
            return plan_removal(self.units, found)
        return plan_units(self.units, found)

    def assumed(self, name: str, state: UnitState) -> UnitState:
        """In check mode a package that is still to be installed may bring the unit."""
        unit = next(unit for unit in self.units if unit.name == name)
        if state.exists or unit.content is not None:
            return state
        started = self.module.params["absent_units"] == "started"
        self.module.warn(f"{name} does not exist yet; planned as {'started' if started else 'stopped'} by its package")
        return UnitState(exists=True, enabled=started, running=started, files=state.files)

    def apply(self, step: Step) -> None:
        if step.verb == "write":
            files.write_text(step.path, step.text, mode=0o644)
        elif step.verb == "remove":
            files.remove(step.path)
        else:
            systemctl = self.module.get_bin_path("systemctl", required=True)
            rc, out, err = self.module.run_command([systemctl, step.verb, *([step.unit] if step.unit else [])])
            if rc != 0:
                journal = f"; see: journalctl -u {step.unit} -n 50" if step.unit else ""
                raise CommandFailed(f"{step.command()}: {err.strip() or out.strip()}{journal}")


def _unit(item: dict[str, Any]) -> Unit:
    return Unit(
        name=item["name"],
        content=item["content"],
        dropins=item["dropins"] or {},
        enabled=item["enabled"],
        running=item["running"],
        masked=item["masked"],
        watch=tuple(item["watch"] or ()),
        changed=item["changed"],
        on_change=item["on_change"],
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "content": {"type": "str"},
                    "dropins": {"type": "dict"},
                    "enabled": {"type": "bool"},
                    "running": {"type": "bool"},
                    "masked": {"type": "bool"},
                    "watch": {"type": "list", "elements": "path"},
                    "changed": {"type": "bool", "default": False},
                    "on_change": {"type": "str", "choices": ["restart", "reload", "none"], "default": "restart"},
                },
            },
            "state": {"type": "str", "choices": ["merged", "deleted", "gathered"], "default": "merged"},
            "absent_units": {"type": "str", "choices": ["started", "stopped"], "default": "stopped"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**UnitManager(module).run())
    except (UnknownUnit, CommandFailed, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
