# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are killed, on the controller and on the host, at points that no one has chosen: the next run brings the host to the declared state."""

from __future__ import annotations

import os
import random
import time

from tests.integration.lab import Lab

SEED = int(os.environ.get("HYBRIDLAB_SEED") or time.time())


def test_a_run_killed_at_ten_random_points_can_be_run_again(bare_host: Lab) -> None:
    rng = random.Random(SEED)
    print(f"HYBRIDLAB_SEED={SEED}")
    # Three on the bare host: in the packages, the daemons, the first networks.
    for _attempt in range(3):
        seconds = rng.uniform(2, 25)
        print(f"bare host: killed after {seconds:.1f} s: {bare_host.killed('site.yml', seconds)}")
    rebuilt = bare_host.played("site.yml")
    bare_host.unchanged()
    # Seven while everything of ours is built on prepared packages.
    for _attempt in range(7):
        bare_host.played("playbooks/teardown.yml", "-e", "teardown=sandbox")
        seconds = rng.uniform(2, min(rebuilt.seconds, 15))
        print(f"prepared host: killed after {seconds:.1f} s: {bare_host.killed('site.yml', seconds)}")
        bare_host.played("site.yml")
        bare_host.unchanged()
