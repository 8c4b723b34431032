# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away host for a test: playbooks run on it, commands run in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tools import playbook

INVENTORY = "inventories/sandbox"

# What a run may touch on a host, printed so that two states can be compared as text.
# Left out: what changes by itself (logs, leases, caches, clocks, counters).
SNAPSHOT = r"""
set -u
echo '# packages'; dpkg-query -W -f '${Package} ${db:Status-Status}\n' | sort
echo '# files'
find /etc /usr/local /var/lib/hybridlab /data -xdev -type f -exec sha256sum {} + 2>/dev/null | sort -k2
echo '# modes'; find /etc /var/lib/hybridlab /data -xdev -printf '%p %m %u %g %l\n' 2>/dev/null | sort
echo '# links'; ip -o -br link | awk '{print $1}' | sed 's/@.*//' | sort
echo '# addresses'; ip -o -br -4 addr | awk '{print $1, $3}' | sed 's/@[^ ]*//' | sort
echo '# rules'; command -v nft >/dev/null && nft -s list ruleset
echo '# networks'; command -v virsh >/dev/null && virsh -q net-list --all && virsh -q pool-list --all
echo '# forwarding'; cat /proc/sys/net/ipv4/ip_forward
echo '# units'; systemctl list-unit-files --no-legend --state=enabled | awk '{print $1}' | sort
true
"""


class CommandFailed(AssertionError):
    """A command in the host did not end with 0."""


@dataclass(frozen=True)
class Lab:
    """One named sandbox host."""

    name: str

    def up(self, image: str = "") -> None:
        self._tool("up", "--name", self.name, *(["--from", image] if image else []))

    def down(self) -> None:
        self._tool("down", "--name", self.name)

    def restart(self) -> None:
        """The host's reboot."""
        self._tool("restart", self.name)

    def commit(self, image: str) -> None:
        self._tool("commit", self.name, image)

    def sh(self, script: str) -> str:
        """Standard output of a shell script in the host; CommandFailed with its words when it fails."""
        return self._tool("exec", self.name, "--", "sh", "-euc", script)

    def snapshot(self) -> str:
        """The host's state as text."""
        return self._tool("exec", self.name, "--", "sh", "-c", SNAPSHOT)

    def play(self, name: str, *arguments: str) -> playbook.Outcome:
        """Run a playbook on this host, whatever its result."""
        return playbook.run(name, INVENTORY, *arguments, sandbox=self.name)

    def played(self, name: str, *arguments: str) -> playbook.Outcome:
        """Run a playbook that has to succeed."""
        outcome = self.play(name, *arguments)
        if outcome.rc != 0:
            raise CommandFailed(f"{name} {' '.join(arguments)} ended with {outcome.rc}\n{outcome.failures()}\n{outcome.output[-6000:]}")
        return outcome

    def verified(self) -> playbook.Outcome:
        """Measure the matrix; the playbook fails where it differs from the model."""
        return self.played("playbooks/verify.yml")

    def _tool(self, *arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", "tools.sandbox", *arguments], cwd=playbook.CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CommandFailed(f"sandbox {' '.join(arguments)} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout


@contextmanager
def fresh(name: str) -> Iterator[Lab]:
    """A host on which nothing was done yet. It is removed at the end, whatever became of the test."""
    lab = Lab(name)
    lab.down()
    lab.up()
    try:
        yield lab
    finally:
        lab.down()
