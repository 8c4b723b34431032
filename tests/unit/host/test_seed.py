# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.cloud_init import documents
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.seed import LABEL, write_seed

TEXTS = documents("web", "lab.example", [{"name": "ops"}], [], ["echo grüße"], 2211, [{"mac": "52:54:00:00:00:10", "dhcp": True}], None, "i-1")


def test_the_documents_can_be_read_from_the_image(tmp_path: Path) -> None:
    path = tmp_path / "web-seed.iso"
    write_seed(str(path), TEXTS)
    image = path.read_bytes()
    # ECMA-119, 8.4: the primary volume descriptor is sector 16, its volume identifier the 32 bytes from offset 40.
    assert image[16 * 2048 + 40 : 16 * 2048 + 72].decode().rstrip() == LABEL
    folder = tmp_path / "out"
    subprocess.run(["xorriso", "-osirrox", "on", "-indev", str(path), "-extract", "/", str(folder)], check=True, capture_output=True)
    assert {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()} == TEXTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.iso", tmp_path / "second.iso"
    write_seed(str(first), TEXTS)
    time.sleep(1.1)  # dates have seconds
    write_seed(str(second), TEXTS)
    assert first.read_bytes() == second.read_bytes()
    write_seed(str(second), {**TEXTS, "meta-data": "instance-id: i-2\n"})
    assert first.read_bytes() != second.read_bytes()


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "web-seed.iso"
    part = tmp_path / "web-seed.iso.part"
    part.write_bytes(b"half")
    write_seed(str(path), TEXTS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("program", "message"), [(None, "install the package xorriso"), ("echo no room >&2; exit 5", "xorrisofs ended with 5: no room")])
def test_a_failure_leaves_the_old_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str) -> None:
    path, programs, scratch = tmp_path / "web-seed.iso", tmp_path / "bin", tmp_path / "tmp"
    programs.mkdir()
    scratch.mkdir()
    path.write_bytes(b"old")
    if program:
        (programs / "xorrisofs").write_text(f"#!/bin/sh\n{program}\n")
        (programs / "xorrisofs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(ResourceError, match=message):
        write_seed(str(path), TEXTS)
    assert path.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bin", "tmp", "web-seed.iso"]
    assert list(scratch.iterdir()) == []


def test_no_document_is_seen_by_others_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    (programs / "xorrisofs").write_text(f'#!/bin/sh\nfor word; do last=$word; done\nstat -c %a "$last" >{log}\necho "$@" >>{log}\n')
    (programs / "xorrisofs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    write_seed(str(tmp_path / "a.iso"), {"user-data": "#cloud-config\npassword: s3cret\n"})
    mode, arguments = log.read_text().splitlines()
    assert mode == "700"
    assert "s3cret" not in arguments


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No such file or directory"):
        write_seed(str(tmp_path / "none" / "a.iso"), TEXTS)
