# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the integration tests. Each is removed at the end, whatever became of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.lab import Lab


@pytest.fixture(scope="module")
def bare_host() -> Iterator[Lab]:
    """A host on which nothing was done yet; shared by the tests of one module, which run in order."""
    lab = Lab("lifecycle")
    lab.down()
    lab.up()
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def built_host() -> Iterator[Lab]:
    """A host on which site.yml was run."""
    lab = Lab("faults")
    lab.down()
    lab.up()
    try:
        lab.played("site.yml")
        yield lab
    finally:
        lab.down()
