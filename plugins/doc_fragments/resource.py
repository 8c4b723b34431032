# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What every resource module promises."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what would change, without changing anything.
    support: full
    details:
      - RV(ignore:before), RV(ignore:after), RV(ignore:commands) and the diff are the same as those of the real run that follows.
      - Works on a host on which the software is not installed yet. It then plans as if the host were empty, and warns.
  diff_mode:
    description: Returns what has changed, or would change, when in C(diff_mode).
    support: full
  idempotent:
    description: A second run with the same arguments, and no other change in between, changes nothing.
    support: full
"""
