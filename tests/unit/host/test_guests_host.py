# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and guests of a host as they are found, and one operation at a time, with real volumes and libvirt's test driver."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import Disk, Nic, ObservedDomain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_xml import write_disk, write_domain, write_mark, write_nic
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import BaseImage, Facts
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import (
    DetachDevice,
    Forget,
    GrowVolume,
    GuestOperation,
    MakeVolume,
    RemoveFiles,
    Resume,
    SetMark,
    SetMemory,
    SetVcpus,
    ShutDown,
    Suspend,
    TellSsh,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Autostart, Define, Start
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guests
from ansible_collections.hybridlab.platform.plugins.module_utils.host.domains import observe_domain
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guests import apply, observe
from ansible_collections.hybridlab.platform.tests.unit.core.guests import guest

MIB = 2**20
WEB = guest("web", accelerator="test")


def qemu_img(*arguments: Any) -> None:
    subprocess.run(["qemu-img", *(str(argument) for argument in arguments)], check=True, capture_output=True, timeout=60)


def facts(directory: Path, conn: Optional[Any] = None, **more: Any) -> Facts:
    return observe(conn, [{"name": "fast", "path": str(directory)}], more.pop("images", []), Policy(), "qemu", **more)


def refuse_warnings(text: str) -> None:
    raise AssertionError(text)


def done(operation: GuestOperation, conn: Any = None, warn: Callable[[str], None] = refuse_warnings) -> None:
    apply(conn, operation, warn)


# --- what is found


def test_volumes_are_found_with_their_sizes_and_backing(tmp_path: Path) -> None:
    base, overlay = tmp_path / "image-tiny-0123456789ab.qcow2", tmp_path / "web-root.qcow2"
    qemu_img("create", "-f", "qcow2", base, "8M")
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay, "16M")
    (tmp_path / "web-seed.iso").write_bytes(b"")
    found = facts(tmp_path)
    assert {path: (volume.capacity, volume.backing) for path, volume in found.volumes.items()} == {
        str(base): (8 * MIB, None),
        str(overlay): (16 * MIB, str(base)),
    }
    assert 0 < found.volumes[str(overlay)].allocation < MIB
    assert found.files == {str(tmp_path / "web-seed.iso")}
    assert found.blind
    assert found.space["fast"].available > 0


def test_what_only_looks_like_a_volume_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "text-root.qcow2").write_text("no volume")
    (tmp_path / "empty-root.qcow2").touch()
    (tmp_path / "folder-root.qcow2").mkdir()
    (tmp_path / "lost-root.qcow2").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    found = facts(tmp_path)
    assert found.volumes == {}
    assert found.files == {str(tmp_path / f"{name}-root.qcow2") for name in ("text", "empty", "folder", "lost")}


def test_a_pool_and_an_image_that_are_still_to_come(tmp_path: Path) -> None:
    found = facts(tmp_path / "none", images=[{"name": "tiny", "path": str(tmp_path / "none.qcow2"), "format": "qcow2"}])
    assert (found.pools, found.space, found.volumes) == ({"fast": str(tmp_path / "none")}, {}, {})
    assert found.images == {"tiny": BaseImage(str(tmp_path / "none.qcow2"), "qcow2", None)}


def test_images_are_as_large_as_guests_see_them(tmp_path: Path) -> None:
    qemu_img("create", "-f", "qcow2", tmp_path / "a.qcow2", "8M")
    qemu_img("create", "-f", "raw", tmp_path / "b.raw", "3M")
    images = [{"name": path.stem, "path": str(path), "format": path.suffix[1:]} for path in sorted(tmp_path.iterdir())]
    assert {name: image.capacity for name, image in facts(tmp_path, images=images).images.items()} == {"a": 8 * MIB, "b": 3 * MIB}


def test_networks_are_libvirts_and_those_still_to_come(conn: Any, tmp_path: Path) -> None:
    assert facts(tmp_path, conn).networks == {"default"}
    assert facts(tmp_path, conn, networks=["new"]).networks == {"default", "new"}
    assert not facts(tmp_path, conn).blind
    assert set(facts(tmp_path, conn).pools) == {"fast", "default-pool"}


# --- volumes


