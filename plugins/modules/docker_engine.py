#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_engine
short_description: Reconcile a Docker engine with its declaration
version_added: 0.1.0
description:
  - >-
    Brings C(daemon.json), the data root with its modes and SELinux labels, the members of the group C(docker) and the service of one engine to what
    C(platform_docker) declares.
  - >-
    The host's own C(dockerd) judges the new file before anything is changed. Where the engine does not start with it after all, the old file comes back,
    the engine runs with it if it ran before, and the module fails with the engine's words.
  - >-
    Where the data root changes and the one in use holds something, the engine is stopped, the data are copied with rsync, and the engine is started and asked
    whether it has as many containers, images, volumes and networks as before. The old directory is kept beside the new one under the name
    C(<old>.backup-<day>), or left in its place where it is a mount point. A copy that was cut short is finished by the next run.
  - >-
    An engine that keeps images or containers in containerd's store, and is declared to use its own, is refused: it would start without them.
  - An engine whose service is told to answer on the network is refused, and so is a host on which anybody answers on port 2375 or 2376.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The engine, as C(platform_docker) of the inventory has it. Needed for O(state=merged) and O(state=rendered).
    type: dict
  ranges:
    description: C(platform_ranges) of the inventory, in which the names of O(config) stand.
    type: dict
    default: {}
  allow_disruption:
    description: Whether the engine may be restarted, or its data moved, while containers run. They stop meanwhile.
    type: bool
    default: false
  absent_unit:
    description:
      - What check mode assumes of C(docker.service) when its package is still to be installed by an earlier task.
      - Debian's package enables and starts it (V(started)), those for the Red Hat family do not (V(stopped)).
    type: str
    choices: [started, stopped]
    default: stopped
  timeout:
    description: How many seconds the engine may take to stop or to start.
    type: int
    default: 180
  move_timeout:
    description: How many seconds the copy of the data may take.
    type: int
    default: 14400
  state:
    description:
      - V(merged) makes the engine as declared.
      - V(gathered) reports it.
      - V(rendered) returns C(daemon.json) without touching any host.
    type: str
    choices: [merged, gathered, rendered]
    default: merged
requirements:
  - On the managed host the Docker engine, the Docker SDK for Python (the role docker_engine brings it), rsync where data are moved
"""

EXAMPLES = r"""
- name: The engine
  hybridlab.platform.docker_engine:
    config:
      data_root: /data/docker
      bridge: docker_bridge
      gwbridge: docker_gwbridge
      address_pools: [{range: docker_pool, size: 24}]
      users: [admin]
    ranges: {docker_bridge: 172.17.0.0/16, docker_gwbridge: 172.18.0.0/16, docker_pool: 172.22.0.0/16}

- name: The inventory's engine; show what would change
  hybridlab.platform.docker_engine:
    config: "{{ platform_docker }}"
    ranges: "{{ platform_ranges }}"
  check_mode: true
  diff: true

- name: The file as text, for a review
  hybridlab.platform.docker_engine:
    config: "{{ platform_docker }}"
    ranges: "{{ platform_ranges }}"
    state: rendered
"""

RETURN = r"""
before:
  description: The engine as found. C(data_root) is the directory in use, C(directory) the declared one.
  returned: when O(state=merged)
  type: dict
  sample: {config: null, data_root: /var/lib/docker, users: [], enabled: true, running: true, unfinished: false}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state=merged)
  type: dict
  sample: {data_root: /data/docker, users: [admin], enabled: true, running: true, unfinished: false}
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [systemctl restart docker.service]
disruptive:
  description: What stops containers that run. Without O(allow_disruption) it is refused, before anything is changed.
  returned: when O(state=merged)
  type: list
  elements: dict
  sample: [{name: docker, reason: "the engine restarts (bip), and these containers stop meanwhile: web"}]
kept:
  description: Where the data are kept that were copied to the new data root.
  returned: when they were moved
  type: str
  sample: /var/lib/docker.backup-2026-11-21
gathered:
  description: The engine as found, as in RV(before), without the declared directory.
  returned: when O(state=gathered)
  type: dict
rendered:
  description: Text of C(daemon.json).
  returned: when O(state=rendered)
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_daemon import DEFAULT_ROOT, daemon_json, render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_engine import Plan, gathered, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_parse import parse_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, here_document, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host.docker_apply import Engine
from ansible_collections.hybridlab.platform.plugins.module_utils.host.docker_engine import Reader, open_ports


class DockerEngine:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        if state == "gathered":
            return {"changed": False, "gathered": gathered(self._reader(DEFAULT_ROOT, ()).found())}
        docker = parse_docker(self.params["config"], self.params["ranges"])
        if state == "rendered":
            text = render(daemon_json(docker))
            return {
                "changed": False,
                "rendered": text,
                "commands": [here_document(["install", "-D", "-m", "0600", "/dev/stdin", "/etc/docker/daemon.json"], text)],
            }
        reader = self._reader(docker.data_root, docker.users)
        found = reader.found()
        for warning in reader.warnings:
            self.module.warn(warning)
        planned = plan(docker, found)
        self._refuse(planned)
        answer: dict[str, Any] = result(planned.before, planned.after, planned.commands, diff=self.module._diff, header="docker engine")
        answer.update(changed=planned.before != planned.after or bool(planned.commands), disruptive=planned.disruptive)
        if not self.module.check_mode:
            kept = Engine(docker.data_root, self.params["timeout"], self.params["move_timeout"]).apply(planned, found)
            if kept is not None:
                answer["kept"] = kept
            self._refuse_listeners()
        return answer

    def _reader(self, root: str, users: tuple[str, ...]) -> Reader:
        planning = self.module.check_mode or self.params["state"] == "gathered"
        return Reader(root, users, self.params["absent_unit"] == "started" if planning else None)

    def _refuse(self, planned: Plan) -> None:
        if planned.disruptive and not self.params["allow_disruption"] and not self.module.check_mode:
            reasons = "; ".join(item["reason"] for item in planned.disruptive)
            raise ResourceError(f"{reasons}. Nothing was changed. Set allow_disruption: true when that is acceptable.", disruptive=planned.disruptive)

    def _refuse_listeners(self) -> None:
        ports = open_ports()
        if ports:
            raise ResourceError(
                f"somebody answers on TCP port {' and '.join(map(str, ports))}, which are the engine's when it is open to the network. "
                f"Find it with: ss -ltnp 'sport = :{ports[0]}'; then stop it."
            )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "dict"},
            "ranges": {"type": "dict", "default": {}},
            "allow_disruption": {"type": "bool", "default": False},
            "absent_unit": {"type": "str", "choices": ["started", "stopped"], "default": "stopped"},
            "timeout": {"type": "int", "default": 180},
            "move_timeout": {"type": "int", "default": 14400},
            "state": {"type": "str", "choices": ["merged", "gathered", "rendered"], "default": "merged"},
        },
        required_if=[("state", "merged", ["config"]), ("state", "rendered", ["config"])],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**DockerEngine(module).run())
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (ModelError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
