# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away host for a test: playbooks run on it, commands run in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tools import guest_image, playbook

INVENTORY = "inventories/sandbox"

# A model without guests, for what is about the networks alone.
NO_GUESTS = ("-e", '{"platform_guests": [], "platform_images": []}')

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


# Ends what a killed run left behind on the host, so that nobody finishes its work: the worst case. (The brackets keep the script from finding itself.)
KILL_REMOTE = """
for path in /proc/[0-9]*; do
    pid=${path#/proc/}
    if tr '\\0' ' ' <"$path/cmdline" 2>/dev/null | grep -q 'Ansiball[Z]_'; then kill -9 "$pid" 2>/dev/null || :; fi
done
"""


class CommandFailed(AssertionError):
    """A command in the host did not end with 0."""


@dataclass(frozen=True)
class Lab:
    """One named sandbox host. guests: whether playbooks see the guests of the model."""

    name: str
    guests: bool = False

    @property
    def _model(self) -> tuple[str, ...]:
        return () if self.guests else NO_GUESTS

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
        return playbook.run(name, INVENTORY, *self._model, *arguments, sandbox=self.name)

    def killed(self, name: str, seconds: float, *arguments: str) -> bool:
        """Start a playbook and kill it, on the controller and on the host. Whether it was still running."""
        run = subprocess.Popen(
            playbook.command(name, INVENTORY, *self._model, *arguments),
            cwd=playbook.CHECKOUT,
            env=playbook.environment(self.name),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            run.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            self.sh(KILL_REMOTE)
            return True

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
def fresh(name: str, guests: bool = False) -> Iterator[Lab]:
    """A host on which nothing was done yet. It is removed at the end, whatever became of the test."""
    if guests:
        guest_image.ensure("tiny")
    lab = Lab(name, guests)
    lab.down()
    lab.up()
    try:
        yield lab
    finally:
        lab.down()
