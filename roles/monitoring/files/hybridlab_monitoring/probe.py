# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How checks look at the host: commands with a time limit, and files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

SECONDS = 20.0
# More than any check needs; a command that writes without end is cut here.
OUTPUT_MAX = 4 * 1024 * 1024
# Where tools stand, also for a unit or a cron job with a shorter PATH.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Output:
    """What a command gave. problem: why there is no result ('docker: not installed'), empty where there is one."""

    code: int
    text: str
    error: str = ""
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem and self.code == 0

    def why(self, program: str) -> str:
        """In one line, why it is not good."""
        words = (self.error.strip() or self.text.strip()).splitlines()
        return self.problem or f"{program} ended with {self.code}: {words[0][:200] if words else 'it said nothing'}"


class Host:
    """The host on which this runs."""

    def now(self) -> float:
        return time.time()

    def cores(self) -> int:
        return os.cpu_count() or 1

    def read(self, path: str) -> Optional[str]:
        """None where there is no such file, or it may not be read."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def changed(self, path: str) -> Optional[float]:
        """When the file was written, in seconds since 1970; None where there is none."""
        try:
            return Path(path).stat().st_mtime
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in Path(folder).iterdir())
        except OSError:
            return []

    def run(self, argv: Sequence[str], seconds: float = SECONDS) -> Output:
        """What ``argv`` writes. It and all that it started are ended after ``seconds``."""
        program = shutil.which(argv[0], path=PATH)
        if program is None:
            return Output(127, "", problem=f"{argv[0]}: not installed")
        environment = {**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8"}
        process = subprocess.Popen(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Output(124, "", problem=f"{argv[0]}: no answer within {seconds:g} seconds")
        return Output(process.returncode, _text(out), _text(err))


def _text(raw: bytes) -> str:
    return raw[:OUTPUT_MAX].decode("utf-8", errors="replace")
