# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the firewall compiler grows with the number of segments, each of which reaches three others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_compile import compile_firewall
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform

from bench.row import Row

NAMES = ("compile_5", "compile_50", "compile_200", "rules_growth")
SIZES = (5, 50, 200)
RUNS = 5
# What an operator notices: compiling is held against one second, its peer is that second.
BOUND = 1.0


def rows() -> Iterator[Row]:
    counts = {}
    for size in SIZES:
        model = _model(size)
        seconds = []
        for _run in range(RUNS):
            started = time.perf_counter()
            ruleset = compile_firewall(parse_platform(model))
            text = render(ruleset)
            seconds.append(time.perf_counter() - started)
        counts[size] = ruleset.rule_count()
        note = f"model checked, compiled and rendered: {counts[size]} rules, {len(text)} bytes; the peer is a bound of {BOUND:g} s"
        yield Row(f"compile_{size}", min(seconds), BOUND, 1.0, note)
    growth = Row("rules_growth", counts[200], counts[50], 4.0, "rules of 200 segments against those of 50: linear growth is 4 at most, n squared would be 16")
    yield growth


def _model(size: int) -> dict[str, Any]:
    names = [f"segment{index}" for index in range(size)]
    return {
        "platform_name": "bench",
        "platform_domain": "bench.local",
        "platform_segments": [
            {
                "name": name,
                "bridge": f"br-s{index}",
                "cidr": f"10.{index // 250}.{index % 250}.0/24",
                "dhcp": [{"first": f"10.{index // 250}.{index % 250}.100", "last": f"10.{index // 250}.{index % 250}.200"}],
                "reaches": [names[(index + step) % size] for step in (1, 2, 3)],
            }
            for index, name in enumerate(names)
        ],
        "platform_ranges": {"docker_bridge": "172.17.0.0/16"},
    }
