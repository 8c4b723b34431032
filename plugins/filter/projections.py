# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that turn the model into what resource modules take. Each is documented in a file of its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Optional, TypeVar

from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.module_utils.core import projections
from ansible_collections.hybridlab.platform.plugins.module_utils.core import published_ports as ports
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_capacity, parse_guests, parse_images, parse_segments

Rows = Sequence[Mapping[str, Any]]
_Result = TypeVar("_Result")


def _refusing(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """A model that cannot be built becomes the error of a filter, with all its faults."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> _Result:
        try:
            return function(*args, **kwargs)
        except ModelError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapped


@_refusing
def libvirt_networks(segments: Rows, domain: str) -> list[dict[str, Any]]:
    return projections.libvirt_networks(parse_segments(segments, domain), str(domain))


@_refusing
def with_guests(segments: Rows, guests: Rows, name: str, recorded: Rows = (), taken_ports: Sequence[int] = ()) -> list[dict[str, Any]]:
    read, found = parse_guests(segments, guests, name)
    return projections.with_guests(plain(segments), read, found, str(name), plain(recorded), plain(taken_ports))


@_refusing
def guests_config(
    guests: Rows, segments: Rows, name: str, domain: str, pools: Rows, recorded: Rows = (), taken_ports: Sequence[int] = ()
) -> list[dict[str, Any]]:
    read, found = parse_guests(segments, guests, name, pools)
    return projections.guests_config(found, read, str(name), str(domain), plain(recorded), plain(taken_ports))


@_refusing
def images_config(images: Rows, pools: Rows, directory: Optional[str] = None) -> list[dict[str, Any]]:
    return projections.images_config(parse_images(images, pools), directory)


@_refusing
def capacity_policy(capacity: Mapping[str, Any], host: Optional[Mapping[str, Any]] = None) -> dict[str, Any]:
    return projections.capacity_policy(parse_capacity(capacity, host or {}))


def guest_probes(config: Rows) -> list[dict[str, Any]]:
    return projections.guest_probes(plain(config))


def published_ports(workloads: Rows) -> list[dict[str, Any]]:
    return ports.config(plain(workloads))


@_refusing
def docker_networks(docker: Mapping[str, Any], ranges: Mapping[str, str]) -> list[str]:
    return [str(cidr) for cidr in ports.networks(plain(docker), plain(ranges))]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "libvirt_networks": libvirt_networks,
            "with_guests": with_guests,
            "guests_config": guests_config,
            "images_config": images_config,
            "capacity_policy": capacity_policy,
            "guest_probes": guest_probes,
            "published_ports": published_ports,
            "docker_networks": docker_networks,
        }
