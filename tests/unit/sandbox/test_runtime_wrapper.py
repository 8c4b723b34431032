# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime in front of runc asks for no capability that this machine lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.sandbox import runtime_wrapper
from tools.sandbox.machine import lacking_capabilities
from tools.sandbox.runtime_wrapper import CAPABILITIES, argument, bounding_set

STATUS = "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t{:016x}\nCapAmb:\t0000000000000000\n"
EVERYTHING = (1 << 41) - 1
SYS_RESOURCE = 1 << 24


def test_the_bounding_set_is_read_by_its_own_line() -> None:
    assert bounding_set(STATUS.format(EVERYTHING)) == EVERYTHING
    assert bounding_set("Name:\tx\n") == 0


def test_what_lacks_is_named_among_what_the_kernel_knows() -> None:
    assert lacking_capabilities(STATUS.format(EVERYTHING & ~SYS_RESOURCE), 40) == ["CAP_SYS_RESOURCE"]
    assert lacking_capabilities(STATUS.format(EVERYTHING), 40) == []
    assert lacking_capabilities(STATUS.format((1 << 38) - 1), 37) == []
    assert lacking_capabilities(STATUS.format((1 << 38) - 1), 40) == ["CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"]


@pytest.mark.parametrize(
    ("words", "found"), [(["-b", "/x"], "/x"), (["--bundle", "/x", "id"], "/x"), (["--bundle=/x"], "/x"), (["create", "id"], ""), (["-b"], "")]
)
def test_arguments_in_each_spelling(words: list[str], found: str) -> None:
    assert argument(words, "--bundle", "-b") == found


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A runc that prints its arguments."""
    path = tmp_path / "runc"
    path.write_text('#!/bin/sh\necho "$@"\n', encoding="ascii")
    path.chmod(0o755)
    return path


def call(stand_in: Path, *words: str) -> str:
    argv = [sys.executable, "-I", "-S", runtime_wrapper.__file__, str(stand_in), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def owned() -> list[str]:
    bounding = bounding_set(Path("/proc/self/status").read_text(encoding="ascii"))
    return [f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bounding >> number & 1]


def wanted() -> list[str]:
    return [*(f"CAP_{name}" for name in CAPABILITIES), "CAP_OF_A_LATER_KERNEL"]


def test_create_drops_from_the_bundle(stand_in: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"process": {"capabilities": {"bounding": wanted(), "effective": wanted()}, "cwd": "/"}, "root": {}}), encoding="utf-8")
    assert call(stand_in, "--root", "/r", "create", "--bundle", str(tmp_path), "id") == f"--root /r create --bundle {tmp_path} id"
    document = json.loads(config.read_text(encoding="utf-8"))
    assert document == {"process": {"capabilities": {"bounding": owned(), "effective": owned()}, "cwd": "/"}, "root": {}}


def test_exec_drops_from_the_process_file(stand_in: Path, tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"capabilities": {"bounding": wanted()}, "args": ["id"]}), encoding="utf-8")
    call(stand_in, "exec", "--process", str(process), "id")
    assert json.loads(process.read_text(encoding="utf-8")) == {"capabilities": {"bounding": owned()}, "args": ["id"]}


def test_other_verbs_pass_untouched(stand_in: Path) -> None:
    assert call(stand_in, "kill", "id", "9") == "kill id 9"
