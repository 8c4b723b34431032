# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_monitoring``, read and checked."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_monitoring import Monitoring

KEYS: tuple[str, ...] = ()


def read_monitoring(faults: Faults, raw: Any, context: Context) -> Optional[Monitoring]:
    """``platform_monitoring``."""
    table = Table.read(faults, "platform_monitoring", raw, KEYS)
    return None if table is None else Monitoring()
