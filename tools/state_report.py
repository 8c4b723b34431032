# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a host, as module platform_state returns it, for a person. Text in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

WIDTH = 116
# One screen; what is left out is in --json.
LINES = 40
_FEWEST = 5
_BOLD, _YELLOW, _GREEN = "1", "33", "32"

# What of the module's result is the state.
KEYS = ("host", "networks", "pools", "guests", "forwards", "capacity", "attention")


def status(state: Mapping[str, Any], colour: bool = False) -> str:
    """One screen about everything."""
    head = [
        _heading(_host_line(state["host"]), colour),
        *_usage_lines(state),
        "",
        *_table(_network_rows(state), colour),
        "",
        *_table(_pool_rows(state), colour),
    ]
    forwards = _forward_lines(state)
    attention = _attention(state["attention"], colour)
    room = max(_FEWEST, LINES - len(head) - len(forwards) - len(attention) - 3)
    guests = _shortened(_guest_rows(state["guests"]), room)
    return "\n".join([*head, "", *_table(guests, colour), *forwards, "", *attention])


def capacity(state: Mapping[str, Any], colour: bool = False) -> str:
    """Use of the host's means against the policy, and of the disks."""
    host = state["host"]
    title = f"{host['name']}: {host['cores']} cores, {host['threads']} threads, memory {host['memory_kib'] // 1024} MiB"
    lines = [_heading(title, colour), state["capacity"]["table"], "", *_table(_disk_rows(state["pools"]), colour), ""]
    over = excesses(state)
    lines += [_painted(_cut(f"over: {text}"), _YELLOW, colour) for text in over] or [_painted("everything is within its limits", _GREEN, colour)]
    return "\n".join(lines)


def excesses(state: Mapping[str, Any]) -> list[str]:
    """What is over a limit; of a pool, what would be when all its thin volumes were filled."""
    pools = [
        f"pool {pool['name']}: thin volumes may take {_size(pool['promised'])} more, {_size(pool['available'])} are available"
        for pool in state["pools"]
        if pool["active"] and pool["promised"] > pool["available"]
    ]
    return [*state["capacity"]["excesses"], *pools]


def _host_line(host: Mapping[str, Any]) -> str:
    parts = [f"host {host['name']}", f"{host['cores']} cores / {host['threads']} threads"]
    if host["uptime_seconds"] is not None:
        parts += [f"up {duration(host['uptime_seconds'])}", f"load {' '.join(f'{value:.2f}' for value in host['load'])}"]
    return _cut("   ".join([*parts, f"libvirt {host['libvirt']}"]))


def _usage_lines(state: Mapping[str, Any]) -> list[str]:
    host, use = state["host"], state["capacity"]["use"]
    memory = f"memory {_gib(host['memory_kib'])}"
    if host["memory_available_kib"] is not None:
        memory += f", {_gib(host['memory_available_kib'])} free"
    disks = [f"{row['mount']} {_size(row['size'])}, {_size(row['available'])} free" for row in host["filesystems"]]
    shares = [f"guests {_of(use['guests'])}", f"vCPUs {_of(use['vcpus'])}", f"memory {_of(use['memory'], 1024)} MiB"]
    hook = {"on": "checked", "off": "let through for a while", "absent": "not checked"}.get(state["capacity"]["hook"])
    return [_cut("   ".join([memory, *disks])), _cut("   ".join(["taken of limit:", *shares, *([f"starts by hand: {hook}"] if hook else [])]))]


def _network_rows(state: Mapping[str, Any]) -> list[list[str]]:
    rows = [["network", "address", "bridge", "state", "guests", "whose"]]
    for network in state["networks"]:
        guests = [guest for guest in state["guests"] if any(item["network"] == network["name"] for item in guest["interfaces"])]
        running = sum(1 for guest in guests if guest["state"] == "running")
        state_text = ("active" if network["active"] else "down") + ("" if network["autostart"] else ", no autostart")
        count = f"{running} of {len(guests)} run" if guests else "-"
        rows.append([network["name"], network["address"] or "-", network["bridge"] or "-", state_text, count, _whose(network)])
    return rows


def _pool_rows(state: Mapping[str, Any]) -> list[list[str]]:
    rows = [["pool", "directory", "size", "free", "thin may take", "volumes", "whose"]]
    for pool in state["pools"]:
        figures = (
            [_size(pool["capacity"]), _size(pool["available"]), _size(pool["promised"]), str(pool["volumes"])] if pool["active"] else ["down", "-", "-", "-"]
        )
        rows.append([pool["name"], pool["path"] or "-", *figures, _whose(pool)])
    return rows


