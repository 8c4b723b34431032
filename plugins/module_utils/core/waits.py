# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is judged and said while a guest comes up: leases, console logs, cloud-init's results. No I/O."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.cloud_init import DONE, FAILED

GOALS = ("address", "ssh", "agent", "cloud_init")
MOST_LINES = 15  # of a log in a message

# A lease without a time of its own: dnsmasq's default is an hour (dnsmasq(8), --dhcp-range).
_DEFAULT_LEASE = 3600.0
_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}

# Terminal control: CSI, OSC, character sets, two-character sequences (ECMA-48), and then what else is unprintable.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[0-~])")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SECRET = re.compile(r"(?i)((?:password|passwd|passphrase|secret|token)['\"]?\s*[:=]\s*)\S+")

# The default final_message of cloud-init, in images whose user data is not ours.
_FINISHED = re.compile(r"Cloud-init v\. \S+ finished at")
# What cloud-init 22 to 25 and systemd write where a module or a stage fails.
_BROKEN = re.compile(
    r"\.py\[(?:ERROR|CRITICAL)\]|Running module .* failed|Failed to run module|\[FAILED\].*[Cc]loud-(?:config|final|init)|Failed loading yaml blob"
)
_TELLING = re.compile(_BROKEN.pattern + r"|\.py\[WARNING\]|Traceback \(most recent call last\)|cloud-init\[\d+\]:.*(?:[Ee]rror|E: )")


@dataclass(frozen=True)
class CloudInit:
    """How cloud-init stands. state: unknown (nothing says so yet), done, failed. lines: what it says of its errors, at most MOST_LINES."""

    state: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """How far a guest came.

    goal:     one of GOALS
    limit:    seconds that were allowed
    uri:      of libvirt, for the commands that are named
    address:  where it is, proven; None as long as nothing proves it. ``proof`` in words, such as ``lease``
    expected: the address that it should take; None for one that is leased from the range
    missing:  what its address was looked for by, in words
    trouble:  the last obstacle on the way from an address to the goal, in words
    ended:    how it ended, when it no longer runs, in words
    console:  last lines of its console
    """

    name: str
    goal: str
    limit: float
    uri: str
    console_log: Optional[str] = None
    address: Optional[str] = None
    proof: str = ""
    expected: Optional[str] = None
    missing: tuple[str, ...] = ()
    trouble: str = ""
    ended: str = ""
    console: tuple[str, ...] = ()


def printable(text: str) -> list[str]:
    """The lines of a terminal's output as a person saw them: without control sequences, overwritten text, empty lines and what looks like a secret."""
    lines = []
    for line in _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n"):
        seen = [part for part in line.split("\r") if part.strip()]
        if seen:
            lines.append(_SECRET.sub(r"\1***", _UNPRINTABLE.sub("", seen[-1])).rstrip())
    return [line for line in lines if line.strip()]


def last_lines(text: str, count: int = 5) -> tuple[str, ...]:
    return tuple(printable(text)[-count:])


def judge_console(text: str) -> CloudInit:
    """What a console's log says of cloud-init; the last word counts, because a guest that rebooted has several."""
    lines = printable(text)
    for position in range(len(lines) - 1, -1, -1):
        line = lines[position]
        if DONE in line:
            return CloudInit("done")
        if FAILED in line:
            return judge_result(line.split(FAILED, 1)[1], "\n".join(_telling(lines[:position])))
        if _FINISHED.search(line):
            broken = any(_BROKEN.search(earlier) for earlier in lines[:position])
            return CloudInit("failed", _shortened(_telling(lines[:position]))) if broken else CloudInit("done")
    return CloudInit("unknown", _shortened(_telling(lines)))


def judge_result(text: str, log: str = "") -> CloudInit:
    """What cloud-init's result.json says (docs.cloud-init.io: ``{"v1": {"datasource": ..., "errors": [...]}}``). log: telling lines of its logs."""
    try:
        errors = json.loads(text)["v1"]["errors"]
    except (ValueError, KeyError, TypeError):
        return _failed([f"its result cannot be read: {' '.join(printable(text)) or 'empty'}"], log)
    if not errors:
        return CloudInit("done")
    return _failed([line for error in errors for line in printable(str(error))], log)


