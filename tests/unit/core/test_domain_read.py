# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Domain, Nic, overlay_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import disk_target, normalise, read_domain, read_taps
from ansible_collections.hybridlab.platform.tests.unit.core.guests import PLAIN, POOL, SAFE, WEB, echo


@pytest.mark.parametrize("wanted", [WEB, PLAIN, SAFE], ids=lambda wanted: wanted.name)
def test_what_libvirt_made_of_a_definition_reads_as_declared(wanted: Domain) -> None:
    assert read_domain(echo(wanted.name)) == (wanted, ())


@pytest.mark.parametrize("wanted", [WEB, SAFE], ids=lambda wanted: wanted.name)
def test_a_running_guest_reads_as_declared_but_for_the_memory_that_its_balloon_has_not_given_back(wanted: Domain) -> None:
    assert read_domain(echo(f"{wanted.name}-live")) == (replace(wanted, memory_mb=512), ())


def test_metadata_set_on_a_running_guest_is_read() -> None:
    changed, _unmanaged = read_domain(echo("web-marked"))
    assert changed.record is not None
    assert (changed.record.ssh_port, changed.record.names) == (2299, ("a<b>\"&'", "é"))
    assert [nic.address for nic in changed.nics] == [IPv4Address("10.9.3.77")] * 2


def test_a_guest_of_somebody_else_is_told_completely() -> None:
    found, unmanaged = read_domain(echo("odd"))
    assert found.record is None
    assert (found.vcpus, found.vcpus_max, found.memory_mb, found.memory_max_mb) == (2, 4, 954, 954)  # 1 GB is 953.7 MiB
    assert found.boot == ("cdrom", "disk", "network")
    assert found.nics == (Nic("", "52:54:00:11:11:11"), Nic("", "52:54:00:11:11:12"), Nic("segx", "52:54:00:11:11:13"))
    assert [(disk.name, disk.pool, disk.path) for disk in found.disks] == [("vda", "", f"{POOL}/odd.qcow2")]
    assert (found.agent, found.console, found.tpm, found.seed, found.firmware) == (False, False, False, None, "bios")
    assert unmanaged == (
        "disk hda (cdrom on ide)",
        f"disk sda (disk on scsi): {POOL}/far.img",
        "disk vdb (disk on virtio)",
        "filesystem mount",
        "interface 52:54:00:11:11:11 (user)",
        "interface 52:54:00:11:11:12 (bridge brsegx)",
        "serial pty",
        "channel spicevmc com.redhat.spice.0",
        "input tablet",
        "graphics vnc",
        "graphics spice",
        "sound ich6",
        "video vga",
        "watchdog i6300esb",
        "direct kernel boot",
        "QEMU arguments",
    )


def test_devices_plugged_into_a_guest_of_ours_by_hand_are_not_taken_for_ours() -> None:
    extra = (
        "<disk type='file' device='disk'><driver type='qcow2'/><source file='/srv/theirs.qcow2'/><target dev='vdq' bus='virtio'/></disk>"
        "<interface type='bridge'><mac address='52:54:00:99:99:99'/><source bridge='br9'/></interface></devices>"
    )
    found, unmanaged = read_domain(echo("web").replace("</devices>", extra))
    assert found == WEB
    assert unmanaged == ("disk vdq (disk on virtio): /srv/theirs.qcow2", "interface 52:54:00:99:99:99 (bridge br9)")


def test_a_declared_interface_that_was_taken_out_of_its_network_differs() -> None:
    moved = echo("web").replace("<interface type='network'>", "<interface type='bridge'>", 1).replace("<source network='segy'/>", "<source bridge='br9'/>")
    found, unmanaged = read_domain(moved)
    assert found.nics == (replace(WEB.nics[0], segment=""), WEB.nics[1])
    assert unmanaged == ("interface 52:54:00:00:00:0b (bridge br9)",)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('ssh_port="2211"', 'ssh_port="22x"', None),
        ('ssh_port="2211"', "", None),
        ('ssh_port="2211"', 'ssh_port="22"', 22),
    ],
)
def test_a_port_that_is_none_reads_as_none(old: str, new: str, expected: object) -> None:
    record = read_domain(echo("web").replace(old, new))[0].record
    assert record is not None
    assert record.ssh_port == expected


def test_an_address_that_is_none_reads_as_none() -> None:
    assert read_domain(echo("web").replace('address="10.9.3.20"', 'address="10.9.3.300"'))[0].nics[1].address is None


@pytest.mark.parametrize(
    "xml",
    [
        "<domain/>",
        "<domain type='xen'><name>x</name><memory unit='?'>many</memory><vcpu>?</vcpu><os/><devices><disk/><interface/><serial/><tpm/></devices></domain>",
    ],
)
def test_a_bare_definition_is_read(xml: str) -> None:
    found, _unmanaged = read_domain(xml)
    assert (found.record, found.memory_mb, found.disks, found.firmware) == (None, 0, (), "bios")


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("<os><loader type='rom'>/bios.bin</loader></os>", "bios"),
        ("<os><loader type='pflash'>/OVMF.fd</loader></os>", "uefi"),
        ("<os><loader type='pflash' secure='yes'>/OVMF.fd</loader></os>", "uefi-secure"),
        ("<os firmware='efi'/>", "uefi"),
        ("<os firmware='efi'><firmware><feature enabled='yes' name='secure-boot'/></firmware></os>", "uefi-secure"),
        ("<os firmware='bios'/>", "bios"),
    ],
)
def test_firmware(system: str, expected: str) -> None:
    assert read_domain(f"<domain><name>x</name>{system}</domain>")[0].firmware == expected


def test_a_console_is_one_that_is_logged() -> None:
    serial = "<domain><name>x</name><devices><serial type='pty'>{}<target port='0'/></serial></devices></domain>"
    assert read_domain(serial.format("<log file='/l'/>"))[0].console
    assert not read_domain(serial.format(""))[0].console


def test_an_overlay_is_kept_in_reading_and_stands_for_its_volume_in_comparing() -> None:
    root = WEB.disks[0]
    overlay = overlay_path(root.path, "before")
    xml = echo("web").replace(root.path, overlay)
    found, unmanaged = read_domain(xml)
    assert (found.disks[0].path, unmanaged) == (overlay, ())
    assert normalise(found) == WEB
    assert disk_target(xml, root.path) == disk_target(xml, overlay) == "vda"
    assert disk_target(xml, f"{POOL}/none.qcow2") is None


def test_normalise_drops_what_no_definition_says() -> None:
    asked = replace(WEB, uuid=WEB.uuid.upper(), disks=tuple(replace(disk, size=2**30, backing="/base") for disk in WEB.disks))
    assert normalise(asked) == WEB


def test_taps() -> None:
    taps = read_taps(echo("web-live"))
    assert sorted(taps) == ["52:54:00:00:00:0a", "52:54:00:00:00:0b"]
    assert all(device.startswith("vnet") for device in taps.values())
    assert read_taps(echo("web")) == {}
