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
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Policy, read_policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_assign import guest_mac
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.projections import guest_probes, libvirt_networks
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import models
from hypothesis import given
from hypothesis import strategies as st

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


GUESTS: list[dict[str, Any]] = [
    {
        "name": "app",
        "interfaces": [{"segment": "public", "address": "10.0.1.20"}, {"segment": "database"}],
        "aliases": ["api"],
        "memory_mb": 512,
        "image": "tiny",
        "users": [{"name": "admin", "groups": ["adm"]}],
        "user_data": {"ssh_authorized_keys": ["any"]},
        "commands": ["true", ["touch", "/srv/x"]],
        "ssh_port": "none",
        "wait_for": "ssh",
    },
    {
        "name": "lease",
        "segment": "public",
        "address": "dynamic",
        "memory_mb": 512,
        "image": "tiny",
        "cloud_init": False,
        "state": "stopped",
        "wait_for": "agent",
    },
    {"name": "old", "state": "absent", "remove_disks": True},
]
POOLS = [{"name": "fast", "path": "/srv/fast"}, {"name": "large", "path": "/srv/large"}]
IMAGES = [
    {"name": "tiny", "file": "/cache/tiny.qcow2"},
    {"name": "debian", "url": "https://images.example/d.raw", "checksum": f"sha256:{'0' * 64}", "format": "raw", "pool": "large"},
]
FILTERS = FilterModule().filters()


def template(text: str, **variables: Any) -> Any:
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))


def test_filter_in_a_template() -> None:
    assert template("{{ segments | hybridlab.platform.libvirt_networks(domain=domain) }}", segments=SEGMENTS, domain="lab.local") == NETWORKS


def test_guests_stand_in_their_segments_as_hosts() -> None:
    expression = "{{ segments | hybridlab.platform.with_guests(guests, 'lab', recorded, taken_ports=[2201]) }}"
    recorded = [{"name": "app", "ssh_port": None, "interfaces": [{"segment": "database", "address": "10.0.3.77"}]}]

    public, database = template(expression, segments=SEGMENTS, guests=GUESTS, recorded=recorded)

    assert public == {
        **SEGMENTS[0],
        "hosts": [*SEGMENTS[0]["hosts"], {"name": "app", "address": "10.0.1.20", "mac": guest_mac("lab", "app", 0), "aliases": ["api"]}],
    }
    # Nothing leases there, so nothing is reserved.
    assert database == {**SEGMENTS[1], "hosts": [*SEGMENTS[1]["hosts"], {"name": "app-database", "address": "10.0.3.77"}]}


def test_forward_of_a_guest_is_its_segments_lowest_free_port() -> None:
    segments = [{"name": "public", "cidr": "10.0.1.0/24", "ssh_ports": {"first": 2201, "last": 2210}}]
    guests = [{"name": "app", "segment": "public", "memory_mb": 512, "image": "tiny", "cloud_init": False}]

    (public,) = FILTERS["with_guests"](segments, guests, "lab", taken_ports=[2201])

    assert public["hosts"] == [{"name": "app", "address": "10.0.1.10", "ssh_port": 2202}]


def test_segments_without_guests_stay_as_they_are() -> None:
    assert FILTERS["with_guests"](SEGMENTS, [], "lab") == SEGMENTS


def test_guests_as_the_module_takes_them() -> None:
    expression = "{{ guests | hybridlab.platform.guests_config(segments, 'lab', 'lab.local', pools) }}"

    app, lease, old = template(expression, segments=SEGMENTS, guests=GUESTS, pools=POOLS)

    assert app == {
        "name": "app",
        "platform": "lab",
        "state": "running",
        "remove_disks": None,
        "vcpus": 1,
        "vcpus_max": 1,
        "memory_mb": 512,
        "memory_max_mb": 512,
        "interfaces": [
            {"segment": "public", "mac": guest_mac("lab", "app", 0), "address": "10.0.1.20", "prefix": 24, "gateway": "10.0.1.1", "dhcp": True},
            {"segment": "database", "mac": guest_mac("lab", "app", 1), "address": "10.0.3.11", "prefix": 25, "gateway": "10.0.3.126", "dhcp": False},
        ],
        "disks": [{"name": "root", "pool": "fast", "size_gb": None, "image": "tiny"}],
        "image": "tiny",
        "ssh_port": None,
        "names": ["api"],
        "cloud_init": {
            "domain": "lab.local",
            "users": [{"name": "admin", "ssh_keys": [], "groups": ["adm"], "sudo": True, "shell": None}],
            "packages": [],
            "commands": ["true", ["touch", "/srv/x"]],
            "user_data": '{"ssh_authorized_keys": ["any"]}',
        },
        "firmware": "bios",
        "tpm": False,
        "boot": ["disk"],
        "agent": True,
        "console": True,
        "autostart": True,
        "wait_for": "ssh",
        "wait_seconds": 300,
    }
    # What does not run is not waited for.
    assert (lease["state"], "wait_for" in lease, lease["cloud_init"]) == ("stopped", False, None)
    assert (lease["interfaces"][0]["address"], lease["interfaces"][0]["dhcp"]) == (None, True)
    assert old == {"name": "old", "platform": "lab", "state": "absent", "remove_disks": True}


