# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that turns ``platform_backup`` into what the role backup writes. It is documented in a file of its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.module_utils.core import backup_settings as core
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_parse import parse_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_workloads


def backup_settings(
    backup: Mapping[str, Any],
    name: str,
    docker: Optional[Mapping[str, Any]] = None,
    ranges: Optional[Mapping[str, Any]] = None,
    workloads: Optional[Sequence[Mapping[str, Any]]] = None,
) -> dict[str, Any]:
    try:
        engine = None if docker is None else parse_docker(docker, ranges or {})
        running = parse_workloads(plain(workloads or []), str(name))
        found = core.parse_backup(plain(backup), engine, running)
    except ModelError as error:
        raise AnsibleFilterError(str(error)) from error
    return {"settings": core.settings(found, engine, running), "schedule": found.schedule, "mount_unit": core.mount_unit(found.mount)}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"backup_settings": backup_settings}
