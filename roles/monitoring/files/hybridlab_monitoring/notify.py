# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hybridlab-notify: tell a person what happened, by webhook and mail.

hybridlab-notify --event KIND --subject TEXT [--severity S] [--key K] <body
hybridlab-notify --unit NAME       a unit of systemd failed; its last journal lines are the body
hybridlab-notify --test            one message to each channel
hybridlab-notify --flush           deliver what waits
hybridlab-notify --check FILE      whether the settings in FILE are usable

Ends with 0 when the message was delivered, kept for later or held back by the limits; --test with 1 when a channel did not take it; 2 for wrong use.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import sys
import time
from collections.abc import Sequence
from typing import Optional

from .courier import Courier, tell
from .message import BODY_MAX, CRITICAL, SEVERITIES, WARNING, is_event, unit_event
from .probe import Host
from .settings import SETTINGS, SettingsError, load

USAGE_ERROR = 2
# A caller that never closes its end must not hang us.
STDIN_SECONDS = 5.0
JOURNAL_LINES = 25


def main(argv: Optional[Sequence[str]] = None) -> int:
    arguments = _arguments(argv)
    try:
        settings = load(arguments.check or arguments.settings)
        if arguments.check:
            return 0
        courier = Courier(settings)
        if arguments.test:
            return 0 if courier.test() else 1
        if arguments.flush:
            courier.flush()
        elif arguments.unit:
            unit_failed(courier, Host(), arguments.unit)
        else:
            message = courier.message(arguments.event, arguments.severity, arguments.subject, stdin_text(), arguments.key)
            courier.send(message)
        return 0
    except SettingsError as error:
        tell(str(error))
        return USAGE_ERROR
    except OSError as error:
        tell(f"the message can't be kept: {error.strerror}: {error.filename}. Run this as root")
        return 1


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hybridlab-notify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--event", help="kind of event: small letters, digits and '-', such as ban or backup")
    parser.add_argument("--subject", help="what happened, in one line")
    parser.add_argument("--severity", choices=SEVERITIES, default=WARNING)
    parser.add_argument("--key", default="", help="what makes two messages the same one; the subject when left out")
    parser.add_argument("--unit", help="a failed unit")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--flush", action="store_true")
    parser.add_argument("--check", metavar="FILE")
    parser.add_argument("--settings", default=SETTINGS)
    found = parser.parse_args(argv)
    verbs = [found.unit, found.test, found.flush, found.check, found.event]
    if sum(1 for verb in verbs if verb) != 1:
        parser.error("give one of --event, --unit, --test, --flush and --check")
    if found.event and not is_event(found.event):
        parser.error("--event: use 1 to 40 of a-z, 0-9 and '-', the first no '-'")
    if found.event and not (found.subject or "").strip():
        parser.error("--subject must be given with --event")
    return found


def stdin_text(seconds: float = STDIN_SECONDS, most: int = 4 * BODY_MAX) -> str:
    """What the caller writes, at most ``most`` bytes of it, and not longer than ``seconds``; nothing from a terminal."""
    try:
        handle = sys.stdin.fileno()
        if os.isatty(handle):
            return ""
        found, until = b"", time.monotonic() + seconds
        while len(found) < most and select.select([handle], [], [], max(0.0, until - time.monotonic()))[0]:
            part = os.read(handle, 65536)
            if not part:
                break
            found += part
    except (OSError, ValueError, AttributeError):  # closed
        return ""
    return found[:most].decode("utf-8", errors="replace")


def unit_failed(courier: Courier, host: Host, unit: str) -> None:
    """Tell of a failed unit, with how it ended and the last lines of its journal."""
    shown = host.run(["systemctl", "show", "--property=Result,ExecMainStatus", "--", unit])
    state = dict(re.findall(r"^(\w+)=(.*)$", shown.text, re.MULTILINE))
    how = f" ({state['Result']}, status {state.get('ExecMainStatus', '?')})" if state.get("Result") else ""
    lines = host.run(["journalctl", f"--unit={unit}", f"--lines={JOURNAL_LINES}", "--no-pager", "--quiet", "--output=short-iso", "--no-hostname"])
    body = lines.text if lines.good else f"The journal can't be read: {lines.why('journalctl')}"
    courier.send(courier.message(unit_event(unit), CRITICAL, f"{unit} has failed{how}", body, key=unit))