def test_images_as_the_modules_take_them() -> None:
    for_guests = template("{{ images | hybridlab.platform.images_config(pools) }}", images=IMAGES, pools=POOLS)
    for_volumes = template("{{ images | hybridlab.platform.images_config(pools, directory='/var/lib/x') }}", images=IMAGES, pools=POOLS)

    assert for_guests == [{"name": "tiny", "pool": "fast", "format": "qcow2"}, {"name": "debian", "pool": "large", "format": "raw"}]
    assert for_volumes == [
        {"name": "tiny", "path": "/var/lib/x/tiny.qcow2", "format": "qcow2", "pool": "fast"},
        {"name": "debian", "url": "https://images.example/d.raw", "checksum": f"sha256:{'0' * 64}", "format": "raw", "pool": "large"},
    ]


def test_policy_as_the_module_and_the_hook_take_it() -> None:
    expression = "{{ capacity | hybridlab.platform.capacity_policy(host) }}"

    found = template(expression, capacity={"guests": 8, "vcpus_per_core": 1.5}, host={"reserve": {"cores": 2, "memory_mb": 8192}})

    assert found == {"guests": 8, "vcpus_per_core": 1.5, "reserve_cores": 2, "reserve_memory_mb": 8192}
    assert read_policy(found) == Policy(guests=8, vcpus_per_core=1.5, reserve_cores=2, reserve_memory_mb=8192)
    assert FILTERS["capacity_policy"]({}) == {"reserve_cores": 0, "reserve_memory_mb": 0}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("with_guests", (SEGMENTS, [{**GUESTS[0], "interfaces": [{"segment": "publik"}]}], "lab"), "Did you mean 'public'?"),
        ("with_guests", (SEGMENTS, [{**GUESTS[0], "ssh_port": 2211}], "lab"), "the segment has no ssh_ports"),
        ("guests_config", (GUESTS, SEGMENTS, "lab", "lab.local", []), "platform_pools names none"),
        ("images_config", ([{"name": "tiny"}], POOLS), "comes from nowhere"),
        ("capacity_policy", ({"guest": 8}, {}), "Did you mean 'guests'?"),
    ],
)
def test_filters_refuse_what_cannot_be_built(name: str, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        FILTERS[name](*arguments)

    assert words in str(caught.value)


@given(models(max_segments=6), st.data())
def test_segments_with_guests_are_sound(model: dict[str, Any], data: st.DataObject) -> None:
    platform = parse_platform(model)
    places = data.draw(st.lists(st.sampled_from([segment.name for segment in platform.segments]), max_size=4))
    guests = [
        # No host that is drawn has a dash in its name.
        {"name": f"guest-{index}", "segment": place, "memory_mb": 64, "image": "any", "cloud_init": False}
        | ({} if platform.segment(place).ssh_ports else {"ssh_port": "none"})
        for index, place in enumerate(places)
    ]
    try:
        segments = FILTERS["with_guests"](model["platform_segments"], guests, platform.name, taken_ports=list(platform.host_ssh_ports))
    except AnsibleFilterError as error:
        assert "is left for it" in str(error)
        return

    found = parse_platform({**model, "platform_segments": segments})
    hosts = {host.name: host for segment in found.segments for host in segment.hosts}
    for index, place in enumerate(places):
        host = hosts[f"guest-{index}"]
        assert host.address in found.segment(place).cidr
        assert (host.ssh_port is not None) is (found.segment(place).ssh_ports is not None)
        assert (host.mac is not None) is ("dhcp" in platform.segment(place).host_services)


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


def probed(name: str, segment: str, **change: Any) -> dict[str, Any]:
    nic = {"segment": segment, "address": change.pop("address", "10.0.1.10")}
    return {"name": name, "state": "running", "interfaces": [nic], "cloud_init": {"users": [{"name": "admin", "sudo": True}]}, **change}


def test_each_segment_is_probed_from_its_first_guest_that_can_be_entered() -> None:
    config = [
        probed("stopped", "public", state="stopped"),
        probed("leased", "public", address=None),
        probed("closed", "public", cloud_init=None),
        probed("web", "public", address="10.0.1.12"),
        probed("second", "public"),
        {"name": "gone", "state": "absent", "remove_disks": True},
    ]

    (probe,) = guest_probes(config)

    assert (probe["segment"], probe["address"], probe["shell"]) == ("public", "10.0.1.12", True)
    assert probe["command"][0] == "ssh"
    assert probe["command"][-3:] == ["admin@10.0.1.12", "sudo", "-n"]
    assert {"{identity}", "UserKnownHostsFile={known_hosts}"} <= set(probe["command"])
