# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong while guests are made: bad input, full disks, stopped daemons, killed runs. Each leaves the old state or the new one."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.compare import assert_same
from tests.integration.guest_shell import changed_guests, declared
from tests.integration.lab import Lab, fresh
from tools import guest_image, guest_login

SEED = int(os.environ.get("HYBRIDLAB_SEED") or time.time())

# Domains and volumes with what stands in them, printed so that two states can be compared as text.
GUESTS = r"""
for name in $(virsh -q list --all --name | sort); do echo "# $name $(virsh domstate $name)"; virsh dumpxml --inactive $name; done
find /var/lib/libvirt/images /data/kvm/images /srv -type f -printf '%p %m\n' 2>/dev/null | sort
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    """A host with networks and one guest, web."""
    with fresh("guest-faults", guests=True) as lab:
        # The matrix is measured elsewhere.
        lab.played("site.yml", "-e", json.dumps({"platform_guests": declared()[:1]}), "--skip-tags", "verify")
        yield lab


def refused(lab: Lab, *arguments: str) -> str:
    """The message of a run that must fail and leave domains and volumes as they were."""
    before = lab.sh(GUESTS)
    outcome = lab.play("playbooks/guests.yml", *arguments)
    assert outcome.rc != 0, "it was not refused"
    assert_same(before, lab.sh(GUESTS))
    return outcome.failures()


def images(**change: Any) -> list[str]:
    """Arguments with a second image, or another one in place of the model's where the name is the same."""
    tiny = {"name": "tiny", "file": str(guest_image.ensure("tiny")), "format": "qcow2"}
    found = {str(image["name"]): image for image in (tiny, {**tiny, **change})}
    return ["-e", json.dumps({"platform_images": list(found.values())})]


def test_wrong_checksum(host: Lab) -> None:
    message = refused(host, *images(checksum="sha256:" + "0" * 64))
    assert "0" * 64 in message
    assert "checksum" in message


def test_image_that_is_no_image(host: Lab, tmp_path: Path) -> None:
    text = tmp_path / "notes.qcow2"
    text.write_text("no image at all\n" * 1000, encoding="ascii")
    message = refused(
        host, *images(name="other", file=str(text)), *changed_guests(tmp_path, lambda guests: {**guests, "app": {**guests["app"], "image": "other"}})
    )
    assert "qcow2" in message


def test_name_that_belongs_to_somebody_else(host: Lab) -> None:
    xml = "<domain type='qemu'><name>app</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    host.sh(f'echo "{xml}" > /run/app.xml; virsh define /run/app.xml')
    message = refused(host)
    host.sh("virsh undefine app")
    assert "app" in message
    assert "did not make" in message


def test_disk_larger_than_its_pool(host: Lab, tmp_path: Path) -> None:
    def huge(guests: dict[str, dict[str, Any]]) -> None:
        guests["app"]["disks"] = [{"name": "root", "pool": "fast", "size_gb": 2}, {"name": "data", "pool": "large", "size_gb": 900_000}]

    message = refused(host, *changed_guests(tmp_path, huge))
    assert "large" in message
    assert "space" in message or "available" in message


def test_pool_that_is_full_while_the_image_is_copied(host: Lab, tmp_path: Path) -> None:
    pools = [{"name": name, "path": path} for name, path in (("fast", "/var/lib/libvirt/images"), ("large", "/data/kvm/images"), ("small", "/srv/small"))]
    host.sh("mkdir -p /srv/small; mount -t tmpfs -o size=16m,mode=0711 none /srv/small")
    arguments = ["-e", json.dumps({"platform_pools": pools})]
    host.played("playbooks/host.yml", *arguments)
    message = refused(host, *arguments, *images(name="copy", pool="small"), *changed_guests(tmp_path, lambda guests: {"web": guests["web"]}))
    host.sh("virsh pool-destroy small; virsh pool-undefine small; umount /srv/small")
    assert "config[copy].pool: found 'small'" in message
    assert "MiB free" in message


def test_unknown_segment_pool_and_image_are_named_before_anything(host: Lab, tmp_path: Path) -> None:
    def unknown(guests: dict[str, dict[str, Any]]) -> None:
        guests["app"].update(segment="privat", image="debain", disks=[{"name": "root", "pool": "slow"}])

    message = refused(host, *changed_guests(tmp_path, unknown))
    for word in ("privat", "debain", "slow"):
        assert word in message


# Its sockets would start it again, so it is stopped over and over for a while.
STOP_LIBVIRT = """
units='libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket'
systemd-run --quiet --on-active=6 --unit=stop-libvirt sh -c "for i in $(seq -s ' ' 40); do systemctl stop $units; sleep .2; done"
"""
START_LIBVIRT = """
systemctl stop stop-libvirt.timer stop-libvirt.service 2>/dev/null || :
systemctl reset-failed
systemctl start libvirtd.socket libvirtd.service
"""


def test_libvirt_stopped_in_the_middle(host: Lab) -> None:
    host.sh(STOP_LIBVIRT)
    outcome = host.play("playbooks/guests.yml")
    host.sh(START_LIBVIRT)
    assert outcome.rc != 0
    assert "libvirt" in outcome.failures()
    host.played("playbooks/guests.yml")
    assert host.played("playbooks/guests.yml").changed == 0
    assert [login.error for login in guest_login.through_forwards(host.name)] == ["", ""]


def test_a_run_killed_at_ten_random_points_can_be_run_again(host: Lab) -> None:
    rng = random.Random(SEED)
    print(f"HYBRIDLAB_SEED={SEED}")
    absent = json.dumps({"platform_guests": [{**guest, "state": "absent", "remove_disks": True} for guest in declared()]})
    longest = 0.0
    for attempt in range(10):
        host.played("playbooks/guests.yml", "-e", absent)
        assert "-root.qcow2" not in host.sh(GUESTS)
        seconds = rng.uniform(2, longest or 15)
        print(f"killed after {seconds:.1f} s: {host.killed('playbooks/guests.yml', seconds)}")
        outcome = host.played("playbooks/guests.yml")
        longest = max(longest, outcome.seconds)
        if attempt in (0, 9):
            assert host.played("playbooks/guests.yml").changed == 0
            assert [login.error for login in guest_login.through_forwards(host.name)] == ["", ""]


def test_nothing_of_ours_is_left_in_the_staging_directory(host: Lab) -> None:
    assert host.sh("find /var/lib/hybridlab -name '*.part' -o -path '*images*' -type f").split() == []
