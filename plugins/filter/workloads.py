# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that read, on the controller, what workloads are given. Each is documented in a file of its name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_secrets

Rows = Sequence[Mapping[str, Any]]


def _for_swarm(workloads: Rows) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plain(workloads)
    return [workload for workload in found if workload.get("target", "swarm") == "swarm"]


def _read(where: str, value: str) -> bytes:
    path = Path(value).expanduser()
    try:
        return path.read_bytes()
    except OSError as error:
        reason = f"{where}: found {value}, which cannot be read on the machine that runs Ansible ({error.strerror})"
        raise AnsibleFilterError(f"{reason}. Make the file, or correct the path.") from error


def workload_secrets(secrets: Mapping[str, Any], workloads: Rows) -> str:
    names = {use if isinstance(use, str) else use["name"] for workload in _for_swarm(workloads) for use in workload.get("secrets") or ()}
    try:
        known = {secret.name: secret for secret in parse_secrets({name: secrets[name] for name in secrets if name in names})}
    except ModelError as error:
        raise AnsibleFilterError(str(error)) from error
    values: dict[str, str] = {}
    for name, secret in sorted(known.items()):
        data = secret.value.encode() if secret.value is not None else _read(f"platform_secrets[{name}].file", secret.file or "")
        values[name] = base64.b64encode(data).decode()
    return json.dumps(values)


def workload_files(workloads: Rows) -> dict[str, str]:
    found: dict[str, str] = {}
    for workload in _for_swarm(workloads):
        for use in workload.get("configs") or ():
            if "file" in use:
                where = f"platform_workloads[{workload.get('name')}].configs[{use.get('name')}].file"
                found[use["file"]] = base64.b64encode(_read(where, use["file"])).decode()
    return found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"workload_secrets": workload_secrets, "workload_files": workload_files}
