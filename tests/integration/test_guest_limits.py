# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The means of the host: the ninth guest, the ninth vCPU and the MiB over 70 % are refused, whoever asks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.guest_shell import declared
from tests.integration.lab import CommandFailed, Lab, fresh
from tools import playbook

# Eight of everything, whatever machine this is.
CAPACITY = {"guests": 8, "vcpus": 8, "vcpus_per_core": 100, "memory_percent": 70}


def guests(**change: Any) -> list[str]:
    """Arguments with the guest web alone, changed."""
    return ["-e", json.dumps({"platform_capacity": CAPACITY, "platform_guests": [{**declared()[0], **change}]})]


def start_by_hand(lab: Lab, name: str, vcpus: int = 1, memory_mb: int = 64) -> None:
    """Somebody starts a guest that is none of ours; paused from the beginning, so that it costs nothing."""
    xml = (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory_mb}</memory><vcpu>{vcpus}</vcpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
    lab.sh(f'echo "{xml}" >/run/by-hand.xml; virsh create --paused /run/by-hand.xml')


def end_all_but_ours(lab: Lab) -> None:
    lab.sh("for name in $(virsh -q list --name | grep -v '^web$'); do virsh destroy $name; done")


@pytest.fixture(scope="module")
def limited() -> Iterator[Lab]:
    """A host on which one guest of ours runs under the policy: 1 vCPU, at most 2."""
    with fresh("guest-limits", guests=True) as lab:
        # The matrix is measured elsewhere.
        lab.played("site.yml", *guests(), "--skip-tags", "verify")
        yield lab


@pytest.fixture
def host(limited: Lab) -> Iterator[Lab]:
    yield limited
    end_all_but_ours(limited)


def refused_by_hand(lab: Lab, name: str, **claim: int) -> str:
    with pytest.raises(CommandFailed) as caught:
        start_by_hand(lab, name, **claim)
    assert name not in lab.sh("virsh -q list --name")
    return str(caught.value)


def assert_table(message: str, *words: str) -> None:
    for word in ("limit", "used", "asked", "guests", "vCPUs", "memory MiB", *words):
        assert word in message, message


def test_the_ninth_guest_by_hand(host: Lab) -> None:
    for number in range(6):
        start_by_hand(host, f"hand{number}")
    # Two vCPUs of web and six by hand are eight: room for another guest must not fail for want of vCPUs here.
    host.played("playbooks/guests.yml", *guests(vcpus_max=1), "-e", "guests_allow_disruption=true")
    start_by_hand(host, "hand6")
    assert_table(refused_by_hand(host, "hand7"), "hand7", "hand0", "web")


def test_the_ninth_guest_of_ours(host: Lab) -> None:
    host.sh("virsh shutdown web --mode agent; while virsh -q list --name | grep -qx web; do sleep .5; done")
    for number in range(8):
        start_by_hand(host, f"hand{number}")
    outcome = host.play("playbooks/guests.yml", *guests(vcpus_max=1))
    assert outcome.rc != 0
    assert_table(outcome.failures(), "web", "hand0", "not ours")
    assert "web" not in host.sh("virsh -q list --name")
    with pytest.raises(CommandFailed) as caught:
        host.sh("virsh start web")
    assert_table(str(caught.value), "web")
    end_all_but_ours(host)
    host.played("playbooks/guests.yml", *guests(vcpus_max=1))


def test_the_ninth_processor(host: Lab) -> None:
    start_by_hand(host, "wide", vcpus=7)
    assert_table(refused_by_hand(host, "more", vcpus=1), "more", "wide")
    outcome = host.play("playbooks/guests.yml", *guests(vcpus_max=2), "-e", "guests_allow_disruption=true")
    assert outcome.rc != 0
    assert_table(outcome.failures(), "wide", "web")


def test_the_mib_over_70_percent(host: Lab) -> None:
    total_kib = int(host.sh("grep MemTotal /proc/meminfo").split()[1])
    web_kib = int(host.sh("virsh -q dominfo web | grep 'Max memory'").split()[2])
    rest_mb = (total_kib * 70 // 100 - web_kib) // 1024
    assert_table(refused_by_hand(host, "large", memory_mb=rest_mb + 1), "large", "70 %")
    start_by_hand(host, "large", memory_mb=rest_mb)
    assert "large" in host.sh("virsh -q list --name")


def test_the_hook_can_be_turned_off(host: Lab) -> None:
    off = ["-e", "guest_capacity_enforce_starts=false"]
    host.played("playbooks/guests.yml", *guests(vcpus_max=1), *off)
    start_by_hand(host, "wide", vcpus=40)
    end_all_but_ours(host)
    host.played("playbooks/guests.yml", *guests(vcpus_max=1))
    refused_by_hand(host, "wide", vcpus=40)


def test_two_at_once_do_not_both_get_the_last_place(host: Lab) -> None:
    for number in range(6):
        start_by_hand(host, f"hand{number}")
    xml = "<domain type='qemu'><name>$n</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    host.sh(
        f'for n in left right; do echo "{xml}" >/run/$n.xml; (virsh create --paused /run/$n.xml || :) & done; wait'  # seven run; two ask for the eighth place
    )
    assert len({"left", "right"} & set(host.sh("virsh -q list --name").split())) == 1


def test_capacity_says_what_is_used(host: Lab) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "capacity", "PLATFORM=sandbox"],
        capture_output=True,
        text=True,
        cwd=playbook.CHECKOUT,
        env=playbook.environment(host.name),
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("guests", "vCPUs", "memory", "fast", "large", "web"):
        assert word in done.stdout
