# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of platform_secrets, and files that the model names, read on the controller for the options of modules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_secrets


def values(secrets: Mapping[str, Any], names: Collection[str]) -> dict[str, bytes]:
    """Those of ``names`` that platform_secrets has. AnsibleFilterError where one is wrong or its file cannot be read."""
    try:
        known = parse_secrets({name: secrets[name] for name in secrets if name in names})
    except ModelError as error:
        raise AnsibleFilterError(str(error)) from error
    found: dict[str, bytes] = {}
    for secret in sorted(known, key=lambda secret: secret.name):
        where = f"platform_secrets[{secret.name}].file"
        found[secret.name] = secret.value.encode() if secret.value is not None else content(where, secret.file or "")
    return found


def content(where: str, value: str) -> bytes:
    """Of a file that the model names. where: the path of the variable that names it."""
    path = Path(value).expanduser()
    try:
        return path.read_bytes()
    except OSError as error:
        reason = f"{where}: found {value}, which cannot be read on the machine that runs Ansible ({error.strerror})"
        raise AnsibleFilterError(f"{reason}. Make the file, or correct the path.") from error
