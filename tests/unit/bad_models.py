# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that must be refused: the tables of bad_models*.yml, each row the lab's own model with a few values changed.

The tests run every row; docs/bad-models.md is made from the same rows by tools/bad_models_table.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route

LAB_VARIABLES = Path(__file__).resolve().parents[2] / "inventories" / "lab" / "group_vars" / "all"
TABLES = sorted(Path(__file__).resolve().parent.glob("bad_models*.yml"))


@lru_cache(maxsize=1)
def _lab_variables() -> dict[str, Any]:
    model: dict[str, Any] = {}
    for path in sorted(LAB_VARIABLES.glob("*.yml")):
        model.update(yaml.safe_load(path.read_text(encoding="utf-8")))
    return model


def lab_model() -> dict[str, Any]:
    """The variables of inventories/lab; a copy that may be changed."""
    return deepcopy(_lab_variables())


@dataclass(frozen=True)
class BadModel:
    """One row.

    values:  dotted path -> value written there; numbers index lists
    removed: dotted paths taken away
    rule:    rule of the finding, path: where it is found
    reason, cure: words that stand in them
    also:    (rule, path) of further findings that follow from the same change
    routes:  routes of the host against which the model is checked
    """

    group: str
    name: str
    rule: str
    path: str
    reason: str
    cure: str
    values: dict[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()
    routes: tuple[Route, ...] = ()

    def model(self) -> dict[str, Any]:
        model = lab_model()
        for path in self.removed:
            holder, key = _place(model, path.split("."))
            del holder[key]
        for path, value in self.values.items():
            holder, key = _place(model, path.split("."))
            holder[key] = value
        return model

    def difference(self) -> list[str]:
        """What differs from the lab's model, a line for each value."""
        lines = [f"{path}: {_flow(value)}" for path, value in self.values.items()]
        lines += [f"without {path}" for path in self.removed]
        return lines + [f"host route {route.cidr}{f' via {route.via}' if route.via else ''} dev {route.device}" for route in self.routes]


def _place(node: Any, steps: Sequence[str]) -> tuple[Any, Any]:
    """The mapping or list that holds the last step, and its key or index."""
    key = int(steps[0]) if isinstance(node, list) else steps[0]
    return (node, key) if len(steps) == 1 else _place(node[key], steps[1:])


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _route(row: dict[str, str]) -> Route:
    return Route(IPv4Network(row["cidr"]), row["device"], IPv4Address(row["via"]) if "via" in row else None)


def _read(group: str, row: dict[str, Any]) -> BadModel:
    return BadModel(
        group=group,
        name=row["name"],
        rule=row["rule"],
        path=row["path"],
        reason=row["reason"],
        cure=row["cure"],
        values=row.get("set", {}),
        removed=tuple(row.get("remove", ())),
        also=tuple((rule, path) for rule, path in row.get("also", ())),
        routes=tuple(_route(route) for route in row.get("routes", ())),
    )


BAD_MODELS = [_read(group, row) for table in TABLES for group, rows in yaml.safe_load(table.read_text(encoding="utf-8")).items() for row in rows]
