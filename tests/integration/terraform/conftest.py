# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects these tests only where there is a terraform, and says so where there is none.

Without it the unit tests still parse every file and hold it against the same schemas.
"""

from __future__ import annotations

from tests.integration.terraform.terraform_run import binary

collect_ignore = [] if binary() else ["test_terraform.py"]


def pytest_report_header() -> str:
    return f"terraform: {binary() or 'none on this machine (set HYBRIDLAB_TERRAFORM or PATH): the plan of an export is not tested here'}"
