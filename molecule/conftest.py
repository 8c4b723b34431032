# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' verifications share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import testinfra

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def host() -> Any:
    """The scenario's sandbox host, reached through the engine that holds it."""
    name = os.environ["HYBRIDLAB_SANDBOX_NAME"]
    found = subprocess.run([sys.executable, "-m", "tools.sandbox", "inventory", "--name", name], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    connection = json.loads(found.stdout)
    os.environ["DOCKER_HOST"] = connection["docker_host"]
    return testinfra.get_host(f"docker://{connection['container']}")
