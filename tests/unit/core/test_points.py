# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import declared_path
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points import (
    KEY,
    NAMESPACE,
    File,
    Guest,
    GuestDisk,
    Point,
    current_point,
    read_disks,
    read_points,
    repoint,
    unused_path,
    write_points,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_ops import (
    BlockCommit,
    Commit,
    Delete,
    Overlay,
    Rebase,
    Record,
    Repoint,
    Snapshot,
    shell,
    snapshot_xml,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_plan import LEAST_ROOM, plan_points
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_tree import collapse
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

ROOM = 10 * LEAST_ROOM
IMAGE = "/pool/image.qcow2"


def path(suffix: str = "") -> str:
    return f"/pool/web-root{suffix}.qcow2"


def line(*suffixes: str) -> tuple[File, ...]:
    """Files, each upon the one before it, the first upon the image."""
    paths = [path(suffix) for suffix in suffixes]
    return tuple(File(file, under, 2**30, 2**20) for file, under in zip(paths, [IMAGE, *paths]))


def web(*suffixes: str, running: bool = False, points: tuple[Point, ...] = ()) -> Guest:
    active = path(suffixes[-1])
    disk = GuestDisk("root", "vda", active, active if running else None, ROOM)
    return Guest("web", "running" if running else "stopped", (disk,), line(*suffixes), points, others=("vdz",), agent=running)


def point(name: str, suffix: str) -> Point:
    return Point(name, "2026-11-03T10:11:12Z", "agent", (("root", path(suffix)),))


def test_metadata_are_read_as_they_were_written() -> None:
    points = (point("p1", ""), replace(point("p2", "@p1"), whole=False, consistency="crash"))
    element = ET.fromstring(write_points(points, "running") or "")
    for entry in element.iter():
        entry.tag = f"{{{NAMESPACE}}}{entry.tag}"
    root = ET.Element("domain")
    ET.SubElement(root, "metadata").append(element)
    assert read_points(ET.tostring(root, encoding="unicode")) == (points, "running")
    assert f"<{KEY}:points" in ET.tostring(root, encoding="unicode")
    assert write_points(()) is None
    assert read_points("<domain/>") == ((), None)


def test_disks_of_a_running_guest_and_what_no_point_holds() -> None:
    def document(active: str) -> str:
        return (
            "<domain><name>web</name><devices>"
            f"<disk type='file' device='disk'><driver type='qcow2'/><source file='{active}'/><target dev='vda' bus='virtio'/><serial>root</serial></disk>"
            "<disk type='file' device='disk'><driver type='raw'/><source file='/x.img'/><target dev='vdb' bus='virtio'/></disk>"
            "<disk type='file' device='disk'><source file='/pool/web-seed.iso'/><target dev='vdz' bus='virtio'/><readonly/></disk></devices></domain>"
        )

    disks, others, foreign = read_disks(document(path()), document(path("@p")))
    assert disks == (GuestDisk("root", "vda", path(), path("@p")),)
    assert others == ("vdb", "vdz")
    assert foreign == ("vdb (/x.img)",)
    assert read_disks(document(path()), None)[0] == (GuestDisk("root", "vda", path()),)


def test_repoint_changes_that_disk_alone() -> None:
    xml = (
        "<domain><metadata><m:x xmlns:m='urn:m'/></metadata><devices><disk><source file='/a'/><backingStore/></disk>"
        "<disk><source file='/b'/></disk></devices></domain>"
    )
    root = ET.fromstring(repoint(xml, [("/a", "/c")]))
    assert [source.get("file") for source in root.iterfind("devices/disk/source")] == ["/c", "/b"]
    assert root.find("devices/disk/backingStore") is None
    assert root.find("metadata/{urn:m}x") is not None


def test_a_new_overlay_takes_no_name_that_exists_or_that_a_point_has() -> None:
    guest = web("", "@p", points=(point("p", "@p.2"),))
    free = unused_path(guest, guest.disks[0], "p")
    assert free == path("@p.3")
    assert declared_path(free) == path()


def test_current_is_the_nearest_point_below() -> None:
    points = (point("p1", ""), point("p2", "@p1"))
    assert current_point(web("", "@p1", "@p2", points=points)) == "p2"
    assert current_point(web("", "@p1.2", points=points)) == "p1"
    assert current_point(web("", points=())) is None


def test_what_is_needed_stays() -> None:
    guest = web("", "@p1", "@p2", points=(point("p1", ""), point("p2", "@p1")))
    assert collapse(guest) == ([], guest)


def test_a_stopped_guest_is_merged_by_qemu_img() -> None:
    side = File(path("@side"), path("@p1"), 2**30, 2**20)
    guest = web("", "@p1", "@p2", points=(point("p2", "@p1"), point("side", "@side")))
    guest = replace(guest, files=(*guest.files, side))
    operations, after = collapse(guest)
    moved = (point("p2", ""), point("side", "@side"))
    assert operations == [
        Commit(path("@p1")),
        Rebase(path("@p2"), path()),
        Rebase(path("@side"), path()),
        Record("web", moved, None, False),
        Delete(path("@p1")),
    ]
    assert {file.path: file.backing for file in after.files} == {path(): IMAGE, path("@p2"): path(), path("@side"): path()}


def test_a_running_guest_is_merged_by_qemu() -> None:
    operations, after = collapse(web("", "@p1", "@p2", running=True))
    assert operations == [
        BlockCommit("web", "vda", path("@p1"), path(), active=False),
        Delete(path("@p1")),
        BlockCommit("web", "vda", path("@p2"), path(), active=True),
        Delete(path("@p2")),
    ]
    assert after.disks[0] == GuestDisk("root", "vda", path(), path(), ROOM)
    assert collapse(web("", "@p1"))[0] == [Commit(path("@p1")), Repoint("web", ((path("@p1"), path()),)), Delete(path("@p1"))]


def test_a_file_with_two_upon_it_waits_for_one_to_go() -> None:
    branch = File(path("@branch"), path(), 2**30, 2**20)
    guest = web("", "@p1", points=(point("branch", "@branch"),))
    guest = replace(guest, files=(*guest.files, branch))
    assert collapse(guest)[0] == []
    operations, _after = collapse(replace(guest, points=()))
    assert operations[:2] == [Delete(path("@branch")), Commit(path("@p1"))]


@pytest.mark.parametrize(
    "change",
    [
        {"held": frozenset([path("@p1")])},
        {"files": (*line("", "@p1"), File("/pool/clone.qcow2", path("@p1")))},
        {"disks": (GuestDisk("root", "vda", path("@p1"), path(), ROOM),)},
    ],
)
def test_what_somebody_else_names_is_not_moved(change: dict[str, Any]) -> None:
    assert collapse(replace(web("", "@p1"), **change))[0] == []


def test_the_declared_volume_is_never_deleted() -> None:
    other = GuestDisk("root", "vda", path("@p1"), None, ROOM)
    assert collapse(Guest("web", "stopped", (other,), (File(path(), IMAGE), File(path("@p1"), IMAGE))))[0] == []


def test_room_is_asked_for_before_anything() -> None:
    guest = web("", "@p1")
    full = replace(guest, disks=(replace(guest.disks[0], room=2**10),))
    with pytest.raises(ResourceError, match=r"takes up to 1\.0 MiB, but its pool has 1024 bytes left\. Nothing was changed"):
        collapse(full)
    with pytest.raises(ResourceError, match=r"a new overlay needs at least 64\.0 MiB"):
        plan_points("merged", [{"name": "p", "guests": []}], [full])


def test_running_guests_are_frozen_together_and_the_seed_is_left_out() -> None:
    plan = plan_points("merged", [{"name": "p", "guests": []}], [web("", running=True)])
    kinds = [type(operation).__name__ for operation in plan.operations]
    assert kinds == ["Freeze", "Snapshot", "Thaw", "Record"]
    snapshot = plan.operations[1]
    assert snapshot == Snapshot("web", (("vda", path("@p")),), ("vdz",))
    disks = [disk.attrib for disk in ET.fromstring(snapshot_xml(Snapshot("web", (("vda", "/x"),), ("vdz",)))).iterfind("disks/disk")]
    assert disks == [{"name": "vda", "snapshot": "external", "type": "file"}, {"name": "vdz", "snapshot": "no"}]


def test_a_running_guest_without_an_agent_is_named() -> None:
    plan = plan_points("merged", [{"name": "p", "guests": []}], [replace(web("", running=True), agent=False)])
    assert plan.notes == ["guest web: its agent does not answer, so point p is as after a power failure"]
    assert [type(operation).__name__ for operation in plan.operations] == ["Snapshot", "Record"]


def test_what_a_killed_run_left_in_the_guest_ends_first() -> None:
    guest = replace(web("", "@p", running=True, points=(point("p", ""),)), frozen=True, jobs=("vda",))
    plan = plan_points("merged", [{"name": "p", "guests": []}], [guest])
    assert [type(operation).__name__ for operation in plan.operations] == ["Thaw", "AbortJob"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"disks": (GuestDisk("root", "vda", path(), path("@p"), ROOM),)}, "its kept definition has /pool/web-root.qcow2"),
        ({"disks": (GuestDisk("root", "vda", path(), None, ROOM),)}, "it runs without its disks root"),
        ({"files": ()}, "its file /pool/web-root.qcow2 is missing"),
    ],
)
def test_guests_of_which_no_point_can_be_taken(change: dict[str, Any], told: str) -> None:
    guest = replace(web("", running=True), files=line("", "@p"))
    with pytest.raises(ResourceError, match=told):
        plan_points("merged", [{"name": "p", "guests": []}], [replace(guest, **change)])


