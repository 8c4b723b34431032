#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_check
short_description: Check the whole model before anything is changed
version_added: 0.1.0
description:
  - Judges the variables that describe a platform, as a whole, and fails with all faults when it cannot be built as described.
  - Each fault names the variable's path, the value found, the reason and the cure.
  - Run it first with the inventory alone, then on the host with O(host=true).
  - The module reads only. It never changes anything.
author:
  - hybridlab.platform contributors (@hybridlab)
attributes:
  check_mode:
    description: Can run without changing anything. Check mode and the real run are the same.
    support: full
  diff_mode:
    description: Nothing is ever changed, so there is no difference to report.
    support: none
  idempotent:
    description: Every run with the same model on the same host has the same result.
    support: full
options:
  model:
    description:
      - The variables of the model by name. C(platform_name), C(platform_domain) and C(platform_segments) must be there;
        C(platform_ranges), C(platform_host), C(platform_pools), C(platform_internet_probe), C(platform_images), C(platform_guests) and
        C(platform_capacity) may.
      - An unknown name is a fault, so hand over every C(platform_*) variable of the inventory, and with it the misspelt ones.
      - One text in JSON, as the filter P(ansible.builtin.to_json#filter) makes it. C(user_data) of a guest may hold secrets, and a module's arguments
        are written to the host's journal; of this one they are not.
    type: str
    required: true
  host:
    description:
      - Also compare the model with the host on which the module runs.
      - No segment may overlap a network that the host routes (C(/proc/net/route)). Routes on the bridges of the model's own segments are its own,
        a default route is no network, and a route inside one of C(platform_ranges) is that range at work when it lies on an interface
        of Docker, libvirt or a VPN or leads to a router. A range may also be exactly what the host routes, such as the network of an office.
      - A network that the host routes to an interface of Docker, libvirt or a VPN must lie in one of C(platform_ranges). Guests could reach it otherwise.
      - No C(ssh_port) may be one on which the host itself listens (C(/proc/net/tcp), C(/proc/net/tcp6)), because the forward would take it over.
        What listens on a loopback address only is not affected by a forward and does not count.
      - >-
        No port that a workload publishes may be one on which something other than Docker listens, at whatever address, because Docker could not bind it then.
        The message names the program, so the module needs root's rights.
      - The distribution and version must be those of C(platform_host), where these are set (C(/etc/os-release)). The distribution has the name
        that Ansible has for it. The version V(9) means V(9.6) too.
      - Cores, threads, memory and filesystems must have the sizes of C(platform_host) at least. Memory (C(MemTotal) in MiB) and
        filesystems (in GB of 10^9 bytes) may be up to 5 percent smaller, because firmware, kernel and the filesystem's own tables take a part.
      - All guests that are to run must fit together into what the host really has, by the limits of C(platform_capacity).
    type: bool
    default: false
  files:
    description:
      - Also look for the files of C(platform_images) on the machine on which the module runs. That is for the controller, from which they are copied.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check the model on the controller, from the inventory alone
  hybridlab.platform.platform_check:
    model: "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}"
    files: true
  vars:
    names: "{{ query('ansible.builtin.varnames', '^platform_') }}"
  delegate_to: localhost

- name: Check the model against the host's routes and hardware
  hybridlab.platform.platform_check:
    model: "{{ model | to_json }}"
    host: true
  vars:
    model:
      platform_name: lab
      platform_domain: lab.local
      platform_segments:
        - {name: public, cidr: 10.0.1.0/24, reaches: [private]}
        - {name: private, cidr: 10.0.2.0/24, internet: false}
      platform_host: {cores: 6, memory_mb: 32000, filesystems: [{mount: /data, size_gb: 3400}]}
"""

RETURN = r"""
findings:
  description: The faults; empty when the model can be built.
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: Path of the variable., type: str}
    found: {description: The value that stands there., type: raw}
    reason: {description: Why it cannot be built., type: str}
    cure: {description: What to write instead., type: str}
    rule: {description: Short stable name of the rule., type: str}
  sample:
    - path: platform_segments[public].gateway
      found: 10.0.9.1
      reason: lies outside the segment's cidr 10.0.1.0/24
      cure: Choose an address from 10.0.1.1 to 10.0.1.254
      rule: gateway-outside
