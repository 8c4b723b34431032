#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libvirt_pools
short_description: Reconcile a list of libvirt storage pools
version_added: 0.1.0
description:
  - Brings libvirt storage pools of type C(dir) to a declared state, all in one process. Their directories are made where they are missing.
  - No volume, file or directory is ever deleted. Removing a pool makes libvirt forget it, and nothing else.
  - >-
    A storage pool's XML has no place for metadata, and a file in its directory would show up as a volume. So a pool made by this module
    is known by its UUID, which is computed from its name (version 5). Only pools with that UUID are ever redefined or removed.
  - >-
    A pool of somebody else with the declared name and directory is used as it is. It is started, and set to start with libvirt, where that is
    declared. Nothing else about it is changed.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
  - hybridlab.platform.libvirt
options:
  config:
    description: The pools.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the pool.
        type: str
        required: true
      path:
        description:
          - Absolute path of the directory. Needed for a new pool.
          - A change is disruptive, and an error when the pool holds volumes, because they are not moved.
        type: str
      mode:
        description:
          - Permission bits in octal that libvirt gives the directory when the pool is built. V(0711) when not given for a new pool.
          - libvirt reports what was declared, so a later C(chmod) by hand is not seen.
          - A change stops and starts a running pool, so it is disruptive.
        type: str
      autostart:
        description: Whether the pool starts with libvirt.
        type: bool
        default: true
      active:
        description: Whether the pool runs. Stopping it is disruptive when running guests have disks in it.
        type: bool
        default: true
  state:
    description:
      - V(merged) makes the named pools as declared and leaves all others alone.
      - V(overridden) does the same, and removes the pools of ours that are not named.
      - V(deleted) removes the named pools, or all of ours when O(config) is empty.
      - V(gathered) reports the pools of ours, or the named ones whosever they are.
      - V(rendered) returns the XML without touching any host.
    type: str
    choices: [merged, overridden, deleted, gathered, rendered]
    default: merged
"""

EXAMPLES = r"""
- name: A fast and a large pool
  hybridlab.platform.libvirt_pools:
    config:
      - {name: fast, path: /var/lib/libvirt/images}
      - {name: large, path: /data/kvm/images}

- name: Space that is left
  hybridlab.platform.libvirt_pools:
    state: gathered

- name: Forget all pools of ours; their files stay
  hybridlab.platform.libvirt_pools:
    state: deleted
"""

RETURN = r"""
before:
  description: Pools of ours, and those named, as entries of O(config), sorted by name. C(mode) is null for a pool of somebody else.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  sample: []
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  sample: [{name: large, path: /data/kvm/images, mode: "0711", autostart: true, active: true}]
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [virsh -c qemu:///system pool-start large]
disruptive:
  description: C(name) and C(reason) of each step that interrupts what is in use.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  sample: [{name: large, reason: "path is /data/kvm/images, wanted /data/images"}]
backups:
  description: Files that keep the definitions that were replaced or removed. Empty in check mode.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: str
  sample: [/var/lib/hybridlab/rollback/large-20261103T101112.123456789Z.xml]
gathered:
  description:
    - The pools as entries of O(config), with C(capacity), C(allocation) and C(available) in bytes, and the number of C(volumes).
    - The number is null, and the bytes are those that libvirt last knew, while a pool does not run.
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
  sample:
    - name: large
      path: /data/kvm/images
      mode: "0711"
      autostart: true
      active: true
      capacity: 3650722201600
      allocation: 1099511627776
      available: 2551210573824
      volumes: 12
rendered:
  description: C(name) and C(xml) of each pool.
  returned: when O(state) is V(rendered)
  type: list
  elements: dict
"""

from contextlib import ExitStack
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import describe_pool, plan_pool, plan_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Plan, Step
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import apply_pool, observe_guests, observe_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt_run import ARGUMENTS, Kind, open_connection, reconcile, rendered


class Pools:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params

    def run(self) -> dict[str, Any]:
        if self.params["state"] == "rendered":
            return rendered(self.module, "pool", plan_pools("overridden", self.params["config"], []))
        if self.params["state"] == "gathered":
            return self._gathered()
        return reconcile(self.module, Kind("pool", "pool", self._plan, apply_pool, self._remains))

    def _plan(self, conn: Optional[Any]) -> Plan:
        return plan_pools(self.params["state"], self.params["config"], observe_pools(conn) if conn else [], observe_guests(conn) if conn else [])

    def _remains(self, conn: Any, step: Step) -> list[str]:
        found = next((pool for pool in observe_pools(conn) if pool.name == step.name), None)
        if step.wanted is None:
            return ["it is still defined"] if found is not None else []
        return [f"{type(operation).__name__.lower()} is still needed" for operation in plan_pool(step.wanted, found).operations]

    def _gathered(self) -> dict[str, Any]:
        named = {entry["name"] for entry in self.params["config"]}
        with ExitStack() as stack:
            conn = open_connection(self.module, stack)
            pools = [pool for pool in observe_pools(conn) if (pool.name in named if named else pool.owned)] if conn else []
        return {"changed": False, "gathered": [describe_pool(pool, usage=True) for pool in pools]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "path": {"type": "str"},
                    "mode": {"type": "str"},
                    "autostart": {"type": "bool", "default": True},
                    "active": {"type": "bool", "default": True},
                },
            },
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Pools(module).run())
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)


if __name__ == "__main__":
    main()
