# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key pair by which the controller enters the guests of a sandbox. It lives and goes with the sandbox."""

from __future__ import annotations

import subprocess
from pathlib import Path

NEEDS = {"ssh-keygen": "openssh-client"}


def ensure_guest_key(directory: Path) -> Path:
    """``guest_key`` (mode 0600) and ``guest_key.pub`` in ``directory``, made where one of them is missing; returns the first."""
    key, public = directory / "guest_key", directory / "guest_key.pub"
    if key.exists() and public.exists():
        return key
    scratch = directory / "guest_key.new"
    for path in (scratch, directory / "guest_key.new.pub"):
        path.unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "guests of the sandbox", "-f", str(scratch)], check=True)
    # The private half last: without it the pair is made anew.
    (directory / "guest_key.new.pub").replace(public)
    scratch.replace(key)
    return key
