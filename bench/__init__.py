# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ours against the named peers, both in one run on one host. Ratios count; seconds depend on the machine."""

from tools._collection import install_finder

install_finder()
