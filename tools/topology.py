# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the segments of an inventory, as Mermaid and as SVG: the lab's in docs/, others in .cache/topology/. Needs no host.

``--check`` writes nothing and fails when a file differs from what would be written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.topology import mermaid, svg

from tools._collection import ROOT, read_model, write_or_check

DOCUMENTED = ROOT / "inventories" / "lab"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--inventory", type=Path, default=DOCUMENTED, help="directory of the inventory")
    parser.add_argument("--check", action="store_true", help="fail when a picture is stale, write nothing")
    options = parser.parse_args()
    model = read_model(options.inventory)
    # Not drawn, and an inventory may know it only once its host runs. So it is with guests.
    model.pop("platform_internet_probe", None)
    try:
        platform = parse_platform(model, guests=False)
    except ModelError as error:
        print(f"{options.inventory}: {error}", file=sys.stderr)
        return 1
    # The documents show the lab; pictures of other platforms don't take its place.
    folder = ROOT / "docs" if options.inventory.resolve() == DOCUMENTED else ROOT / ".cache" / "topology" / options.inventory.resolve().name
    files = {folder / "topology.mmd": mermaid(platform), folder / "topology.svg": svg(platform)}
    return write_or_check(files, options.check, f"make topology PLATFORM={options.inventory.resolve().name}")


if __name__ == "__main__":
    sys.exit(main())
