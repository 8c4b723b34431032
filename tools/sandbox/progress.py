# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long steps tell how long they take: in place on a terminal, else a line now and then."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Optional

from tools.sandbox.errors import SandboxError

LINE_EVERY_S = 10.0
PR_SET_PDEATHSIG = 1  # prctl(2)


class Step:
    """``with Step("base image"): ...`` prints the step's name, its elapsed seconds, and ``done`` or ``failed``."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._begin = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._tty = sys.stderr.isatty()

    def __enter__(self) -> Step:
        self._begin = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self._over.set()
        self._thread.join()
        end = "\n" if not self._tty else "\033[K\n"
        start = "\r" if self._tty else ""
        sys.stderr.write(f"{start}{self.what}: {'failed after' if kind else 'done in'} {self.seconds:.1f} s{end}")
        sys.stderr.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def _tell(self) -> None:
        while not self._over.wait(1.0 if self._tty else LINE_EVERY_S):
            sys.stderr.write(f"\r{self.what}: {self.seconds:.0f} s\033[K" if self._tty else f"{self.what}: {self.seconds:.0f} s so far\n")
            sys.stderr.flush()


def die_with_parent() -> None:
    """In a child, before exec: a killed parent takes it along, so no orphan goes on writing."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def tail(log: Path, lines: int = 20) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in text[-lines:])


def run_logged(argv: Sequence[str], log: Path, cure: str, env: Optional[Mapping[str, str]] = None) -> None:
    """Runs a long command with its output in ``log``; on failure the error shows the log's last lines and its path."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        stream.write(f"$ {' '.join(argv)}\n")
        stream.flush()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait(30)
            raise
    if code:
        raise SandboxError(f"{Path(argv[0]).name} ended with code {code}; the last lines of {log}:\n{tail(log)}\n", cure)


def output(argv: Sequence[str], stdin: str = "") -> str:
    """Standard output of a short command, which must succeed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"'{' '.join(argv)}' ended with code {done.returncode}: {done.stderr.strip()}", "Cure that, then run this again")
    return done.stdout
