# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reading of one noun has to know of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker


@dataclass(frozen=True)
class Context:
    """Names and values that another noun may refer to, or may not take twice. Each noun sees those that are read before it.

    platform:       platform_name; None where it is wrong
    segments:       names of the segments
    ranges:         platform_ranges
    host_ssh_ports: ports of the host's own sshd
    forwards:       ports of the host that are led to guests
    ssh_ports:      every port that a segment keeps for its guests' forwards
    secrets:        names in platform_secrets
    images:         names in platform_container_images
    workloads:      names in platform_workloads
    published:      TCP ports of the host that workloads publish, and where each is set
    docker:         None where there is no engine, or a wrong one
    """

    platform: Optional[str] = None
    segments: tuple[str, ...] = ()
    ranges: Mapping[str, IPv4Network] = field(default_factory=dict)
    host_ssh_ports: tuple[int, ...] = ()
    forwards: frozenset[int] = frozenset()
    ssh_ports: frozenset[int] = frozenset()
    secrets: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    published: Mapping[int, str] = field(default_factory=dict)
    docker: Optional[Docker] = None
