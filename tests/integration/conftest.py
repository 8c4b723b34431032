# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.lab import Lab, fresh


@pytest.fixture(scope="module")
def bare_host() -> Iterator[Lab]:
    """A host on which nothing was done yet; shared by the tests of one module, which run in order."""
    with fresh("bare") as lab:
        yield lab


@pytest.fixture(scope="module")
def built_host() -> Iterator[Lab]:
    """A host on which site.yml was run; shared by the tests of one module."""
    with fresh("built") as lab:
        lab.played("site.yml")
        yield lab
