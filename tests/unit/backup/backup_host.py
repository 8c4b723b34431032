# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in a directory: data to be saved, and a disk of its own (a tmpfs) to save it to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "roles" / "backup" / "files"
SIZE_MB = 32

# Stands in for a command: counts its calls, does what ACTION says at the call that is named, and is the command itself otherwise.
WRAPPER = """#!/bin/sh
count=$(($(cat '{counter}' 2>/dev/null || echo 0) + 1))
echo $count >'{counter}'
if [ $count -eq {call} ]; then {action}
fi
exec {command} "$@"
"""


@dataclass
class Host:
    root: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def disk(self) -> Path:
        return self.root / "disk"

    @property
    def target(self) -> Path:
        return self.disk / "docker"

    def generations(self) -> list[str]:
        return sorted(path.name for path in self.target.iterdir()) if self.target.is_dir() else []

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "state/status.json").read_text(encoding="utf-8"))
        return found

    def tool(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """The tool as a process of its own, with the commands of ``meddle`` first in its path."""
        path = self.root / "settings.json"
        path.write_text(json.dumps(self.settings), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "PATH": f"{self.root}/bin:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [*prefix, sys.executable, "-m", "hybridlab_backup", "--settings", str(path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", env=environment, timeout=60, check=False)

    def done(self, *arguments: str) -> str:
        """Output of the tool, which has to succeed."""
        found = self.tool(*arguments)
        assert found.returncode == 0, (arguments, found.stdout, found.stderr)
        return found.stdout

    def run(self) -> str:
        """A run that has to succeed; name of its generation."""
        self.done("run")
        return self.generations()[-1]

    def meddle(self, command: str, call: int, action: str) -> None:
        """Do ``action`` (shell) at the given call of ``command`` (rsync or sync); $PPID is the tool."""
        self.unmeddle()
        where = subprocess.run(["sh", "-c", f"command -v {command}"], capture_output=True, text=True, check=True).stdout.strip()
        (self.root / "bin").mkdir(exist_ok=True)
        path = self.root / "bin" / command
        path.write_text(WRAPPER.format(counter=self.root / "counter", call=call, action=action, command=where), encoding="utf-8")
        path.chmod(0o755)

    def unmeddle(self) -> None:
        (self.root / "counter").unlink(missing_ok=True)
        for command in ("rsync", "sync"):
            (self.root / "bin" / command).unlink(missing_ok=True)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    found.data.mkdir()
    found.disk.mkdir()
    place = {"state": str(tmp_path / "state"), "logs": str(tmp_path / "logs"), "lock": str(tmp_path / "lock")}
    found.settings.update(
        target=str(found.target), mount=str(found.disk), keep=3, max_age_days=8, reserve_bytes=0, reserve_percent=0, docker=False,
        images="none", paths=[str(found.data)], configuration=[], skip=[], services=[], place=place,
    )  # fmt: skip
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(found.disk)], check=True)
    try:
        yield found
    finally:
        subprocess.run(["umount", "--lazy", str(found.disk)], check=True)
