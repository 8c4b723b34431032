# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against libvirt's test driver, with real volumes and seeds. Devices are not plugged there: that driver cannot."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_assign import guest_uuid
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import GuestOperation
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Start
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guest_run
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guests as host_guests
from ansible_collections.hybridlab.platform.plugins.module_utils.host import libvirt as host_libvirt
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_guests
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import Caller, define_guest

SECRET = "correct-horse-battery"
ROOT: dict[str, Any] = {"name": "root", "pool": "fast", "size_gb": 1, "image": "tiny"}
DATA: dict[str, Any] = {"name": "data", "pool": "large", "size_gb": 1}


class Killed(BaseException):
    """What no part of a module catches, as a kill."""


class Host:
    """The module's caller, and the host that it works on."""

    def __init__(self, conn: Any, call: Caller, directory: Path) -> None:
        self.conn = conn
        self.caller = call
        self.fast, self.large = directory / "fast", directory / "large"
        self.image = self.fast / "image-tiny-0123456789ab.qcow2"
        for pool in (self.fast, self.large):
            pool.mkdir()
            conn.storagePoolDefineXML(f"<pool type='dir'><name>{pool.name}</name><target><path>{pool}</path></target></pool>").create()
        for name in ("public", "private"):
            conn.networkDefineXML(f"<network><name>{name}</name><bridge name='br-{name}'/><ip address='10.0.1.1' netmask='255.255.255.0'/></network>").create()
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(self.image), "512M"], check=True)

    @property
    def common(self) -> dict[str, Any]:
        return {"images": [{"name": "tiny", "path": str(self.image), "format": "qcow2"}]}

    def __call__(self, config: Any = (), **params: Any) -> dict[str, Any]:
        return self.caller(config, **{**self.common, **params})

    def same(self, config: Any = (), **params: Any) -> dict[str, Any]:
        return self.caller.same_in_check_mode(config, **{**self.common, **params})

    def seen(self) -> dict[str, Any]:
        """All that a run could have changed, comparable."""
        domains = {
            domain.name(): (domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), domain.state()[0], domain.autostart()) for domain in self.conn.listAllDomains()
        }
        files = {str(path): self.size(path) if path.suffix == ".qcow2" else path.read_bytes() for pool in (self.fast, self.large) for path in pool.iterdir()}
        return {"domains": domains, "files": files}

    def size(self, path: Path) -> tuple[int, str | None]:
        info = json.loads(subprocess.run(["qemu-img", "info", "--output", "json", str(path)], check=True, capture_output=True).stdout)
        return info["virtual-size"], info.get("backing-filename")

    def refused(self, config: Any = (), **params: Any) -> str:
        """The message of a run that changed nothing, neither as a check nor in earnest."""
        there = self.seen()
        failed = self(config, **params)
        assert failed.get("failed") is True, failed
        assert self.seen() == there
        return str(failed["msg"])


