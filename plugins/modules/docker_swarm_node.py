#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_swarm_node
short_description: Make a host a node of the declared Swarm, with networks that clash with nothing
version_added: 0.1.0
description:
  - >-
    Makes a Swarm of one manager out of an engine, or joins a further node to it. The Swarm's networks come from the declared pool, and C(docker_gwbridge) is
    made before, with the declared network. Left to itself Docker takes networks that others on the host may have.
  - >-
    Afterwards every network of the engine is compared with the segments, and the ingress network with the pool. A clash fails the task.
  - >-
    A Swarm's pool is fixed when it is made. Where another Swarm is found than the declared one, nothing is changed unless O(allow_disruption) is given.
    Then the node leaves it and makes the declared one. Services, secrets and configs of the old one are gone.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The engine and its Swarm, as C(platform_docker) of the inventory has them. Needed for O(state=merged).
    type: dict
  ranges:
    description: C(platform_ranges) of the inventory, in which the names of O(config) stand.
    type: dict
    default: {}
  segments:
    description: The segments that no network of Docker's may overlap. Their names and networks count, other keys are not read.
    type: list
    elements: dict
    default: []
  join:
    description: Address of the manager to join. Without it the node is the first manager.
    type: str
  join_token:
    description: Token with which to join, of workers or of managers.
    type: str
  role:
    description: What a node that joins is.
    type: str
    choices: [worker, manager]
    default: worker
  address:
    description: By which the other nodes reach a node that joins. The first manager's stands in O(config).
    type: str
  secrets:
    description: With O(state=gathered), whether to return the join tokens and the unlock key. Register such a task with C(no_log).
    type: bool
    default: false
  allow_disruption:
    description: Whether a Swarm that is not the declared one may end, with all that runs in it.
    type: bool
    default: false
  state:
    description:
      - V(merged) makes the node as declared.
      - V(deleted) leaves the Swarm and removes C(docker_gwbridge). With services or other nodes in it that needs O(allow_disruption).
      - V(gathered) reports it.
    type: str
    choices: [merged, deleted, gathered]
    default: merged
requirements:
  - On the managed host the Docker engine and the Docker SDK for Python (the role docker_engine brings both)
"""

EXAMPLES = r"""
- name: A Swarm of one node
  hybridlab.platform.docker_swarm_node:
    config: "{{ platform_docker }}"
    ranges: "{{ platform_ranges }}"
    segments: "{{ platform_segments }}"

- name: A second node
  hybridlab.platform.docker_swarm_node:
    config: "{{ platform_docker }}"
    ranges: "{{ platform_ranges }}"
    join: 192.168.1.10
    join_token: "{{ manager.worker_token }}"
    address: 192.168.1.11

- name: What this node is
  hybridlab.platform.docker_swarm_node:
    state: gathered
  register: node
"""

RETURN = r"""
before:
  description: The node as found.
  returned: when O(state) is not V(gathered)
  type: dict
  sample: {state: inactive, role: null, address: null, pool: [], subnet_size: null, autolock: false, gwbridge: null}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is not V(gathered)
  type: dict
  sample: {state: active, role: manager, address: 192.168.1.10, pool: [172.20.0.0/16], subnet_size: 24, autolock: false, gwbridge: [172.18.0.0/16]}
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [docker swarm leave --force]
disruptive:
  description: The Swarm that would end. Without O(allow_disruption) it is refused, before anything is changed.
  returned: when O(state) is not V(gathered)
  type: list
  elements: dict
  sample: [{name: swarm, reason: "the Swarm on this host ends (it advertises 192.0.2.1 and not 192.0.2.2), and with it 3 services"}]
ingress:
  description: Network of the ingress network; null where this kernel cannot make one. Published ports then work in host mode only.
  returned: when O(state=merged), not in check mode
  type: str
  sample: 172.20.0.0/24
networks:
  description: Every network of the engine and of its Swarm.
  returned: when O(state=gathered), or O(state=merged) and not in check mode
  type: list
  elements: dict
  sample: [{name: ingress, driver: overlay, subnets: [172.20.0.0/24]}]
gathered:
  description: The node as found, as in RV(before).
  returned: when O(state=gathered)
  type: dict
worker_token:
  description: Token with which a worker joins.
  returned: when O(secrets=true)
  type: str
