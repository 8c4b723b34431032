# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of guests of libvirt's test driver, whose disks are real qcow2 files. The driver cannot merge or snapshot running guests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_ops import Freeze, Record, Thaw
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_plan import plan_points
from ansible_collections.hybridlab.platform.plugins.module_utils.host import libvirt as host_libvirt
from ansible_collections.hybridlab.platform.plugins.module_utils.host import points_apply
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guest_agent import AgentSilent
from ansible_collections.hybridlab.platform.plugins.module_utils.host.points import observe_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.host.points_apply import Applier
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_snapshots
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import Caller

Result = dict[str, Any]


class Lab:
    """Guests with one disk; what is written stands in as many places of it as there were writes."""

    def __init__(self, conn: Any, folder: Path) -> None:
        self.conn = conn
        self.folder = folder
        self.base = folder / "image.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(self.base), "1M"], check=True)

    def define(self, name: str, owned: bool = True, platform: str = "lab") -> Any:
        path = self.folder / f"{name}-root.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(self.base), str(path)], check=True)
        mark = (
            f"<hybridlab:platform xmlns:hybridlab='urn:hybridlab:platform:1' name='{platform}'><hybridlab:disk name='root' pool='fast'/></hybridlab:platform>"
        )
        return self.conn.defineXML(
            f"<domain type='test'><name>{name}</name><metadata>{mark if owned else ''}</metadata><memory unit='MiB'>64</memory>"
            f"<os><type arch='i686'>hvm</type></os><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
            f"<target dev='vda' bus='virtio'/><serial>root</serial></disk></devices></domain>"
        )

    def active(self, name: str) -> str:
        (guest,) = (guest for guest in observe_guests(self.conn) if guest.name == name)
        return guest.disks[0].active

    def write(self, name: str, place: int) -> None:
        self._io(self.active(name), f"write -P {place} {place * 64}k 64k")

    def holds(self, name: str) -> list[int]:
        """The places that were written."""
        return [place for place in range(1, 9) if "Pattern verification failed" not in self._io(self.active(name), f"read -P {place} {place * 64}k 64k")]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*-root*"))

    def _io(self, path: str, command: str) -> str:
        done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], capture_output=True, text=True, check=False)
        assert not done.stderr, done.stderr
        return done.stdout


@pytest.fixture
def lab(conn: Any, tmp_path: Path) -> Lab:
    folder = tmp_path / "pool"
    folder.mkdir()
    made = Lab(conn, folder)
    made.define("a")
    made.define("b")
    return made


@pytest.fixture
def call(conn: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Result]:
    caller = Caller(libvirt_snapshots, capsys, tmp_path / "rollback")

    def foretold_and_done(*names: str, guests: Any = (), **params: Any) -> Result:
        config = [{"name": name, "guests": list(guests)} for name in names]
        foretold = caller(config, check=True, **params)
        done = caller(config, **params)
        assert {**foretold, "backups": []} == {**done, "backups": []}
        return done

    return foretold_and_done


def names(answer: Result) -> dict[str, list[str]]:
    return {row["name"]: row["current"] for row in answer["after"]}


def test_take_of_the_whole_lab_and_again(lab: Lab, call: Callable[..., Result]) -> None:
    done = call("p")
    assert done["after"] == [{"name": "p", "guests": ["a", "b"], "current": ["a", "b"], "whole": True}]
    assert done["diff"]["before"] == "[]\n"
    assert "- name: p\n" in done["diff"]["after"]
    assert lab.files() == ["a-root.qcow2", "a-root@p.qcow2", "b-root.qcow2", "b-root@p.qcow2"]
    assert (lab.folder / "a-root@p.qcow2").stat().st_mode & 0o777 == 0o600
    again = call("p")
    assert (again["changed"], again["commands"]) == (False, [])


def test_gathered_tells_time_consistency_and_missing_files(lab: Lab, call: Callable[..., Result]) -> None:
    call("p", guests=["a"])
    (lab.folder / "a-root.qcow2").unlink()
    (row,) = call(state="gathered")["gathered"]
    assert row["taken"].endswith("Z")
    assert row["details"] == [
        {
            "guest": "a",
            "taken": row["taken"],
            "consistency": "stopped",
            "disks": [{"name": "root", "path": str(lab.folder / "a-root.qcow2"), "missing": True}],
        }
    ]


