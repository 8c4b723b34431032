# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of captured outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.probe import Host, Output

NOW = 1_795_278_847.0
DAY = 86_400


class FakeHost(Host):
    """outputs: the beginning of a command line -> what it writes, or a whole Output. files: path -> text. times: path -> seconds since 1970."""

    def __init__(
        self,
        outputs: Optional[Mapping[str, object]] = None,
        files: Optional[Mapping[str, str]] = None,
        times: Optional[Mapping[str, float]] = None,
        cores: int = 2,
    ) -> None:
        self.outputs, self.files, self.times = outputs or {}, files or {}, times or {}
        self.count = cores
        self.limits: list[float] = []

    def now(self) -> float:
        return NOW

    def cores(self) -> int:
        return self.count

    def read(self, path: str) -> Optional[str]:
        return self.files.get(path)

    def changed(self, path: str) -> Optional[float]:
        return self.times.get(path, NOW if path in self.files else None)

    def names(self, folder: str) -> list[str]:
        return sorted(path.rsplit("/", 1)[1] for path in self.files if path.rsplit("/", 1)[0] == folder)

    def run(self, argv: Sequence[str], seconds: float = 20) -> Output:
        self.limits.append(seconds)
        line = " ".join(argv)
        for start, found in self.outputs.items():
            if line.startswith(start):
                return found if isinstance(found, Output) else Output(0, str(found))
        return Output(127, "", problem=f"{argv[0]}: not installed")
