# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands where ansible-test would put a downloaded pip bootstrap; takes the pip that Python itself carries."""

from __future__ import annotations

import subprocess
import sys

# Options of the download's bootstrap that pip itself does not know.
BOOTSTRAP_ONLY = {"--no-setuptools", "--no-wheel"}


def main() -> None:
    # In a process of its own: ensurepip would otherwise leave its half-imported pip behind.
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
    wanted = [argument for argument in sys.argv[1:] if argument not in BOOTSTRAP_ONLY]
    if wanted:
        subprocess.run([sys.executable, "-m", "pip", "install", *wanted], check=True)


if __name__ == "__main__":
    main()
