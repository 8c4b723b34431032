#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_probes
short_description: Open real connections to published ports from each side and compare with the model
version_added: 0.1.0
description:
  - >-
    Tries each port at the host's address from each segment, from the host itself (by an address of its own and by C(127.0.0.1)), and from the Internet,
    and compares what came about with O(config[].from). Also tries the container's own address, which only the host may reach.
  - >-
    A TCP connection counts as open when it is accepted, as closed when it was refused, or when nothing came back within O(timeout).
    A datagram that nobody refuses counts as let through, because nobody knows what question a UDP service would answer.
  - >-
    Whether anybody answers at all is asked of the container from the host, past all rules. A port at which nobody answers is a difference:
    that it is closed to others proves nothing then.
  - >-
    Each segment is measured from a network namespace that is put on its bridge for a few seconds, as M(hybridlab.platform.reachability) does.
    A further one plays the Internet. It has a link of its own with the host, and addresses of RFC 5737 that the host has no route to.
  - From the tailnet nothing is measured, because no packet can come from there without another member.
  - >-
    Namespaces and links have names of their own (C(hybridlab-probe-) and C(hlprobe) with a number). They are removed at the end, also after an error or a
    signal. What a killed run left behind is removed by the next one.
author:
  - hybridlab.platform contributors (@hybridlab)
attributes:
  check_mode:
    description: Can run without changing anything. Nothing is measured then, and RV(ports) is empty.
    support: full
  diff_mode:
    description: Nothing is ever changed, so there is no difference to report.
    support: none
  idempotent:
    description: Leaves nothing behind, so every run starts from the same state.
    support: full
options:
  config:
    description: The ports, as the filter P(hybridlab.platform.published_ports#filter) makes them from the workloads.
    type: list
    elements: dict
    required: true
    suboptions:
      workload:
        description: Who answers there. For messages.
        type: str
        required: true
      published:
        description: Port of the host.
        type: int
        required: true
      target:
        description: Port of the container.
        type: int
        required: true
      protocol:
        description: The protocol.
        type: str
        choices: [tcp, udp]
        default: tcp
      from:
        description: From where it may be reached. V(internet), V(tailnet), V(host) and names of segments.
        type: list
        elements: str
        required: true
  segments:
    description: The segments, as C(platform_segments) of the inventory has them.
    type: list
    elements: dict
    required: true
  undeclared:
    description:
      - What becomes of ports that somebody publishes and O(config) does not name, as O(hybridlab.platform.port_firewall#module:undeclared) says.
      - With V(refuse) every such port that Docker has at the time is tried too. Nobody may reach it. With V(allow) they are left out.
    type: str
    choices: [refuse, allow]
    default: refuse
  timeout:
    description: Seconds that one connection may take.
    type: float
    default: 3
  fail_on_difference:
    description: Whether the run fails when anything is not as declared.
    type: bool
    default: true
requirements:
  - iproute2, nsenter of util-linux, and root's rights on the managed host, for namespaces
"""

EXAMPLES = r"""
- name: Try the published ports from each side and compare with the model
  hybridlab.platform.port_probes:
    config: "{{ platform_workloads | hybridlab.platform.published_ports }}"
    segments: "{{ platform_segments }}"
"""

RETURN = r"""
summary:
  description: The result in one line.
  returned: always
  type: str
  sample: ports 1/1, connections 14/14
differences:
  description: A sentence for each thing that is not as declared.
  returned: always
  type: list
  elements: str
  sample: ["8080/tcp (web): from database open; declared closed (platform_workloads[web].ports from does not name database)"]
ports:
  description: Each port with what was met. Empty in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    workload: {description: The workload. Empty for a port that is published past the model., type: str}
    published: {description: Port of the host., type: int}
    protocol: {description: The protocol., type: str}
    from: {description: The declared sources., type: list, elements: str}
    container: {description: Address and port that Docker leads it to; null where there is none., type: str}
    listening: {description: Whether anybody answers there., type: bool}
    results: {description: "Side to V(open), V(refused), V(timeout) or an error in words.", type: dict}
    direct: {description: The same for the container's own address., type: dict}
    ok: {description: Whether all of it is as declared., type: bool}
table:
  description: The results as text. C(!) marks what is not as declared.
  returned: always
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core import published_ports
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_ports import ALLOW, REFUSE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_segments
from ansible_collections.hybridlab.platform.plugins.module_utils.core.port_probes import as_rows, as_table, differences, places, summary, undeclared
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.netns import end_on_signals
from ansible_collections.hybridlab.platform.plugins.module_utils.host.port_probe_run import containers, measure_ports


def probe(module: AnsibleModule) -> dict[str, Any]:
    """Reads the arguments, measures, and says what it means."""
    segments = parse_segments(module.params["segments"])
    names = [segment.name for segment in segments]
    published = published_ports.read(module.params["config"], names)
    if module.check_mode:
        module.warn("check mode: nothing was measured")
        return {"changed": False, "summary": "not measured", "differences": [], "ports": [], "table": ""}
    led = containers(module.run_command, module.get_bin_path("iptables"))
    if module.params["undeclared"] == REFUSE:
        published += undeclared(published, led)
    found = measure_ports(published, segments, led, module.params["timeout"])
    faults = differences(found)
    return {"changed": False, "summary": summary(found, faults), "differences": faults, "ports": as_rows(found), "table": as_table(found, places(names))}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "workload": {"type": "str", "required": True},
                    "published": {"type": "int", "required": True},
                    "target": {"type": "int", "required": True},
                    "protocol": {"type": "str", "choices": list(published_ports.PROTOCOLS), "default": "tcp"},
                    "from": {"type": "list", "elements": "str", "required": True},
                },
            },
            "segments": {"type": "list", "elements": "dict", "required": True},
            "undeclared": {"type": "str", "choices": [REFUSE, ALLOW], "default": REFUSE},
            "timeout": {"type": "float", "default": 3},
            "fail_on_difference": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    end_on_signals()
    try:
        answer = probe(module)
    except (ResourceError, ModelError, OSError) as error:
        module.fail_json(msg=str(error))
    if answer["differences"] and module.params["fail_on_difference"]:
        module.fail_json(msg="\n".join([f"not as declared: {answer['summary']}", *(f"  - {line}" for line in answer["differences"])]), **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
