# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The noun platform_monitoring as typed values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Monitoring:
    """What platform_monitoring describes."""
