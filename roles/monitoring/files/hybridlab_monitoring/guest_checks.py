# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests, storage pools, and the tables of rules that keep segments and published ports apart."""

from __future__ import annotations

import re
from collections import Counter

from .host_checks import GIB, judged
from .model import CRITICAL, OK, WARNING, Check, metric, unknown
from .probe import Host
from .settings import Settings

VIRSH = ("virsh", "--quiet", "--connect", "qemu:///system")
CURE = "virsh list --all; systemctl status libvirtd virtqemud.socket"
_DOMAIN = re.compile(r"^\s*(?:-|\d+)\s+(\S+)\s+(\S.*?)\s*$")
# States of virDomainState in virsh's words that are nobody's wish.
_BAD = {"crashed": CRITICAL, "paused": WARNING, "in shutdown": WARNING, "pmsuspended": WARNING}


def guests(host: Host, settings: Settings) -> list[Check]:
    """All guests with their states; those that the model wants to run must run."""
    output = host.run([*VIRSH, "list", "--all"], 30)
    if not output.good:
        return [unknown("guest", f"libvirt can't be asked: {output.why('virsh')}", CURE)]
    states = {found[1]: found[2] for found in map(_DOMAIN.match, output.text.splitlines()) if found}
    measured = tuple(metric("hybridlab_guests", count, state=state) for state, count in sorted(Counter(states.values()).items()))
    words = ", ".join(f"{name} {state}" for name, state in sorted(states.items())) or "none"
    found = [Check("guests", OK, f"Guests: {words}", value=len(states), metrics=measured)]
    for name in sorted({*settings.guests, *states}):
        state = states.get(name, "missing")
        wanted = name in settings.guests
        severity = _BAD.get(state, OK if state == "running" or not wanted else CRITICAL)
        if severity != OK or wanted:
            cure = f"virsh domstate --reason {name}; virsh start {name} (or resume); tail /var/log/libvirt/qemu/{name}.log"
            found.append(judged("guest", severity, f"Guest {name} is {state}", state, "running" if wanted else "not stuck", cure, subject=name))
    return found


def pools(host: Host, settings: Settings) -> list[Check]:
    output = host.run([*VIRSH, "pool-list", "--all", "--name"], 30)
    if not output.good:
        return [unknown("pool", f"libvirt can't be asked: {output.why('virsh')}", CURE)]
    return [_pool(host, settings, name.strip()) for name in output.text.splitlines() if name.strip()]


def _pool(host: Host, settings: Settings, name: str) -> Check:
    output = host.run([*VIRSH, "pool-info", "--bytes", name], 30)
    if not output.good:
        return unknown("pool", f"Pool {name} can't be looked at: {output.why('virsh')}", f"virsh pool-info {name}", subject=name)
    rows = dict(re.findall(r"^(\w+):\s+(\S+)", output.text, re.MULTILINE))
    if rows.get("State") != "running":
        return Check("pool", CRITICAL, f"Pool {name} is {rows.get('State', 'in no state')}", name, rows.get("State"), "running", f"virsh pool-start {name}")
    try:
        capacity, available = int(rows["Capacity"]), int(rows["Available"])
    except (KeyError, ValueError):
        return unknown("pool", f"Pool {name} does not say its capacity", f"virsh pool-refresh {name}; virsh pool-info {name}", subject=name)
    used = 100 * (capacity - available) / capacity if capacity else 0.0
    limits = settings.thresholds["pool_percent"]
    message = f"Pool {name} is {used:.0f} % full, {available / GIB:.1f} GiB are free"
    cure = f"virsh vol-list --details {name}; remove old points and images that no guest uses"
    measured = metric("hybridlab_pool_used_ratio", used / 100, pool=name)
    return judged("pool", limits.judge(used), message, round(used, 1), str(limits), cure, measured, subject=name)


def tables(host: Host, settings: Settings) -> list[Check]:
    """Rules that are not loaded leave segments and ports open, or shut."""
    if not settings.tables:
        return []
    output = host.run(["nft", "list", "tables"])
    if not output.good:
        return [unknown("table", f"The rules can't be listed: {output.why('nft')}", "Run nft list tables as root")]
    loaded = {line.split()[-1] for line in output.text.splitlines() if line.strip()}
    found = []
    for name in settings.tables:
        unit = f"{name.replace('_', '-')}.service"
        message = f"Table inet {name} is loaded" if name in loaded else f"Table inet {name} is not loaded: its rules do not hold"
        cure = f"systemctl restart {unit}; journalctl -u {unit}"
        found.append(judged("table", OK if name in loaded else CRITICAL, message, "yes" if name in loaded else "no", "yes", cure, subject=name))
    return found
