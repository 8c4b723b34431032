# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person should look at in the state of a host and its guests, and the parts of that state that are read from text. No I/O.

The state is the value that module platform_state returns: plain data, documented there.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import agent_element
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import size_text

# A line of the rules, such as `tcp dport 2211 dnat ip to 10.0.1.20:2211`, as nft prints it.
_FORWARD = re.compile(r"tcp dport (?P<port>\d+) .*?dnat (?:ip )?to (?P<address>[0-9.]+):(?P<to>\d+)")
_DAY = 86400


def read_forwards(lines: Iterable[str]) -> list[dict[str, Any]]:
    """``port`` of the host, ``address`` and ``to_port`` behind it, from the lines of a loaded table."""
    found = (_FORWARD.search(line) for line in lines)
    return sorted(
        ({"port": int(match["port"]), "address": match["address"], "to_port": int(match["to"])} for match in found if match), key=lambda row: row["port"]
    )


def agent_state(xml: str) -> Optional[str]:
    """Of a running guest: ``connected`` or ``silent``; None when it has no channel for the agent."""
    channel = agent_element(ET.fromstring(xml))
    if channel is None:
        return None
    target = channel.find("target")
    return "connected" if target is not None and target.get("state") == "connected" else "silent"


def find_warnings(state: Mapping[str, Any], now: float, stock_networks: Iterable[str], snapshot_days: int) -> list[str]:
    """One line for each thing that is not as it should be. now: seconds since the epoch."""
    return [
        *_of_host(state),
        *_of_networks(state["networks"], set(stock_networks)),
        *_of_pools(state["pools"]),
        *_of_guests(state["guests"], now, snapshot_days),
        *_of_forwards(state["forwards"], state["guests"]),
    ]


def _of_host(state: Mapping[str, Any]) -> Iterator[str]:
    for text in state["capacity"]["excesses"]:
        yield f"capacity: {text}"
    hook = state["capacity"]["hook"]
    if hook == "off":
        yield "capacity: starts by hand are let through until /run/hybridlab/capacity.off is removed, or the host boots"
    elif hook == "absent" and any(row["limit"] is not None for row in state["capacity"]["use"].values()):
        yield "capacity: starts by hand are not checked; role guest_capacity brings the hook"
    host = state["host"]
    if host["load"] and host["load"][1] > host["threads"]:
        yield f"host: load {host['load'][1]:.1f} over 5 minutes on {host['threads']} threads"


def _of_networks(networks: Iterable[Mapping[str, Any]], stock: set[str]) -> Iterator[str]:
    for network in networks:
        name = network["name"]
        if name in stock and not network["ours"] and (network["active"] or network["autostart"]):
            yield f"network {name}: the stock network is {'active' if network['active'] else 'started at boot'}; role segments takes it out of service"
        elif network["ours"] and not network["active"]:
            yield f"network {name}: it does not run"
        elif network["ours"] and not network["autostart"]:
            yield f"network {name}: autostart is off"


def _of_pools(pools: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for pool in pools:
        if not pool["active"]:
            yield f"pool {pool['name']}: it does not run"
        elif pool["promised"] > pool["available"]:
            more, available = size_text(pool["promised"]), size_text(pool["available"])
            yield f"pool {pool['name']}: thin volumes may take {more} more, {available} are available; a guest without space is paused"


def _of_guests(guests: Iterable[Mapping[str, Any]], now: float, snapshot_days: int) -> Iterator[str]:
    for guest in guests:
        name, runs = guest["name"], guest["state"] == "running"
        if guest["state"] not in ("running", "stopped", "suspended"):
            yield f"guest {name}: it is {guest['state']}"
        if guest["ours"] and runs and not guest["autostart"]:
            yield f"guest {name}: autostart is off; it stays down after a boot of the host"
        if guest["agent"] == "silent" and runs:
            yield f"guest {name}: its agent is silent"
        if guest["ours"] and runs and not any(interface["address"] for interface in guest["interfaces"]):
            yield f"guest {name}: it has no address"
        for snapshot in guest["snapshots"]:
            days = int((now - snapshot["created"]) // _DAY)
            if days > snapshot_days:
                yield f"guest {name}: snapshot {snapshot['name']} is {days} days old"


def _of_forwards(forwards: Iterable[Mapping[str, Any]], guests: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    loaded = {(forward["port"], forward["address"]) for forward in forwards}
    for guest in guests:
        port = guest["ssh_port"]
        address = guest["interfaces"][0]["address"] if guest["interfaces"] else None
        if port is not None and address is not None and guest["state"] == "running" and (port, address) not in loaded:
            yield f"guest {guest['name']}: port {port} of the host is not forwarded to {address}; run playbooks/segments.yml"
