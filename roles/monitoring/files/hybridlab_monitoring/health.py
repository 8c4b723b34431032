# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hybridlab-health: look at the host and say what is wrong with it.

hybridlab-health daily|weekly|all [--format text|json|prometheus] [--textfile PATH] [--notify]
hybridlab-health watch    the cheap checks; changes since the last run are notified, and what waits to be sent is sent; only faults are printed

Ends with 0 when all is well, 1 for a warning or something that is not known, 2 for something critical, 3 when nothing could be checked.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Optional

from .courier import Courier
from .message import CRITICAL, INFO, WARNING
from .metrics import exposition, health_metrics, write_atomically
from .model import Check, exit_code
from .probe import Host
from .report import as_json, as_text, counted, faults, rows
from .settings import SETTINGS, SettingsError, load
from .suites import SUITES, examine
from .watch import watch

FORMATS = ("text", "json", "prometheus")
NOT_CHECKED = 3


def main(argv: Optional[Sequence[str]] = None, host: Optional[Host] = None) -> int:
    parser = argparse.ArgumentParser(prog="hybridlab-health", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=tuple(SUITES), metavar="|".join(SUITES))
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--textfile", metavar="PATH", help="write the metrics there too, for the textfile collector of node_exporter; PATH ends in .prom")
    parser.add_argument("--notify", action="store_true", help="send the faults, if there are any; of the weekly checks always send all")
    parser.add_argument("--settings", default=SETTINGS)
    arguments = parser.parse_args(argv)
    if arguments.textfile and not arguments.textfile.endswith(".prom"):
        parser.error("--textfile: node_exporter reads only files that end in .prom")
    try:
        return _run(arguments, host or Host())
    except SettingsError as error:
        sys.stderr.write(f"hybridlab-health: {error}\n")
    except OSError as error:
        sys.stderr.write(f"hybridlab-health: {error.strerror}: {error.filename}. Run this as root\n")
    except Exception:  # whatever it is, its code 1 would be taken for a warning about the host
        sys.stderr.write(traceback.format_exc())
    return NOT_CHECKED


def _run(arguments: argparse.Namespace, host: Host) -> int:
    settings = load(arguments.settings)
    began = time.monotonic()
    checks = examine(host, settings, arguments.suite)
    finished = host.now()
    metrics = exposition(health_metrics(checks, finished, time.monotonic() - began), arguments.suite)
    if arguments.textfile:
        write_atomically(arguments.textfile, metrics, 0o644)
    if arguments.suite == "watch":
        courier = Courier(settings)
        watch(courier, checks, f"{settings.state}/monitoring/watch.json")
        courier.flush()
    elif arguments.notify:
        send_report(Courier(settings), checks, arguments.suite)
    shown = faults(checks) if arguments.suite == "watch" else checks
    text = {
        "text": lambda: as_text(shown, settings.host, arguments.suite, finished),
        "json": lambda: as_json(checks, settings.host, arguments.suite, finished),
        "prometheus": lambda: metrics,
    }[arguments.format]()
    sys.stdout.write(text)
    return exit_code(checks)


def send_report(courier: Courier, checks: Sequence[Check], suite: str) -> None:
    """The faults as one message. A week's report comes in any case: its absence tells that nobody looks."""
    code = exit_code(checks)
    if code or suite == "weekly":
        severity = (INFO, WARNING, CRITICAL)[code]
        body = rows(checks if suite == "weekly" else faults(checks))
        courier.send(courier.message(f"report-{suite}", severity, f"{suite} checks: {counted(checks)}", body))
