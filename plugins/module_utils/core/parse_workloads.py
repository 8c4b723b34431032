# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads, images and secrets from the variables of an inventory, without the rest of the model: for modules that are given no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_container_images import read_container_images
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_ports import Known
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_secrets import read_secrets
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_workloads import read_known_workloads
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import ContainerImage, Secret, Workload


def parse_workloads(
    config: Sequence[Mapping[str, Any]],
    platform: str,
    images: Optional[Iterable[str]] = None,
    secrets: Optional[Iterable[str]] = None,
    segments: Optional[Iterable[str]] = None,
    nodes: int = 1,
) -> tuple[Workload, ...]:
    """The workloads, checked among themselves; names that are not given are taken on trust.

    config:   ``platform_workloads`` as the inventory has it
    platform: ``platform_name``
    images:   names in ``platform_container_images``; secrets: in ``platform_secrets``; segments: in ``platform_segments``
    nodes:    of the Swarm

    Raises ModelError with all findings.
    """
    faults = Faults()
    known = Known(values.name(faults, "platform_name", platform, "platform"), _names(segments), _names(secrets), _names(images), nodes=nodes)
    found = read_known_workloads(faults, plain(config), known)
    if faults.items:
        raise ModelError(faults.items)
    return tuple(found)


def parse_container_images(config: Sequence[Mapping[str, Any]]) -> tuple[ContainerImage, ...]:
    """``platform_container_images``, each after its base. Raises ModelError with all findings."""
    faults = Faults()
    found = read_container_images(faults, plain(config), Context())
    if faults.items:
        raise ModelError(faults.items)
    return tuple(found)


def parse_secrets(secrets: Mapping[str, Any]) -> tuple[Secret, ...]:
    """``platform_secrets``. Raises ModelError with all findings."""
    faults = Faults()
    found = read_secrets(faults, plain(secrets), Context())
    if faults.items:
        raise ModelError(faults.items)
    return tuple(found)


def _names(given: Optional[Iterable[str]]) -> Optional[tuple[str, ...]]:
    return None if given is None else tuple(given)