segments:
  description: Names of the segments.
  returned: success
  type: list
  elements: str
  sample: [public, private]
pairs:
  description: The allowed pairs of source and destination. A destination is a segment or V(internet).
  returned: success
  type: list
  elements: list
  sample: [[public, private], [public, internet]]
guests:
  description: Names of the guests that are not absent.
  returned: success
  type: list
  elements: str
  sample: [web, app]
summary:
  description: The model in one line.
  returned: success
  type: str
  sample: "lab: 2 segments, 1 of 2 ordered pairs allowed, internet from 1"
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Means
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_guests import compare_means
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_listeners import compare_listeners, swarm_ports
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding, ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.hardware import compare_hardware
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import check_platform, parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET, allowed_pairs
from ansible_collections.hybridlab.platform.plugins.module_utils.host.files import is_file
from ansible_collections.hybridlab.platform.plugins.module_utils.host.listeners import read_listeners
from ansible_collections.hybridlab.platform.plugins.module_utils.host.system import read_hardware, read_listening, read_routes


def _read(text: str) -> dict[str, Any]:
    try:
        model = json.loads(text)
    except ValueError as error:
        raise ModelError([Finding("model", "a text", f"is no JSON ({error})", "Hand over the variables with the filter to_json")]) from None
    if not isinstance(model, dict):
        raise ModelError([Finding("model", type(model).__name__, "must be a mapping", "Hand over the variables by name, with the filter to_json")])
    return model


def check(model: dict[str, Any], host: bool, files: bool) -> Platform:
    """The checked platform. Raises ModelError with all findings: those of the model, or else all those against this machine."""
    platform = parse_platform(model)
    findings = missing_files(platform) if files else []
    if host:
        hardware = read_hardware(filesystem.mount for filesystem in platform.host.filesystems)
        findings += [*check_platform(model, read_routes(), read_listening()), *compare_hardware(platform.host, hardware)]
        findings += compare_means(platform, Means(hardware.cores, hardware.memory_mb * 1024))
        workloads = platform.services.workloads
        findings += compare_listeners(workloads, read_listeners(swarm_ports(workloads)))
    if findings:
        raise ModelError(findings)
    return platform


def missing_files(platform: Platform) -> list[Finding]:
    cure = "Build the image or fetch it to that place, or correct the path"
    return [
        Finding(f"platform_images[{image.name}].file", image.file, "is no file on the machine that runs Ansible", cure, "image-file")
        for image in platform.images
        if image.file is not None and not is_file(image.file)
    ]


def report(platform: Platform) -> dict[str, Any]:
    pairs = allowed_pairs(platform)
    count = len(platform.segments)
    inside = sum(dst != INTERNET for _src, dst in pairs)
    return {
        "changed": False,
        "findings": [],
        "segments": [segment.name for segment in platform.segments],
        "pairs": [list(pair) for pair in pairs],
        "guests": [guest.name for guest in platform.guests if not guest.absent],
        "summary": f"{platform.name}: {count} segment{'' if count == 1 else 's'}, {inside} of {count * (count - 1)} ordered pairs allowed, "
        f"internet from {len(pairs) - inside}",
    }


def describe(finding: Finding) -> dict[str, Any]:
    return {"path": finding.path, "found": finding.found, "reason": finding.reason, "cure": finding.cure, "rule": finding.rule}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "model": {"type": "str", "required": True, "no_log": True},
            "host": {"type": "bool", "default": False},
            "files": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**report(check(_read(module.params["model"]), module.params["host"], module.params["files"])))
    except ModelError as error:
        module.fail_json(msg=str(error), findings=[describe(finding) for finding in error.findings])
    except OSError as error:
        module.fail_json(msg=f"host: true: this host cannot be read: {error}. Mount /proc, or run without `host`")


if __name__ == "__main__":
    main()
