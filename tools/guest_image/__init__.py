# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images that guests boot from, made of Debian's packages on this machine."""

from __future__ import annotations

from tools.guest_image.images import ensure

__all__ = ["ensure"]