def _disk_rows(pools: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["pool", "size", "used", "free", "thin may take", "worst case"]]
    for pool in pools:
        if pool["active"]:
            worst = (pool["capacity"] - pool["available"] + pool["promised"]) / pool["capacity"] if pool["capacity"] else 0
            rows.append([pool["name"], *(_size(value) for value in _figures(pool)), f"{worst:.0%} of the pool"])
        else:
            rows.append([pool["name"], "down", "-", "-", "-", "-"])
    return rows


def _figures(pool: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return pool["capacity"], pool["capacity"] - pool["available"], pool["available"], pool["promised"]


def _guest_rows(guests: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["guest", "state", "network", "address", "ssh", "up", "vCPUs", "MiB", "on host", "CPU", "agent"]]
    for guest in guests:
        first: Mapping[str, Any] = guest["interfaces"][0] if guest["interfaces"] else {"network": None, "address": None}
        more = f" +{len(guest['interfaces']) - 1}" if len(guest["interfaces"]) > 1 else ""
        rows.append(
            [
                guest["name"] + ("" if guest["ours"] else " (not ours)"),
                guest["state"],
                (first["network"] or "-") + more,
                first["address"] or "-",
                str(guest["ssh_port"] or "-"),
                "-" if guest["uptime_seconds"] is None else duration(guest["uptime_seconds"]),
                _range(guest["vcpus"], guest["vcpus_max"]),
                _range(guest["memory_mb"], guest["memory_max_mb"]),
                "-" if guest["rss_kib"] is None else f"{_mib(guest['rss_kib'])} MiB",
                "-" if guest["cpu_percent"] is None else f"{guest['cpu_percent']:.0f} %",
                guest["agent"] or "-",
            ]
        )
    return rows


def _forward_lines(state: Mapping[str, Any]) -> list[str]:
    names = {item["address"]: guest["name"] for guest in state["guests"] for item in guest["interfaces"] if item["address"]}
    texts = [f"{row['port']} -> {names.get(row['address'], row['address'])}:{row['to_port']}" for row in state["forwards"]]
    if not texts:
        return ["", "forwards: none"]
    lines = ["forwards:"]
    for text in texts:
        if len(lines[-1]) + len(text) + 3 > WIDTH:
            lines.append(" " * 9)
        lines[-1] += f"  {text}"
    return ["", *lines]


def _attention(texts: Sequence[str], colour: bool) -> list[str]:
    if not texts:
        return [_painted("nothing needs attention", _GREEN, colour)]
    rows = [_painted(_cut(f"! {text}"), _YELLOW, colour) for text in texts]
    most = LINES // 4
    return rows if len(rows) <= most else [*rows[: most - 1], f"! ... and {len(rows) - most + 1} more (--json)"]


def _shortened(rows: list[list[str]], room: int) -> list[list[str]]:
    """``rows`` with its heading, in at most ``room`` lines."""
    if len(rows) <= room:
        return rows
    return [*rows[: room - 1], [f"... and {len(rows) - room + 1} more (--json)"]]


def _table(rows: Sequence[Sequence[str]], colour: bool) -> list[str]:
    columns = max(len(row) for row in rows)
    full = [row for row in rows if len(row) == columns]
    widths = [max(len(row[index]) for row in full) for index in range(columns)]
    lines = [_cut("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()) for row in rows]
    return [_heading(lines[0], colour), *(lines[1:] or ["none"])]


def duration(seconds: int) -> str:
    """The two largest units: 3d 4h, 4h 5m, 5m 6s, 6s."""
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _whose(row: Mapping[str, Any]) -> str:
    return "ours" if row["ours"] else "not ours"


def _range(now: int, most: int) -> str:
    return str(now) if now == most else f"{now} of {most}"


def _of(row: Mapping[str, Optional[int]], unit: int = 1) -> str:
    used, limit = row["used"] or 0, row["limit"]
    return f"{-(-used // unit)}/{'-' if limit is None else limit // unit}"


def _mib(kib: int) -> int:
    return -(-kib // 1024)


def _gib(kib: int) -> str:
    return f"{kib / 2**20:.1f} GiB"


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def _heading(line: str, colour: bool) -> str:
    return _painted(line, _BOLD, colour)


def _painted(line: str, code: str, colour: bool) -> str:
    return f"\033[{code}m{line}\033[0m" if colour else line
