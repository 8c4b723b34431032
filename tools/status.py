# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One screen about each KVM host: means, networks, pools, guests, forwards, and what needs attention."""

from __future__ import annotations

import sys

from tools import state_read, state_report

if __name__ == "__main__":
    sys.exit(state_read.main("status", __doc__, state_report.status, lambda _states: 0))
