# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_secrets``, ``platform_container_images`` and ``platform_workloads``, read and checked."""

from __future__ import annotations

from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import ContainerImage, Secret, Workload


def read_secrets(faults: Faults, raw: Any, context: Context) -> list[Secret]:
    """``platform_secrets``."""
    return []


def read_container_images(faults: Faults, raw: Any, context: Context) -> list[ContainerImage]:
    """``platform_container_images``."""
    return []


def read_workloads(faults: Faults, raw: Any, context: Context) -> list[Workload]:
    """``platform_workloads``."""
    return []
