#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: reachability
short_description: Open real connections between segments and compare with the model
version_added: 0.1.0
description:
  - Opens TCP, UDP and ICMP connections between every ordered pair of segments and to the Internet, and compares what came about with what the segments declare.
  - >-
    A connection counts as open when a token has come back through it; from what stands for the Internet, when it accepts the connection or answers.
    It counts as closed when it was refused, or when nothing came back within O(timeout).
  - >-
    Also asks the host, from each segment, for what it offers there: an answer to ping on the gateway address, DNS, and a lease where the segment has
    dynamic ranges. The lease is given back.
  - >-
    Measures from O(probes), and for every other segment from a network namespace that is put on its bridge for a few seconds. Such a namespace gets a static
    address that is neither declared nor in use (looked for by ARP), or a leased one where no other is free.
  - >-
    Namespaces and links have names of their own (C(hybridlab-probe-) and C(hlprobe) with a number). They are removed at the end, also after an error or a
    signal. What a killed run left behind is removed by the next one.
author:
  - hybridlab.platform contributors (@hybridlab)
attributes:
  check_mode:
    description: Can run without changing anything. Nothing is measured then, and RV(matrix) is empty.
    support: full
  diff_mode:
    description: Nothing is ever changed, so there is no difference to report.
    support: none
  idempotent:
    description: Leaves nothing behind, so every run starts from the same state.
    support: full
options:
  config:
    description: The segments, as C(platform_segments) of the inventory has them.
    type: list
    elements: dict
    required: true
  ranges:
    description: Networks that something other than a segment owns, by name. O(internet.address) must not lie in one.
    type: dict
    default: {}
  domain:
    description:
      - The platform's domain. With it, the first host of a segment is asked for by name, and the answer must be its declared address.
      - Without it, any answer of the segment's DNS is taken.
    type: str
  probes:
    description: Places to measure from that are there already, such as guests.
    type: list
    elements: dict
    default: []
    suboptions:
      segment:
        description: Name of the segment that it is in.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      command:
        description:
          - What runs a command there, as an argument list. It is run on the managed host, and the interpreter and its arguments are appended.
          - The program that does the probing is sent to the interpreter. Nothing is installed there.
        type: list
        elements: str
        required: true
      shell:
        description: Whether O(probes[].command) hands the appended arguments to a shell, as C(ssh) does. They are quoted for it.
        type: bool
        default: false
      python:
        description: Python 3.9 or later, at the probe.
        type: str
        default: python3
  identity:
    description:
      - >-
        A private key for O(probes), such as of C(ssh). While it measures, the managed host has it as a file of mode 0600
        in a directory of its own below C(/run).
      - The words C({identity}) and C({known_hosts}) in O(probes[].command) are replaced by the path of that file, and of an empty one beside it.
    type: str
  internet:
    description:
      - What stands for the Internet. Without it, the Internet is not measured.
    type: dict
    suboptions:
      address:
        description: An address outside the platform.
        type: str
        required: true
      tcp_port:
        description: A TCP port that accepts connections there. Without it, TCP is not measured to the Internet.
        type: int
      udp_port:
        description: A UDP port that answers there. Without it, UDP is not measured to the Internet.
        type: int
      udp:
        description: What answers at O(internet.udp_port).
        type: str
        choices: [dns, echo]
        default: dns
      icmp:
        description: Whether it answers to ping.
        type: bool
        default: true
  protocols:
    description: What is measured.
    type: list
    elements: str
    choices: [tcp, udp, icmp]
    default: [tcp, udp, icmp]
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
- name: Open real connections between all segments and compare with the model
  hybridlab.platform.reachability:
    config: "{{ platform_segments }}"
    ranges: "{{ platform_ranges }}"
    domain: "{{ platform_domain }}"
    internet: {address: 8.8.8.8, tcp_port: 53, udp_port: 53}

- name: From a guest where there is one
  hybridlab.platform.reachability:
    config: "{{ platform_segments }}"
    probes:
      - segment: public
        address: 10.0.1.10
        command: [ssh, -p, "2211", -i, "{identity}", -o, "UserKnownHostsFile={known_hosts}", -o, StrictHostKeyChecking=accept-new, root@10.0.1.10]
        shell: true
    identity: "{{ lookup('ansible.builtin.file', '~/.ssh/lab') }}"
"""

RETURN = r"""
summary:
  description: The result in one line.
  returned: always
  type: str
  sample: pairs 20/20, internet 5/5
