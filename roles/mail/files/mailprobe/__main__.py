# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mailprobe: sends real mail through a server and fetches it again. Exit codes: mailprobe --help."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_errors import INTERRUPTED, USAGE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_report import report, text
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_probe_run import connect, run

from .arguments import options, parse


class Progress:
    """Lines on standard error: each over the one before on a terminal, one below the other elsewhere."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.shown = False

    def __call__(self, line: str) -> None:
        self.shown = True
        print(f"\r\x1b[K{line}" if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.terminal and self.shown:
            print(file=sys.stderr)


def main(argv: Optional[Sequence[str]] = None) -> int:
    given = parse(argv)
    progress = Progress()
    try:
        probe = plan(options(given))
        outcome = connect(probe) if given.connect_only else run(probe, None if given.quiet else progress)
    except ResourceError as error:
        print(f"mailprobe: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("mailprobe: interrupted before the first message", file=sys.stderr)
        return INTERRUPTED
    progress.end()
    told = report(outcome, datetime.now(timezone.utc))
    print(json.dumps(told, indent=1) if given.json else text(told))
    return int(told["exit_code"])


if __name__ == "__main__":
    sys.exit(main())
