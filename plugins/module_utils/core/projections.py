# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What resource modules take, from the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Segment


def libvirt_networks(segments: Sequence[Segment], domain: str) -> list[dict[str, Any]]:
    """``config`` of the module libvirt_networks: one network for each segment.

    Each network knows the static hosts of all segments: there is one dnsmasq a network, and it answers
    for the whole domain from what it knows itself.
    """
    names = [{"address": str(host.address), "names": [host.name, *host.aliases]} for segment in segments for host in segment.hosts]
    return [
        {
            "name": segment.name,
            "bridge": segment.bridge,
            "address": str(segment.gateway),
            "prefix": segment.cidr.prefixlen,
            "domain": domain,
            "dhcp": [{"first": str(leased.first), "last": str(leased.last)} for leased in segment.dhcp],
            "hosts": [{"mac": host.mac, "name": host.name, "address": str(host.address)} for host in segment.hosts if host.mac is not None],
            "dns": names,
            "autostart": True,
            "active": True,
        }
        for segment in segments
    ]
