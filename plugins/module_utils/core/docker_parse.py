# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_docker`` for a module that is given it without the rest of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_docker import read_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_values import network
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker


def parse_docker(config: Mapping[str, Any], ranges: Mapping[str, Any]) -> Docker:
    """``platform_docker`` with the networks that ``platform_ranges`` has for its names. Raises ModelError with all findings."""
    faults = Faults()
    table = Table(faults, "platform_ranges", plain(ranges), tuple(ranges))
    networks = {name: network(faults, table.at(name), table.text(name)) for name in table.value}
    docker = read_docker(faults, plain(config), Context(ranges={name: cidr for name, cidr in networks.items() if cidr is not None}))
    if faults.items or docker is None:
        raise ModelError(faults.items)
    return docker
