#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libvirt_snapshots
short_description: Take, revert to and remove named points of one guest or of the whole lab
version_added: 0.1.0
description:
  - A named point holds the content of the disks of some or all guests of ours, at one moment. It is taken of running, suspended and stopped guests.
  - >-
    A point is made of external overlay files C(<guest>-<disk>@<point>.qcow2) beside the volume, and of an entry in the metadata of each guest.
    libvirt's own snapshots are not used. Internal ones are refused for a guest with UEFI, and libvirt before 9.9 cannot revert to external ones.
  - >-
    Memory, the UEFI variables, the emulated TPM, the seed image and the definition of the guest are not part of a point. Disks of somebody else
    are not either; a warning names them.
  - Before a point of running guests, the file systems of all whose guest agent answers are frozen. They are thawed at the end, also after a failure.
  - A run that was killed is brought to its end by the next one with the same arguments.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
attributes:
  idempotent:
    description: A second run with the same arguments, and no other change in between, changes nothing.
    support: partial
    details:
      - Except for O(state=reverted), since the guests have gone on.
options:
  config:
    description: The points.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the point, of letters, digits, C(.), C(_) and C(-).
        type: str
        required: true
      guests:
        description: Guests that it is taken of. All guests of ours when empty; with O(state=reverted) all that have it.
        type: list
        elements: str
        default: []
  state:
    description:
      - V(merged) takes the points that do not exist.
      - V(overridden) does the same, and removes all others.
      - V(deleted) removes the named points, or all when O(config) is empty. The guests' present state stays.
      - V(gathered) reports the points.
      - >-
        V(reverted) brings the guests back to exactly one point. Their present state is thrown away, unless O(keep) names it. Running guests are
        stopped at once and started again.
    type: str
    choices: [merged, overridden, deleted, gathered, reverted]
    default: merged
  platform:
    description: Name of the platform whose guests are ours. When left out, the guests of every platform are.
    type: str
  keep:
    description: With O(state=reverted), name of a point that is taken of the present state first.
    type: str
  start:
    description: With O(state=reverted), whether the guests run afterwards.
    type: str
    choices: [as_before, running, stopped]
    default: as_before
  agent_seconds:
    description: How long a guest agent may take to freeze or thaw. A guest that takes longer is taken as after a power failure, and named.
    type: int
    default: 30
  merge_seconds:
    description: How long the merging of one file into another may take when a point is removed.
    type: int
    default: 3600
  uri:
    description: Which libvirt to connect to, from the managed host. The files must be on that host, too.
    type: str
    default: qemu:///system
  backup_dir:
    description: Directory on the managed host in which the definitions of guests are kept before O(state=reverted) replaces them, with mode 0600.
    type: path
    default: /var/lib/hybridlab/rollback
requirements:
  - python3-libvirt (libvirt 9.0 or later) and qemu-img on the managed host
"""

EXAMPLES = r"""
- name: A point of the whole lab
  hybridlab.platform.libvirt_snapshots:
    config:
      - name: before-upgrade

- name: Back to it, with the present state kept under another name
  hybridlab.platform.libvirt_snapshots:
    config:
      - name: before-upgrade
    state: reverted
    keep: failed-upgrade

- name: A point of two guests
  hybridlab.platform.libvirt_snapshots:
    config:
      - {name: schema-7, guests: [db, web]}

- name: Remove all points
  hybridlab.platform.libvirt_snapshots:
    state: deleted
"""

RETURN = r"""
before:
  description:
    - >-
      All points, sorted by name. C(guests) have it, the present state of those in C(current) goes back to it, and C(whole) is false for a point
      whose taking was interrupted.
  returned: when O(state) is not V(gathered)
  type: list
  elements: dict
  sample: []
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is not V(gathered)
  type: list
  elements: dict
  sample: [{name: before-upgrade, guests: [db, web], current: [db, web], whole: true}]
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [virsh -c qemu:///system domfsfreeze web]
backups:
  description: Files that keep the definitions of before O(state=reverted). Empty in check mode.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [/var/lib/hybridlab/rollback/web-20261103T101112.123456789Z.xml]
rollback:
  description: How to come back to the state before O(state=reverted); empty when it was not kept.
  returned: when O(state) is V(reverted)
  type: str
  sample: "revert to the point failed-upgrade"
gathered:
  description:
    - The points, as in RV(before), with the time C(taken) (UTC) and C(details) of each guest.
    - C(consistency) is C(agent) (frozen by the guest agent), C(crash) (as after a power failure) or C(stopped).
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
  sample:
    - name: before-upgrade
      guests: [web]
      current: [web]
      whole: true
      taken: "2026-11-03T10:11:12Z"
      details:
        - guest: web
          taken: "2026-11-03T10:11:12Z"
          consistency: agent
          disks: [{name: root, path: /var/lib/libvirt/images/web-root.qcow2, missing: false}]
"""

from contextlib import ExitStack
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points import Guest, describe, gathered
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_ops import shell
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_plan import Plan, plan_points
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt_run import open_connection
from ansible_collections.hybridlab.platform.plugins.module_utils.host.points import observe_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.host.points_apply import Applier


class Snapshots:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params

    def run(self) -> dict[str, Any]:
        with ExitStack() as stack:
            conn = open_connection(self.module, stack)
            if self.params["state"] == "gathered":
                return {"changed": False, "gathered": self._gathered(conn)}
            return self._reconcile(conn)

    def _guests(self, conn: Any, live: bool = True) -> list[Guest]:
        return observe_guests(conn, live, self.params["platform"])

    def _gathered(self, conn: Optional[Any]) -> list[dict[str, Any]]:
        named = {entry["name"] for entry in self.params["config"]}
        rows = gathered(self._guests(conn, live=False)) if conn else []
        return [row for row in rows if not named or row["name"] in named]

    def _reconcile(self, conn: Optional[Any]) -> dict[str, Any]:
        params = self.params
        plan = plan_points(params["state"], params["config"], self._guests(conn), params["keep"], params["start"]) if conn else Plan()
        for note in plan.notes:
            self.module.warn(f"{note}.")
        after, backups = plan.after, []
        if conn and plan.operations and not self.module.check_mode:
            backups = self._apply(conn, plan)
            after = describe(self._guests(conn, live=False))
        commands = [shell(operation, params["uri"], params["backup_dir"]) for operation in plan.operations]
        answer = result(plan.before, after, commands, diff=self.module._diff, header=f"points of {params['uri']}")
        if params["state"] == "reverted":
            answer["rollback"] = f"revert to the point {params['keep']}" if params["keep"] else ""
        return {**answer, "backups": backups}

    def _apply(self, conn: Any, plan: Plan) -> list[str]:
        applier = Applier(conn, self.params["backup_dir"], self.params["agent_seconds"], self.params["merge_seconds"])
        try:
            applier.run(plan.operations)
        finally:
            for note in applier.notes:
                self.module.warn(note)
        return applier.backups


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "guests": {"type": "list", "elements": "str", "default": []},
                },
            },
            "state": {"type": "str", "default": "merged", "choices": ["merged", "overridden", "deleted", "gathered", "reverted"]},
            "platform": {"type": "str"},
            "keep": {"type": "str"},
            "start": {"type": "str", "default": "as_before", "choices": ["as_before", "running", "stopped"]},
            "agent_seconds": {"type": "int", "default": 30},
            "merge_seconds": {"type": "int", "default": 3600},
            "uri": {"type": "str", "default": "qemu:///system"},
            "backup_dir": {"type": "path", "default": "/var/lib/hybridlab/rollback"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Snapshots(module).run())
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)


if __name__ == "__main__":
    main()
