# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SDK that the role unpacks, the archive it comes in, and what is read and removed on the host, with real files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_engine import Move, Pending, Store
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_apply, docker_engine, docker_sdk
from ansible_collections.hybridlab.platform.tests.unit.host.docker_engine_fake import Answers, engine_at

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "roles/docker_engine/files/library.py"

# In a process of its own, which has imported nothing yet: what does ensure() find?
ASK = """
import sys
sys.path[:0] = {paths!r}
sys.modules.update(dict.fromkeys({hidden!r}))
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_sdk
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
try:
    print(getattr(docker_sdk.ensure(planning={planning}, library={library!r}), "__file__", None))
except ResourceError as error:
    print("refused:", error)
"""


def ask(library: Path, planning: bool = False, hidden: tuple[str, ...] = ()) -> str:
    script = ASK.format(paths=[str(ROOT / "collections")], hidden=hidden, planning=planning, library=str(library))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def sdk(folder: Path, version: str) -> Path:
    """A library with a docker of that version in it, behind a link as the role makes it."""
    package = folder / version / "docker"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__version__ = {version!r}\n", encoding="utf-8")
    (package / "errors.py").write_text("class DockerException(Exception): pass\n", encoding="utf-8")
    (folder / "current").symlink_to(version)
    return folder / "current"


def test_the_library_of_the_role_comes_before_any_other(tmp_path: Path) -> None:
    assert ask(sdk(tmp_path, "7.9.9")) == str(tmp_path / "7.9.9/docker/__init__.py")


def test_an_old_sdk_is_refused_and_a_plan_goes_on_without(tmp_path: Path) -> None:
    library = sdk(tmp_path, "5.0.3")
    assert "on this host is 5.0.3, 7.0 or later is needed. Run the role docker_engine" in ask(library)
    assert ask(library, planning=True) == "None"


def test_without_an_sdk_the_cure_is_told(tmp_path: Path) -> None:
    hidden = ("docker",)
    assert "cannot be imported on this host" in ask(tmp_path / "none", hidden=hidden)
    assert ask(tmp_path / "none", planning=True, hidden=hidden) == "None"


def test_an_engine_that_is_not_there_is_told(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "docker.sock")
    assert docker_sdk.client(planning=True, socket=nowhere) is None
    with pytest.raises(ResourceError, match=r"does not answer on .*systemctl status docker"):
        docker_sdk.client(socket=nowhere, timeout=2)


@pytest.fixture
def library() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hybridlab_library", LIBRARY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, text in members.items():
            made.writestr(name, text)
    return path


def test_wheels_become_an_archive_that_ends_with_its_mark(library: Any, tmp_path: Path) -> None:
    wheels = [wheel(tmp_path / "a-1-py3-none-any.whl", {"a/__init__.py": "x = 1\n", "a-1.dist-info/METADATA": "Name: a\n"})]
    for name in ("one.tar", "two.tar"):
        library.pack(wheels, "abc", tmp_path / name)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        members = tar.getmembers()
    assert members[-1].name == "hybridlab/python/abc/.complete"
    assert "hybridlab/python/abc/a/__init__.py" in [member.name for member in members]
    assert {(member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0o755), (0, 0, 0o644)}


def test_a_wheel_that_reaches_outside_is_refused(library: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="would be unpacked elsewhere"):
        library.pack([wheel(tmp_path / "a.whl", {"../../etc/cron.d/a": ""})], "abc", tmp_path / "a.tar")


def test_the_key_follows_what_is_locked_and_not_the_comments(library: Any, tmp_path: Path) -> None:
    lock = tmp_path / "target.txt"
    keys = []
    for text in ("# one\na==1 --hash=sha256:1\n", "a==1 --hash=sha256:1\n# two\n", "a==1 --hash=sha256:2\n"):
        lock.write_text(text, encoding="utf-8")
        keys.append(library.key_of(lock))
    assert keys[0] == keys[1] != keys[2]


