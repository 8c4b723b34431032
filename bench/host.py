# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox host of a benchmark, and what is run on it and measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.segments import INVENTORY, SANDBOX, Measured
from tools import playbook
from tools.sandbox.names import Identity, Settings
from tools.sandbox.verbs import Sandbox


class Host:
    """container: docker's own object, for what a playbook does not do."""

    def __init__(self, variables: Path) -> None:
        self.container = Sandbox(Identity.of(), Settings.read(os.environ)).container(SANDBOX)
        self._variables = variables

    def play(self, name: str) -> Measured:
        """A playbook of ours from start to end."""
        used = self.cpu_seconds()
        outcome = playbook.run(f"bench/playbooks/{name}.yml", INVENTORY, "-e", f"@{self._variables}", sandbox=SANDBOX)
        if outcome.rc != 0:
            raise SystemExit(f"bench: {name}.yml ended with {outcome.rc}\n{outcome.failures()}\n{outcome.output[-3000:]}")
        return Measured(outcome.seconds, outcome.cpu_seconds, self.cpu_seconds() - used)

    def execute(self, *command: str) -> Measured:
        """A command on the host; the controller's part is this process's own."""
        used, own, started = self.cpu_seconds(), time.process_time(), time.monotonic()
        code, output = self.container.exec_run(list(command))
        seconds = time.monotonic() - started
        if code != 0:
            raise SystemExit(f"bench: {' '.join(command)} ended with {code}\n{output.decode(errors='replace')[-3000:]}")
        return Measured(seconds, time.process_time() - own, self.cpu_seconds() - used)

    def cpu_seconds(self) -> float:
        """Processor time of the host and of all that runs in it."""
        stats = self.container.client.api.stats(self.container.id, stream=False, one_shot=True)
        return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
