# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person, the tests and the benchmarks run beside Ansible itself."""

from tools._collection import install_finder

# From here on ``ansible_collections.hybridlab.platform`` is this checkout.
install_finder()