def test_the_lock_names_one_pure_wheel_for_each_package() -> None:
    lines = [line.strip() for line in (ROOT / "requirements/target.txt").read_text(encoding="utf-8").splitlines()]
    pins = [line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")]
    assert pins == ["certifi", "charset-normalizer", "docker", "idna", "requests", "urllib3"]
    assert sum(line.startswith("--hash=sha256:") for line in lines) == len(pins)


def test_a_data_root_that_holds_only_what_every_first_start_makes_is_not_worth_a_move(tmp_path: Path) -> None:
    for folder in ("buildkit", "containers", "image/overlay2/imagedb/content/sha256", "overlay2/l", "plugins/tmp", "swarm", "volumes"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "volumes/metadata.db").touch()
    assert not docker_engine.used(str(tmp_path))
    for treasure in ("containers/0123", "volumes/mail", "image/overlay2/imagedb/content/sha256/ab"):
        (tmp_path / treasure).mkdir()
        assert docker_engine.used(str(tmp_path)), treasure
        (tmp_path / treasure).rmdir()
    (tmp_path / "swarm/docker-state.json").touch()
    assert docker_engine.used(str(tmp_path))


def answering(found: dict[str, Any]) -> Answers:
    return lambda _method, _path, _body: (200, found)


def test_an_engine_says_whether_containerd_keeps_its_images(tmp_path: Path) -> None:
    # Of Docker 29 and 20.10, as GET /info has it; a client that the SDK made reads it.
    statuses = {"overlayfs": [["driver-type", "io.containerd.snapshotter.v1"]], "overlay2": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]]}
    found = {}
    for driver, status in statuses.items():
        with engine_at(tmp_path / driver, answering({"Driver": driver, "DriverStatus": status, "Containers": 1, "Images": 2})) as client:
            found[driver] = docker_engine.store_in_use(client.info())
    assert found == {"overlayfs": Store("overlayfs", 1, 2), "overlay2": None}


def test_an_engine_at_rest_has_left_where_its_images_are(tmp_path: Path) -> None:
    for name, driver in (("a", "overlay2"), ("b", "overlayfs"), ("c", "")):
        (tmp_path / "containers" / name).mkdir(parents=True)
        (tmp_path / "containers" / name / "config.v2.json").write_text(json.dumps({"Driver": driver}), encoding="utf-8")
    (tmp_path / "image/overlay2").mkdir(parents=True)
    assert docker_engine.store_at_rest(str(tmp_path)) == Store("overlayfs", 1)
    (tmp_path / "containers/b/config.v2.json").unlink()
    assert docker_engine.store_at_rest(str(tmp_path)) is None


def test_names_of_backups_do_not_collide(tmp_path: Path) -> None:
    root = tmp_path / "docker"
    first = docker_engine.backup_name(str(root))
    assert first.startswith(f"{root}.backup-2")
    Path(first).mkdir()
    assert docker_engine.backup_name(str(root)) == f"{first}-2"


def test_the_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "journal.json")
    begun = Pending(old='{"debug": true}', running=False, action="restart", move=Move("/var/lib/docker", "/data/docker", counts={"images": 2}))
    docker_engine.write_journal(begun, path)
    assert docker_engine.read_journal(path) == begun
    assert Path(path).stat().st_mode & 0o777 == 0o600
    Path(path).write_text(json.dumps({"other": 1}), encoding="utf-8")
    with pytest.raises(ResourceError, match="did not write"):
        docker_engine.read_journal(path)


def test_a_copy_is_taken_away_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    copy, beside = tmp_path / "copy", tmp_path / "beside"
    beside.mkdir()
    (beside / "kept").touch()
    (copy / "a/b").mkdir(parents=True)
    (copy / "a/b/file").write_text("x", encoding="utf-8")
    (copy / "link").symlink_to(beside)
    docker_apply._remove_tree(str(copy))
    assert not copy.exists()
    assert (beside / "kept").exists()


def test_a_place_that_is_too_small_is_refused_before_the_engine_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/layer").write_bytes(b"x" * 8192)
    monkeypatch.setattr(docker_apply, "_SPARE", 2**60)
    with pytest.raises(ResourceError, match=r"MiB are free there.*Nothing was changed"):
        docker_apply._check_room(Move(str(tmp_path / "old"), str(tmp_path / "new")))


def test_sizes_count_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 65536)
    alone = docker_apply._size(str(tmp_path))
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert docker_apply._size(str(tmp_path)) == alone > 0


def test_a_command_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    code, words = docker_engine.run(["sleep", "30"], seconds=0.2)
    assert (code, "not done after" in words) == (124, True)
    assert docker_engine.run([str(tmp_path / "none")])[0] == 127