def test_a_point_that_was_not_taken_to_its_end_is_not_reverted_to() -> None:
    guest = web("", "@p", points=(replace(point("p", ""), whole=False),))
    with pytest.raises(ResourceError, match="was not taken to its end"):
        plan_points("reverted", [{"name": "p", "guests": []}], [guest])


def test_disks_that_came_after_the_point_stay_and_are_named() -> None:
    guest = web("", "@p", points=(point("p", ""),))
    data = GuestDisk("data", "vdb", "/pool/web-data.qcow2", None, ROOM)
    plan = plan_points("reverted", [{"name": "p", "guests": []}], [replace(guest, disks=(*guest.disks, data))])
    assert plan.notes == ["guest web: point p does not hold data, which stay as they are"]
    assert Overlay(path("@p.2"), path()) in plan.operations
    assert Delete(path("@p")) in plan.operations


def test_shell_lines_do_what_they_say(tmp_path: Path) -> None:
    base, top = tmp_path / "web-root.qcow2", tmp_path / "web-root@p 1.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "1M"], check=True)
    for operation in (Overlay(str(top), str(base)), Commit(str(top)), Rebase(str(top), str(base)), Delete(str(top))):
        subprocess.run(["sh", "-ec", shell(operation, "test:///default", "/b")], check=True)
    assert not top.exists()
    record = shell(Record("web", (Point("p", "", "agent", ()),), None, True), "qemu:///system", "/b")
    script = record.replace("virsh", "printf '%s\\n'", 1)
    shown = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True).stdout
    assert 'taken="20' in shown
