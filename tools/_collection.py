# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tools share: the collection's imports, and the variables of an inventory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


def install_finder() -> None:
    """Make ``ansible_collections.hybridlab.platform`` resolve to this checkout."""
    from ansible.utils.collection_loader import _collection_finder

    if not any(isinstance(finder, _collection_finder._AnsibleCollectionFinder) for finder in sys.meta_path):
        _collection_finder._AnsibleCollectionFinder(paths=[str(ROOT / "collections")])._install()


def read_model(inventory: Path) -> dict[str, Any]:
    """The ``platform_*`` variables in ``group_vars/all/`` of an inventory. Later files win, as in Ansible."""
    variables: dict[str, Any] = {}
    for path in sorted((inventory / "group_vars" / "all").glob("*.yml")):
        variables.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return {name: value for name, value in variables.items() if name.startswith("platform_")}


def write_or_check(files: dict[Path, str], check: bool, command: str) -> int:
    """Write generated files, or only tell which are stale. Returns the exit code."""
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is stale: run {command}", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0
