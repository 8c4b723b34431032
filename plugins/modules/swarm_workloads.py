#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_workloads
short_description: Run the workloads as services of a Docker Swarm
version_added: 0.1.0
description:
  - >-
    Makes the services, overlay networks, secrets and configs of the workloads whose target is C(swarm), and waits until they run. The Swarm is read as a whole,
    each service is compared in one canonical form, and what somebody changed by hand is put back.
  - >-
    A secret or config with another value is another object. It is made before the rollout, and the old one is removed after it.
  - >-
    The run succeeds when every declared workload runs. A rollout that the engine takes back is a failure, with the words of the task that failed.
    The next run tries it again, and fails again while the cause is there. Each wait ends at C(update.deadline_seconds) of the workload.
  - A run that was killed is continued by the next one, also when its rollout is still going on.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The workloads, as C(platform_workloads) of the inventory has them. Those with another target are left alone and named in RV(skipped).
    type: list
    elements: dict
    default: []
  platform:
    description: Name of the platform. What carries it as the label C(com.hybridlab.platform) is ours.
    type: str
    required: true
  images:
    description: What the engine knows the images by, by their names in C(platform_container_images). M(hybridlab.platform.container_images) returns it.
    type: dict
    default: {}
  secrets:
    description: >-
      Values of the secrets that workloads use, in base64, by name: one JSON text, which the filter P(hybridlab.platform.workload_secrets#filter) makes.
    type: str
    default: "{}"
  files:
    description: Contents of files that configs name, in base64, by path. The filter P(hybridlab.platform.workload_files#filter) makes it.
    type: dict
    default: {}
  segments:
    description: Names of the segments, for the check of C(from) in C(ports). Without it they are taken on trust.
    type: list
    elements: str
  nodes:
    description: How many nodes the Swarm has.
    type: int
    default: 1
  key:
    description:
      - A random key of this host, made when it is missing, with mode 0600.
      - A stored secret is known again by a keyed digest in its label. Without the key nobody can try out values against it.
    type: path
    default: /var/lib/hybridlab/workloads/secret.key
  state:
    description:
      - V(merged) makes the declared workloads as declared. Other services stay.
      - V(overridden) also removes services of this platform that O(config) no longer names.
      - V(deleted) removes the workloads of O(config), or all of this platform when it names none. Volumes stay.
      - V(gathered) reports the services of this platform.
      - V(rendered) returns an equal Compose file for each stack, and needs no Docker.
    type: str
    choices: [merged, overridden, deleted, gathered, rendered]
    default: merged
requirements:
  - Docker 20.10 or later as manager of a Swarm, and the Docker SDK for Python 7.0 or later, on the managed host (roles docker_engine, docker_swarm)
"""

EXAMPLES = r"""
- name: One service of two tasks
  hybridlab.platform.swarm_workloads:
    platform: lab
    images: {web: "hybridlab/web:0123456789ab"}
    config:
      - name: web
        stack: demo
        image: web
        replicas: 2
        health: {command: [/usr/local/bin/web, --health]}

- name: The inventory's workloads and nothing else; show what would change
  hybridlab.platform.swarm_workloads:
    platform: "{{ platform_name }}"
    images: "{{ images.references }}"
    config: "{{ platform_workloads }}"
    secrets: "{{ platform_secrets | hybridlab.platform.workload_secrets(platform_workloads) }}"
    files: "{{ platform_workloads | hybridlab.platform.workload_files }}"
    state: overridden
  check_mode: true
  diff: true

- name: A Compose file for each stack
  hybridlab.platform.swarm_workloads:
    platform: "{{ platform_name }}"
    images: "{{ images.references }}"
    config: "{{ platform_workloads }}"
    state: rendered
"""

RETURN = r"""
before:
  description: Services of this platform in their canonical form, and names of its networks, secrets and configs, as found.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: dict
  sample: {workloads: [], networks: [], secrets: [], configs: []}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: dict
  sample: {workloads: [{name: demo_web, replicas: 2}], networks: [demo_default], secrets: [demo_web_token_v1], configs: []}
commands:
  description: The shell lines that do the same by hand. Secrets and configs are read from standard input there.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: str
  sample: [docker service update --detach --no-resolve-image --replicas=3 demo_web]
restarts:
  description: Services whose tasks are replaced.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: str
  sample: [demo_web]
failures:
  description: One text for each service that does not run as declared.
  returned: when a rollout failed
  type: list
  elements: str
  sample: ["demo_web: the new version failed, and the engine went back to the old one. Task 0q1w2e3r4t5y was last seen failed: task: non-zero exit (1)."]
skipped:
  description: Workloads of O(config) that are not for a Swarm.
  returned: always
  type: list
  elements: str
  sample: [queue]
gathered:
  description: The services, networks, secrets and configs of this platform, as in RV(before).
  returned: when O(state) is V(gathered)
  type: dict
rendered:
  description: Text of the Compose file of each stack.
  returned: when O(state) is V(rendered)
  type: dict
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.compose_render import compose
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_workloads
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import Declared, Objects, declare, declare_names
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_plan import Found, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.host import swarm, swarm_run
from ansible_collections.hybridlab.platform.plugins.module_utils.host.engine_api import Engine, connect


class SwarmWorkloads:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.values = _decoded(json.loads(self.params["secrets"]))
        self.files = _decoded(self.params["files"])

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        workloads = self._workloads()
        skipped = {"skipped": [workload.name for workload in workloads if workload.target != "swarm"]}
        if state == "rendered":
            objects = Objects(self._placeholders(workloads), self.files)
            return {"changed": False, "rendered": compose(self._declare(workloads, objects)), **skipped}
        engine = self._engine()
        found = swarm.read(engine) if engine else Found()
        if state == "gathered":
            return {"changed": False, "gathered": plan(Declared(self.params["platform"]), found, "merged").before, **skipped}
        return {**self._reconcile(engine, found, workloads), **skipped}

    def _workloads(self) -> Sequence[Workload]:
        return parse_workloads(
            self.params["config"],
            self.params["platform"],
            images=self.params["images"] if self.params["state"] in ("merged", "overridden", "rendered") else None,
            secrets=self.values if self.params["state"] in ("merged", "overridden") else None,
            segments=self.params["segments"],
            nodes=self.params["nodes"],
        )

    def _placeholders(self, workloads: Sequence[Workload]) -> dict[str, bytes]:
        """A rendered file names secrets and holds none, so nobody has to give their values."""
        return {use.name: b"" for workload in workloads for use in workload.secrets}

    def _declare(self, workloads: Sequence[Workload], objects: Objects) -> Declared:
        return declare(workloads, self.params["platform"], self.params["images"], objects)

    def _engine(self) -> Optional[Engine]:
        planning = self.module.check_mode or self.params["state"] == "gathered"
        engine = connect(planning)
        if engine is not None and swarm.is_manager(engine):
            return engine
        if not planning:
            raise ResourceError("this host is no manager of a Swarm. Nothing was changed. Run the role docker_swarm first (playbooks/docker.yml).")
        self.module.warn("this host is no manager of a Swarm yet. Planned as if it had no services.")
        return None

    def _reconcile(self, engine: Optional[Engine], found: Found, workloads: Sequence[Workload]) -> dict[str, Any]:
        state, applies = self.params["state"], engine is not None and not self.module.check_mode
        if state == "deleted":
            declared = declare_names(workloads, self.params["platform"])
        else:
            key = swarm.make_key(self.params["key"]) if applies and self.values else swarm.read_key(self.params["key"])
            declared = self._declare(workloads, Objects(self.values, self.files, key, found.stored_secrets()))
        planned = plan(declared, found, state)
        answer = result(planned.before, planned.after, planned.commands, diff=self.module._diff, header="workloads")
        answer["restarts"] = list(planned.restarts)
        if engine is not None and applies:
            failures = swarm_run.run(engine, declared, found, planned, self.values, waits=state != "deleted")
            if failures:
                self.module.fail_json(msg="\n".join([f"{len(failures)} of the workloads do not run as declared:", *failures]), failures=failures, **answer)
            if planned.steps:
                self._verify(engine, workloads, declared)
        elif engine is not None:
            for name in swarm_run.unsettled(declared, found, planned):
                self.module.warn(f"{name} is as declared, and does not run as declared (yet). See: docker service ps --no-trunc {name}")
        return answer

    def _verify(self, engine: Engine, workloads: Sequence[Workload], declared: Declared) -> None:
        again = plan(declared, swarm.read(engine), self.params["state"])
        if again.commands:
            raise ResourceError(f"every step succeeded, yet this is still to be done: {'; '.join(again.commands)}. Run again.")


def _decoded(encoded: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in encoded.items()}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "list", "elements": "dict", "default": []},
            "platform": {"type": "str", "required": True},
            "images": {"type": "dict", "default": {}},
            "secrets": {"type": "str", "default": "{}", "no_log": True},
            "files": {"type": "dict", "default": {}},
            "segments": {"type": "list", "elements": "str"},
            "nodes": {"type": "int", "default": 1},
            "key": {"type": "path", "default": "/var/lib/hybridlab/workloads/secret.key", "no_log": False},
            "state": {"type": "str", "choices": ["merged", "overridden", "deleted", "gathered", "rendered"], "default": "merged"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**SwarmWorkloads(module).run())
    except (ResourceError, ModelError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
