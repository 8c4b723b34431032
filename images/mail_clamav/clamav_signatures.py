# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the virus scanner knows: its built-in signature, and the official ones with their age."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Optional

DATABASE = Path("/var/lib/clamav")
BUILT_IN = Path("/usr/local/share/clamav/platform.ndb")
OFFICIAL = ("main", "daily", "bytecode")
HEADER_BYTES = 512
STALE_DAYS = 7


def made_at(path: Path) -> Optional[int]:
    """When an official file was made, in seconds since 1970, out of its header (``ClamAV-VDB:<date>:...:<seconds>``). None: not such a file."""
    try:
        with path.open("rb") as file:
            fields = file.read(HEADER_BYTES).decode("latin-1").strip().split(":")
    except OSError:
        return None
    return int(fields[-1]) if fields[0] == "ClamAV-VDB" and fields[-1].isdigit() else None


def official(directory: Path = DATABASE) -> dict[str, int]:
    """The official files that are there: name -> when it was made."""
    found = {}
    for name in OFFICIAL:
        times = [made_at(directory / f"{name}.{kind}") for kind in ("cvd", "cld")]
        known = [one for one in times if one is not None]
        if known:
            found[name] = max(known)
    return found


def state(directory: Path = DATABASE, now: Optional[float] = None) -> str:
    """One line for a log: ``signatures: built-in only ...`` or the age of the official ones."""
    found = official(directory)
    if "daily" not in found:
        return "signatures: built-in only (the EICAR test file); no virus is known until the official ones are fetched"
    days = ((time.time() if now is None else now) - found["daily"]) / 86400
    old = f", older than {STALE_DAYS} days" if days > STALE_DAYS else ""
    return f"signatures: official ones, {days:.1f} days old{old} ({', '.join(sorted(found))})"
