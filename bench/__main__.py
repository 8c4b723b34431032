# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the rows and prints a line for each:

``bench <name> ours=<value> peer=<value> ratio=<ours/peer> goal=<g> ok|missed``

A missed goal is printed and the exit code stays 0: a benchmark measures, it is no test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Callable

from bench import compiler, guests, segments, workloads
from bench.row import Row

GROUPS: dict[str, Callable[[], Iterable[Row]]] = {"segments": segments.rows, "guests": guests.rows, "workloads": workloads.rows, "compiler": compiler.rows}


def main() -> int:
    names = {
        **dict.fromkeys(segments.NAMES, "segments"),
        **dict.fromkeys(guests.NAMES, "guests"),
        **dict.fromkeys(workloads.NAMES, "workloads"),
        **dict.fromkeys(compiler.NAMES, "compiler"),
    }
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--row", default="all", choices=["all", *names], help="one row alone (rows of one group are measured together)")
    wanted = parser.parse_args().row
    for group in [names[wanted]] if wanted != "all" else GROUPS:
        for row in GROUPS[group]():
            if wanted in ("all", row.name):
                print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
