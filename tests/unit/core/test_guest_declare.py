# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of guests, and refused when it cannot be meant."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import GIB, Volume, declare_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.tests.unit.core.guest_host import GuestHost, entry
from ansible_collections.hybridlab.platform.tests.unit.core.guest_values import (
    DATA,
    ROOT,
    foreign,
    made,
    nic,
    numbered,
    plan,
    refusal,
)

SECRET = "correct-horse"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interfaces": [nic(1, "pubilc")]}, ("config[web].interfaces[0].segment: found 'pubilc'", "Did you mean 'public'")),
        ({"interfaces": [nic(1), nic(2, "nowhere")]}, ("config[web].interfaces[1].segment: found 'nowhere'", "private, public")),
        ({"interfaces": [nic(1, address="10.0.1.300")]}, ("config[web].interfaces[0].address: found '10.0.1.300'",)),
        ({"interfaces": [nic(1, mac="52:54:00:00:01")]}, ("config[web].interfaces[0].mac: found '52:54:00:00:01'",)),
        ({"interfaces": [nic(1, mac="53:54:00:00:00:01")]}, ("config[web].interfaces[0].mac: found '53:54:00:00:00:01'", "multicast")),
        ({"interfaces": [nic(1, dhcp=False, address=None)]}, ("config[web].interfaces[0].address: found nothing",)),
        ({"interfaces": [nic(1, dhcp=False, prefix=None)]}, ("config[web].interfaces[0].prefix: found nothing",)),
        ({"interfaces": [nic(1), nic(3, mac="52:54:00:00:00:01")]}, ("mac 52:54:00:00:00:01", "twice")),
        ({"interfaces": []}, ("config[web].interfaces: found nothing",)),
        ({"platform": None}, ("config[web].platform: found nothing",)),
        ({"vcpus": -1}, ("config[web].vcpus: found -1",)),
        ({"memory_mb": -256}, ("config[web].memory_mb: found -256",)),
        ({"memory_mb": 1024}, ("config[web].memory_mb: found 1024, more than memory_max_mb (512)",)),
        ({"vcpus": 3}, ("config[web].vcpus: found 3, more than vcpus_max (2)",)),
        ({"disks": [{**ROOT, "pool": "fats"}]}, ("config[web].disks[0].pool: found 'fats'", "Did you mean 'fast'")),
        ({"disks": [ROOT, {**DATA, "image": "tyny"}]}, ("config[web].disks[1].image: found 'tyny'", "'tiny'")),
        ({"disks": [ROOT, {**DATA, "size_gb": None}]}, ("config[web].disks[1].size_gb: found nothing",)),
        ({"disks": [ROOT, {**DATA, "size_gb": -3}]}, ("config[web].disks[1].size_gb: found -3",)),
        ({"disks": [ROOT, {**DATA, "name": "root"}]}, ("config[web].disks[1].name: found 'root'",)),
        ({"disks": [ROOT, {**DATA, "name": "a/b"}]}, ("config[web].disks[1].name: found 'a/b'",)),
        ({"disks": [ROOT, {**DATA, "name": "data@old"}]}, ("config[web].disks[1].name: found 'data@old'",)),
        ({"disks": [ROOT, {**DATA, "name": "seed"}]}, ("config[web].disks[1].name: found 'seed'",)),
        ({"disks": [{**ROOT, "image": None}]}, ("config[web].image: found 'tiny'", "first disk")),
        ({"image": "other"}, ("config[web].image: found 'other'", "first disk", "'tiny'")),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    message = refusal(GuestHost(), numbered(2), entry(**changes))
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["../web", "web/1", "", ".hidden", "web@1"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    assert f"config[{name}].name: found {name!r}" in refusal(GuestHost(), entry(name))


def test_a_disk_is_at_least_as_large_as_its_image() -> None:
    host = GuestHost()
    facts = host.facts()
    large = {"tiny": replace(facts.images["tiny"], capacity=5 * GIB // 2)}
    assert "image tiny alone is 2.5 GiB large" in refusal(host, entry(), images=large)
    assert plan(host, entry(disks=[{**ROOT, "size_gb": 3}]), images=large).operations
    assert plan(host, entry(disks=[{**ROOT, "size_gb": None}]), images=large).operations


def test_what_was_left_out_follows_from_what_was_said() -> None:
    facts = GuestHost().facts()
    (found,) = declare_guests([entry(vcpus_max=None, memory_max_mb=None, image=None, interfaces=[nic(1, mac="52:54:00:AA:00:01")])], facts)
    domain = found.domain
    assert (domain.vcpus_max, domain.memory_max_mb, domain.nics[0].mac) == (1, 256, "52:54:00:aa:00:01")
    assert domain.record is not None
    assert domain.record.image == "tiny"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interfaces": [nic(2, mac="52:54:00:00:00:01")]}, "mac 52:54:00:00:00:01"),
        ({"interfaces": [nic(2, mac="52:54:00:00:00:01".upper())]}, "mac 52:54:00:00:00:01"),
        ({"interfaces": [nic(2, address="10.0.1.10")]}, "address 10.0.1.10"),
        ({"ssh_port": 2211}, "ssh_port 2211"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_macs_addresses_and_ports_are_given_once(changes: dict[str, Any], words: str, exists: bool) -> None:
    second = numbered(2, **changes)
    host = made(entry()) if exists else GuestHost()
    message = refusal(host, second) if exists else refusal(host, entry(), second)
    assert message.startswith(f"config[guest-2]: its {words} is that of guest web already")


def test_the_mac_of_a_foreign_guest_is_taken_also_while_it_only_runs() -> None:
    host = GuestHost(machines={"theirs": foreign("theirs", mac="52:54:00:00:00:01")})
    assert "mac 52:54:00:00:00:01 is that of guest theirs" in refusal(host, entry())
    facts = host.facts()
    transient = tuple(replace(domain, kept=None) for domain in facts.domains)
    assert "mac 52:54:00:00:00:01 is that of guest theirs" in refusal(host, entry(), domains=transient)


def test_foreign_guests_may_share_what_they_like() -> None:
    host = GuestHost(machines={"one": foreign("one", 1, running=False), "two": foreign("two", 2)})
    assert plan(host, entry()).operations


def test_two_disks_are_never_one_file() -> None:
    ours, other = entry("a", disks=[ROOT, {**DATA, "name": "b-c"}]), {**numbered(2), "name": "a-b", "disks": [ROOT, {**DATA, "name": "c"}]}
    assert "/pools/large/a-b-c.qcow2" in refusal(GuestHost(), ours, other)
    assert "/pools/large/a-b-c.qcow2 is that of guest a already" in refusal(made(ours), other)
    other["disks"] = [ROOT, {**DATA, "name": "c", "pool": "fast"}]
    assert plan(GuestHost(), ours, other).operations


def test_an_absent_guest_needs_nothing_but_its_name() -> None:
    assert declare_guests([{"name": "web", "state": "absent", "remove_disks": None}], GuestHost().facts()) == []


def test_a_name_is_declared_once() -> None:
    assert "config[1].name: found 'web'" in refusal(GuestHost(), entry(), entry())


def test_what_user_data_says_is_only_in_the_seed() -> None:
    def secret(text: str) -> dict[str, Any]:
        return entry(cloud_init={"domain": "lab.local", "users": [], "packages": [], "commands": [], "user_data": json.dumps({"password": text})})

    facts = GuestHost().facts()
    (one,), (other,) = (declare_guests([secret(text)], facts) for text in (SECRET, "another"))
    assert one.documents is not None
    assert SECRET in one.documents["user-data"]
    assert SECRET not in "".join(one.shown.values())
    assert "password" in one.shown["user-data"]
    assert one.shown == other.shown
    assert one.domain.record is not None
    assert other.domain.record is not None
    assert one.domain.record.seed != other.domain.record.seed


def test_user_data_that_cannot_be_merged_is_refused_without_saying_it() -> None:
    declared = entry(cloud_init={"domain": "lab.local", "users": [], "packages": [], "commands": [], "user_data": json.dumps({"write_files": SECRET})})
    with pytest.raises(ResourceError) as caught:
        declare_guests([declared], GuestHost().facts())
    assert "config[web].cloud_init.user_data.write_files" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_without_libvirt_every_segment_is_taken_for_made() -> None:
    assert plan(GuestHost(), entry(interfaces=[nic(1, "new")]), blind=True).operations


def test_base_images_are_no_thin_volumes() -> None:
    facts = GuestHost().facts()
    volume = Volume("/pools/fast/web-root.qcow2", 2 * GIB, 0)
    assert [found.name for found in replace(facts, volumes={**facts.volumes, volume.path: volume}).volumes_of("fast")] == ["web-root.qcow2"]
