# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that read, on the controller, what workloads are given. Each is documented in a file of its name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import plain
from ansible_collections.hybridlab.platform.plugins.plugin_utils import secret_values

Rows = Sequence[Mapping[str, Any]]


def _for_swarm(workloads: Rows) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plain(workloads)
    return [workload for workload in found if workload.get("target", "swarm") == "swarm"]


def workload_secrets(secrets: Mapping[str, Any], workloads: Rows) -> str:
    names = {use if isinstance(use, str) else use["name"] for workload in _for_swarm(workloads) for use in workload.get("secrets") or ()}
    found = secret_values.values(secrets, names)
    return json.dumps({name: base64.b64encode(value).decode() for name, value in found.items()})


def workload_files(workloads: Rows) -> dict[str, str]:
    found: dict[str, str] = {}
    for workload in _for_swarm(workloads):
        for use in workload.get("configs") or ():
            if "file" in use:
                where = f"platform_workloads[{workload.get('name')}].configs[{use.get('name')}].file"
                found[use["file"]] = base64.b64encode(secret_values.content(where, use["file"])).decode()
    return found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"workload_secrets": workload_secrets, "workload_files": workload_files}
