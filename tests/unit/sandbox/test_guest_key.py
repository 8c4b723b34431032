# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key pair of a sandbox's guests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.sandbox.guest_key import ensure_guest_key


def test_a_pair_is_made_once(tmp_path: Path) -> None:
    key = ensure_guest_key(tmp_path / "sandbox")
    first = key.read_text()
    assert ensure_guest_key(key.parent).read_text() == first
    assert key.stat().st_mode & 0o777 == 0o600
    derived = subprocess.run(["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True).stdout
    assert derived.split()[:2] == key.with_suffix(".pub").read_text().split()[:2]


def test_half_a_pair_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "guest_key.new").write_text("half")
    (tmp_path / "guest_key.pub").write_text("of another key")
    key = ensure_guest_key(tmp_path)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True).stdout
    assert derived.split()[:2] == (tmp_path / "guest_key.pub").read_text().split()[:2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["guest_key", "guest_key.pub"]
