# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of logs: what they may take, and what SELinux has written in them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_monitoring import Journal
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answer, Row, judged

# Searches the log itself: without a terminal it would read its input.
DENIALS = ("ausearch", "--input-logs", "--message", "AVC,USER_AVC", "--start", "boot", "--raw")
# The file and all that overrides it, in the order in which journald reads them.
JOURNAL = ("systemd-analyze", "cat-config", "systemd/journald.conf")


def logrotate(path: str) -> Sequence[str]:
    """Reads the file as a run would, and does nothing."""
    return ("logrotate", "--debug", path)


def rotated(area: str, path: str, answer: Answer) -> Row:
    """Answer to ``logrotate``, which says all it has to say on its standard error."""
    wrong = [line.strip() for line in answer.err.splitlines() if line.startswith("error:")]
    good = answer.rc == 0 and not wrong
    return judged(area, path, "valid", answer, good, "valid" if good else "; ".join(wrong) or answer.why, (0, 1))


def journal(area: str, declared: Journal, answer: Answer) -> Iterator[Row]:
    """Answer to JOURNAL: the last assignment counts."""
    found = dict(line.split("=", 1) for line in answer.lines if "=" in line and not line.startswith(("#", ";")))
    for key, value in (("Storage", "persistent"), ("MaxRetentionSec", f"{declared.days}day"), ("SystemMaxUse", f"{declared.max_mb}M")):
        yield judged(area, f"journal: {key}", value, answer, found.get(key) == value, found.get(key, "not set"))


def denials(area: str, answer: Answer) -> Row:
    """Answer to DENIALS; ausearch ends with 1 where there are none, and also where it cannot search."""
    nothing = answer.rc == 1 and "<no matches>" in answer.out + answer.err
    lines = [line for line in answer.lines if "denied" in line]
    good = (answer.rc == 0 and not lines) or nothing
    found = "none" if good else f"{len(lines)}; the last: {lines[-1]}" if lines else answer.why
    return judged(area, "SELinux: denials since boot", "none", answer, good, found, (0, 1))
