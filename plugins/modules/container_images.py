#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_images
short_description: Bring the images of workloads to a Docker host
version_added: 0.1.0
description:
  - >-
    Pulls images by digest, imports root file systems, and builds images of directories on the controller. What is imported or built is tagged
    C(hybridlab/NAME:KEY). The key is computed on the controller from names, executable bits and bytes of all files, the build arguments and the base's key.
    A tag that is there therefore needs no work, and its files are not copied to the host again.
  - The files are copied for the time of the run only.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The images, as C(platform_container_images) of the inventory has them. Needed for O(state=merged) and O(state=overridden).
    type: list
    elements: dict
    default: []
  state:
    description:
      - V(merged) brings what is missing.
      - >-
        V(overridden) also removes images that this collection made and O(config) does not need any more: beyond O(keep) older ones of each name.
        What a container or a service runs is never removed.
      - V(deleted) removes every image that this collection made and nothing runs.
      - V(gathered) reports the images that this collection made.
    type: str
    choices: [merged, overridden, deleted, gathered]
    default: merged
  keep:
    description: How many older images of each name stay, so that a rollout can be taken back without a build.
    type: int
    default: 1
  build_network:
    description:
      - The network in which commands of a build run.
      - V(host) needs no forwarding, no masquerading and no packet size of the bridge that fits the host's; V(none) forbids every connection.
    type: str
    choices: [host, default, none]
    default: host
  timeout:
    description: How many seconds the engine may be silent while it pulls, imports or builds.
    type: int
    default: 600
  resolved:
    description: Set by the module's own action plugin, and not by a playbook.
    type: list
    elements: dict
requirements:
  - Docker 20.10 or later, and the Docker SDK for Python 7.0 or later, on the managed host (role docker_engine)
"""

EXAMPLES = r"""
- name: A base made of a root file system, and an image built from it
  hybridlab.platform.container_images:
    config:
      - {name: base, rootfs: files/debian.tar}
      - {name: web, context: images/web, base: base}
  register: images

- name: Remove what the rollout has replaced
  hybridlab.platform.container_images:
    config: "{{ platform_container_images }}"
    state: overridden
    keep: 1

- name: What there is
  hybridlab.platform.container_images:
    state: gathered
"""

RETURN = r"""
before:
  description: C(images) are the declared images and those that this collection made, as found.
  returned: when O(state) is not V(gathered)
  type: dict
  sample: {images: []}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is not V(gathered)
  type: dict
  sample: {images: ["hybridlab/web:0123456789ab"]}
commands:
  description: The shell lines that do the same by hand, beside the files on the controller. Values of build arguments are left out.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [docker build --tag hybridlab/web:0123456789ab images/web]
references:
  description: What the engine knows each declared image by.
  returned: when O(state) is V(merged) or V(overridden)
  type: dict
  sample: {web: "hybridlab/web:0123456789ab"}
missing:
  description: Names of declared images that the host lacked.
  returned: when O(state) is V(merged) or V(overridden)
  type: list
  elements: str
  sample: [web]
stale:
  description: Images that can go when nothing runs them any more; O(state=overridden) removes them.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: ["hybridlab/web:ba9876543210"]
gathered:
  description: The images that this collection made, and whether something runs them.
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
  sample: [{reference: "hybridlab/web:0123456789ab", used: true}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.container_images import StoredImage, WantedImage, describe, plan_images
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host.container_images import ImageMaker, found_images, present
from ansible_collections.hybridlab.platform.plugins.module_utils.host.engine_api import connect


class ContainerImages:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        if self.params["config"] and self.params["resolved"] is None:
            raise ResourceError("config was not resolved: the action plugin container_images, which reads it on the controller, was not found.")
        engine = connect(planning=self.module.check_mode)
        if engine is None:
            self.module.warn("there is no Docker engine on this host yet. Planned as if it had no images.")
        found: list[StoredImage] = found_images(engine) if engine else []
        if state == "gathered":
            return {"changed": False, "gathered": [{"reference": image.reference, "used": image.used} for image in found]}
        wanted = [WantedImage(**item) for item in self.params["resolved"] or ()]
        plan = plan_images(wanted, found, present(engine, [image.reference for image in wanted]) if engine else [], state, self.params["keep"])
        if engine is not None and not self.module.check_mode:
            maker = ImageMaker(engine, self.params["timeout"], self.params["build_network"])
            for image in plan.make:
                maker.make(image)
            for reference in plan.remove:
                maker.remove(reference)
        answer = result(*describe(plan), plan.commands, diff=self.module._diff, header="images")
        return {
            **answer,
            "references": {image.name: image.reference for image in wanted},
            "missing": [image.name for image in plan.make],
            "stale": list(plan.stale),
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "list", "elements": "dict", "default": []},
            "state": {"type": "str", "choices": ["merged", "overridden", "deleted", "gathered"], "default": "merged"},
            "keep": {"type": "int", "default": 1},
            "build_network": {"type": "str", "choices": ["host", "default", "none"], "default": "host"},
            "timeout": {"type": "int", "default": 600},
            "resolved": {"type": "list", "elements": "dict"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**ContainerImages(module).run())
    except (ResourceError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
