# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_security`` with every default, as roles take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_security import read_security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError


def settings(raw: Mapping[str, Any], mail: bool = False) -> dict[str, Any]:
    """Every key of the noun, as plain data; the jails are those that are on. mail: with those of the mail system. Raises ModelError with all findings."""
    faults = Faults()
    security = read_security(faults, plain(raw), None, mail)
    if faults.items or security is None:
        raise ModelError(faults.items)
    complete: dict[str, Any] = plain(asdict(security))
    return complete
