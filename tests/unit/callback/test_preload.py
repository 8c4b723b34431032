# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is loaded before the first task, and what is kept for the next run: real runs on this machine, and the store on real files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.plugins.plugin_utils import built_modules

CHECKOUT = Path(__file__).resolve().parents[3]
PING = "ansible.modules.ping-ZIP_DEFLATED-none"
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
    - ansible.builtin.debug:
        msg: "{{ lookup('ansible.builtin.pipe', 'true') }}"
"""


def run(folder: Path, *options: str, **environment: str) -> str:
    """The output of a run on this machine, whose caches lie in ``folder``."""
    (folder / "play.yml").write_text(PLAY, encoding="utf-8")
    (folder / "ansible.cfg").write_text(
        f"[defaults]\ncollections_path = {CHECKOUT / 'collections'}\nlocal_tmp = {folder}/ansible/tmp\ncallbacks_enabled = hybridlab.platform.preload\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "play.yml", "-i", "localhost,", "-c", "local", *options],
        cwd=folder,
        env={**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def kept(folder: Path) -> dict[str, int]:
    """Name -> inode of each file in the store of that folder's runs."""
    return {path.name: path.stat().st_ino for path in (folder / "ansible/built-modules").glob("*/*")}


def test_a_module_is_built_once_and_kept_for_the_next_run(tmp_path: Path) -> None:
    options = ("-e", f"ansible_python_interpreter={sys.executable}")
    first = run(tmp_path, *options, ANSIBLE_DEBUG="1")
    assert "ANSIBALLZ: Creating module" in first
    store = kept(tmp_path)
    assert list(store) == [PING]

    second = run(tmp_path, *options, ANSIBLE_DEBUG="1")
    assert "ANSIBALLZ: Creating module" not in second
    assert "ANSIBALLZ: using cached module" in second
    assert kept(tmp_path) == store
    assert "WARNING" not in run(tmp_path, *options)


def test_modules_of_a_playbook_of_its_own_module_utils_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "utils").mkdir()
    run(tmp_path, "-e", f"ansible_python_interpreter={sys.executable}", ANSIBLE_MODULE_UTILS=str(tmp_path / "utils"))
    assert kept(tmp_path) == {}


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    for part in ("modules", "module_utils/core"):
        (tmp_path / "plugins" / part).mkdir(parents=True)
    (tmp_path / "plugins/module_utils/core/rules.py").write_text("RULES = 1\n", encoding="ascii")
    return tmp_path / "plugins"


def test_the_key_changes_with_every_edit(plugins: Path) -> None:
    def key() -> str:
        return built_modules.key("2.19.0", Path("/ansible"), plugins)

    found = [key()]
    assert key() == found[0]
    rules = plugins / "module_utils/core/rules.py"
    rules.write_text("RULES = 23\n", encoding="ascii")
    found.append(key())
    os.utime(rules, ns=(0, 0))
    found.append(key())
    (plugins / "modules/new.py").write_text("", encoding="ascii")
    found.append(key())
    rules.unlink()
    found += [key(), built_modules.key("2.19.1", Path("/ansible"), plugins), built_modules.key("2.19.0", Path("/other"), plugins)]
    assert len(set(found)) == len(found)


def test_only_whole_archives_of_covered_modules_go_into_the_store(tmp_path: Path) -> None:
    work, store = tmp_path / "work", tmp_path / "stores" / "key"
    work.mkdir()
    ours = "ansible_collections.hybridlab.platform.plugins.modules.reachability-ZIP_DEFLATED-none"
    for name in (
        PING,
        ours,
        f"{PING}.lock",
        f"{PING}-part",
        "ansible.legacy.own-ZIP_DEFLATED-none",
        "ansible_collections.x.y.plugins.modules.z-ZIP_STORED-none",
    ):
        (work / name).write_text(name, encoding="ascii")
    built_modules.keep(work, store)
    assert sorted(path.name for path in store.iterdir()) == sorted([PING, ours])

    other = tmp_path / "other"
    built_modules.bring(store, other)
    assert (other / PING).read_text(encoding="ascii") == PING
    # A run that finds its own directory as it should be leaves the store's file alone.
    built_modules.keep(other, store)
    assert (store / PING).stat().st_nlink == 3


def test_a_store_that_was_not_used_for_a_week_goes(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name, days in (("old", 8), ("recent", 6), ("current", 9)):
        store = tmp_path / "stores" / name
        store.mkdir(parents=True)
        os.utime(store, (time.time() - days * 86400,) * 2)
    built_modules.keep(work, tmp_path / "stores" / "current")
    assert sorted(path.name for path in (tmp_path / "stores").iterdir()) == ["current", "recent"]


def test_without_a_store_a_run_begins_with_nothing(tmp_path: Path) -> None:
    built_modules.bring(tmp_path / "none", tmp_path / "work")
    assert not (tmp_path / "work").exists()
    built_modules.keep(tmp_path / "work", tmp_path / "none")
    assert not (tmp_path / "none").exists()