manager_token:
  description: Token with which a manager joins.
  returned: when O(secrets=true)
  type: str
unlock_key:
  description: Key that unlocks the Swarm after a start of the engine. Empty without autolock.
  returned: when O(secrets=true)
  type: str
"""

from ipaddress import IPv4Network
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core import docker_swarm as core
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_parse import parse_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_swarm as host


class SwarmNode:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.segments = _networks(module.params["segments"])

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        if state == "gathered":
            found = host.read(planning=True)
            told = host.secrets() if self.params["secrets"] else {}
            return {"changed": False, "gathered": core.describe(found), "networks": _told(found), **told}
        found = host.read(planning=self.module.check_mode)
        wanted = None if state == "deleted" else self._wanted()
        plan = core.plan_deleted(found) if wanted is None else core.plan(wanted, found, host.default_address())
        if wanted is not None:
            self._refuse_clashes(core.staying(plan, found), "Nothing was changed.")
        self._refuse(plan)
        answer = result(plan.before, plan.after, plan.commands, diff=self.module._diff, header="swarm node")
        answer["disruptive"] = plan.disruptive
        if not self.module.check_mode:
            host.apply(plan, wanted, self.params["join_token"])
            if wanted is not None:
                answer.update(self._proved(wanted, plan))
        return answer

    def _wanted(self) -> core.Wanted:
        docker = parse_docker(self.params["config"], self.params["ranges"])
        return core.wanted(docker, self.params["join"], self.params["role"], self.params["address"])

    def _refuse(self, plan: core.Plan) -> None:
        if plan.disruptive and not self.params["allow_disruption"] and not self.module.check_mode:
            reasons = "; ".join(item["reason"] for item in plan.disruptive)
            raise ResourceError(f"{reasons}. Nothing was changed. Set allow_disruption: true when that is acceptable.", disruptive=plan.disruptive)

    def _refuse_clashes(self, networks: list[core.Network], end: str) -> None:
        clashes = core.clashes(networks, self.segments)
        if clashes:
            raise ResourceError(f"{'; '.join(clashes)}. {end} Remove it: docker network rm {clashes[0].split(' ', 1)[0]}")

    def _proved(self, wanted: core.Wanted, plan: core.Plan) -> dict[str, Any]:
        """What the engine says when all is done."""
        ingress: Optional[core.Network] = host.wait_for_ingress() if wanted.role == "manager" else None
        found = host.read(planning=False)
        self._refuse_clashes(list(found.networks), "The Swarm is up.")
        if ingress is not None and not all(subnet.subnet_of(wanted.swarm.pool) for subnet in ingress.subnets):
            raise ResourceError(
                f"the ingress network has {ingress.subnets[0]}, which is not of the Swarm's pool {wanted.swarm.pool}. Remove it: docker network rm ingress"
            )
        if core.describe(found) != plan.after:
            raise ResourceError(f"every step succeeded, yet the node is {core.describe(found)} and not {plan.after}. Run again.")
        if ingress is None and wanted.role == "manager":
            self.module.warn("this host's Swarm has no ingress network: publish ports in host mode")
        return {"ingress": None if ingress is None else str(ingress.subnets[0]), "networks": _told(found)}


def _networks(segments: list[dict[str, Any]]) -> dict[str, IPv4Network]:
    try:
        return {str(segment["name"]): IPv4Network(segment["cidr"]) for segment in segments}
    except (KeyError, ValueError) as error:
        raise ResourceError(f"segments: each needs a name and a cidr ({error}). Give platform_segments.") from error


def _told(found: core.Found) -> list[dict[str, Any]]:
    return [{"name": network.name, "driver": network.driver, "subnets": [str(cidr) for cidr in network.subnets]} for network in found.networks]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "dict"},
            "ranges": {"type": "dict", "default": {}},
            "segments": {"type": "list", "elements": "dict", "default": []},
            "join": {"type": "str"},
            "join_token": {"type": "str", "no_log": True},
            "role": {"type": "str", "choices": ["worker", "manager"], "default": "worker"},
            "address": {"type": "str"},
            "secrets": {"type": "bool", "default": False, "no_log": False},
            "allow_disruption": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["merged", "deleted", "gathered"], "default": "merged"},
        },
        required_if=[("state", "merged", ["config"])],
        required_by={"join": ["address"]},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**SwarmNode(module).run())
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (ModelError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
