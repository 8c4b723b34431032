# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All validations of a platform, in the order of its layers. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import validate_care, validate_docker, validate_host, validate_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answers, Questions, Row

LAYERS = (validate_host, validate_docker, validate_mail, validate_care)


def questions(platform: Platform) -> Questions:
    """Every command whose answer ``rows`` needs, by its key."""
    return {key: argv for layer in LAYERS for key, argv in layer.questions(platform).items()}


def rows(platform: Platform, answers: Answers) -> list[Row]:
    return [row for layer in LAYERS for row in layer.rows(platform, answers)]


def measured_rows(area: str, result: Optional[Mapping[str, Any]]) -> list[Row]:
    """A measurement of module reachability or port_probes as rows: its counts, or why there are none."""
    if not result or result.get("skipped"):
        return []
    if "ports" in result:
        return list(_port_rows(area, result))
    if "pairs_total" not in result:
        return [Row(area, "measured", "connections as declared", str(result.get("msg") or "not measured"), False)]
    rows = []
    for check, good, total in (("pairs of segments", "pairs_ok", "pairs_total"), ("ways to the Internet", "internet_ok", "internet_total")):
        rows.append(Row(area, check, f"{result[total]} as declared", f"{result[good]} as declared", result[good] == result[total]))
    return [*rows, *(Row(area, "difference", "none", str(line), False) for line in result.get("differences") or [])]


def _port_rows(area: str, result: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each port, with all that is not as declared."""
    lines = [str(line) for line in result.get("differences") or []]
    for port in result["ports"]:
        name = f"{port['published']}/{port['protocol']} ({port['workload'] or 'undeclared'})"
        wrong = [line.split(": ", 1)[1] for line in lines if line.startswith(f"{name}: ")]
        expected = f"open to {', '.join(port['from'])} only" if port["from"] else "closed to all"
        yield Row(area, name, expected, "; ".join(wrong) or expected, bool(port["ok"]))
    if not result["ports"]:
        yield Row(area, "measured", "ports as declared", str(result.get("summary")), not lines and result.get("summary") != "not measured")
