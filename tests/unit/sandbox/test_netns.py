# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The own engine's network leaves the machine as it found it; run on a machine in miniature, a network namespace with real tools."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.sandbox.names import CHECKOUT

SCRIPT = """
import subprocess, sys
from pathlib import Path
from tools.sandbox.names import Identity
from tools.sandbox.machine import find_command
from tools.sandbox.netns import Namespace

def ruleset():
    return subprocess.run([find_command("nft"), "list", "ruleset"], check=True, capture_output=True, text=True).stdout

root = Path(sys.argv[1])
identity = Identity("abcdef", root / "cache", root / "run", root / "tmp")
identity.run_dir.mkdir(parents=True)
namespace = Namespace(identity)
if sys.argv[2] == "drop":
    subprocess.run([find_command("iptables"), "-P", "FORWARD", "DROP"], check=True)
before = ruleset()
namespace.path.touch()
for _ in range(2):
    namespace.up("198.18.1.0/30", 1400)
assert namespace.bound() and namespace.link_exists() and namespace.table_exists()
rules = namespace.forward_rules()
assert len(rules) == (2 if sys.argv[2] == "drop" else 0), rules
refused = "import errno, socket; assert socket.socket().connect_ex(('198.18.1.1', 9)) == errno.ECONNREFUSED"
subprocess.run([find_command("nsenter"), f"--net={namespace.path}", sys.executable, "-c", refused], check=True)
assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\\n"
for _ in range(2):
    namespace.down()
assert not namespace.path.exists() and not namespace.link_exists() and not namespace.table_exists()
assert ruleset() == before, ruleset()
print("as before")
"""


@pytest.mark.parametrize("policy", ["accept", "drop"])
def test_up_twice_then_down_twice_leaves_nothing(tmp_path: Path, policy: str) -> None:
    isolate = ["unshare", "--net", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net", "--mount"]
    argv = [*isolate, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-c", SCRIPT, str(tmp_path), policy]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    assert done.stdout == "as before\n", done.stdout + done.stderr
