# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that turn a root of Debian into the look-alike, on small trees."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tools.el9.assemble import STOCK, Root, fill_tree, hide_debian, merged, resolves, swap_python, use_platform_python, write_identity
from tools.el9.spec import parse_packages


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/lib/systemd/system/a.service", "/usr/lib/systemd/system/a.service"),
        ("/sbin/nft", "/usr/sbin/nft"),
        ("/lib64/ld.so", "/usr/lib64/ld.so"),
        ("/usr/lib/a", "/usr/lib/a"),
        ("/libexec", "/libexec"),
        ("/etc/lib/a", "/etc/lib/a"),
    ],
)
def test_paths_before_and_after_the_merge_are_one(path: str, expected: str) -> None:
    assert merged(path) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"#!/usr/bin/python3\nimport dnf\n", b"#!/usr/libexec/platform-python\nimport dnf\n"),
        (b"#!/usr/bin/python3 -Es\nx\n", b"#!/usr/libexec/platform-python -Es\nx\n"),
        (b"#! /usr/bin/env python3\nx\n", b"#!/usr/libexec/platform-python\nx\n"),
        (b"#!/usr/bin/python3.11\n", b"#!/usr/libexec/platform-python\n"),
        (b"#!/usr/bin/python3.9\nx\n", b"#!/usr/bin/python3.9\nx\n"),
        (b"#!/bin/sh\n# /usr/bin/python3\n", b"#!/bin/sh\n# /usr/bin/python3\n"),
        (b"\x7fELF\x00#!/usr/bin/python3\n", b"\x7fELF\x00#!/usr/bin/python3\n"),
    ],
)
def test_only_programs_of_debians_python_change_their_interpreter(tmp_path: Path, before: bytes, after: bytes) -> None:
    program = put(tmp_path / "usr/bin/program", before)
    use_platform_python(tmp_path)
    assert program.read_bytes() == after


def test_links_resolve_inside_the_root_only(tmp_path: Path) -> None:
    root = Root(tmp_path)
    put(tmp_path / "usr/lib/a.service")
    for name, target, expected in [
        ("good", "/usr/lib/a.service", True),
        ("relative", "../lib/a.service", True),
        ("masked", "/dev/null", True),
        ("gone", "/usr/lib/b.service", False),
        ("of-the-machine", str(Path(__file__)), False),
        ("loop", "loop", False),
    ]:
        link = tmp_path / "usr/bin" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        assert resolves(root, link) is expected, name


def test_payload_moves_and_own_files_win(tmp_path: Path) -> None:
    root = Root(tmp_path)
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    put(tmp_path / "usr/lib/systemd/a.service", b"debian's")
    put(tmp_path / "usr/sbin/a")
    put(tmp_path / "etc/a.conf")
    put(tmp_path / "usr/share/doc/a/copyright")
    listed = "/.\n/lib\n/lib/systemd/a.service\n/usr/lib/systemd/a.service\n/usr/sbin/a\n/etc/a.conf\n/usr/share/doc/a/copyright\n"
    put(tmp_path / "var/lib/dpkg/info/a:amd64.list", listed.encode())
    more = {"files": {"/usr/lib/systemd/a.service": "ours"}, "links": {"/usr/sbin/b": "a"}, "copies": {"/usr/sbin/c": "/usr/sbin/a"}}
    packages = parse_packages([{"name": "el-a", "version": "1", "payload": ["a"], "directories": ["/var/lib/a"], **more}])
    contents = fill_tree(root, packages, {})
    plain = ['"/usr/lib/systemd/a.service"', '"/usr/sbin/a"', '"/usr/sbin/b"', '"/usr/sbin/c"']
    assert sorted(contents["el-a"]) == [*plain, '%config(noreplace) "/etc/a.conf"', '%dir "/var/lib/a"']
    assert (root.tree / "usr/lib/systemd/a.service").read_text() == "ours"
    assert (root.tree / "usr/sbin/b").readlink() == Path("a")
    assert (root.tree / "var/lib/a").is_dir()
    assert not [path for path in ("usr/sbin/a", "etc/a.conf", "usr/share/doc/a/copyright", "usr/lib/systemd/a.service") if (tmp_path / path).exists()]
    assert (tmp_path / "lib").is_symlink()


def test_payload_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"debian\.yml: a is not installed .* 'install' or 'unpack'"):
        fill_tree(Root(tmp_path), parse_packages([{"name": "el-a", "version": "1", "payload": ["a"]}]), {})


def test_unpacked_modules_go_where_el9s_python_has_them(tmp_path: Path) -> None:
    module = put(tmp_path / "el9/unpacked/python3-x/usr/lib/python3/dist-packages/x.py")
    packages = parse_packages([{"name": "python3-x", "version": "1", "payload": ["python3-x"]}])
    contents = fill_tree(Root(tmp_path), packages, {"python3-x": tmp_path / "el9/unpacked/python3-x"})
    assert contents["python3-x"] == ['"/usr/lib64/python3.9/site-packages/x.py"']
    assert not module.exists()


def test_the_root_becomes_rocky_and_forgets_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(tmp_path)
    put(tmp_path / "usr/bin/python3.11")
    put(tmp_path / "usr/bin/python3.9")
    put(tmp_path / "usr/lib/python3.9/os.py")
    (tmp_path / "usr/bin/python3").symlink_to("python3.11")
    debians = {"usr/bin/apt-get", "usr/bin/dpkg", "var/lib/dpkg/status", "etc/debian_version", "etc/init.d/a", "el9/tree/x"}
    debians.add("usr/lib/systemd/system-preset/90-systemd.preset")
    for path in (*debians, "usr/sbin/a"):
        put(tmp_path / path)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/gone.service").symlink_to("/usr/lib/systemd/system/gone.service")
    (tmp_path / "etc/systemd/system/masked.service").symlink_to("/dev/null")
    swap_python(root)
    write_identity(root, parse_packages([{"name": name, "version": "1", "epel": name != "a"} for name in ("a", "b", "c")]))
    hide_debian(root)
    assert (tmp_path / "usr/bin/python3").resolve() == tmp_path / "usr/bin/python3.9"
    assert resolves(root, tmp_path / "usr/bin/libexec/platform-python")
    assert (tmp_path / "usr/libexec/platform-python").resolve() == tmp_path / "usr/libexec/platform-python3.11"
    monkeypatch.setattr(sys, "path", ["/usr/lib/python3.9", "/usr/lib/python3/dist-packages"])
    runpy.run_path(str(tmp_path / "usr/lib/python3.9/sitecustomize.py"))
    assert sys.path == ["/usr/lib/python3.9"]
    assert "\nexcludepkgs=b,c\n" in (tmp_path / STOCK.lstrip("/")).read_text()
    assert 'VERSION_ID="9.6"' in (tmp_path / "etc/os-release").read_text()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()}
    assert not left & {*debians, "etc/systemd/system/gone.service"}
    assert {"etc/systemd/system/masked.service", "usr/sbin/a", "usr/lib/systemd/system-preset/99-default-disable.preset"} <= left
    assert (tmp_path / "etc/apt/apt.conf.d").is_dir()
    assert (tmp_path / "etc/dpkg/dpkg.cfg.d").is_dir()