def test_a_volume_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    base, volume = tmp_path / "it's a base.raw", tmp_path / "web-root.qcow2"
    qemu_img("create", "-f", "raw", base, "4M")
    # What a killed run left, larger than what is made now.
    (tmp_path / ".web-root.qcow2.part").write_bytes(b"x" * MIB)
    done(MakeVolume(str(volume), 8 * MIB, str(base), "raw"))
    found = facts(tmp_path).volumes[str(volume)]
    assert (found.capacity, found.backing) == (8 * MIB, str(base))
    assert stat.S_IMODE(volume.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {base.name, volume.name}
    done(MakeVolume(str(tmp_path / "web-data.qcow2"), None, str(base), "raw"))
    assert facts(tmp_path).volumes[str(tmp_path / "web-data.qcow2")].capacity == 4 * MIB


def test_a_failure_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"qemu-img create .*none\.qcow2.*: .*No such file or directory"):
        done(MakeVolume(str(tmp_path / "web-root.qcow2"), None, str(tmp_path / "none.qcow2"), "qcow2"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_in_the_place_of_a_file(tmp_path: Path) -> None:
    volume = tmp_path / "web-root.qcow2"
    volume.write_text("precious")
    with pytest.raises(ResourceError, match="is left as it is"):
        done(MakeVolume(str(volume), MIB))
    assert volume.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [volume]


def test_qemu_img_that_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="package qemu-utils"):
        done(MakeVolume(str(tmp_path / "web-root.qcow2"), MIB))


def test_a_volume_grows_and_keeps_what_is_on_it(tmp_path: Path) -> None:
    volume = tmp_path / "web-root.qcow2"
    done(MakeVolume(str(volume), MIB))
    subprocess.run(["qemu-io", "-c", "write -P 7 0 64k", str(volume)], check=True, capture_output=True, timeout=60)
    done(GrowVolume(str(volume), 3 * MIB))
    assert facts(tmp_path).volumes[str(volume)].capacity == 3 * MIB
    said = subprocess.run(["qemu-io", "-r", "-c", "read -P 7 0 64k", str(volume)], check=True, capture_output=True, text=True, timeout=60).stdout
    assert "Pattern verification failed" not in said


def test_files_go_also_when_some_are_gone(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    done(RemoveFiles((str(tmp_path / "gone"), str(tmp_path / "a"))))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match="folder: Is a directory"):
        done(RemoveFiles((str(tmp_path / "folder"),)))


# --- guests


def found(conn: Any) -> ObservedDomain:
    domain = observe_domain(conn, "web")
    assert domain is not None
    return domain


def test_a_guest_through_its_life(conn: Any) -> None:
    for operation in (Define("web", write_domain(WEB)), Autostart("web", True)):
        done(operation, conn)
    assert (found(conn).power, found(conn).autostart, found(conn).kept) == ("stopped", True, WEB)
    life = ((Start("web"), "running"), (Suspend("web"), "suspended"), (Resume("web"), "running"), (ShutDown("web", 10), "stopped"))
    for change, power in life:
        done(change, conn)
        assert found(conn).power == power
    done(Autostart("web", False), conn)
    assert not found(conn).autostart
    done(Forget("web"), conn)
    assert observe_domain(conn, "web") is None


def test_memory_and_vcpus_of_a_running_guest(conn: Any) -> None:
    conn.defineXML(write_domain(WEB)).create()
    done(SetMemory("web", 512), conn)
    done(SetVcpus("web", 2), conn)
    live, kept = found(conn).live, found(conn).kept
    assert live is not None
    assert kept is not None
    assert (live.memory_mb, live.vcpus, kept.memory_mb, kept.vcpus) == (512, 2, 256, 1)


def test_the_mark_that_is_set_is_read_back(conn: Any) -> None:
    conn.defineXML(write_domain(WEB)).create()
    changed = guest("web", nics=(Nic("segx", WEB.nics[0].mac),))
    done(SetMark("web", write_mark(changed)), conn)
    live = found(conn).live
    assert live is not None
    assert live.nics == changed.nics


@pytest.mark.parametrize("kept", [True, False])
def test_a_guest_that_does_not_go_is_switched_off(conn: Any, kept: bool) -> None:
    conn.defineXML(write_domain(WEB)).create() if kept else conn.createXML(write_domain(WEB))
    warnings: list[str] = []
    done(ShutDown("web", 0), conn, warnings.append)
    assert warnings == ["guest web: it did not shut down within 0 s, and was switched off"]
    assert (found(conn).power == "stopped") if kept else (observe_domain(conn, "web") is None)


def test_a_guest_without_a_kept_definition_is_gone_when_it_is_off(conn: Any) -> None:
    conn.createXML(write_domain(WEB))
    done(ShutDown("web", 10), conn)
    assert observe_domain(conn, "web") is None


def test_a_guest_that_is_off_already_is_not_asked_to_go(conn: Any) -> None:
    conn.defineXML(write_domain(WEB))
    done(ShutDown("web", 10), conn)
    assert found(conn).power == "stopped"


class Stubborn:
    """A running guest of the test driver, which has no way to unplug: it lets go after so many requests."""

    def __init__(self, conn: Any, requests: int, code: int = libvirt.VIR_ERR_OPERATION_FAILED) -> None:
        self.conn, self.requests, self.code, self.asked = conn, requests, code, 0
        self.domain = conn.defineXML(write_domain(WEB))
        self.domain.create()

    def lookupByName(self, _name: str) -> Stubborn:  # noqa: N802
        return self

    def listAllDomains(self) -> list[Any]:  # noqa: N802
        return list(self.conn.listAllDomains())

    def detachDeviceFlags(self, _xml: str, _flags: int) -> None:  # noqa: N802
        self.asked += 1
        if self.asked == self.requests:
            self.domain.destroy()
            self.conn.defineXML(write_domain(guest("web", nics=(), disks=(), accelerator="test"))).create()
        elif self.asked > 1:
            error = libvirt.libvirtError("")
            error.err = (self.code, 0, "already in the process of unplug", 0, "", None, None, 0, 0)
            raise error


DEVICES = [("interface", write_nic(WEB.nics[0])), ("disk", write_disk(WEB.disks[0], "vda"))]


@pytest.mark.parametrize(("device", "xml"), DEVICES)
def test_a_device_is_asked_for_until_the_guest_lets_go(conn: Any, monkeypatch: pytest.MonkeyPatch, device: str, xml: str) -> None:
    monkeypatch.setattr(guests, "_DETACH_AGAIN_S", 0.0)
    domain = Stubborn(conn, 3)
    done(DetachDevice("web", device, xml), domain)
    assert domain.asked == 3


@pytest.mark.parametrize(("device", "xml"), DEVICES)
def test_a_device_that_the_guest_keeps_is_a_failure(conn: Any, monkeypatch: pytest.MonkeyPatch, device: str, xml: str) -> None:
    monkeypatch.setattr(guests, "_DETACH_LIMIT_S", 0.3)
    with pytest.raises(ResourceError, match=f"the guest does not let go of its {device}"):
        done(DetachDevice("web", device, xml), Stubborn(conn, 99))


def test_a_device_that_is_gone_already_is_not_asked_for(conn: Any) -> None:
    domain = Stubborn(conn, 1)
    for xml in (write_nic(Nic("segx", "52:54:00:00:00:99")), write_disk(Disk("b&c", "fast", "/p/b&c.qcow2"), "vdb")):
        done(DetachDevice("web", "device", xml), domain)
    assert domain.asked == 0


def test_what_libvirt_says_is_told(conn: Any) -> None:
    with pytest.raises(ResourceError, match="Domain not found"):
        done(Start("nobody"), conn)


@pytest.mark.parametrize(
    ("answer", "warning"),
    [
        ((0, "", ""), ""),
        ((1, "", "no sshd"), "listens on port 2299 from its next start on (telling it ended with 1: no sshd)"),
        (None, "listens on port 2299 from its next start on (the agent is silent)"),
    ],
)
def test_a_guest_is_told_its_ssh_port(conn: Any, monkeypatch: pytest.MonkeyPatch, answer: Optional[tuple[int, str, str]], warning: str) -> None:
    asked: list[Any] = []

    def execute(domain: Any, argv: list[str], timeout: float) -> tuple[int, str, str]:
        asked.append((domain.name(), argv[-1].splitlines(), timeout > 0))
        if answer is None:
            raise ResourceError("the agent is silent")
        return answer

    monkeypatch.setattr(guests.guest_agent, "execute", execute)
    done(Define("web", write_domain(WEB)), conn)
    warnings: list[str] = []
    done(TellSsh("web", 2299), conn, warnings.append)
    ((name, script, limited),) = asked
    assert (name, limited) == ("web", True)
    assert "Port 2299" in script
    assert [text.startswith("guest web: its sshd") and text.endswith(warning) for text in warnings] == ([True] if warning else [])


def test_what_auto_chose_is_not_said(tmp_path: Path) -> None:
    chosen = {name: observe(None, [{"name": "fast", "path": str(tmp_path)}], [], Policy(), name) for name in ("auto", "qemu")}
    assert {name: found.accelerator_said for name, found in chosen.items()} == {"auto": False, "qemu": True}
