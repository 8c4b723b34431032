# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_secrets``, ``platform_container_images`` and ``platform_workloads``, read and checked."""

from __future__ import annotations

from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_container_images import read_container_images
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_ports import Known, check_published
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_secrets import read_secrets
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, labels
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_workload import read_workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload

__all__ = ["read_container_images", "read_known_workloads", "read_secrets", "read_workloads"]

VARIABLE = "platform_workloads"


def read_workloads(faults: Faults, raw: Any, context: Context) -> list[Workload]:
    """``platform_workloads``, as part of the whole model."""
    swarm = context.docker.swarm if context.docker is not None else None
    known = Known(
        platform=context.platform,
        # None at all are wrong ones, which are told where they stand.
        segments=context.segments or None,
        secrets=context.secrets,
        images=context.images,
        host_ssh_ports=context.host_ssh_ports,
        forwards=context.forwards,
        ssh_ports=context.ssh_ports,
        nodes=1 + len(swarm.nodes) if swarm is not None else 1,
        data_root=context.docker.data_root if context.docker is not None else None,
    )
    return read_known_workloads(faults, raw, known)


def read_known_workloads(faults: Faults, raw: Any, known: Known) -> list[Workload]:
    """``platform_workloads``, against as much of the rest as is known."""
    rows = Table(faults, "", {VARIABLE: raw}, (VARIABLE,)).rows(VARIABLE)
    found: list[tuple[str, Workload]] = []
    for path, row in zip(labels(VARIABLE, rows), rows):
        workload = read_workload(faults, path, row, known)
        if workload is not None and workload.name in [other.name for _path, other in found]:
            faults.add("workload-twice", f"{path}.name", workload.name, "is the name of another workload", "Give each workload a name of its own")
        elif workload is not None:
            found.append((path, workload))
    check_published(faults, [(path, workload) for path, workload in found if workload.target == "swarm"])
    return [workload for _path, workload in found]
