# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import libvirt_host


@pytest.fixture
def conn() -> Iterator[Any]:
    """A connection to libvirt's test driver, freshly set up."""
    with libvirt_host() as opened:
        yield opened