differences:
  description: A sentence for each thing that is not as declared.
  returned: always
  type: list
  elements: str
  sample: ["database -> public: tcp open; declared closed (platform_segments[database].reaches does not name public)"]
matrix:
  description: Source to destination to protocol to V(open), V(refused), V(timeout) or an error in words. Empty in check mode.
  returned: always
  type: dict
  sample: {public: {private: {tcp: open, udp: open, icmp: open}, internet: {tcp: open, udp: open, icmp: open}}}
expected:
  description: Source to destination to whether connections may be opened, as declared.
  returned: always
  type: dict
  sample: {public: {private: true, internet: true}}
segments:
  description: For each segment its probe, what the host offered it, and whether all that starts in it or belongs to it is as declared. Empty in check mode.
  returned: always
  type: dict
  contains:
    ok: {description: Whether nothing in RV(differences) begins with this segment., type: bool}
    bridge: {description: The bridge., type: str}
    cidr: {description: The segment's network., type: str}
    gateway: {description: The host's address in it., type: str}
    address: {description: Address of the probe., type: str}
    probe: {description: V(namespace) or V(given)., type: str}
    ping: {description: Result of pinging the gateway., type: str}
    dns: {description: Result of asking the gateway for a name., type: str}
    lease: {description: Address that was leased; null where the segment leases none., type: str}
    dhcp: {description: "The lease: address, mask, router, dns, domain, seconds, server; null where there is none.", type: dict}
table:
  description: The matrix as text. C(!) marks what is not as declared.
  returned: always
  type: str
pairs_ok:
  description: Ordered pairs of segments that are as declared.
  returned: always
  type: int
pairs_total:
  description: Ordered pairs that were measured.
  returned: always
  type: int
internet_ok:
  description: Segments whose way to the Internet is as declared.
  returned: always
  type: int
internet_total:
  description: Segments whose way to the Internet was measured.
  returned: always
  type: int
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.matrix import as_table, count, differences, summary
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_segments
from ansible_collections.hybridlab.platform.plugins.module_utils.core.probes import PROTOCOLS, Internet, Services, service_faults, words
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import expected_matrix
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.host.netns import end_on_signals
from ansible_collections.hybridlab.platform.plugins.module_utils.host.probe_run import GivenProbe, Measured, measure


class Reachability:
    """Reads the arguments, measures, and says what it means."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        segments = parse_segments(self.params["config"], self.params["domain"])
        self.platform = Platform("platform", self.params["domain"] or "", segments, ranges=self._ranges())
        self.internet = self._internet()
        self.given = self._given()

    def run(self) -> dict[str, Any]:
        if self.module.check_mode:
            self.module.warn("check mode: nothing was measured")
            return self._report(Measured({}, {}, {}))
        with _identity(self.params["identity"], self.given) as given:
            measured = measure(self.platform, given, self.internet, self.params["protocols"], self.params["timeout"], self.params["domain"])
        return self._report(measured)

    def _ranges(self) -> dict[str, IPv4Network]:
        ranges = {}
        for name, value in self.params["ranges"].items():
            try:
                ranges[name] = IPv4Network(value)
            except ValueError as error:
                raise ResourceError(f"ranges.{name}: found {value!r}: {error}. Write a network, such as 172.17.0.0/16.") from None
        return ranges

    def _internet(self) -> Optional[Internet]:
        raw = self.params["internet"]
        if raw is None:
            return None
        address = _address("internet.address", raw["address"])
        owners = {f"platform_segments[{segment.name}]": segment.cidr for segment in self.platform.segments}
        owners.update({f"ranges.{name}": cidr for name, cidr in self.platform.ranges.items()})
        for owner, cidr in owners.items():
            if address in cidr:
                raise ResourceError(f"internet.address: found {address}, which lies in {owner} ({cidr}). Choose an address outside the platform.")
        return Internet(address, raw["tcp_port"], raw["udp_port"], raw["udp"], raw["icmp"])

    def _given(self) -> dict[str, GivenProbe]:
        known = {segment.name: segment for segment in self.platform.segments}
        given = {}
        for name, probe in unique(self.params["probes"], "segment", "probes").items():
            if name not in known:
                raise ResourceError(f"probes: found segment {name!r}, which is none of {', '.join(known)}. Name one of them.")
            address = _address(f"probes[{name}].address", probe["address"])
            if address not in known[name].cidr:
                raise ResourceError(f"probes[{name}].address: found {address}, which lies outside {known[name].cidr}. Give its address in that segment.")
            given[name] = GivenProbe(str(address), tuple(probe["command"]), probe["python"], probe["shell"])
        return given

    def _report(self, measured: Measured) -> dict[str, Any]:
        expected = expected_matrix(self.platform)
        faults = {
            segment.name: service_faults(segment, self.params["domain"], measured.services[segment.name])
            for segment in self.platform.segments
            if segment.name in measured.services
        }
        found = differences(expected, measured.matrix) + [fault for name in faults for fault in faults[name]]
        numbers = count(expected, measured.matrix)
        nested: dict[str, dict[str, bool]] = {segment.name: {} for segment in self.platform.segments}
        for (source, destination), allowed in expected.items():
            nested[source][destination] = allowed
        segments = {name: self._segment(name, measured, found) for name in measured.services}
        return {
            "changed": False,
            "summary": summary(numbers, found) if measured.matrix else "not measured",
            "differences": found,
            "matrix": measured.matrix,
            "expected": nested,
            "segments": segments,
            "table": as_table(expected, measured.matrix) if measured.matrix else "",
            **numbers,
        }

    def _segment(self, name: str, measured: Measured, found: list[str]) -> dict[str, Any]:
        segment, services = self.platform.segment(name), measured.services[name]
        lease = _lease(services)
        return {
            "ok": not any(line.startswith((f"{name}:", f"{name} ->")) for line in found),
            "bridge": segment.bridge,
            "cidr": str(segment.cidr),
            "gateway": str(segment.gateway),
            "address": measured.addresses[name],
            "probe": "given" if name in self.given else "namespace",
            "ping": words(services.ping),
            "dns": words(services.dns),
            "lease": lease["address"] if lease else None,
            "dhcp": lease,
        }


@contextmanager
def _identity(key: Optional[str], given: Mapping[str, GivenProbe]) -> Iterator[Mapping[str, GivenProbe]]:
    """The probes with the key's path in their commands, for as long as the file is there."""
    if key is None:
        yield given
        return
    # In memory where there is a /run: a key that a crash left behind is gone with the next boot.
    parent = "/run" if Path("/run").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="hybridlab-identity-", dir=parent) as folder:
        identity, known_hosts = Path(folder, "identity"), Path(folder, "known_hosts")
        identity.touch(mode=0o600)
        identity.write_text(key.rstrip("\n") + "\n", encoding="ascii")
        known_hosts.touch(mode=0o600)
        yield {name: replace(probe, command=tuple(_filled(word, identity, known_hosts) for word in probe.command)) for name, probe in given.items()}


def _filled(word: str, identity: Path, known_hosts: Path) -> str:
    return word.replace("{identity}", str(identity)).replace("{known_hosts}", str(known_hosts))


def _lease(services: Services) -> Optional[dict[str, Any]]:
    if services.lease is None or services.lease["result"] != "open":
        return None
    return {key: value for key, value in services.lease.items() if key != "result"}


def _address(path: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise ResourceError(f"{path}: found {text!r}, which is no IPv4 address. Write one, such as 10.0.1.10.") from None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "list", "elements": "dict", "required": True},
            "ranges": {"type": "dict", "default": {}},
            "domain": {"type": "str"},
            "probes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "segment": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "command": {"type": "list", "elements": "str", "required": True},
                    "shell": {"type": "bool", "default": False},
                    "python": {"type": "str", "default": "python3"},
                },
            },
            "internet": {
                "type": "dict",
                "options": {
                    "address": {"type": "str", "required": True},
                    "tcp_port": {"type": "int"},
                    "udp_port": {"type": "int"},
                    "udp": {"type": "str", "choices": ["dns", "echo"], "default": "dns"},
                    "icmp": {"type": "bool", "default": True},
                },
            },
            "identity": {"type": "str", "no_log": True},
            "protocols": {"type": "list", "elements": "str", "choices": list(PROTOCOLS), "default": list(PROTOCOLS)},
            "timeout": {"type": "float", "default": 3},
            "fail_on_difference": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    end_on_signals()
    try:
        answer = Reachability(module).run()
    except (ResourceError, ModelError, OSError) as error:
        module.fail_json(msg=str(error))
    if answer["differences"] and module.params["fail_on_difference"]:
        module.fail_json(msg="\n".join([f"not as declared: {answer['summary']}", *(f"  - {line}" for line in answer["differences"])]), **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
