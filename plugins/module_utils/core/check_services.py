# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the host beside its guests: the nouns that may be left out, each read with what it may refer to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_backup import read_backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_docker import read_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_monitoring import read_monitoring
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_security import read_security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_workloads import read_container_images, read_secrets, read_workloads
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_services import Services

SERVICE_KEYS = (
    "platform_secrets",
    "platform_docker",
    "platform_container_images",
    "platform_workloads",
    "platform_security",
    "platform_backup",
    "platform_monitoring",
)


def read_services(faults: Faults, table: Table, context: Context) -> Services:
    """The nouns of SERVICE_KEYS. A noun without a value, or with null, is not built."""

    def given(key: str, read: Callable[[Faults, Any, Context], Any], other: Any = None) -> Any:
        raw = table.value.get(key)
        return other if raw is None else read(faults, raw, context)

    secrets = given("platform_secrets", read_secrets, [])
    docker = given("platform_docker", read_docker)
    context = replace(context, secrets=tuple(secret.name for secret in secrets), docker=docker)
    images = given("platform_container_images", read_container_images, [])
    context = replace(context, images=tuple(image.name for image in images))
    workloads = given("platform_workloads", read_workloads, [])
    context = replace(context, workloads=tuple(workload.name for workload in workloads))
    return Services(
        secrets=tuple(secrets),
        docker=docker,
        images=tuple(images),
        workloads=tuple(workloads),
        security=given("platform_security", read_security),
        backup=given("platform_backup", read_backup),
        monitoring=given("platform_monitoring", read_monitoring),
    )
