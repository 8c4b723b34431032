# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the machine, and how it is told what it lacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.sandbox import machine, record
from tools.sandbox.errors import SandboxError
from tools.sandbox.leftovers import end_build, leftovers, sweep
from tools.sandbox.names import Identity
from tools.sandbox.processes import end, inside, processes_with, same_sessions
from tools.sandbox.progress import Step, run_logged


def test_missing_packages_are_named_with_the_command_to_install_them(tmp_path: Path) -> None:
    needs = {"sh": "dash", "no-such-command-a": "package-a", "no-such-command-b": "package-a"}
    assert machine.missing_packages(needs) == ["package-a"]
    with pytest.raises(SandboxError, match=r"lacks the Debian packages package-a.*apt-get install --no-install-recommends package-a"):
        machine.require(needs, False, tmp_path / "log")
    machine.require({"sh": "dash"}, False, tmp_path / "log")


def test_resolvers_on_the_loopback_are_of_no_use_elsewhere(tmp_path: Path) -> None:
    stub, upstream = tmp_path / "resolv.conf", tmp_path / "upstream.conf"
    stub.write_text("nameserver 127.0.0.53\nnameserver fe80::1\n", encoding="ascii")
    with pytest.raises(SandboxError, match="HYBRIDLAB_SANDBOX_DNS"):
        machine.resolvers((), stub, upstream)
    upstream.write_text("# written by systemd\nnameserver 192.0.2.53\n", encoding="ascii")
    assert machine.resolvers((), stub, upstream) == ["192.0.2.53"]
    assert machine.resolvers(("192.0.2.1",), stub, upstream) == ["192.0.2.1"]


def test_addresses_of_package_sources() -> None:
    text = 'URIs: http://192.0.2.7/debian https://192.0.2.8:8443/x\nAcquire::http::Proxy "http://user:word@192.0.2.9:3128";\n'
    assert machine.addresses_of(text) == ["192.0.2.7/32", "192.0.2.8/32", "192.0.2.9/32"]
    assert machine.addresses_of("URIs: http://name.invalid/debian") == []


def test_the_report_says_what_is_done_instead() -> None:
    for line in machine.capability_report("own"):
        what, _colon, instead = line.partition(": ")
        assert what and instead and "\n" not in line


def test_settings_and_directories_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, made, used, there = tmp_path / "ip_forward", tmp_path / "made", tmp_path / "used", tmp_path / "there"
    there.mkdir()
    setting.write_text("0\n", encoding="ascii")
    monkeypatch.setattr(record, "SETTINGS", (setting,))
    monkeypatch.setattr(record, "ENGINE_DIRECTORIES", (made, used, there))
    monkeypatch.setattr(record, "OTHER_DIRECTORIES", ())
    noted = record.Record(tmp_path / "run")
    noted.note()
    setting.write_text("1\n", encoding="ascii")
    noted.note()
    made.mkdir()
    used.mkdir()
    (used / "somebody's").touch()
    assert not noted.in_use_by_others(tmp_path / "run/me")
    (tmp_path / "run/other").mkdir()
    assert noted.in_use_by_others(tmp_path / "run/me")
    noted.take_back()
    assert setting.read_text(encoding="ascii") == "0\n"
    assert (made.exists(), used.exists(), there.exists(), noted.path.exists()) == (False, True, True, False)
    noted.take_back()


def sleeper(*arguments: str, cwd: Path, stubborn: bool = False) -> subprocess.Popen[bytes]:
    """A process that carries ``arguments`` in its command line; a stubborn one ignores SIGTERM."""
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    code = f"import signal, time; {ignore}print('up', flush=True); time.sleep(60)"
    started = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=cwd, stdout=subprocess.PIPE, start_new_session=True)
    assert started.stdout and started.stdout.readline() == b"up\n"
    return started


def test_processes_are_found_by_words_place_and_session_and_ended_for_good(tmp_path: Path) -> None:
    started = sleeper(f"{tmp_path}/word", cwd=tmp_path, stubborn=True)
    try:
        assert processes_with(f"{tmp_path}/") == [started.pid]
        assert inside(tmp_path) == [started.pid]
        assert same_sessions([started.pid]) == [started.pid]
        begin = time.monotonic()
        end([started.pid], signal.SIGTERM, 0.3)
        assert started.wait(5) == -signal.SIGKILL
        assert time.monotonic() - begin < 5
    finally:
        started.kill()


def test_leftovers_are_listed_then_swept(identity: Identity) -> None:
    assert leftovers(identity, None) == []
    identity.build_dir.mkdir(parents=True)
    identity.base_dir.mkdir(parents=True)
    (identity.base_dir / "x.tar.new").touch()
    (identity.base_dir / "x.tar").touch()
    identity.hosts_dir.mkdir(parents=True)
    started = sleeper("build", cwd=identity.build_dir)
    try:
        listed = leftovers(identity, None)
        assert [line.split()[0] for line in listed] == ["process", "directory", "directory", "file"]
        assert f"process {started.pid}: " in listed[0]
        end_build(identity)
        assert started.wait(5) is not None
        assert not identity.build_dir.exists()
        assert identity.hosts_dir.exists()
        sweep(identity)
        assert leftovers(identity, None) == []
        assert (identity.base_dir / "x.tar").exists()
    finally:
        started.kill()


def test_a_failed_step_shows_the_log_s_end_and_its_path(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs/step.log"
    with pytest.raises(SandboxError, match="Look there") as caught, Step("a step"):
        run_logged(["sh", "-c", "for n in $(seq 40); do echo line $n; done; exit 3"], log, "Look there")
    assert "sh ended with code 3" in str(caught.value) and str(log) in str(caught.value)
    assert "line 40" in str(caught.value) and "line 20\n" not in str(caught.value)
    assert "a step: failed after" in capfd.readouterr().err


def test_a_build_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    code = (
        "from pathlib import Path; from tools.sandbox.progress import run_logged\n"
        f"run_logged(['sh', '-c', 'echo $$ > {child_file}.new; mv {child_file}.new {child_file}; exec sleep 60'], Path('{tmp_path}/log'), 'cure')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 20
    while not child_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = int(child_file.read_text(encoding="ascii"))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while processes_with("sleep 60") and child in processes_with("sleep 60"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
