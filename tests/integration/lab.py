# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away host for a test: playbooks run on it, commands run in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from tools import guest_image, playbook

INVENTORY = "inventories/sandbox"

MODELS = playbook.CHECKOUT / "tests/integration/models"


def model(name: str) -> dict[str, Any]:
    """Variables of a file of MODELS; molecule's scenarios are given the same files."""
    found: dict[str, Any] = yaml.safe_load((MODELS / f"{name}.yml").read_text(encoding="utf-8"))
    return found


# For what is about the guests, and what is about the host and its networks alone.
GUESTS_ONLY = model("guests_only")
NETWORKS_ONLY = {**GUESTS_ONLY, **model("networks_only")}
# The nouns of what stands above the guests.
LAYERS = tuple(GUESTS_ONLY)

# What a run may touch on a host, printed so that two states can be compared as text.
# Left out: what changes by itself (logs, leases, caches, clocks, counters, what containers write, what the checks of every five minutes note).
SNAPSHOT = r"""
set -u
echo '# packages'; dpkg-query -W -f '${Package} ${db:Status-Status}\n' | sort
echo '# files'
kept=/var/lib/hybridlab
moving="( -path /data/docker -o -path $kept/monitoring -o -path $kept/notify -o -path $kept/metrics -o -name __pycache__ )"
set -f # the brackets are find's
find /etc /usr/local /var/lib/hybridlab /data -xdev $moving -prune -o -type f -exec sha256sum {} + 2>/dev/null | sort -k2
echo '# modes'; find /etc /var/lib/hybridlab /data -xdev $moving -prune -o -printf '%p %m %u %g %l\n' 2>/dev/null | sort
echo '# links'; ip -o -br link | awk '{print $1}' | sed 's/@.*//' | sort
echo '# addresses'; ip -o -br -4 addr | awk '{print $1, $3}' | sed 's/@[^ ]*//' | sort
echo '# rules'; command -v nft >/dev/null && nft -s list ruleset
echo '# networks'; command -v virsh >/dev/null && virsh -q net-list --all && virsh -q pool-list --all
echo '# forwarding'; cat /proc/sys/net/ipv4/ip_forward
echo '# units'; systemctl list-unit-files --no-legend --state=enabled | awk '{print $1}' | sort
true
"""


# Ends what a killed run left behind on the host, so that nobody finishes its work: the worst case. (The brackets keep the script from finding itself.)
# A module that came through a pipe is a Python without arguments.
KILL_REMOTE = """
for path in /proc/[0-9]*; do
    pid=${path#/proc/}
    if tr '\\0' ' ' <"$path/cmdline" 2>/dev/null | grep -qE 'Ansiball[Z]_|^[^ ]*/python[0-9.]* $'; then kill -9 "$pid" 2>/dev/null || :; fi
done
"""


class CommandFailed(AssertionError):
    """A command in the host did not end with 0."""


@dataclass(frozen=True)
class Lab:
    """One named sandbox host.

    guests: whether playbooks see the guests of the model
    layers: the nouns above them that playbooks see (names of LAYERS)
    """

    name: str
    guests: bool = False
    layers: tuple[str, ...] = ()

    @property
    def model(self) -> tuple[str, ...]:
        """Arguments that leave out of the model what this host is not for; a playbook's own arguments come after and win."""
        left_out = {name: value for name, value in (GUESTS_ONLY if self.guests else NETWORKS_ONLY).items() if name not in self.layers}
        return ("-e", json.dumps(left_out))

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
        return playbook.run(name, INVENTORY, *self.model, *arguments, sandbox=self.name)

    def killed(self, name: str, seconds: float, *arguments: str) -> bool:
        """Start a playbook and kill it, on the controller and on the host. Whether it was still running."""
        run = subprocess.Popen(
            playbook.command(name, INVENTORY, *self.model, *arguments),
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

    def unchanged(self, name: str = "site.yml", *arguments: str) -> None:
        """Run a playbook that has to find everything as it should be. The matrix is not measured: where nothing changes it is the one of the run before."""
        outcome = self.played(name, *arguments, "--skip-tags", "verify")
        assert outcome.changed == 0, [task.name for task in outcome.tasks if task.changed]

    def verified(self) -> playbook.Outcome:
        """Measure the matrix; the playbook fails where it differs from the model."""
        return self.played("playbooks/verify.yml")

    def _tool(self, *arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", "tools.sandbox", *arguments], cwd=playbook.CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CommandFailed(f"sandbox {' '.join(arguments)} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout


@contextmanager
def fresh(name: str, guests: bool = False, layers: tuple[str, ...] = ()) -> Iterator[Lab]:
    """A host on which nothing was done yet. It is removed at the end, whatever became of the test."""
    if guests:
        guest_image.ensure("tiny")
    lab = Lab(name, guests, layers)
    lab.down()
    lab.up()
    try:
        yield lab
    finally:
        lab.down()
