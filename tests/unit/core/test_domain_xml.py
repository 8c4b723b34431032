# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Domain, Nic, Record, overlay_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import normalise, read_domain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_xml import (
    SPARE_PORTS,
    console_log,
    free_target,
    merge_domain,
    write_disk,
    write_domain,
    write_mark,
    write_nic,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import NAMESPACE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.tests.unit.core.guests import PLAIN, POOL, SAFE, WEB, disk, echo, guest

LARGE = Nic("segy", "52:54:00:00:01:00")


def canonical(xml: str) -> str:
    return ET.canonicalize(xml, strip_text=True)


def targets(xml: str) -> dict[str, str]:
    """Targets of the disks by their serial."""
    disks = ET.fromstring(xml).iterfind("devices/disk")
    return {entry.findtext("serial", ""): entry.find("target").get("dev", "") for entry in disks}  # type: ignore[union-attr]


@pytest.mark.parametrize("wanted", [WEB, PLAIN, SAFE], ids=lambda wanted: wanted.name)
def test_a_new_definition_reads_as_declared(wanted: Domain) -> None:
    assert read_domain(write_domain(wanted)) == (wanted, ())


@pytest.mark.parametrize("wanted", [WEB, PLAIN, SAFE], ids=lambda wanted: wanted.name)
def test_nothing_is_edited_where_nothing_differs(wanted: Domain) -> None:
    assert canonical(merge_domain(echo(wanted.name), wanted)) == canonical(echo(wanted.name))


@pytest.mark.parametrize(
    "changes",
    [
        {"vcpus": 2},
        {"vcpus_max": 8, "vcpus": 4},
        {"memory_mb": 300},
        {"memory_max_mb": 2048, "memory_mb": 1024},
        {"nics": (replace(WEB.nics[0], segment="segz"), WEB.nics[1])},
        {"nics": (LARGE, *WEB.nics)},
        {"nics": WEB.nics[1:]},
        {"nics": ()},
        {"disks": (*WEB.disks, disk("web", "logs"))},
        {"disks": WEB.disks[:1]},
        {"disks": (WEB.disks[1], WEB.disks[0])},
        {"disks": (disk("web", "logs"), WEB.disks[1])},
        {"disks": (replace(WEB.disks[0], path="/srv/large/web-root.qcow2", pool="large"), WEB.disks[1])},
        {"seed": None},
        {"seed": "/srv/web-seed.iso"},
        {"firmware": "uefi"},
        {"firmware": "uefi-secure", "tpm": True},
        {"boot": ("network",)},
        {"boot": ("cdrom", "disk")},
        {"agent": False},
        {"console": False},
        {"accelerator": "kvm"},
        {"record": Record("lab", None, (), None, None)},
        {"record": None, "nics": (Nic("segx", "52:54:00:00:00:0a"),), "disks": (disk("web", "root", ""),)},
    ],
    ids="+".join,
)
def test_each_difference_is_brought_in_and_back(changes: dict[str, Any]) -> None:
    wanted = replace(WEB, **changes)
    changed = merge_domain(echo("web"), wanted)
    assert read_domain(changed) == (wanted, ())
    assert merge_domain(changed, wanted) == changed
    if wanted.record is not None:
        assert normalise(read_domain(merge_domain(changed, WEB))[0]) == WEB


@pytest.mark.parametrize("firmware", ["bios", "uefi", "uefi-secure"])
@pytest.mark.parametrize("before", [WEB, PLAIN, SAFE], ids=lambda wanted: wanted.firmware)
def test_firmware_leaves_nothing_of_the_former_one(before: Domain, firmware: str) -> None:
    wanted = replace(before, firmware=firmware)
    root, fresh = (ET.fromstring(xml) for xml in (merge_domain(echo(before.name), wanted), write_domain(wanted)))
    for path in ("os/firmware/feature", "os/nvram", "os/loader", "features/smm"):
        assert sorted(sorted(entry.items()) for entry in root.iterfind(path)) == sorted(sorted(entry.items()) for entry in fresh.iterfind(path)), path


def test_secure_boot_has_a_variable_store_of_its_own() -> None:
    assert ET.fromstring(write_domain(SAFE)).findtext("os/nvram") == "/var/lib/libvirt/qemu/nvram/safe-secure_VARS.fd"
    assert ET.fromstring(write_domain(PLAIN)).find("os/nvram") is None


def test_what_is_not_managed_stays() -> None:
    extra = (
        "<disk type='file' device='disk'><driver type='qcow2'/><source file='/srv/theirs.qcow2'/><target dev='vdc' bus='virtio'/></disk>"
        "<interface type='bridge'><mac address='52:54:00:99:99:99'/><source bridge='br9'/></interface>"
        "<graphics type='vnc' passwd='secret'/></devices><seclabel type='none'/>"
    )
    points = "<metadata xmlns:points='urn:hybridlab:points:1'><points:points><points:point name='a'/></points:points>"
    xml = echo("web").replace("</devices>", extra).replace('<metadata xmlns:hybridlab="urn:hybridlab:platform:1">', points, 1)
    xml = xml.replace("<hybridlab:platform ", f'<hybridlab:platform xmlns:hybridlab="{NAMESPACE}" ', 1)
    wanted = replace(WEB, uuid=guest("other").uuid, disks=(*WEB.disks, disk("web", "logs")), nics=WEB.nics[:1], firmware="uefi")
    merged = merge_domain(xml, wanted)
    root = ET.fromstring(merged)
    assert root.findtext("uuid") == WEB.uuid
    assert root.find("devices/graphics").get("passwd") == "secret"  # type: ignore[union-attr]
    assert root.find("seclabel") is not None
    assert '<points:point name="a"' in merged
    assert targets(merged) == {"root": "vda", "data": "vdb", "": "vdc", "logs": "vdd", "seed": "vdz"}
    assert read_domain(merged)[1] == read_domain(xml)[1]
    addresses = {canonical(ET.tostring(entry, encoding="unicode")) for entry in ET.fromstring(xml).iterfind("devices/disk")}
    assert addresses <= {canonical(ET.tostring(entry, encoding="unicode")) for entry in root.iterfind("devices/disk")}


