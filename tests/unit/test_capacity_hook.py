# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's hook, on real files in a directory that stands for the host."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import capacity

HOOK = Path(__file__).resolve().parents[2] / "roles" / "guest_capacity" / "files" / "hook.py"
LIBRARY = Path(str(capacity.__file__)).resolve().parent


def load() -> Any:
    spec = importlib.util.spec_from_file_location("capacity_hook", HOOK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up the module of their annotations.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


hook = load()


def domain(name: str, memory_mib: int = 64, vcpus: int = 1) -> str:
    return f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>{vcpus}</vcpu></domain>"


class Host:
    """A host with four cores and 1000 MiB of memory, on which up to three guests may run."""

    def __init__(self, root: Path) -> None:
        self.places = hook.Places(LIBRARY, root / "capacity.json", root / "capacity.off", root / "starting", root / "qemu", root / "proc")
        self.places.status.mkdir()
        self.places.proc.mkdir()
        (self.places.proc / "cpuinfo").write_text("".join(f"processor : {n}\ncore id : {n}\n\n" for n in range(4)))
        (self.places.proc / "meminfo").write_text(f"MemTotal: {1000 * 1024} kB\n")
        daemon = self.places.proc / str(os.getpid())
        daemon.mkdir()
        self.daemon = daemon / "stat"
        self.set_daemon_start(77)
        self.policy(guests=3, memory_percent=70)

    def policy(self, **limits: Any) -> None:
        self.places.policy.write_text(json.dumps(limits))

    def set_daemon_start(self, ticks: int) -> None:
        """The hook's parent, as libvirt's daemon is: here this process, which the kernel's real table is not asked about."""
        self.daemon.write_text(f"{os.getpid()} (a ) name) S " + " ".join(str(ticks if field == 22 else 0) for field in range(4, 53)))

    def runs(self, *names: str, memory_mib: int = 64) -> None:
        for name in names:
            (self.places.status / f"{name}.xml").write_text(f"<domstatus state='running' pid='1'>{domain(name, memory_mib)}</domstatus>")

    def call(self, guest: str, operation: str = "prepare", xml: str = "") -> subprocess.CompletedProcess[str]:
        """The hook as a process of its own, as libvirt calls it."""
        places = {name: str(getattr(self.places, name)) for name in ("library", "policy", "off", "notes", "status", "proc")}
        program = (
            f"import sys; from pathlib import Path; sys.path.insert(0, {str(HOOK.parent)!r}); import hook\n"
            f"places = hook.Places(**{{key: Path(value) for key, value in {places!r}.items()}})\n"
            "sys.exit(hook.main(sys.argv[1:], sys.stdin.read(), places))"
        )
        argv = [sys.executable, "-B", "-c", program, guest, operation, "begin", "-"]
        return subprocess.run(argv, input=xml or domain(guest), capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_guest_that_fits_starts_in_silence(host: Host) -> None:
    host.runs("a", "b")
    done = host.call("web")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_too_many_is_refused_with_the_table(host: Host) -> None:
    host.runs("a", "b", "c")
    done = host.call("web")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[1:5] == [
        "web does not fit into what the host may give to guests:",
        "              limit     used    asked         over  limit set by",
        "guests            3        3        1            1  guests",
        "vCPUs          none        3        1            -  -",
    ]
    assert "web       1      64  to be started" in done.stderr
    assert "a         1      64  running, not ours" in done.stderr
    assert done.stderr.endswith(f"To start it nevertheless: touch {host.places.off}\n")


def test_the_kib_over_the_percentage_is_refused(host: Host) -> None:
    host.runs("a", memory_mib=600)
    fits = "<domain><name>web</name><memory>102400</memory></domain>"
    assert host.call("web", xml=fits).returncode == 0
    assert host.call("web", "release").returncode == 0
    assert "1 KiB  memory_percent: 70 % of 1000" in host.call("web", xml=fits.replace("102400", "102401")).stderr


def test_a_changed_policy_holds_at_once(host: Host) -> None:
    host.runs("a", "b", "c")
    assert host.call("web").returncode == 1
    host.policy(guests=4)
    assert host.call("web").returncode == 0


def test_turned_off_by_hand(host: Host) -> None:
    host.runs("a", "b", "c")
    host.places.off.touch()
    assert host.call("web").returncode == 0


def test_a_guest_that_is_being_started_counts_until_it_runs(host: Host) -> None:
    host.runs("a", "b")
    assert host.call("web").returncode == 0
    refused = host.call("db")
    assert (refused.returncode, "web       1      64  to be started" in refused.stderr) == (1, True)
    host.runs("web")
    assert host.call("web", "started").returncode == 0
    assert host.call("db").returncode == 1, "web still runs"
    (host.places.status / "web.xml").unlink()
    assert host.call("db").returncode == 0


@pytest.mark.parametrize("operation", ["stopped", "release"])
def test_a_start_that_failed_counts_no_more(host: Host, operation: str) -> None:
    host.runs("a", "b")
    assert host.call("web").returncode == 0
    assert host.call("web", operation).returncode == 0
    assert host.call("db").returncode == 0


def test_a_guest_never_counts_twice(host: Host) -> None:
    host.runs("a", "b", "web")
    assert host.call("web").returncode == 0, "asked again for a restore"
    assert host.call("web").returncode == 0


def test_a_note_ends_with_the_daemon_that_asked(host: Host) -> None:
    host.runs("a", "b")
    assert host.call("web").returncode == 0
    assert host.call("db").returncode == 1
    host.set_daemon_start(78)
    assert host.call("db").returncode == 0
    assert host.call("db", "release").returncode == 0
    host.set_daemon_start(77)
    assert host.call("web").returncode == 0
    host.daemon.unlink()
    assert host.call("db").returncode == 0


def test_a_note_ends_with_its_time(host: Host) -> None:
    host.runs("a", "b")
    assert host.call("web").returncode == 0
    (note,) = host.places.notes.glob("*.json")
    record = json.loads(note.read_text())
    note.write_text(json.dumps({**record, "time": record["time"] - hook.NOTE_SECONDS}))
    assert host.call("db").returncode == 0


def test_a_note_that_was_cut_short_is_none(host: Host) -> None:
    host.runs("a", "b")
    host.places.notes.mkdir()
    (host.places.notes / "0.json").write_text('{"name": ')
    assert host.call("db").returncode == 0


def test_of_many_at_once_only_as_many_start_as_fit(host: Host) -> None:
    codes: list[int] = []
    threads = [threading.Thread(target=lambda name=name: codes.append(host.call(name).returncode)) for name in ("p", "q", "r", "s", "t")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ('{"guests": "many"}', "guests: found 'many'. Give a whole number of 0 or more."),
        ('{"gests": 8}', "gests: there is no such limit."),
        (None, "No such file or directory"),
    ],
)
def test_without_a_policy_that_can_be_read_nothing_starts(host: Host, text: str | None, message: str) -> None:
    host.places.policy.unlink()
    if text is not None:
        host.places.policy.write_text(text)
    done = host.call("web")
    assert done.returncode == 1
    assert f"{host.places.policy}" in done.stderr
    assert message in done.stderr
    assert "write them again (role guest_capacity does)" in done.stderr
    assert f"touch {host.places.off}" in done.stderr


def test_what_cannot_be_read_refuses_with_its_path(host: Host) -> None:
    (host.places.status / "odd.xml").write_text("<domstatus")
    done = host.call("web")
    assert done.returncode == 1
    assert f"{host.places.status / 'odd.xml'}: no XML" in done.stderr
    (host.places.status / "odd.xml").unlink()
    (host.places.proc / "meminfo").unlink()
    done = host.call("web")
    assert (done.returncode, "could not be checked: FileNotFoundError" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("operation", ["start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach", "something-new"])
def test_only_prepare_refuses(host: Host, operation: str) -> None:
    host.runs("a", "b", "c", "d")
    host.places.policy.unlink()
    done = host.call("web", operation)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_message_fits_into_an_error_of_libvirt(host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    name = "a-name-of-sixty-three-letters-and-more-that-nobody-should-give"
    host.runs(*(f"{name}{index}" for index in range(9)))
    assert hook.main([name, "prepare", "begin", "-"], domain(name), host.places) == 1
    told = capsys.readouterr().err
    frame = (
        "Hook script execution failed: internal error: Child process (LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "
        f"/etc/libvirt/hooks/qemu.d/hybridlab-capacity {name} prepare begin -) unexpected exit status 1: "
    )
    assert len((frame + told).encode()) <= hook.ERROR_BYTES
    assert "guests            3        9        1            7  guests" in told
    assert "... and " in told
    assert told.endswith(f"touch {host.places.off}\n")


def test_names_that_are_no_file_names(host: Host) -> None:
    name = "../" + "ä" * 200
    host.runs("a", "b")
    xml = domain(name)
    assert hook.main([name, "prepare", "begin", "-"], xml, host.places) == 0
    assert len(list(host.places.notes.glob("*.json"))) == 1
    assert hook.main([name, "release", "end", "-"], xml, host.places) == 0
    assert list(host.places.notes.glob("*.json")) == []