def test_revert_brings_the_content_back_and_keep_the_other(lab: Lab, call: Callable[..., Result]) -> None:
    lab.write("a", 1)
    call("p")
    lab.write("a", 2)
    lab.write("b", 3)
    done = call("p", state="reverted", keep="later")
    assert (done["changed"], done["rollback"]) == (True, "revert to the point later")
    assert (lab.holds("a"), lab.holds("b")) == ([1], [])
    assert names(done) == {"later": [], "p": ["a", "b"]}
    assert sorted(Path(path).name.split("-")[0] for path in done["backups"]) == ["a", "b"]
    call("later", state="reverted")
    assert (lab.holds("a"), lab.holds("b")) == ([1, 2], [3])


def test_revert_restarts_what_ran_and_deletes_the_abandoned_file(lab: Lab, conn: Any, call: Callable[..., Result]) -> None:
    call("p")
    conn.lookupByName("a").create()
    before = lab.active("a")
    call("p", state="reverted", start="as_before")
    assert [conn.lookupByName(name).isActive() for name in ("a", "b")] == [1, 0]
    assert lab.active("a") != before
    assert not Path(before).exists()
    call("p", state="reverted", start="stopped")
    assert conn.lookupByName("a").isActive() == 0
    call("p", state="reverted", start="running")
    assert conn.lookupByName("b").isActive() == 1


def test_the_middle_one_of_three_goes_and_the_first_comes_back(lab: Lab, call: Callable[..., Result]) -> None:
    for place, name in enumerate(("p1", "p2", "p3"), start=1):
        lab.write("a", place)
        call(name, guests=["a"])
    lab.write("a", 4)
    call("p2", state="deleted")
    assert lab.holds("a") == [1, 2, 3, 4]
    assert len([name for name in lab.files() if name.startswith("a-")]) == 3
    call("p3", state="reverted", keep="end")
    assert lab.holds("a") == [1, 2, 3]
    call("p1", state="reverted")
    assert lab.holds("a") == [1]
    call("end", state="reverted")
    assert lab.holds("a") == [1, 2, 3, 4]
    call("end", state="overridden")
    assert lab.holds("a") == [1, 2, 3, 4]
    call(state="deleted")
    assert (lab.holds("a"), lab.files()) == ([1, 2, 3, 4], ["a-root.qcow2", "b-root.qcow2"])


def test_a_missing_file_refuses_the_whole_revert(lab: Lab, conn: Any, call: Callable[..., Result]) -> None:
    call("p")
    conn.lookupByName("a").create()
    (lab.folder / "b-root.qcow2").unlink()
    failed = call("p", state="reverted")
    assert failed["failed"] is True
    assert f"guest b: {lab.folder}/b-root.qcow2 is missing" in failed["msg"]
    assert conn.lookupByName("a").isActive() == 1
    assert lab.active("a").endswith("a-root@p.qcow2")


def test_a_guest_of_later_is_not_mixed_in(lab: Lab, call: Callable[..., Result]) -> None:
    call("p")
    lab.define("c")
    failed = call("p")
    assert failed["failed"] is True
    assert "found c, of which the point was not taken with a, b" in failed["msg"]
    assert "c did not exist when it was taken" in call("p", state="reverted")["warnings"][0]
    refused = call("p", guests=["c"], state="reverted")
    assert "found c, which does not have that point. It has: none" in refused["msg"]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"guests": ["stranger"]}, "found stranger, not defined here, or not made by us. There are: a, b"),
        ({"state": "reverted"}, "found 'p', a point that no guest has. There are: none"),
        ({"state": "reverted", "keep": "p"}, "keep: found 'p', the point to go back to"),
    ],
)
def test_refusals(lab: Lab, call: Callable[..., Result], params: Result, told: str) -> None:
    lab.define("stranger", owned=False)
    assert told in call("p", **params)["msg"]
    assert "found '../x'" in call("../x")["msg"]
    assert lab.files() == ["a-root.qcow2", "b-root.qcow2", "stranger-root.qcow2"]


def test_what_stands_upon_our_files_is_respected(lab: Lab, call: Callable[..., Result]) -> None:
    call("p", guests=["a"])
    clone = lab.folder / "clone.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "a-root@p.qcow2", str(clone)], check=True)
    lab.write("a", 1)
    call("p", state="reverted")
    call(state="deleted")
    assert (lab.folder / "a-root@p.qcow2").exists()
    assert lab.holds("a") == []