def _failed(errors: Sequence[str], log: str) -> CloudInit:
    """The errors first; of the log the last lines for which there is room."""
    named = list(dict.fromkeys(errors))[:MOST_LINES]
    rest = [line for line in _shortened(printable(log)) if line not in named]
    return CloudInit("failed", (*named, *rest[len(rest) - min(len(rest), MOST_LINES - len(named)) :]))


def lease_seconds(network_xml: str, mac: str) -> float:
    """How long a lease for ``mac`` lasts in a libvirt network; infinite where it never expires. The longest of several that are possible."""
    root = ET.fromstring(network_xml)
    own = [host for host in root.iterfind("ip/dhcp/host") if host.get("mac", "").lower() == mac and host.find("lease") is not None]
    return max((_seconds(entry.find("lease")) for entry in own or root.iterfind("ip/dhcp/range")), default=_DEFAULT_LEASE)


def is_new_lease(expiry: int, seconds: float, since: float) -> bool:
    """Whether a lease was given or renewed since a time (epoch). False when that cannot be told.

    Leases outlive the guest that took them, so an old one proves nothing. A client may have asked for a shorter time than the
    network's: such a lease looks older than it is, and another proof must be found. dnsmasq counts in whole seconds.
    """
    return expiry > 0 and not math.isinf(seconds) and expiry - seconds >= math.floor(since)


def explain(progress: Progress) -> str:
    """Why the wait failed and how far the guest came, with where to look."""
    if progress.ended:
        what = f"{progress.ended} before wait_for: {progress.goal} was reached{_stood(progress)}"
    elif not progress.address and not progress.trouble and progress.goal in ("address", "ssh"):
        at = f" (expected: {progress.expected})" if progress.expected else ""
        what = f"it runs, but has no address{at} after {progress.limit:g} s: {'; '.join(progress.missing) or 'nothing told one'}"
    else:
        what = f"wait_for: {progress.goal} was not reached within {progress.limit:g} s: {progress.trouble or 'it runs'}{_stood(progress)}"
    console = f" Its console's last lines: {_joined(progress.console)}." if progress.console else ""
    return f"guest {progress.name}: {what}.{console} {look(progress)}"


def explain_cloud_init(progress: Progress, verdict: CloudInit) -> str:
    """cloud-init came to an end, and that is the failure."""
    lines = _joined(verdict.lines) or "it names none"
    return (
        f"guest {progress.name}: cloud-init ended with errors: {lines}. {look(progress)} In the guest: `cloud-init status --long` and "
        "/var/log/cloud-init-output.log. Correct cloud-init's data (users, packages, commands, user_data) and make the guest anew, or repair it by hand."
    )


def look(progress: Progress) -> str:
    """Where a person sees more."""
    log = f"; its log is {progress.console_log}" if progress.console_log else ""
    return f"Look: `virsh -c {progress.uri} console {progress.name}` (end with Ctrl-]){log}."


def _stood(progress: Progress) -> str:
    return f" (it has {progress.proof} {progress.address})" if progress.address else ""


def _joined(lines: Iterable[str]) -> str:
    return " | ".join(line.strip() for line in lines)


def _telling(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if _TELLING.search(line)]


def _shortened(lines: Iterable[str]) -> tuple[str, ...]:
    """The last ones, each once, in order."""
    return tuple(dict.fromkeys(line.strip() for line in lines))[-MOST_LINES:]


def _seconds(lease: Optional[ET.Element]) -> float:
    """<lease expiry unit>: minutes without a unit, 0 for one that never expires (libvirt.org/formatnetwork.html)."""
    if lease is None:
        return _DEFAULT_LEASE
    return int(lease.get("expiry", "0")) * _UNITS[lease.get("unit", "minutes")] or math.inf
