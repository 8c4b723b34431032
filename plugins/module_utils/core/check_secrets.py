# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_secrets``, read and checked. No value of it, right or wrong, comes into a finding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Secret

SECRET_KEYS = ("value", "file")
# Becomes part of the name of a Swarm secret, and the name of the file in the container.
SECRET_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,30}[a-z0-9])?")
NAME_CURE = "Use 1 to 32 of a-z, 0-9, '_' and '-', the first a letter, the last a letter or digit"
# swarmkit, manager/controlapi/secret.go: MaxSecretSize.
SECRET_BYTES_MAX = 500 * 1024


def read_secrets(faults: Faults, raw: Any, context: Context) -> list[Secret]:
    """``platform_secrets``: those with a sound name. One with faults of its own is there too: what refers to it is not wrong for that."""
    if not isinstance(raw, Mapping):
        cure = "Write a mapping: the secret's name, and below it value or file"
        faults.add("type", "platform_secrets", HIDDEN, "must be a mapping of names", cure)
        return []
    return [secret for name, item in raw.items() for secret in [_read_secret(faults, name, item)] if secret is not None]


def _read_secret(faults: Faults, name: Any, raw: Any) -> Optional[Secret]:
    path = f"platform_secrets.{name}"
    if not isinstance(name, str) or not SECRET_NAME.fullmatch(name):
        faults.add("secret-name", path, name, "is no name for a secret", NAME_CURE)
        return None
    if not isinstance(raw, Mapping):
        cure = f"Write {name}: {{value: ...}}, encrypted by Ansible Vault, or {name}: {{file: path}}"
        faults.add("type", path, HIDDEN, "must be a mapping with the key value or file", cure)
        return Secret(name)
    # Whatever stands under a misspelt key may be the secret itself.
    table = Table(faults, path, {key: item if key in SECRET_KEYS else HIDDEN for key, item in raw.items()}, SECRET_KEYS)
    if ("value" in raw) == ("file" in raw):
        both = "value" in raw
        reason = "has a value and a file, and comes from one place only" if both else "comes from nowhere: it has neither a value nor a file"
        cure = "Remove one of them" if both else "Add value, encrypted by Ansible Vault or from a lookup, or file, a path on the machine that runs Ansible"
        faults.add("secret-source", path, None if not both else HIDDEN, reason, cure)
    return Secret(name, value=_read_value(faults, table), file=table.text("file"))


def _read_value(faults: Faults, table: Table) -> Optional[str]:
    if "value" not in table.value:
        return None
    value, path = table.value["value"], table.at("value")
    if not isinstance(value, str):
        faults.add("type", path, HIDDEN, "must be text", "Put the value in quotes")
    elif not value.strip():
        faults.add("secret-empty", path, HIDDEN, "is empty, and an empty secret protects nothing", "Give it a value")
    elif len(value.encode()) > SECRET_BYTES_MAX:
        faults.add("secret-large", path, HIDDEN, f"is larger than the {SECRET_BYTES_MAX} bytes that a Swarm secret holds", "Split it")
    else:
        return value
    return None
