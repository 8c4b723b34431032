# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to stand in the DNS of the mail domains, as text to add to each zone: on standard output, or as a file for each zone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools import mail_read


def write(zones: Mapping[str, str], folder: Path) -> list[Path]:
    """A file <zone>.zone for each."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"{name}.zone" for name in zones]
    for path, text in zip(made, zones.values(), strict=True):
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    return made


def main() -> int:
    parser = mail_read.parser("mail_dns", __doc__ or "")
    parser.add_argument("--ipv4", default="", help="address by which the Internet reaches the mail host")
    parser.add_argument("--ipv6", default="", help="the same")
    parser.add_argument("-o", "--output", default="", help="directory for a file of each zone")
    options = parser.parse_args()
    addresses = {kind: value for kind, value in (("ipv4", options.ipv4), ("ipv6", options.ipv6)) if value}
    try:
        given = ("-e", json.dumps({"mail_addresses": addresses}))
        found: Mapping[str, Any] = mail_read.results("playbooks/mail_dns.yml", "Write the zones", "msg", options, *given)
    except LookupError as error:
        print(f"mail_dns: {error.args[0]}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, indent=2))
    elif options.output:
        for host, sheet in found.items():
            folder = Path(options.output) / host if len(found) > 1 else Path(options.output)
            print("\n".join(f"wrote {path}" for path in write(sheet["zones"], folder)))
    else:
        print("\n".join(text for sheet in found.values() for text in sheet["zones"].values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
