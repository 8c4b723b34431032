# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image is made, when it is made again, and when it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.guest_image import cli, images, recipes
from tools.guest_image.disk import configuration
from tools.guest_image.layout import partitions
from tools.guest_image.packages import Packages
from tools.sandbox.errors import SandboxError
from tools.sandbox.names import Identity, Settings

BASE = ("tiny", "URIs: a\n", ["x"], "amd64")


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """A checkout without any image."""
    own = Identity.of(tmp_path / "checkout")
    apart = Identity(own.id, own.cache, tmp_path / "run", tmp_path / "tmp")
    monkeypatch.setattr(Identity, "of", classmethod(lambda _cls: apart))
    monkeypatch.setattr(Packages, "of", classmethod(lambda _cls, _settings, found: Packages("URIs: a\n", ("x",), "amd64", found)))
    return apart


@pytest.mark.parametrize("other", [("debian", *BASE[1:]), (BASE[0], "URIs: b\n", *BASE[2:]), (*BASE[:2], [], "amd64"), (*BASE[:3], "arm64")])
def test_another_input_makes_another_key(other: tuple[str, str, list[str], str]) -> None:
    assert recipes.key(*BASE) == recipes.key(*BASE)
    assert recipes.key(*BASE) != recipes.key(*other)


def test_only_files_that_go_into_a_kind_change_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("disk.py", "tiny.py", "files/tiny/guest", "files/debian/customize.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1", encoding="utf-8")
    monkeypatch.setattr(recipes, "HERE", tmp_path)
    before = {kind: recipes.key(kind, *BASE[1:]) for kind in recipes.RECIPES}
    (tmp_path / "files/tiny/guest").write_text("2", encoding="utf-8")
    assert recipes.key("debian", *BASE[1:]) == before["debian"]
    assert recipes.key("tiny", *BASE[1:]) != before["tiny"]
    (tmp_path / "disk.py").write_text("2", encoding="utf-8")
    assert recipes.key("debian", *BASE[1:]) != before["debian"]


@pytest.mark.parametrize("kind", sorted(recipes.RECIPES))
def test_a_recipe_leaves_room_for_its_root_and_boots_it_by_its_uuid(kind: str) -> None:
    recipe = recipes.RECIPES[kind]
    _boot, root = partitions(recipe.boot_size, recipe.size)
    assert root.size >= 256 * 1024 * 1024
    line = recipes.cmdline(kind, recipes.root_uuid(kind, "abc"))
    assert f"root=UUID={recipes.root_uuid(kind, 'abc')} " in line
    assert "console=ttyS0" in line.split()
    for name in ("syslinux.cfg", "grub.cfg"):
        assert line in configuration(name, line)
    assert recipes.root_uuid(kind, "abc") != recipes.root_uuid(kind, "abd")


def test_what_is_there_is_not_built_again(identity: Identity) -> None:
    path = identity.cache / "images" / f"tiny-{recipes.key(*BASE)}.qcow2"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"image")
    assert images.ensure("tiny") == path


def test_a_build_is_put_in_place_whole_and_removes_its_elders(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = identity.cache / "images"
    directory.mkdir(parents=True)
    for name in ("tiny-000000000000.qcow2", "tiny-111111111111.qcow2.new", "debian-000000000000.qcow2"):
        (directory / name).touch()
    seen: list[list[str]] = []

    def assemble(_recipe: recipes.Recipe, _build: Path, _boot: Path, _root: Path, _id: str, target: Path) -> None:
        target.write_bytes(b"image")
        seen.append(sorted(path.name for path in directory.glob("*.qcow2")))

    def tree(_recipe: recipes.Recipe, packages: Packages, _id: str) -> tuple[Path, Path, Path]:
        return packages.work, packages.work, packages.work

    monkeypatch.setattr(images, "_refuse", lambda _architecture: None)
    monkeypatch.setattr(images.tiny, "make_tree", tree)
    monkeypatch.setattr(images.disk, "boot_partition", lambda image, *_others: image)
    monkeypatch.setattr(images.disk, "assemble", assemble)
    monkeypatch.setattr(Packages, "unpack", lambda self, _name, _packages: self.work)
    path = images.ensure("tiny")
    assert path.read_bytes() == b"image"
    assert seen == [["debian-000000000000.qcow2", "tiny-000000000000.qcow2"]]
    assert sorted(left.name for left in directory.glob("*.qcow2*")) == ["debian-000000000000.qcow2", path.name, "tiny.qcow2"]
    # The name that inventories have leads to the newest one.
    assert (directory / "tiny.qcow2").resolve() == path.resolve()
    assert not Packages.of(Settings(), identity).work.exists()


def test_an_unknown_kind_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SandboxError, match=r"no guest image 'huge'\. Take one of debian, tiny"):
        images.ensure("huge")


def test_missing_tools_are_named_as_packages(identity: Identity, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(images, "missing_packages", lambda _needs: ["mtools", "syslinux"])
    monkeypatch.setattr(images.disk, "BOOT_CODE", identity.cache / "none")
    assert cli.main(["tiny"]) == 1
    assert "apt-get install --no-install-recommends mtools syslinux syslinux-common" in capsys.readouterr().err


def test_another_architecture_is_refused(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packages, "of", classmethod(lambda _cls, _settings, found: Packages("", (), "arm64", found)))
    with pytest.raises(SandboxError, match="built for amd64, and this machine is arm64"):
        images.ensure("tiny")


def test_only_root_builds(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "missing_packages", lambda _needs: [])
    monkeypatch.setattr(images.disk, "BOOT_CODE", Path(__file__))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match=r"only root can build it\. Use sudo"):
        images.ensure("tiny")


def test_a_copy_goes_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "tiny-1.qcow2"
    image.write_bytes(b"image")
    monkeypatch.setattr(cli, "ensure", lambda _kind: image)
    (tmp_path / "directory").mkdir()
    for output, expected in ((tmp_path / "directory", tmp_path / "directory" / image.name), (tmp_path / "other.img", tmp_path / "other.img")):
        assert cli.main(["tiny", "--output", str(output)]) == 0
        assert capsys.readouterr().out.splitlines() == [str(expected)]
        assert expected.read_bytes() == b"image"
