# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the model to what resource modules take, and through the filter that playbooks call."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.hybridlab.platform.plugins.filter.projections import FilterModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.projections import libvirt_networks
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import models
from hypothesis import given

SEGMENTS: list[dict[str, Any]] = [
    {
        "name": "public",
        "cidr": "10.0.1.0/24",
        "dhcp": [{"first": "10.0.1.100", "last": "10.0.1.200"}],
        "hosts": [{"name": "web", "address": "10.0.1.10", "mac": "52:54:00:00:00:10", "aliases": ["www"]}],
    },
    {"name": "database", "cidr": "10.0.3.0/25", "gateway": "10.0.3.126", "bridge": "br-db", "hosts": [{"name": "db", "address": "10.0.3.10"}]},
]
NAMES = [{"address": "10.0.1.10", "names": ["web", "www"]}, {"address": "10.0.3.10", "names": ["db"]}]
NETWORKS = [
    {
        "name": "public",
        "bridge": "br-public",
        "address": "10.0.1.1",
        "prefix": 24,
        "domain": "lab.local",
        "dhcp": [{"first": "10.0.1.100", "last": "10.0.1.200"}],
        "hosts": [{"mac": "52:54:00:00:00:10", "name": "web", "address": "10.0.1.10"}],
        "dns": NAMES,
        "autostart": True,
        "active": True,
    },
    {
        "name": "database",
        "bridge": "br-db",
        "address": "10.0.3.126",
        "prefix": 25,
        "domain": "lab.local",
        "dhcp": [],
        "hosts": [],
        "dns": NAMES,
        "autostart": True,
        "active": True,
    },
]


def test_filter_in_a_template() -> None:
    templar = Templar(loader=DataLoader(), variables={"segments": SEGMENTS, "domain": "lab.local"})

    assert templar.template(trust_as_template("{{ segments | hybridlab.platform.libvirt_networks(domain=domain) }}")) == NETWORKS


def test_filter_takes_the_labs_segments() -> None:
    networks = FilterModule().filters()["libvirt_networks"](lab_model()["platform_segments"], "lab.local")

    assert [(network["name"], network["address"]) for network in networks] == [
        ("management", "10.0.0.1"),
        ("public", "10.0.1.1"),
        ("private", "10.0.2.1"),
        ("database", "10.0.3.1"),
        ("container", "10.0.4.1"),
    ]


def test_filter_refuses_segments_with_all_faults() -> None:
    faulty = [{"name": "public", "cidr": "10.0.1.1/24"}, {"name": "public", "cidr": "10.0.2.0/24"}]

    with pytest.raises(AnsibleFilterError) as caught:
        FilterModule().filters()["libvirt_networks"](faulty, "lab.local")

    assert "Write '10.0.1.0/24'" in str(caught.value)
    assert "platform_segments[1].name: found 'public'" in str(caught.value)


@given(models())
def test_every_network_knows_the_names_of_all_hosts(model: dict[str, Any]) -> None:
    platform = parse_platform(model)
    names = {name for segment in platform.segments for host in segment.hosts for name in (host.name, *host.aliases)}

    for network, segment in zip(libvirt_networks(platform.segments, platform.domain), platform.segments):
        assert {name for entry in network["dns"] for name in entry["names"]} == names
        assert {entry["mac"] for entry in network["hosts"]} == {host.mac for host in segment.hosts if host.mac}
