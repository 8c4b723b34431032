# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An identity of its own for each test, so that no test touches a sandbox that is up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.sandbox.names import Identity


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    own = Identity.of(tmp_path / "checkout")
    return Identity(own.id, own.cache, tmp_path / "run", tmp_path / "tmp")
