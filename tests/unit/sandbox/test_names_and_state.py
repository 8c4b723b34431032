# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names follow from the checkout alone; the state survives whatever the process does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.sandbox.errors import SandboxError
from tools.sandbox.names import CHECKOUT, RUN_ROOT, Identity, Settings, checked_name
from tools.sandbox.state import HostState, Store, only_one, write_atomically


def test_the_identity_is_the_checkout_s_and_nobody_else_s(tmp_path: Path) -> None:
    assert Identity.of(tmp_path / "a") == Identity.of(tmp_path / "a")
    assert Identity.of(tmp_path / "a").id != Identity.of(tmp_path / "b").id


def test_names_fit_the_kernel() -> None:
    identity = Identity.of(Path("/" + "long/" * 60))
    for name in (identity.link, identity.peer, identity.bridge):
        assert len(name) <= 15
    assert len(str(RUN_ROOT / identity.id / "exec/containerd/containerd.sock.ttrpc")) < 108


@pytest.mark.parametrize("name", ["internet", "", "Host", "1st", "a_b", "-a", "a-", "x" * 33, "a b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(SandboxError, match="name"):
        checked_name(name)


@pytest.mark.parametrize("name", ["host", "h", "test-2", "x" * 32])
def test_good_names_pass(name: str) -> None:
    assert checked_name(name) == name


def test_settings_come_from_the_environment() -> None:
    assert Settings.read({}) == Settings()
    read = Settings.read({"HYBRIDLAB_SANDBOX_DNS": "192.0.2.1, 192.0.2.2", "HYBRIDLAB_BOOT_SECONDS": "30", "HYBRIDLAB_SANDBOX_ENGINE": ""})
    assert read == Settings(dns=("192.0.2.1", "192.0.2.2"), boot_seconds=30)
    with pytest.raises(SandboxError, match="HYBRIDLAB_BOOT_SECONDS is 'soon'"):
        Settings.read({"HYBRIDLAB_BOOT_SECONDS": "soon"})


def test_the_state_comes_back_as_it_was_saved(identity: Identity) -> None:
    store = Store(identity)
    store.state.engine = "own"
    store.state.hosts["two"] = HostState("203.0.113.3", "base", True)
    store.save()
    assert Store(identity).state == store.state


@pytest.mark.parametrize("text", ["{", "[]", '{"unknown": 1}', '{"hosts": {"a": {}}}'])
def test_a_spoilt_state_names_the_file_and_the_cure(identity: Identity, text: str) -> None:
    write_atomically(identity.state_dir / "state.json", text)
    with pytest.raises(SandboxError, match=r"state.json cannot be read.*Remove that file"):
        Store(identity)


def test_two_runs_of_one_checkout_wait_for_each_other(identity: Identity) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from tools.sandbox.names import Identity; from tools.sandbox.state import only_one\n"
            f"with only_one(Identity('{identity.id}', Path('{identity.cache}'))): print('held', flush=True); sys.stdin.read()",
        ],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(SandboxError, match="another run"), only_one(identity, wait_seconds=0):
        pass
    holder.kill()
    holder.wait()
    with only_one(identity, wait_seconds=5):
        assert identity.cache.is_dir()
