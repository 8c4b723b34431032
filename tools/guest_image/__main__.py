# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of ``python -m tools.guest_image``."""

from __future__ import annotations

import sys

from tools.guest_image.cli import main

sys.exit(main())
