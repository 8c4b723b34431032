# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the backup tool's tests."""

from __future__ import annotations

from ansible_collections.hybridlab.platform.tests.unit.backup.backup_host import host

__all__ = ["host"]
