#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: segment_firewall
short_description: Compile the segments' relation into one nftables table and keep it loaded
version_added: 0.1.0
description:
  - >-
    Compiles the segments into the table C(inet hybridlab_segments): who may open connections to whom, what the host offers to each segment,
    masquerading to the Internet, and forwards of SSH ports. No other table is read or changed.
  - >-
    A change is one transaction. The base chains and the counters stay, the rules are replaced. A connection that is established stays alive,
    even when its pair is no longer declared. New connections follow the new rules.
  - >-
    The table in the kernel is compared rule by rule with the declared one. The declared one is loaded into a network namespace of its own for that,
    and both are listed by the same C(nft). What somebody added, removed or flushed by hand is repaired.
  - >-
    Bridges of this collection's networks that the host still has and O(config) no longer names are closed. Nothing is forwarded from or to them,
    and the host answers their guests only in connections that are established.
  - >-
    The same rules are written to O(path) for the next boot. C(nft -f) of that file is right on an empty kernel and on one that has the table.
    Load it before any network comes up. The distribution's C(nftables.service) is not fit for that, because it flushes everybody's rules.
  - >-
    Packets that the table lets pass have bit C(0x1000) set in their mark. A table of somebody else can still refuse them,
    because in nftables every base chain must accept.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The segments, as C(platform_segments) of the inventory has them. Needed for O(state=merged) and O(state=rendered).
    type: list
    elements: dict
  ranges:
    description: Networks that something other than a segment owns, by name. No segment may open connections into them.
    type: dict
    default: {}
  host_ssh_ports:
    description: Ports of the host's own sshd. They are offered to segments that name C(ssh) in their C(host_services).
    type: list
    elements: int
    default: []
  path:
    description:
      - Where the rules are kept for the next boot.
      - The file has mode 0600. Only root loads it, and it tells an intruder what is where.
    type: path
    default: /etc/hybridlab/segments.nft
  docker_user:
    description:
      - >-
        Docker sets the policy of iptables' chain C(FORWARD) to C(DROP) when it is the one that turns forwarding on, and that refuses what this table lets pass.
        With V(auto), where C(iptables) is installed, the chain C(DOCKER-USER) gets one rule that accepts packets with the mark of this table.
        The chain is made when it is missing. Docker keeps what it finds in it.
      - >-
        The rule lives in the kernel only. A reboot ends it, and so does a start or complete reload of firewalld, which empties iptables. Where firewalld runs,
        let it keep the same chain and rule in C(/etc/firewalld/direct.xml); elsewhere put it back at boot, after O(path) is loaded.
      - With V(never), iptables is left alone.
    type: str
    choices: [auto, never]
    default: auto
  state:
    description:
      - V(merged) makes the table exactly the declared one.
      - >-
        V(deleted) removes the table, the file and the rule in C(DOCKER-USER). Remove the segments' networks first. Without the table a host that forwards
        lets everything pass between them.
      - V(gathered) reports the table, and how many packets of new connections each pair has had.
      - V(rendered) returns the rules without touching any host.
    type: str
    choices: [merged, deleted, gathered, rendered]
    default: merged
requirements:
  - nftables 1.0.6 or later, and unshare of util-linux, on the managed host
"""

EXAMPLES = r"""
- name: Two segments, one of which may reach the other
  hybridlab.platform.segment_firewall:
    config:
      - {name: public, cidr: 10.0.1.0/24, reaches: [private]}
      - {name: private, cidr: 10.0.2.0/24, internet: false}
    ranges:
      docker_bridge: 172.17.0.0/16

- name: The inventory's segments; show what would change
  hybridlab.platform.segment_firewall:
    config: "{{ platform_segments }}"
    ranges: "{{ platform_ranges }}"
    host_ssh_ports: "{{ platform_host.ssh_ports }}"
  check_mode: true
  diff: true

- name: How much each pair has been used
  hybridlab.platform.segment_firewall:
    state: gathered
  register: firewall

