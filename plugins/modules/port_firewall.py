#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_firewall
short_description: Compile from where published ports may be reached into one nftables table and keep it loaded
version_added: 0.1.0
description:
  - >-
    Docker opens a port that it publishes to everybody, and writes its own rules again at each start. This module keeps the table
    C(inet hybridlab_ports), which judges a new connection where it comes in, before Docker has translated its destination. No other table is read or changed.
  - >-
    What may pass gets bit C(0x2000) in its mark. What reaches a container without that bit is refused, whether Docker translated it or not.
    A TCP connection that is refused gets a reset, all else an ICMP error, so a program fails at once.
  - >-
    Containers may open connections among themselves and to the outside as before. A port of the host's address is closed to them, since O(config[].from) can't
    name them. Workloads reach each other by a network that they share.
  - >-
    The host's own connections are judged too, also those to C(127.0.0.1). What it opens to a container's own address is left alone.
  - Declared ports are closed to IPv6 altogether.
  - >-
    A change is one transaction. A connection that is established stays alive, even when its source is no longer declared. New connections follow the new rules.
  - >-
    The table in the kernel is compared rule by rule with the declared one, as M(hybridlab.platform.segment_firewall) does.
  - >-
    The same rules are written to O(path) for the next boot. Load them before Docker starts; the role C(published_ports) does.
  - Docker has to run without its userland proxy. That proxy listens on the host itself, where no address is translated.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description:
      - The ports, as the filter P(hybridlab.platform.published_ports#filter) makes them from the workloads.
      - Needed for O(state=merged) and O(state=rendered). It may be empty. Then every port that somebody publishes is an undeclared one.
    type: list
    elements: dict
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
        description: Port of the container. No rule needs it.
        type: int
        required: true
      protocol:
        description: The protocol.
        type: str
        choices: [tcp, udp]
        default: tcp
      from:
        description:
          - From where it may be reached. V(internet), V(tailnet), V(host) and names of segments. An empty list closes it to all.
          - >-
            A segment is known by its bridge and its addresses, the tailnet by the interface C(tailscale0), and the Internet is what comes from anywhere else
            but a container.
        type: list
        elements: str
        required: true
  segments:
    description: The segments, as C(platform_segments) of the inventory has them.
    type: list
    elements: dict
    default: []
  networks:
    description: Every network in which containers have their addresses, as the filter P(hybridlab.platform.docker_networks#filter) lists them.
    type: list
    elements: str
    default: []
  undeclared:
    description:
      - What becomes of ports that somebody publishes and O(config) does not name, such as with C(docker run -p).
      - With V(refuse) nobody reaches them, not even the host.
      - With V(allow) they are as open as Docker makes them, except to the segments, whose own rules let only declared ports pass.
    type: str
    choices: [refuse, allow]
    default: refuse
  allow_disruption:
    description:
      - Whether a change may close a port to everybody that is published now and that no workload declares, or, with O(state=deleted), open what is published.
      - Without it such a change is refused before anything is done, also in check mode. The message names the ports and who publishes them.
      - >-
        What counts is what the engine publishes now, and what the table, or else O(path), had closed before. A port that was closed to all is no disruption,
        nor is one of a workload that was taken out of the model.
    type: bool
    default: false
  ignore_workloads:
    description:
      - With O(state=deleted), whether ports of workloads are left out of account.
      - For check mode and for a look ahead, where the workloads themselves are removed before the table in the real run.
    type: bool
    default: false
  path:
    description: Where the rules are kept for the next boot. The file has mode 0600.
    type: path
    default: /etc/hybridlab/ports.nft
  state:
    description:
      - V(merged) makes the table exactly the declared one.
      - V(deleted) removes the table and the file. It is refused while something is published, see O(allow_disruption).
      - V(gathered) reports the table, and how many packets of new connections were admitted and refused.
      - V(rendered) returns the rules without touching any host.
    type: str
    choices: [merged, deleted, gathered, rendered]
    default: merged
requirements:
  - nftables 1.0.6 or later, and unshare of util-linux, on the managed host
"""

EXAMPLES = r"""
- name: A port for one segment and the host
  hybridlab.platform.port_firewall:
    config:
      - {workload: web, published: 8080, target: 80, from: [public, host]}
    segments:
      - {name: public, cidr: 10.0.1.0/24}
    networks: [172.17.0.0/16]

- name: The inventory's workloads; show what would change
  hybridlab.platform.port_firewall:
    config: "{{ platform_workloads | hybridlab.platform.published_ports }}"
    segments: "{{ platform_segments }}"
    networks: "{{ platform_docker | hybridlab.platform.docker_networks(platform_ranges) }}"
  check_mode: true
  diff: true

- name: Who was let in, and who was refused
  hybridlab.platform.port_firewall:
    state: gathered
  register: ports
"""

RETURN = r"""
before:
  description:
    - The host as found. C(chains) is chain to rules, in C(nft)'s own words and without counter values, or null when there is no table.
    - C(objects) names all else in the table. C(file) is null when there is none.
  returned: when O(state) is V(merged) or V(deleted)
  type: dict
  sample: {table: hybridlab_ports, chains: null, objects: null, file: null}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is V(merged) or V(deleted)
  type: dict
  sample:
    table: hybridlab_ports
    chains:
      admit: [meta mark set meta mark | 0x00002000 accept]
    objects: [counter refused_tcp_8080]
    file: {path: /etc/hybridlab/ports.nft, mode: "0600", as_declared: true}
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [nft -f /etc/hybridlab/ports.nft]
rules:
  description: Number of rules of the declared table.
  returned: when O(state) is V(merged) or V(rendered)
  type: int
  sample: 48
gathered:
  description: The table and the file, as in RV(before).
  returned: when O(state) is V(gathered)
  type: dict
counters:
  description:
    - The packets of new connections. Each repeated attempt of one connection counts.
    - The port C(undeclared) stands for what is published past the model, C(direct) for containers' own addresses.
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
  sample: [{verdict: admitted, port: 8080/tcp, source: public, packets: 12, bytes: 720}]
rendered:
  description: The rules, as O(path) holds them.
  returned: when O(state) is V(rendered)
  type: str
"""

from ipaddress import IPv4Network
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core import published_ports
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_plan import Found
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_ports import ALLOW, REFUSE, TABLE, compile_ports, counted
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_segments
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_now import Publication, refuse_closing, refuse_opening, would_close
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.firewall_table import FirewallTable
from ansible_collections.hybridlab.platform.plugins.module_utils.host.published_now import published_now


class PortFirewall:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.declared: set[tuple[str, int]] = set()
        self.table = FirewallTable(module, TABLE)

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        if state == "gathered":
            return {"changed": False, "gathered": self.table.gathered(), "counters": self._counters()}
        if state == "deleted":
            return self.table.deleted(None if self.params["allow_disruption"] else self._keep_closed)
        segments = parse_segments(self.params["segments"]) if self.params["segments"] else ()
        ports = [one.port for one in published_ports.read(self.params["config"], [segment.name for segment in segments])]
        ruleset = compile_ports(ports, segments, self._networks(), self.params["undeclared"])
        if state == "rendered":
            return self.table.rendered(ruleset)
        self.declared = {(port.protocol, port.published) for port in ports}
        closes = self.params["undeclared"] == REFUSE and not self.params["allow_disruption"]
        return self.table.merged(ruleset, self._keep_open if closes else None)

    def _keep_open(self, found: Found) -> None:
        refuse_closing(would_close(self._published(), self.declared, found.live, found.file_text))

    def _keep_closed(self, found: Found) -> None:
        if found.live is not None:
            refuse_opening([one for one in self._published() if not (one.ours and self.params["ignore_workloads"])])

    def _published(self) -> list[Publication]:
        # The program alone tells nothing of an engine: libvirt brings it too.
        iptables = self.module.get_bin_path("iptables") if self.module.get_bin_path("dockerd") else None
        return published_now(self.module.run_command, iptables)

    def _networks(self) -> list[IPv4Network]:
        networks = []
        for index, text in enumerate(self.params["networks"]):
            try:
                networks.append(IPv4Network(text))
            except ValueError as error:
                raise ResourceError(f"networks[{index}]: found {text!r}: {error}. Write a network, such as 172.17.0.0/16.") from None
        return networks

    def _counters(self) -> list[dict[str, Any]]:
        read = ((counted(name), packets, size) for name, (packets, size) in self.table.counters().items())
        return [{**what, "packets": packets, "bytes": size} for what, packets, size in read if what is not None]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "workload": {"type": "str", "required": True},
                    "published": {"type": "int", "required": True},
                    "target": {"type": "int", "required": True},
                    "protocol": {"type": "str", "choices": list(published_ports.PROTOCOLS), "default": "tcp"},
                    "from": {"type": "list", "elements": "str", "required": True},
                },
            },
            "segments": {"type": "list", "elements": "dict", "default": []},
            "networks": {"type": "list", "elements": "str", "default": []},
            "undeclared": {"type": "str", "choices": [REFUSE, ALLOW], "default": REFUSE},
            "allow_disruption": {"type": "bool", "default": False},
            "ignore_workloads": {"type": "bool", "default": False},
            "path": {"type": "path", "default": "/etc/hybridlab/ports.nft"},
            "state": {"type": "str", "choices": ["merged", "deleted", "gathered", "rendered"], "default": "merged"},
        },
        required_if=[("state", "merged", ["config"]), ("state", "rendered", ["config"])],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**PortFirewall(module).run())
    except (ResourceError, ModelError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
