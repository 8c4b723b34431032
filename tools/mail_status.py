# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the mail system of each host is: containers, queue, certificate, signatures, and the fullest mailboxes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools import mail_read

GOOD = "(healthy)"


def screen(told: Mapping[str, Any]) -> str:
    """What ``mailctl status --json`` says, for a person."""
    lines = [*_table([(one["name"], one["state"]) for one in told["containers"]] or [("containers", "none runs")]), ""]
    lines += _table([("queue", _queue(told["queue"])), ("certificate", _certificate(told["certificate"])), ("signatures", _signatures(told["signatures"]))])
    quota = told["quota"]
    if isinstance(quota, str):
        return "\n".join([*lines, f"quota  {quota}"])
    rows = [(one["mailbox"], f"{one['used_mb']} MiB", f"of {one['limit_mb']}", f"{one['percent']} %") for one in quota]
    return "\n".join([*lines, "", *_table(rows)])


def well(told: Mapping[str, Any]) -> bool:
    """Whether all containers are healthy, and everything could be read."""
    return bool(told["containers"]) and all(one["state"].endswith(GOOD) for one in told["containers"]) and not any(isinstance(v, str) for v in told.values())


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _queue(told: Any) -> str:
    if isinstance(told, str):
        return told
    if not told["count"]:
        return "empty"
    first = f"; most: {told['reasons'][0]['reason']}" if told["reasons"] else ""
    return f"{told['count']} messages, the oldest waits for {told['oldest_seconds'] // 60} min{first}"


def _certificate(told: Any) -> str:
    return told if isinstance(told, str) else f"{told['days']} days left, until {told['until']}"


def _signatures(told: Any) -> str:
    if told is None:
        return "mail is not scanned for viruses"
    if isinstance(told, str):
        return told
    return ", ".join(f"{one['file']} {one['days']} days old" for one in told) or "none of the scanner's own"


def main() -> int:
    options = mail_read.parser("mail_status", __doc__ or "").parse_args()
    try:
        found = {host: json.loads(text) for host, text in mail_read.results("playbooks/mail_status.yml", "Ask mailctl", "stdout", options).items()}
    except LookupError as error:
        print(f"mail_status: {error.args[0]}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=2) if options.json else "\n\n".join(f"{host}\n{screen(told)}" for host, told in found.items()))
    return 0 if all(well(told) for told in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
