# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five networks, two pools and the rules between them: our three tasks against the stock modules' tasks.

Both sides stand on the same sandbox host at the same time, with names and ranges of their own, and run in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.row import Row
from tools import playbook
from tools.sandbox.names import Identity, Settings
from tools.sandbox.verbs import Sandbox

NAMES = ("segments_first", "segments_second")
SANDBOX = "bench"
INVENTORY = "inventories/sandbox"
FIRST_RUNS = 2
SECOND_RUNS = 3
MODEL = yaml.safe_load((playbook.CHECKOUT / "inventories/lab/group_vars/all/segments.yml").read_text(encoding="utf-8"))

# The peer has no playbook that takes everything back: by hand, on a host that is thrown away.
REMOVE_PEER = """
for name in $(virsh -q net-list --all --name | grep '^peer-'); do virsh -q net-destroy $name; virsh -q net-undefine $name; done
for name in $(virsh -q pool-list --all --name | grep '^peer'); do virsh -q pool-destroy $name; virsh -q pool-undefine $name; done
iptables-save | grep -v -- '--comment bench' | iptables-restore
"""


@dataclass(frozen=True)
class Measured:
    """One run: wall seconds, and processor seconds of the controller and of the managed host with its daemons."""

    seconds: float
    controller: float
    host: float


def rows() -> Iterator[Row]:
    sandbox("up", "--name", SANDBOX)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            variables = Path(scratch) / "bench.json"
            variables.write_text(json.dumps(_variables()), encoding="utf-8")
            yield from _measure(variables)
    finally:
        sandbox("down", "--name", SANDBOX)


def _measure(variables: Path) -> Iterator[Row]:
    container = Sandbox(Identity.of(), Settings.read(os.environ)).container(SANDBOX)

    def host_cpu_seconds() -> float:
        stats = container.client.api.stats(container.id, stream=False, one_shot=True)
        return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9

    def timed(name: str) -> Measured:
        used = host_cpu_seconds()
        outcome = playbook.run(f"bench/playbooks/{name}.yml", INVENTORY, "-e", f"@{variables}", sandbox=SANDBOX)
        if outcome.rc != 0:
            raise SystemExit(f"bench: {name}.yml ended with {outcome.rc}\n{outcome.failures()}\n{outcome.output[-3000:]}")
        return Measured(outcome.seconds, outcome.cpu_seconds, host_cpu_seconds() - used)

    timed("prepare")
    ours, peer = [], []
    for index in range(FIRST_RUNS):
        if index:
            timed("ours_remove")
            sandbox("exec", SANDBOX, "--", "sh", "-euc", REMOVE_PEER)
        ours.append(timed("ours"))
        peer.append(timed("peer"))
    yield row("segments_first", ours, peer, 0.25, f"peer: {len(_peer_rules())} rules, one task each")
    ours, peer = [], []
    for _index in range(SECOND_RUNS):
        ours.append(timed("ours"))
        peer.append(timed("peer"))
    yield row("segments_second", ours, peer, 0.125, "nothing to change")


def row(name: str, ours: list[Measured], peer: list[Measured], goal: float, what: str) -> Row:
    """The quickest run of each side, with the processor time of that same run."""
    best = [min(side, key=lambda run: run.seconds) for side in (ours, peer)]
    cpu = ", ".join(f"{who} {run.controller:.2f}+{run.host:.2f}" for who, run in zip(("ours", "peer"), best))
    return Row(name, best[0].seconds, best[1].seconds, goal, f"wall seconds, least of {len(ours)} runs in turn; {what}; cpu seconds controller+host: {cpu}")


def _variables() -> dict[str, Any]:
    return {
        "bench_pools": [{"name": f"ours{number}", "path": f"/srv/ours{number}"} for number in (1, 2)],
        "bench_peer_pools": [{"name": f"peer{number}", "path": f"/srv/peer{number}"} for number in (1, 2)],
        "bench_peer_networks": [{"name": f"peer-{segment['name']}", "xml": _peer_network(segment)} for segment in MODEL["platform_segments"]],
        "bench_peer_rules": _peer_rules(),
    }


def _peer_address(address: str) -> str:
    """The same address in a range that ours does not use."""
    return address.replace("10.0.", "10.99.", 1)


def _bridge(segment: dict[str, Any]) -> str:
    return f"pb-{segment['name']}"


def _peer_network(segment: dict[str, Any]) -> str:
    """What an operator of the stock module writes by hand."""
    ranges = "".join(f"<range start='{_peer_address(r['first'])}' end='{_peer_address(r['last'])}'/>" for r in segment.get("dhcp", []))
    dhcp = f"<dhcp>{ranges}</dhcp>" if ranges else ""
    return (
        f"<network><name>peer-{segment['name']}</name><forward mode='open'/><bridge name='{_bridge(segment)}' stp='on' delay='0'/>"
        f"<domain name='peer.local' localOnly='yes'/><ip address='{_peer_address(segment['gateway'])}' netmask='255.255.255.0'>{dhcp}</ip></network>"
    )


def _peer_rules() -> list[dict[str, Any]]:
    """Rules of equal effect to ours, as arguments of the stock iptables module; like ours they cover the bridges alone."""
    segments = {segment["name"]: segment for segment in MODEL["platform_segments"]}
    rules: list[dict[str, Any]] = [{"chain": chain, "ctstate": ["ESTABLISHED", "RELATED"], "jump": "ACCEPT"} for chain in ("FORWARD", "INPUT")]
    for segment in segments.values():
        bridge, cidr = _bridge(segment), _peer_address(segment["cidr"])
        rules.append({"chain": "FORWARD", "in_interface": bridge, "source": f"!{cidr}", "jump": "DROP"})
        rules += [{"chain": "FORWARD", "in_interface": bridge, "out_interface": _bridge(segments[name]), "jump": "ACCEPT"} for name in segment["reaches"]]
    for segment in segments.values():
        rules.append({"chain": "FORWARD", "in_interface": "pb-+", "out_interface": _bridge(segment), "jump": "REJECT"})
        rules.append({"chain": "FORWARD", "in_interface": _bridge(segment), "jump": "ACCEPT"})
        rules.append({"chain": "FORWARD", "out_interface": _bridge(segment), "jump": "DROP"})
        rules.append({"table": "nat", "chain": "POSTROUTING", "source": _peer_address(segment["cidr"]), "destination": "!10.99.0.0/16", "jump": "MASQUERADE"})
        gateway = _peer_address(segment["gateway"])
        for protocol, port in (("udp", "67"), ("udp", "53"), ("tcp", "53")):
            target = {} if port == "67" else {"destination": gateway}
            rules.append({"chain": "INPUT", "in_interface": _bridge(segment), "protocol": protocol, "destination_port": port, "jump": "ACCEPT", **target})
        rules.append({"chain": "INPUT", "in_interface": _bridge(segment), "protocol": "icmp", "destination": gateway, "jump": "ACCEPT"})
        rules.append({"chain": "INPUT", "in_interface": _bridge(segment), "jump": "REJECT"})
    return rules


def sandbox(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "tools.sandbox", *arguments], cwd=playbook.CHECKOUT, stdout=sys.stderr, check=True)
