# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls a module's main() as a task would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args


def call_module(module: ModuleType, args: Mapping[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The module's result; ``failed`` is true in it when it failed, ``warnings`` holds their texts when there were any."""
    warnings: list[str] = []

    def warn(_module: AnsibleModule, warning: str, **_details: Any) -> None:
        # Where a test has loaded Ansible's controller, warnings go to the screen and not into the result.
        warnings.append(warning)

    with patch_module_args(dict(args)), patch.object(AnsibleModule, "warn", warn), pytest.raises(SystemExit):
        module.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    answer.pop("invocation", None)
    if warnings:
        answer["warnings"] = warnings
    return answer