- name: The rules as text, for a review
  hybridlab.platform.segment_firewall:
    config: "{{ platform_segments }}"
    state: rendered
"""

RETURN = r"""
before:
  description:
    - The host as found. C(chains) is chain to rules, in C(nft)'s own words and without counter values, or null when there is no table.
    - C(objects) names all else in the table. C(file) is null when there is none. C(docker_user) tells whether C(DOCKER-USER) has the rule.
  returned: when O(state) is V(merged) or V(deleted)
  type: dict
  sample: {table: hybridlab_segments, chains: null, objects: null, file: null, docker_user: false}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is V(merged) or V(deleted)
  type: dict
  sample:
    table: hybridlab_segments
    chains:
      pass: [meta mark set meta mark | 0x00001000 accept]
    objects: [counter pair_public_private]
    file: {path: /etc/hybridlab/segments.nft, mode: "0600", as_declared: true}
    docker_user: true
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [nft -f /etc/hybridlab/segments.nft]
rules:
  description: Number of rules of the declared table.
  returned: when O(state) is V(merged) or V(rendered)
  type: int
  sample: 154
strays:
  description: Bridges of this collection's networks that O(config) no longer names, as C(/etc/libvirt) and C(/run/libvirt) tell. The rules close them.
  returned: when O(state) is V(merged)
  type: list
  elements: str
  sample: [br-retired]
gathered:
  description: The table, the file and the chain C(DOCKER-USER), as in RV(before).
  returned: when O(state) is V(gathered)
  type: dict
pairs:
  description: For each declared pair the packets of new connections that have passed. Replies and established connections are not counted.
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
  sample: [{source: public, destination: private, packets: 12, bytes: 720}]
rendered:
  description: The rules, as O(path) holds them.
  returned: when O(state) is V(rendered)
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_compile import TABLE, compile_firewall, counted_pair
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.firewall_table import FirewallTable
from ansible_collections.hybridlab.platform.plugins.module_utils.host.system import own_bridges


class SegmentFirewall:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params: dict[str, Any] = module.params
        self.table = FirewallTable(module, TABLE, docker_user=self.params["docker_user"] == "auto")

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        if state == "gathered":
            return {"changed": False, "gathered": self.table.gathered(), "pairs": self._pairs()}
        if state == "deleted":
            return self.table.deleted()
        platform = self._platform()
        if state == "rendered":
            return self.table.rendered(compile_firewall(platform))
        strays = sorted(set(own_bridges()) - {segment.bridge for segment in platform.segments})
        return {**self.table.merged(compile_firewall(platform, strays)), "strays": strays}

    def _platform(self) -> Platform:
        return parse_platform(
            {
                # The rules have neither in them; a model without them is not whole.
                "platform_name": "platform",
                "platform_domain": "lab.local",
                "platform_segments": self.params["config"],
                "platform_ranges": self.params["ranges"],
                "platform_host": {"ssh_ports": self.params["host_ssh_ports"]},
            }
        )

    def _pairs(self) -> list[dict[str, Any]]:
        pairs = []
        for name, (packets, size) in self.table.counters().items():
            pair = counted_pair(name)
            if pair is not None:
                pairs.append({"source": pair[0], "destination": pair[1], "packets": packets, "bytes": size})
        return pairs


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "list", "elements": "dict"},
            "ranges": {"type": "dict", "default": {}},
            "host_ssh_ports": {"type": "list", "elements": "int", "default": []},
            "path": {"type": "path", "default": "/etc/hybridlab/segments.nft"},
            "docker_user": {"type": "str", "choices": ["auto", "never"], "default": "auto"},
            "state": {"type": "str", "choices": ["merged", "deleted", "gathered", "rendered"], "default": "merged"},
        },
        required_if=[("state", "merged", ["config"]), ("state", "rendered", ["config"])],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**SegmentFirewall(module).run())
    except (ResourceError, ModelError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
