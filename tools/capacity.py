# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The use of each KVM host's means against the policy. Ends with 1 when something is over its limit."""

from __future__ import annotations

import sys

from tools import state_read, state_report

if __name__ == "__main__":
    sys.exit(state_read.main("capacity", __doc__, state_report.capacity, lambda states: int(any(state_report.excesses(state) for state in states.values()))))
