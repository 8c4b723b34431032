# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of other kinds: a full Debian with cloud-init that ends well or badly, and one with Secure Boot and a TPM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.guest_shell import declared, inside
from tests.integration.lab import Lab, fresh
from tools import guest_image

COMMON = {"segment": "public", "vcpus": 1, "users": declared()[0]["users"], "wait_seconds": 600}
DEBIAN = {**COMMON, "image": "debian", "memory_mb": 512, "disks": [{"name": "root", "size_gb": 5}], "wait_for": "cloud_init"}
FULL = {**DEBIAN, "name": "full", "commands": ["echo done >/root/was-here"]}
BROKEN = {**DEBIAN, "name": "broken", "commands": ["echo this cannot work; exit 3"]}
# Secure Boot needs 512 MiB: with less, the firmware leaves too little for the kernel's own checks.
SECURE = {**COMMON, "name": "secure", "image": "tiny", "memory_mb": 512, "firmware": "uefi-secure", "tpm": True, "wait_for": "ssh"}


def model(*guests: dict[str, Any]) -> list[str]:
    images = [{"name": kind, "file": str(guest_image.ensure(kind)), "format": "qcow2"} for kind in ("tiny", "debian")]
    # Three of this size are more than the sandbox's model lets its small host give.
    return ["-e", json.dumps({"platform_images": images, "platform_guests": guests, "platform_capacity": {"guests": 8}})]


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    """A host with a full Debian and a guest with Secure Boot."""
    with fresh("guest-kinds", guests=True) as lab:
        lab.played("site.yml", *model(FULL, SECURE))
        yield lab


def test_cloud_init_has_done_what_the_model_says(host: Lab) -> None:
    assert inside(host, "full", "cat /root/was-here").strip() == "done"
    assert inside(host, "full", "hostname -f").strip() == "full.lab.local"
    assert inside(host, "full", "systemctl is-system-running || true").strip() == "running"
    # The root file system has taken the whole disk.
    assert int(inside(host, "full", "df -k --output=size / | tail -1")) > 4 * 1024 * 1024


def test_secure_boot_is_on_and_there_is_a_tpm(host: Lab) -> None:
    assert "secure boot enabled" in inside(host, "secure", "dmesg").lower()
    assert "<backend type='emulator' version='2.0'" in host.sh("virsh dumpxml secure")


def test_a_second_run_changes_nothing(host: Lab) -> None:
    assert host.played("playbooks/guests.yml", *model(FULL, SECURE)).changed == 0


def test_a_cloud_init_that_fails_is_told_with_its_lines(host: Lab) -> None:
    failed = host.play("playbooks/guests.yml", *model(FULL, SECURE, BROKEN))
    assert failed.rc != 0
    message = failed.failures()
    assert "guest broken" in message
    assert "cloud-init" in message
    assert "this cannot work" in message or "scripts" in message
    # It is not forgotten: the next run looks again, and fails again.
    again = host.play("playbooks/guests.yml", *model(FULL, SECURE, BROKEN))
    assert again.rc != 0
    assert "guest broken" in again.failures()
