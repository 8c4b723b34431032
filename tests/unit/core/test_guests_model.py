# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests, images and capacity of a model: what a sound one becomes, and what a refusal never shows."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Means, Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_guests import compare_means, guest_segments
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import Guest, GuestDisk, GuestInterface, GuestUser, Image
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import check_platform, parse_guests, parse_platform
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model

MINIMAL: dict[str, Any] = {"name": "web", "segment": "public", "memory_mb": 512, "image": "debian-12", "cloud_init": False}


def lab_with(*guests: dict[str, Any], **variables: Any) -> dict[str, Any]:
    return {**lab_model(), "platform_guests": list(guests), **variables}


def test_the_labs_guest() -> None:
    platform = parse_platform(lab_model())

    (guest,) = platform.guests
    key = lab_model()["platform_guests"][0]["users"][0]["ssh_keys"][0]
    assert guest == Guest(
        name="test-vm",
        interfaces=(GuestInterface("private"),),
        forward=True,
        vcpus=2,
        vcpus_max=2,
        memory_mb=2048,
        memory_max_mb=2048,
        image="debian-12",
        disks=(GuestDisk("root", "fast", 20),),
        users=(GuestUser("admin", (key,)),),
        wait_for="ssh",
    )
    assert platform.images == (Image("debian-12", file="{{ inventory_dir }}/../../.cache/images/debian.qcow2", pool="fast"),)
    assert platform.capacity == Policy(8, 8, 2, 24576, 70, reserve_cores=2, reserve_memory_mb=8192)


def test_defaults_fill_what_a_guest_leaves_out() -> None:
    (guest,) = parse_platform(lab_with(MINIMAL)).guests

    assert guest.disks == (GuestDisk("root", "fast", None),)
    assert (guest.vcpus, guest.vcpus_max, guest.memory_max_mb) == (1, 1, 512)
    assert (guest.firmware, guest.boot, guest.tpm, guest.agent, guest.console, guest.autostart) == ("bios", ("disk",), False, True, True, True)
    assert (guest.state, guest.remove_disks, guest.wait_for, guest.wait_seconds) == ("running", None, None, 300)


def test_every_value_of_a_guest_is_taken() -> None:
    first, second = {"segment": "public", "address": "10.0.1.20"}, {"segment": "database"}
    raw = {
        "name": "web",
        "interfaces": [first, second],
        "ssh_port": 2211,
        "aliases": ["www", "web.example.org"],
        "vcpus": 1,
        "vcpus_max": 4,
        "memory_mb": 512,
        "memory_max_mb": 1024,
        "image": "debian-12",
        "disks": [{"name": "root"}, {"name": "data", "pool": "large", "size_gb": 50}],
        "users": [{"name": "admin", "groups": ["adm"], "sudo": False, "shell": "/bin/zsh"}],
        "packages": ["nginx", "python3.11", "@development-tools", "curl=7.88.1-10+deb12u5"],
        "commands": ["systemctl enable --now nginx", ["touch", "/srv/a b"]],
        "user_data": {"ssh_authorized_keys": ["anything"], "timezone": "Etc/UTC"},
        "firmware": "uefi-secure",
        "tpm": True,
        "boot": ["disk", "network"],
        "agent": False,
        "console": False,
        "autostart": False,
        "state": "stopped",
        "remove_disks": False,
        "wait_for": "cloud_init",
        "wait_seconds": 60,
    }

    assert parse_platform(lab_with(raw)).guests == (
        Guest(
            name="web",
            interfaces=(GuestInterface("public", IPv4Address("10.0.1.20")), GuestInterface("database")),
            ssh_port=2211,
            forward=True,
            aliases=("www", "web.example.org"),
            vcpus=1,
            vcpus_max=4,
            memory_mb=512,
            memory_max_mb=1024,
            image="debian-12",
            disks=(GuestDisk("root", "fast"), GuestDisk("data", "large", 50)),
            users=(GuestUser("admin", groups=("adm",), sudo=False, shell="/bin/zsh"),),
            packages=("nginx", "python3.11", "@development-tools", "curl=7.88.1-10+deb12u5"),
            commands=("systemctl enable --now nginx", ("touch", "/srv/a b")),
            user_data={"ssh_authorized_keys": ["anything"], "timezone": "Etc/UTC"},
            firmware="uefi-secure",
            tpm=True,
            boot=("disk", "network"),
            agent=False,
            console=False,
            autostart=False,
            state="stopped",
            remove_disks=False,
            wait_for="cloud_init",
            wait_seconds=60,
        ),
    )


@pytest.mark.parametrize(
    ("changes", "forward"),
    [
        ({}, True),
        ({"ssh_port": "none"}, False),
        ({"address": "dynamic"}, False),
        ({"address": "dynamic", "ssh_port": "none"}, False),
        ({"ssh_port": 2213}, True),
    ],
)
def test_forward_of_a_guest(changes: dict[str, Any], forward: bool) -> None:
    (guest,) = parse_platform(lab_with({**MINIMAL, **changes})).guests

    assert guest.forward is forward
    assert guest.interfaces[0].dynamic is ("address" in changes)


def test_absent_guest_may_speak_of_what_is_gone() -> None:
    gone = {**MINIMAL, "segment": "retired", "image": "debian-9", "address": "10.9.9.9", "state": "absent", "remove_disks": True}

    (guest,) = parse_platform(lab_with(gone)).guests

    assert guest == Guest(name="web", state="absent", remove_disks=True)
    assert guest.absent


