# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict reader of Prometheus' text format, as ``promtool check metrics`` is one."""

from __future__ import annotations

import re

_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? (\S+)')


def read(text: str) -> dict[str, dict[str, float]]:
    """Metric -> labels -> value. AssertionError that names the line when something is no exposition, or stands twice."""
    found: dict[str, dict[str, float]] = {}
    told: dict[str, set[str]] = {}
    assert text.endswith("\n"), "the last line has no end"
    for line in text.splitlines():
        if line.startswith("#"):
            _hash, kind, name, rest = line.split(" ", 3)
            assert kind in ("HELP", "TYPE"), line
            assert kind not in told.setdefault(name, set()), f"twice: {line}"
            assert name not in found, f"after its samples: {line}"
            assert kind == "HELP" or rest in ("gauge", "counter"), line
            told[name].add(kind)
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, f"no sample: {line}"
        name, labels = match[1], match[2] or ""
        assert told.get(name) == {"HELP", "TYPE"}, f"without HELP and TYPE: {line}"
        assert labels not in found.setdefault(name, {}), f"twice: {line}"
        assert list(found)[-1] == name, f"samples of {name} do not stand together"
        found[name][labels] = float(match[3])
    return found
