# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_mail`` from the variables of an inventory, without the rest of the model: for modules that are given no more."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail import read_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker, Swarm
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail


class _Trusted(tuple[str, ...]):
    """Every name is in it: whoever gave the config has checked it against the other nouns."""

    def __contains__(self, name: object) -> bool:
        return True


def parse_mail(config: Mapping[str, Any]) -> Mail:
    """The mail system, checked in itself; names of secrets and images, and that there is a Swarm, are taken on trust. Raises ModelError with all findings."""
    nowhere = IPv4Network("0.0.0.0/32")
    docker = Docker(bridge=nowhere, gwbridge=nowhere, address_pools=(), data_root="/nonexistent", swarm=Swarm(pool=nowhere))
    faults = Faults()
    found = read_mail(faults, plain(config), Context(secrets=_Trusted(), images=_Trusted(), docker=docker))
    if faults.items or found is None:
        raise ModelError(faults.items)
    return found
