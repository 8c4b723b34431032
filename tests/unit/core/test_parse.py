# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every faulty model is refused with the words that let its author repair it; every sound one is taken."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import AddressRange
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import check_platform, parse_platform, parse_segments
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route
from ansible_collections.hybridlab.platform.tests.unit.bad_models import BAD_MODELS, BadModel, lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import models
from hypothesis import given


@pytest.mark.parametrize("bad", BAD_MODELS, ids=lambda bad: bad.name)
def test_bad_model_is_refused(bad: BadModel) -> None:
    findings = check_platform(bad.model(), bad.routes)

    found = [(finding.rule, finding.path) for finding in findings]
    assert sorted(found) == sorted([(bad.rule, bad.path), *bad.also])
    finding = findings[found.index((bad.rule, bad.path))]
    assert bad.reason in finding.reason
    assert bad.cure in finding.cure


def test_names_of_bad_models_are_unique() -> None:
    assert len({bad.name for bad in BAD_MODELS}) == len(BAD_MODELS) >= 60


def test_the_lab_is_sound() -> None:
    platform = parse_platform(lab_model())

    assert [str(segment.cidr) for segment in platform.segments] == [f"10.0.{index}.0/24" for index in range(5)]
    assert platform.segment("management").reaches == ("public", "private", "database", "container")
    assert platform.segment("database").host_services == ("dns",)
    assert platform.host_ssh_ports == (2201,)
    assert platform.host.reserve_memory_mb == 8192
    assert [pool.path for pool in platform.pools] == ["/var/lib/libvirt/images", "/data/kvm/images"]


def test_defaults_fill_what_a_segment_leaves_out() -> None:
    plain, leasing, reserving = parse_segments(
        [
            {"name": "plain", "cidr": "10.1.0.0/24"},
            {"name": "leasing", "cidr": "10.1.1.0/24", "dhcp": ["10.1.1.10-10.1.1.50"]},
            {"name": "reserving", "cidr": "10.1.2.0/24", "hosts": [{"name": "web", "address": "10.1.2.10", "mac": "52:54:00:AB:00:01"}]},
        ]
    )

    assert (plain.bridge, plain.gateway, plain.reaches, plain.internet, plain.host_services) == ("br-plain", IPv4Address("10.1.0.1"), (), True, ("dns",))
    assert leasing.dhcp == (AddressRange(IPv4Address("10.1.1.10"), IPv4Address("10.1.1.50")),)
    assert leasing.host_services == reserving.host_services == ("dhcp", "dns")
    assert reserving.hosts[0].mac == "52:54:00:ab:00:01"


def test_all_faults_are_told_at_once() -> None:
    model = lab_model()
    model["platform_domain"] = "lab..local"
    model["platform_segments"][0]["gateway"] = "10.9.9.9"
    model["platform_pools"][0]["path"] = "images"

    with pytest.raises(ModelError) as caught:
        parse_platform(model)

    assert [finding.rule for finding in caught.value.findings] == ["domain", "gateway-outside", "pool-path"]
    lines = str(caught.value).splitlines()
    assert lines[0] == "the platform model has 3 faults; nothing was changed"
    assert lines[2].startswith("  - platform_segments[management].gateway: found '10.9.9.9': lies outside the segment's cidr 10.0.0.0/24. Choose an address ")


@pytest.mark.parametrize(
    "route",
    [
        Route(IPv4Network("0.0.0.0/0"), "eno1", IPv4Address("192.168.1.1")),
        Route(IPv4Network("0.0.0.0/1"), "wg0", IPv4Address("10.8.0.1")),
        Route(IPv4Network("10.0.1.0/24"), "br-public"),
        # the bridge still has the range that another segment gets now
        Route(IPv4Network("10.0.2.0/24"), "br-public"),
        Route(IPv4Network("192.168.1.0/24"), "eno1"),
        Route(IPv4Network("192.168.122.0/24"), "virbr0"),
        Route(IPv4Network("172.17.0.0/16"), "docker0"),
        Route(IPv4Network("172.22.3.0/24"), "br-0123456789ab"),
        Route(IPv4Network("100.101.102.103/32"), "tailscale0"),
        Route(IPv4Network("10.64.0.0/16"), "eno1", IPv4Address("192.168.1.1")),
    ],
    ids=lambda route: f"{route.cidr} {route.device}",
)
def test_route_is_no_clash(route: Route) -> None:
    assert check_platform(lab_model(), [route]) == []


def test_network_that_the_host_is_attached_to_can_be_declared() -> None:
    model = lab_model()
    model["platform_ranges"]["home"] = "192.168.1.0/24"

    assert check_platform(model, [Route(IPv4Network("192.168.1.0/24"), "eno1")]) == []
    assert [finding.rule for finding in check_platform(model, [Route(IPv4Network("192.168.1.0/25"), "eno1")])] == ["overlap-route"]


def test_route_that_only_overlaps_a_declared_range_is_told_once() -> None:
    (finding,) = check_platform(lab_model(), [Route(IPv4Network("172.16.0.0/15"), "br-0123456789ab")])

    assert (finding.rule, finding.path) == ("overlap-route", "platform_ranges.docker_bridge")


def test_forwarded_port_on_which_the_host_listens() -> None:
    model = lab_model()
    model["platform_segments"][1]["hosts"] = [
        {"name": "web", "address": "10.0.1.5", "ssh_port": 2211},
        {"name": "mail", "address": "10.0.1.6", "ssh_port": 2212},
    ]

    (finding,) = check_platform(model, listening={22, 53, 2212})

    assert (finding.rule, finding.path, finding.found) == ("ssh-port-taken", "platform_segments[public].hosts[mail].ssh_port", 2212)
    assert "listens on port 2212" in finding.reason
    assert check_platform(model, listening={22, 53, 2201}) == []


class TaggedText(str):
    """As Ansible hands over the values of an inventory."""

    __slots__ = ()


def test_text_subclasses_are_text() -> None:
    platform = parse_platform({TaggedText(key): TaggedText(value) if isinstance(value, str) else value for key, value in lab_model().items()})

    assert not isinstance(platform.name, TaggedText)
    assert not isinstance(platform.domain, TaggedText)


@given(models())
def test_sound_models_are_taken_with_all_their_values(model: dict[str, Any]) -> None:
    platform = parse_platform(model)

    for raw, segment in zip(model["platform_segments"], platform.segments):
        assert (segment.name, str(segment.cidr), str(segment.gateway)) == (raw["name"], raw["cidr"], raw["gateway"])
        assert list(segment.reaches) == raw["reaches"]
        assert segment.internet is raw["internet"]
        assert [str(host.address) for host in segment.hosts] == [host["address"] for host in raw["hosts"]]
        assert [host.ssh_port for host in segment.hosts] == [host.get("ssh_port") for host in raw["hosts"]]


@given(models(max_segments=6))
def test_checking_leaves_the_variables_alone(model: dict[str, Any]) -> None:
    before = repr(model)
    check_platform(model)
    assert repr(model) == before


def test_page_of_bad_models_is_fresh() -> None:
    root = Path(__file__).resolve().parents[3]
    checked = subprocess.run([sys.executable, "-m", "tools.bad_models_table", "--check"], cwd=root, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
