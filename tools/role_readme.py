# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes each role's README from its meta/argument_specs.yml.

``--check`` writes nothing and fails when a README differs from what would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from tools._collection import ROOT, write_or_check

ROLES = ROOT / "roles"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a README is stale, write nothing")
    check = parser.parse_args().check
    readmes = {
        specs.parent.parent / "README.md": render(specs.parent.parent.name, yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"])
        for specs in sorted(ROLES.glob("*/meta/argument_specs.yml"))
    }
    return write_or_check(readmes, check, "make docs")


def render(role: str, entry_points: dict[str, Any]) -> str:
    """The README of one role; ``entry_points`` as under ``argument_specs``."""
    parts = [f"# hybridlab.platform.{role}", "", "Generated from `meta/argument_specs.yml`."]
    for name, spec in entry_points.items():
        parts += ["", f"## {'Entry point' if name == 'main' else 'tasks_from'}: `{name}`", "", f"{spec['short_description']}.", ""]
        parts += _lines(spec.get("description", []))
        rows = list(_rows(spec.get("options", {}), ""))
        if rows:
            parts += ["", "| variable | type | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join(parts) + "\n"


def _rows(options: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        if "default" in option:
            default = f"`{json.dumps(option['default'])}`"
        else:
            default = "required" if option.get("required") else "-"
        meaning = " ".join(_lines(option["description"]))
        if "choices" in option:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        yield f"| `{prefix}{name}` | {kind} | {default} | {meaning} |"
        yield from _rows(option.get("options", {}), f"{prefix}{name}.")


def _lines(text: Any) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


if __name__ == "__main__":
    sys.exit(main())
