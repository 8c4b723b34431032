# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.lab import Lab, fresh

# Files are handed out in this order, so that the workers end together: the longest first, and those not named here after them.
LONGEST_FIRST = (
    "test_mail",
    "test_mail_operation",
    "test_mail_judges",
    "test_mail_scan_real",
    "test_faults",
    "test_guest_faults",
    "test_published_ports",
    "test_docker_engine",
    "test_workloads",
    "test_host_security",
    "test_killed_runs",
    "test_guests",
    "test_guest_kinds",
    "test_lifecycle",
    "test_sandbox",
    "test_guest_limits",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return LONGEST_FIRST.index(item.path.stem) if item.path.stem in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)


def topic(request: pytest.FixtureRequest) -> str:
    """What a module is about; modules run side by side, each on hosts of its own."""
    return str(request.module.__name__.rpartition("test_")[2]).replace("_", "-")


@pytest.fixture(scope="module")
def bare_host(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A host on which nothing was done yet; shared by the tests of one module, which run in order."""
    with fresh(f"bare-{topic(request)}") as lab:
        yield lab


@pytest.fixture(scope="module")
def built_host(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A host on which site.yml was run; shared by the tests of one module."""
    with fresh(f"built-{topic(request)}") as lab:
        lab.played("site.yml")
        yield lab
