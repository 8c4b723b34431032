# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are either the old one or the new one, never half of either."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Optional


def read_text(path: str) -> Optional[str]:
    """The file's text, None when there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write_text(path: str, text: str, mode: int) -> None:
    """Replace ``path`` by ``text`` in one step that survives a power cut: written beside it, flushed, renamed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=str(target.parent), prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink()
        raise


def remove(path: str) -> None:
    """Delete the file; none is fine."""
    Path(path).unlink(missing_ok=True)


def is_file(path: str) -> bool:
    """Whether there is a file, or a link to one. A leading ~ is the home of who runs this."""
    return Path(path).expanduser().is_file()