# State, point, keep, what guest a holds at the end, and the number of operations: the run is killed after each of them.
KILLED = [
    ("merged", "p3", None, [1, 2, 3], 8),
    ("reverted", "p1", "kept", [1], 20),
    ("reverted", "p1", None, [1], 14),
    ("deleted", "p1", None, [1, 2, 3], 10),
    ("overridden", "p2", None, [1, 2, 3], 10),
]


@pytest.mark.parametrize(("state", "point", "keep", "expected", "count", "survived"), [(*case, survived) for case in KILLED for survived in range(case[4])])
def test_a_run_that_was_killed_is_completed(
    lab: Lab, conn: Any, call: Callable[..., Result], tmp_path: Path, state: str, point: str, keep: Any, expected: list[int], count: int, survived: int
) -> None:
    for place, name in enumerate(("p1", "p2"), start=1):
        lab.write("a", place)
        call(name)
    lab.write("a", 3)
    runs = state == "reverted" and keep is None
    if runs:
        conn.lookupByName("b").create()
    plan = plan_points(state, [{"name": point, "guests": []}], observe_guests(conn), keep)
    Applier(conn, str(tmp_path / "rollback"), 10, 10).run(plan.operations[:survived])
    assert len(plan.operations) == count
    done = call(point, state=state, keep=keep)
    assert not done.get("failed"), done
    assert lab.holds("a") == expected
    assert bool(conn.lookupByName("b").isActive()) == runs
    contents = {"p1": [1], "p2": [1, 2], "p3": [1, 2, 3], "kept": [1, 2, 3]}
    for row in done["after"]:
        assert row["whole"] and row["guests"] == ["a", "b"]
        assert not call(row["name"], state="reverted", start="stopped").get("failed")
        assert lab.holds("a") == contents[row["name"]]
    call(state="deleted")
    assert lab.files() == ["a-root.qcow2", "b-root.qcow2"]


def test_a_guest_that_does_not_freeze_is_named_and_thawed(lab: Lab, conn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thawed: list[str] = []

    def silent(domain: Any, timeout: float) -> int:
        raise AgentSilent(f"guest {domain.name()}: its agent does not answer")

    monkeypatch.setattr(points_apply, "fsfreeze", silent)
    monkeypatch.setattr(points_apply, "fsthaw", lambda domain, timeout: thawed.append(domain.name()))
    (guest, _other) = observe_guests(conn)
    plan = plan_points("merged", [{"name": "p", "guests": ["a"]}], [guest])
    applier = Applier(conn, str(tmp_path / "rollback"), 10, 10)
    applier.run([Freeze("a"), *plan.operations, Thaw("a")])
    assert thawed == ["a", "a"]
    assert "as after a power failure" in applier.notes[0]
    assert observe_guests(conn)[0].points[0].consistency == "crash"


def test_what_was_frozen_is_thawed_after_a_failure(lab: Lab, conn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thawed: list[str] = []
    monkeypatch.setattr(points_apply, "fsfreeze", lambda domain, timeout: 1)
    monkeypatch.setattr(points_apply, "fsthaw", lambda domain, timeout: thawed.append(domain.name()))
    applier = Applier(conn, str(tmp_path / "rollback"), 10, 10)
    with pytest.raises(points_apply.ResourceError, match="step 3 of 4, record nobody"):
        applier.run([Freeze("a"), Freeze("b"), Record("nobody", (), None, False), Thaw("a")])
    assert sorted(thawed) == ["a", "b"]


def test_a_host_without_libvirt(call: Callable[..., Result], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_libvirt, "libvirt", None)
    caller = Caller(libvirt_snapshots, capsys, tmp_path / "rollback")
    assert "python3-libvirt" in caller([{"name": "p"}])["msg"]
    foretold = caller([{"name": "p"}], check=True)
    assert (foretold["changed"], foretold["after"]) == (False, [])
    assert "Planned as if the host had nothing yet" in foretold["warnings"][0]


def test_each_platform_has_its_own_points(lab: Lab, call: Callable[..., Result]) -> None:
    lab.define("theirs", platform="other")
    assert call("p", platform="lab")["after"] == [{"name": "p", "guests": ["a", "b"], "current": ["a", "b"], "whole": True}]
    assert call(state="gathered", platform="other")["gathered"] == []
    call("p", platform="other")
    assert call("p", state="deleted", platform="lab")["after"] == []
    assert [row["guests"] for row in call(state="gathered")["gathered"]] == [["theirs"]]