@pytest.fixture
def host(conn: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(host_guests, "choose_accelerator", lambda _wanted: "test")
    return Host(conn, Caller(libvirt_guests, capsys, tmp_path / "rollback"), tmp_path)


def guest(name: str = "web", number: int = 10, **changes: Any) -> dict[str, Any]:
    entry = {
        "name": name,
        "platform": "lab",
        "vcpus": 1,
        "vcpus_max": 2,
        "memory_mb": 128,
        "memory_max_mb": 256,
        "interfaces": [{"segment": "public", "mac": f"52:54:00:00:01:{number}", "address": f"10.0.1.{number}", "prefix": 24, "gateway": "10.0.1.1"}],
        "disks": [ROOT],
        "image": "tiny",
        "ssh_port": 2200 + number,
        "cloud_init": {"domain": "lab.local", "user_data": json.dumps({"chpasswd": {"list": SECRET}})},
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def verbs(answer: dict[str, Any]) -> list[str]:
    words = [line.split() for line in answer["commands"]]
    return [line[3] if line[0] == "virsh" else line[0] for line in words]


def test_two_guests_and_again(host: Host) -> None:
    done = host.same([guest(names=["www"]), guest("app", 20, disks=[ROOT, DATA])])
    assert [(entry["name"], entry["state"], entry["ssh_port"]) for entry in done["after"]] == [("app", "running", 2220), ("web", "running", 2210)]
    assert verbs(done) == ["qemu-img", "seed=$(mktemp", "define", "autostart", "start", "qemu-img", "qemu-img", "seed=$(mktemp", "define", "autostart", "start"]
    assert host.size(host.fast / "web-root.qcow2") == (2**30, str(host.image))
    assert host.size(host.large / "app-data.qcow2") == (2**30, None)
    assert stat.S_IMODE((host.fast / "web-seed.iso").stat().st_mode) == 0o600
    assert host.conn.lookupByName("web").autostart()
    where = {entry["name"]: entry for entry in done["guests"]}["web"]
    assert (where["segment"], where["addresses"], where["names"], where["accelerator"]) == ("public", ["10.0.1.10"], ["www"], "test")


def test_without_a_size_the_disk_is_that_of_the_image(host: Host) -> None:
    config = [guest(disks=[{**ROOT, "size_gb": None}])]
    foretold, done = host(config, check=True), host(config)
    # Null, because check mode cannot know it on a host that has no image yet.
    assert foretold["after"] == done["after"]
    assert done["after"][0]["disks"] == [{"name": "root", "pool": "fast", "size_gb": None}]
    again = host(config)
    assert again["changed"] is False
    assert again["before"] == again["after"]
    assert again["before"][0]["disks"] == [{"name": "root", "pool": "fast", "size_gb": 0.5}]


def test_what_user_data_says_is_nowhere_to_be_read(host: Host) -> None:
    first = host([guest()], check=True)
    assert "chpasswd" in "".join(first["commands"])
    assert SECRET not in json.dumps(first)
    assert SECRET not in json.dumps(host([guest()]))
    assert SECRET not in host.conn.lookupByName("web").XMLDesc(0)
    assert SECRET.encode() in (host.fast / "web-seed.iso").read_bytes()


def test_a_running_guest_is_changed_while_it_runs(host: Host) -> None:
    host([guest()])
    started = host.conn.lookupByName("web").ID()
    done = host.same([guest(memory_mb=200, vcpus=2, names=["www"], ssh_port=2299, autostart=False)])
    assert done["disruptive"] == []
    assert len(done["backups"]) == 1
    assert done["rollback"] == {"web": f"virsh -c test:///default define {done['backups'][0]}"}
    domain = host.conn.lookupByName("web")
    assert domain.ID() == started
    assert domain.info()[2:4] == [200 * 1024, 2]
    assert "2299" in domain.XMLDesc(0)
    host.conn.defineXML(Path(done["backups"][0]).read_text(encoding="utf-8"))
    assert host([guest(names=["www"])], check=True)["before"][0]["memory_mb"] == 128


def test_what_needs_a_restart_is_refused_or_done(host: Host) -> None:
    host([guest()])
    larger = [guest(memory_max_mb=512, disks=[{**ROOT, "size_gb": 2}, DATA])]
    assert "web: memory_max_mb is 256, wanted 512: the guest is restarted" in host.refused(larger)
    started = host.conn.lookupByName("web").ID()
    host.same(larger, allow_disruption=True)
    assert host.conn.lookupByName("web").ID() != started
    assert host.size(host.fast / "web-root.qcow2")[0] == 2 * 2**30


@pytest.mark.parametrize("old", ["running", "stopped", "suspended"])
@pytest.mark.parametrize("new", ["running", "stopped", "suspended"])
def test_power(host: Host, old: str, new: str) -> None:
    host([guest(state=old)])
    done = host.same([guest(state=new)])
    assert done["changed"] is (old != new)
    wanted = {"running": libvirt.VIR_DOMAIN_RUNNING, "stopped": libvirt.VIR_DOMAIN_SHUTOFF, "suspended": libvirt.VIR_DOMAIN_PAUSED}[new]
    assert host.conn.lookupByName("web").state()[0] == wanted


def test_a_stopped_guest_gets_a_larger_and_another_disk(host: Host) -> None:
    host([guest(state="stopped")])
    host.same([guest(state="stopped", disks=[{**ROOT, "size_gb": 3}, DATA])])
    assert host.size(host.fast / "web-root.qcow2")[0] == 3 * 2**30
    kept = host([guest(state="stopped", disks=[{**ROOT, "size_gb": 3}])])
    assert kept["changed"] is False
    assert "its disk data is no longer declared" in kept["warnings"][0]
    host.same([guest(state="stopped", disks=[{**ROOT, "size_gb": 3}], remove_disks=True)])
    assert not (host.large / "web-data.qcow2").exists()


@pytest.mark.parametrize("state", ["running", "suspended", "stopped"])
@pytest.mark.parametrize("remove", [True, False])
def test_absent(host: Host, state: str, remove: bool) -> None:
    host([guest(state=state)])
    assert "config[web].remove_disks: found nothing" in host.refused([{"name": "web", "state": "absent"}])
    done = host.same([{"name": "web", "state": "absent", "remove_disks": remove}])
    assert (done["after"], len(done["backups"])) == ([], 1)
    assert [domain.name() for domain in host.conn.listAllDomains()] == []
    assert (host.fast / "web-root.qcow2").exists() is not remove
    assert not (host.fast / "web-seed.iso").exists()


def test_kept_disks_are_taken_up_again_on_the_same_image_only(host: Host) -> None:
    host([guest()])
    host([{"name": "web", "state": "absent", "remove_disks": False}])
    subprocess.run(["qemu-io", "-c", "write -P 7 0 64k", str(host.fast / "web-root.qcow2")], check=True, capture_output=True)
    other = host.fast / "image-other-0123456789ab.qcow2"
    host.image.rename(other)
    message = host.refused([guest()], images=[{"name": "tiny", "path": str(other)}])
    assert "web-root.qcow2 exists already, upon" in message
    other.rename(host.image)
    assert "is taken up with what is on it" in host.same([guest(disks=[{**ROOT, "size_gb": 2}])])["warnings"][0]
    found = subprocess.run(["qemu-io", "-r", "-c", "read -P 7 0 64k", str(host.fast / "web-root.qcow2")], capture_output=True, text=True, check=True).stdout
    assert "failed" not in found


def test_overridden_and_deleted_ask_about_disks(host: Host) -> None:
    define_guest(host.conn, "theirs", running=True)
    host([guest(), guest("app", 20)])
    assert "config[app].remove_disks" in host.refused([guest()], state="overridden")
    assert host([guest()])["undeclared"] == ["app"]
    host.same([guest()], state="overridden", remove_disks=True)
    assert not (host.fast / "app-root.qcow2").exists()
    host.same(state="deleted", remove_disks=False)
    assert {domain.name() for domain in host.conn.listAllDomains()} == {"theirs"}
    assert (host.fast / "web-root.qcow2").exists()
    assert "did not make that guest" in host.refused([{"name": "theirs"}], state="deleted", remove_disks=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interfaces": [{"segment": "pubilc", "mac": "52:54:00:00:01:10"}]}, ("config[web].interfaces[0].segment: found 'pubilc'", "'public'")),
        ({"disks": [{**ROOT, "pool": "fats"}]}, ("config[web].disks[0].pool: found 'fats'", "'fast'")),
        ({"disks": [{**ROOT, "image": "tyni"}]}, ("config[web].disks[0].image: found 'tyni'", "Known images: tiny")),
        ({"disks": [ROOT, {"name": "data", "pool": "fast"}]}, ("config[web].disks[1].size_gb: found nothing",)),
        ({"disks": [{**ROOT, "size_gb": 10**6}]}, ("platform_pools[fast]: found", "web-root.qcow2 1000000.0 GiB", "available", "Nothing was changed")),
        ({"vcpus": 3}, ("config[web].vcpus: found 3, more than vcpus_max (2)",)),
        ({"memory_mb": None}, ("config[web].memory_mb: found nothing",)),
        ({"ssh_port": 2220}, ("ssh_port 2220", "guest app")),
        ({"interfaces": [{"segment": "public", "mac": "52:54:00:00:01:20"}]}, ("mac 52:54:00:00:01:20", "guest app")),
        ({"name": "theirs"}, ("config[theirs]: libvirt has a guest of that name", "did not make")),
    ],
)
def test_what_cannot_be_built_is_refused_before_the_first_change(host: Host, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    define_guest(host.conn, "theirs")
    host([guest("app", 20)])
    message = host.refused([guest("first", 30), guest(**changes)])
    for word in words:
        assert word in message


def test_what_a_guest_has_is_never_lost(host: Host) -> None:
    host([guest(disks=[{**ROOT, "size_gb": 2}])])
    assert "a disk is never made smaller" in host.refused([guest()])
    assert "was made from 'tiny'" in host.refused([guest(image="other", disks=[{**ROOT, "size_gb": 2}])])
    assert "platform lab made" in host.refused([guest(platform="another", disks=[{**ROOT, "size_gb": 2}])])


@pytest.mark.parametrize(
    ("capacity", "title"),
    [({"guests": 2}, "guests: 1 over"), ({"vcpus": 5}, "vCPUs: 1 over"), ({"memory_mb": 128 + 256 - 64}, "memory: ")],
)
def test_more_than_the_host_may_give_is_refused_with_the_table(host: Host, capacity: dict[str, int], title: str) -> None:
    theirs = define_guest(host.conn, "theirs", running=True)
    if "vcpus" in capacity:
        theirs.destroy()
        theirs.undefine()
        host([guest("app", 20)])
    set_of_two = [guest(), guest("second", 30)]
    message = host.refused(set_of_two, capacity=capacity)
    for word in (title, "to be started", "limit set by", "second"):
        assert word in message
    assert host([guest(state="stopped"), guest("second", 30, state="stopped")], capacity=capacity)["changed"] is True


def test_a_host_that_is_too_full_already_can_be_relieved(host: Host) -> None:
    host([guest(), guest("app", 20)])
    tight = {"capacity": {"guests": 1}}
    assert host([guest(), guest("app", 20)], **tight)["changed"] is False
    assert "guests: 2 over" in host.refused([guest("third", 30)], **tight)
    assert host([guest(state="stopped")], **tight)["changed"] is True
    assert host([{"name": "app", "state": "absent", "remove_disks": True}], **tight)["changed"] is True


@pytest.mark.parametrize("survived", range(8))
def test_a_killed_run_is_completed_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    config = [guest(), guest("app", 20, disks=[ROOT, DATA])]
    real = guest_run.apply
    done: list[GuestOperation] = []

    def dying(conn: Any, operation: GuestOperation, warn: Callable[[str], None]) -> None:
        if len(done) == survived:
            raise Killed
        done.append(operation)
        real(conn, operation, warn)

    monkeypatch.setattr(guest_run, "apply", dying)
    with pytest.raises(Killed):
        host(config)
    monkeypatch.setattr(guest_run, "apply", real)
    assert host.same(config)["changed"] is True
    names = {"web-root.qcow2", "web-seed.iso", "app-root.qcow2", "app-seed.iso", host.image.name}
    assert {path.name for path in host.fast.iterdir()} == names
    assert all(domain.isActive() and domain.autostart() for domain in host.conn.listAllDomains())


def test_a_libvirt_that_stops_in_between_is_reported_with_how_far_it_came(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = guest_run.apply

    def failing(conn: Any, operation: GuestOperation, warn: Callable[[str], None]) -> None:
        if isinstance(operation, Start) and operation.name == "app":
            with host_libvirt.errors():
                raise libvirt.libvirtError("Cannot recv data: Connection reset by peer")
        real(conn, operation, warn)

    monkeypatch.setattr(guest_run, "apply", failing)
    config = [guest(), guest("app", 20), guest("third", 30)]
    message = host(config)["msg"]
    for word in ("guest app (2 of 3) at start: Cannot recv data", "Done before it: web", "Not begun: third", "run again"):
        assert word in message
    monkeypatch.setattr(guest_run, "apply", real)
    assert [entry["state"] for entry in host.same(config)["after"]] == ["running"] * 3


def test_a_volume_that_cannot_be_made_leaves_nothing_behind(host: Host) -> None:
    host.image.unlink()
    failed = host([guest()])
    assert "guest web (1 of 1) at make volume: qemu-img create" in failed["msg"]
    assert list(host.fast.iterdir()) == []
    assert host.conn.listAllDomains() == []


def test_a_guest_that_libvirt_refuses_leaves_nothing_behind(host: Host) -> None:
    # Somebody has given it another name.
    renamed = f"<domain type='test'><name>renamed</name><uuid>{guest_uuid('lab', 'web')}</uuid><memory>65536</memory><os><type>hvm</type></os></domain>"
    host.conn.defineXML(renamed)
    there = host.seen()
    failed = host([guest()])
    for word in ("guest web (1 of 1) at define:", "renamed", "Its new files were removed again"):
        assert word in failed["msg"]
    assert host.seen() == there


def test_a_guest_that_falls_over_at_once_is_no_success(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = guest_run.apply

    def brief(conn: Any, operation: GuestOperation, warn: Callable[[str], None]) -> None:
        real(conn, operation, warn)
        if isinstance(operation, Start):
            conn.lookupByName(operation.name).destroy()

    monkeypatch.setattr(guest_run, "apply", brief)
    failed = host([guest()])
    assert "there is still to do: guest web: start" in failed["msg"]


def test_a_wait_ends_and_says_how_far_the_guest_came(host: Host) -> None:
    config = [guest(wait_for="address", wait_seconds=1), guest("app", 20)]
    failed = host(config)
    assert failed["failed"] is True
    assert failed["msg"].count("guest web:") == 1
    assert "expected: 10.0.1.10" in failed["msg"]
    assert host.conn.lookupByName("app").isActive()


def test_gathered(host: Host) -> None:
    define_guest(host.conn, "theirs", running=True)
    host([guest(names=["www"]), guest("app", 20, state="stopped")])
    found = {entry["name"]: entry for entry in host(state="gathered")["gathered"]}
    assert set(found) == {"web", "app"}
    assert (found["web"]["platform"], found["web"]["ssh_port"], found["web"]["interfaces"][0]["address"]) == ("lab", 2210, "10.0.1.10")
    assert found["web"]["cpu_seconds"] >= 0
    assert "cpu_seconds" not in found["app"]
    assert found["web"]["leases"] == []
    assert [entry["name"] for entry in host([{"name": "theirs"}], state="gathered")["gathered"]] == ["theirs"]


def test_rendered_touches_no_host(host: Host) -> None:
    there = host.seen()
    done = host([guest()], state="rendered", pools=[{"name": "fast", "path": "/var/lib/libvirt/images"}], uri="test:///does/not/exist")
    assert done["rendered"][0]["name"] == "web"
    assert "/var/lib/libvirt/images/web-root.qcow2" in done["rendered"][0]["xml"]
    assert host.seen() == there


def test_a_host_without_libvirt_is_foretold(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = {"pools": [{"name": "fast", "path": str(host.fast)}]}
    usual = host([guest()], check=True, **pools)
    monkeypatch.setattr(host_libvirt, "libvirt", None)
    assert "python3-libvirt" in host([guest()], **pools)["msg"]
    checked = host([guest()], check=True, **pools)
    for key in ("before", "after", "commands", "diff"):
        assert checked[key] == usual[key], key
    assert host(state="deleted", remove_disks=True)["changed"] is False
