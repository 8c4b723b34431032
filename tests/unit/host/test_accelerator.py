# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe's verdict, whatever becomes of the process that tries. Whether this machine has a KVM that works is not the tests' business."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.host import accelerator, guests
from ansible_collections.hybridlab.platform.plugins.module_utils.host.accelerator import kvm_works
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guests import choose_accelerator


@pytest.fixture
def device(tmp_path: Path) -> str:
    """A file that can be opened, and is no KVM."""
    path = tmp_path / "kvm"
    path.touch()
    return str(path)


def no_child_is_left() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_a_device_that_is_not_there_or_is_another_one(tmp_path: Path, device: str) -> None:
    for path in (str(tmp_path / "none"), device, "/dev/null", str(tmp_path)):
        assert kvm_works(path) is False
    assert no_child_is_left()


def hang(_device: str) -> bool:
    time.sleep(60)
    return True


def die(_device: str) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def fail(_device: str) -> bool:
    raise MemoryError


@pytest.mark.parametrize(
    ("outcome", "works"),
    [(lambda _device: True, True), (lambda _device: False, False), (die, False), (fail, False), (hang, False)],
    ids=["halts", "other exit", "dies", "fails", "hangs"],
)
def test_only_a_processor_that_halts_is_one(monkeypatch: pytest.MonkeyPatch, device: str, outcome: object, works: bool) -> None:
    monkeypatch.setattr(accelerator, "_halts", outcome)
    monkeypatch.setattr(accelerator, "_LIMIT_S", 0.5)
    began = time.monotonic()
    assert kvm_works(device) is works
    assert time.monotonic() - began < 5
    assert no_child_is_left()


def test_what_was_chosen_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []

    def probe() -> bool:
        tried.append(True)
        return False

    monkeypatch.setattr(guests, "kvm_works", probe)
    assert (choose_accelerator("kvm"), choose_accelerator("qemu"), tried) == ("kvm", "qemu", [])
    assert (choose_accelerator("auto"), tried) == ("qemu", [True])


def test_the_real_device_is_judged_within_its_time() -> None:
    began = time.monotonic()
    kvm_works()
    assert time.monotonic() - began < 10
    assert no_child_is_left()
