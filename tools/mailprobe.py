# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mail host's command mailprobe, from this checkout: ``python -m tools.mailprobe --help``."""

from __future__ import annotations

import sys

from tools._collection import install_finder


def main() -> int:
    install_finder()
    from roles.mail.files.mailprobe.__main__ import main as probe

    return probe()


if __name__ == "__main__":
    sys.exit(main())