def test_guests_that_need_no_image() -> None:
    raw = {"name": "pxe", "segment": "public", "memory_mb": 512, "boot": ["network", "disk"], "disks": [{"name": "root", "size_gb": 4}], "cloud_init": False}

    (guest,) = parse_platform(lab_with(raw)).guests

    assert (guest.image, guest.disks) == (None, (GuestDisk("root", "fast", 4),))


def test_image_of_a_url() -> None:
    digits = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
    image = {"name": "debian-12", "url": "https://images.example/d.raw", "checksum": f"SHA256:{digits}", "format": "raw"}

    assert parse_platform({**lab_model(), "platform_images": [image]}).images == (
        Image("debian-12", "https://images.example/d.raw", None, f"sha256:{digits.lower()}", "raw", "fast"),
    )


def test_no_secret_is_shown() -> None:
    secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"
    body = "MIIEpAIBAAKCAQEAn0tASecret0123456789abcdef"
    users: list[Any] = [
        {"name": "a", "ssh_keys": [f"-----BEGIN RSA PRIVATE KEY-----\n{secret}"]},
        {"name": "b", "ssh_keys": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}"},
        {"name": "c", "ssh_keys": [secret, body]},
        {"name": "d", "password": secret, "passwd_hash": secret},
        f"-----BEGIN EC PRIVATE KEY-----\n{secret}",
    ]
    model = lab_with({**MINIMAL, "cloud_init": True, "users": users, "user_data": secret, "commands": [{"token": secret}]})
    model["platform_images"][0] = {"name": "debian-12", "url": f"ftp://me:{secret}@images.example/x", "checksum": f"sha256:{'0' * 64}"}

    findings = check_platform(model)

    text = "\n".join(map(str, findings)) + repr(findings)
    assert secret not in text
    assert body not in text
    assert sorted({finding.rule for finding in findings}) == ["command", "image-url", "private-key", "ssh-key", "type", "unknown-key", "user-data"]


def test_segment_that_leases_to_guests_alone() -> None:
    model = lab_with({**MINIMAL, "segment": "database"})
    model["platform_segments"][3]["host_services"] = ["dhcp", "dns"]

    assert check_platform(model) == []
    model["platform_guests"][0].update(state="absent", remove_disks=True)
    assert [finding.rule for finding in check_platform(model)] == ["dhcp-nothing"]


@pytest.mark.parametrize("raw", [None, {}, "web", [None, "web", {}, {"interfaces": None}, {"segment": ["public"]}, {"interfaces": [1, {"segment": 2}]}]])
def test_segments_of_guests_in_any_shape(raw: Any) -> None:
    assert guest_segments(raw) == set()


def test_guests_port_on_which_the_host_listens() -> None:
    (finding,) = check_platform(lab_with({**MINIMAL, "ssh_port": 2212}), listening={22, 2212})

    assert (finding.rule, finding.path, finding.found) == ("ssh-port-taken", "platform_guests[web].ssh_port", 2212)


def test_what_does_not_run_takes_nothing() -> None:
    guests = [{**MINIMAL, "name": f"g{index}", "vcpus": 4, "state": "stopped" if index else "running"} for index in range(5)]

    assert check_platform(lab_with(*guests)) == []


def test_refusal_for_want_of_means_has_the_table() -> None:
    guests = [{**MINIMAL, "name": f"g{index}", "vcpus": 3} for index in range(3)]

    (finding,) = check_platform(lab_with(*guests))

    assert finding.found == "3 guests, 9 vCPUs, 1536 MiB"
    lines = str(finding).splitlines()
    assert lines[0].startswith(
        "platform_guests: found '3 guests, 9 vCPUs, 1536 MiB': take more than the host of platform_host may give: vCPUs: 1 over the limit"
    )
    assert next(line for line in lines if line.startswith("vCPUs")).split()[:5] == ["vCPUs", "8", "0", "9", "1"]
    assert [line.split()[0] for line in lines if "to be started" in line] == ["g0", "g1", "g2"]


def test_limits_of_what_the_model_does_not_say_wait_for_the_host() -> None:
    model = lab_with({**MINIMAL, "vcpus": 8, "memory_mb": 20000})
    for key in ("cores", "threads", "memory_mb"):
        del model["platform_host"][key]

    platform = parse_platform(model)

    assert compare_means(platform, Means(6, 32000 * 1024)) == []
    assert [finding.rule for finding in compare_means(platform, Means(5, 32000 * 1024))] == ["capacity"]
    assert "reserve.memory_mb: 24000 - 8192" in compare_means(platform, Means(6, 24000 * 1024))[0].reason


def test_guests_whose_values_are_not_known_yet() -> None:
    model = lab_with({**MINIMAL, "segment": "database", "memory_mb": "{{ memory }}"})
    model["platform_segments"][3]["host_services"] = ["dhcp", "dns"]

    platform = parse_platform(model, guests=False)

    assert platform.guests == ()
    assert platform.segment("database").host_services == ("dhcp", "dns")


def test_guests_alone_take_images_and_pools_on_trust() -> None:
    segments, guests = parse_guests(lab_model()["platform_segments"], [{**MINIMAL, "image": "any", "disks": [{"name": "root", "pool": "any"}]}], "lab")

    assert [segment.name for segment in segments][:2] == ["management", "public"]
    assert guests[0].disks == (GuestDisk("root", "any"),)