def test_a_guest_of_somebody_else_loses_nothing() -> None:
    found, unmanaged = read_domain(echo("odd"))
    assert canonical(merge_domain(echo("odd"), found)) == canonical(echo("odd"))
    without = read_domain(merge_domain(echo("odd"), replace(found, disks=(), vcpus=1)))
    assert without == (replace(found, vcpus=1), unmanaged)


def test_an_overlay_stays_when_its_volume_is_declared() -> None:
    root = WEB.disks[0]
    overlay = overlay_path(root.path, "before")
    merged = merge_domain(echo("web").replace(root.path, overlay), replace(WEB, vcpus=2))
    assert read_domain(merged)[0].disks[0].path == overlay


def test_a_declared_disk_is_found_by_its_file_on_another_bus() -> None:
    xml = echo("web").replace("<target dev='vda' bus='virtio'/>", "<target dev='sda' bus='sata'/>")
    merged = merge_domain(xml, WEB)
    assert read_domain(merged) == (WEB, ())
    assert targets(merged) == {"root": "vda", "data": "vdb", "seed": "vdz"}


def test_the_first_disk_has_the_first_target() -> None:
    merged = merge_domain(echo("web"), replace(WEB, disks=(disk("web", "new"), *WEB.disks)))
    assert targets(merged) == {"new": "vda", "data": "vdb", "root": "vdc", "seed": "vdz"}


@pytest.mark.parametrize("wanted", [WEB, PLAIN, SAFE, replace(WEB, disks=tuple(disk("web", f"d{index}") for index in range(30)))])
def test_every_machine_has_spare_ports(wanted: Domain) -> None:
    root = ET.fromstring(write_domain(wanted))
    ports = [entry for entry in root.iterfind("devices/controller") if entry.get("model") == "pcie-root-port"]
    others = 2 + (1 if wanted.agent else 0) + (0 if wanted.seed is None else 1)  # rng and balloon; the agent's bus; the seed
    assert len(ports) == SPARE_PORTS + len(wanted.nics) + len(wanted.disks) + others
    assert len(set(targets(write_domain(wanted)).values())) == len(root.findall("devices/disk"))


def test_ports_are_added_with_devices_and_stay_without_them() -> None:
    def ports(xml: str) -> int:
        return xml.count('model="pcie-root-port"')

    more = merge_domain(echo("web"), replace(WEB, nics=(*WEB.nics, LARGE)))
    assert ports(more) == ports(write_domain(WEB)) + 1
    assert ports(merge_domain(more, WEB)) == ports(more)


@pytest.mark.parametrize("text", ["h<i>&'\"", "]]>", "<!--", "../../etc/x", "$(reboot)", "a\nb", "é"])
def test_hostile_values_stay_values(text: str) -> None:
    wanted = guest(
        text,
        nics=(Nic(text, "52:54:00:00:00:0a"),),
        disks=(replace(disk("x", text), path=f"/srv/{text.replace('/', '_')}-{text.replace('/', '_')}.qcow2"),) if "/" not in text else (),
        seed=f"/srv/{text}",
        record=Record(text, None, (text,), text, text),
    )
    assert read_domain(write_domain(wanted)) == (wanted, ())
    assert canonical(write_domain(wanted)).count("<") == canonical(write_domain(replace(wanted, name="x"))).count("<")


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\uffff", "\ud800"])
def test_a_character_that_xml_cannot_hold_is_refused(character: str) -> None:
    with pytest.raises(ResourceError, match=r"found the character .* which XML cannot hold"):
        write_domain(replace(WEB, record=Record("lab", names=(f"w{character}",))))


def test_the_console_is_logged_in_one_directory_whatever_the_name() -> None:
    assert console_log("web") == "/var/log/libvirt/qemu/web-console.log"
    assert console_log("../../x") == "/var/log/libvirt/qemu/..%2F..%2Fx-console.log"


def test_snippets() -> None:
    assert canonical(write_nic(Nic("segx", "52:54:00:AA:00:0A"))) == canonical(
        "<interface type='network'><mac address='52:54:00:aa:00:0a'/><source network='segx'/><model type='virtio'/></interface>"
    )
    assert canonical(write_disk(WEB.disks[1], "vdb")) == canonical(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap' detect_zeroes='unmap'/>"
        f"<source file='{POOL}/web-data.qcow2'/><target dev='vdb' bus='virtio'/><serial>data</serial></disk>"
    )


def test_free_target_asks_all_definitions() -> None:
    plugged = echo("web").replace("</devices>", "<disk><target dev='vdc'/></disk></devices>")
    assert free_target(echo("web")) == "vdc"
    assert free_target(echo("web"), plugged) == "vdd"


def test_the_mark_has_no_namespace_until_libvirt_puts_it_into_one() -> None:
    root = ET.fromstring(write_mark(WEB))
    assert [entry.tag for entry in root.iter()] == ["platform", "alias", "interface", "interface", "disk", "disk"]


def test_a_guest_without_a_record_has_no_mark_to_set() -> None:
    with pytest.raises(ValueError, match="not ours"):
        write_mark(replace(WEB, record=None))
