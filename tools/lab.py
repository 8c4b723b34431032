# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job in one command: a sandbox, the platform in it, the proof, a report.

The last line is for scripts: ``lab ok: segments 5/5, pairs 20/20, internet 5/5, guests 2/2, seconds N``, or
``lab FAILED: <why>`` with a non-zero exit code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools import guest_image, guest_login, playbook
from tools.sandbox.errors import SandboxError

INVENTORY = "inventories/sandbox"
IMAGE = "tiny"
VERIFY_TASK = "Open real connections between all segments and compare with the model"
ACCELERATORS = {"kvm": "KVM", "qemu": "software emulation"}
INSIDE_TASK = "Open them again from inside the guests"

LOOK_AROUND = """\
look around:
  .venv/bin/python -m tools.sandbox shell {name}         a root shell on the host
    virsh list                                             the guests; virsh console web enters one, Ctrl+] leaves it
    virsh net-list --all                                   the networks
    nft list table inet hybridlab_segments                 the rules, with a counter for each pair
    docker stack services demo                             the workloads; curl 127.0.0.1:8080 asks one of them
  .venv/bin/ansible-playbook site.yml -i {inventory}       run it again: changed=0
  .venv/bin/ansible-playbook playbooks/verify.yml -i {inventory}   measure again
  .venv/bin/ansible -i {inventory} guests -m ping           every guest, through the host's forwards
  make status PLATFORM=sandbox                             one screen of everything
  make validate PLATFORM=sandbox                           every check against the model; without a disk, the backup's fail
remove it: make lab-down"""


@dataclass(frozen=True)
class Proof:
    """What was measured.

    segments: result of the module reachability, from namespaces on the bridges
    inside:   the same from inside the guests, where there are any
    logins:   each guest, entered from outside
    """

    segments: Mapping[str, Any]
    inside: Mapping[str, Any]
    logins: Sequence[guest_login.Login]


class LabFailed(Exception):
    """One line that says which stage failed and where to read on."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lab", description=__doc__)
    parser.add_argument("verb", choices=["up"])
    parser.add_argument("--name", default="host", help="which sandbox (default: host)")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        result = up(arguments.name)
    except LabFailed as error:
        print(f"lab FAILED: {error}", flush=True)
        return 1
    except KeyboardInterrupt:
        print("lab FAILED: interrupted; run make lab again, or make lab-down to remove what stands", flush=True)
        return 130
    print(report(result, arguments.name, time.monotonic() - started), flush=True)
    return 0


def up(name: str) -> Proof:
    """Build everything, then measure it."""
    stage("image: a small Debian guest from packages")
    try:
        guest_image.ensure(IMAGE)
    except SandboxError as error:
        raise LabFailed(str(error)) from None
    stage("sandbox: a bare Debian 12 host")
    done = subprocess.run([sys.executable, "-m", "tools.sandbox", "up", "--name", name], cwd=playbook.CHECKOUT, check=False)
    if done.returncode != 0:
        raise LabFailed("the sandbox did not start; its own message stands above")
    stage(f"platform: ansible-playbook site.yml -i {INVENTORY}")
    code = playbook.show("site.yml", INVENTORY, sandbox=name)
    if code != 0:
        raise LabFailed(f"site.yml ended with {code}; its message stands above. Run make lab again once it is cured")
    stage("proof: connections between all segments")
    proof = playbook.run("playbooks/verify.yml", INVENTORY, sandbox=name)
    if proof.rc != 0:
        raise LabFailed(proof.failures() or proof.output[-2000:])
    stage("proof: each guest, from outside, through the host's forward")
    logins = guest_login.through_forwards(name)
    silent = [f"{login.name} on port {login.port}: {login.error}" for login in logins if login.error]
    if silent:
        raise LabFailed("guests that can't be entered from outside: " + "; ".join(silent))
    return Proof(proof.task(VERIFY_TASK).result, proof.task(INSIDE_TASK).result, logins)


def stage(text: str) -> None:
    print(f"\n== {text}", flush=True)


def report(proof: Proof, name: str, seconds: float) -> str:
    """The closing report of a proven lab."""
    result = proof.segments
    segments = result["segments"]
    sound = sum(1 for segment in segments.values() if segment["ok"])
    lines = ["", "segments:"]
    # In the model's order, as the matrix has them; a result in JSON has lost it.
    for segment_name in (line.split()[0] for line in result["table"].splitlines()[1:]):
        segment = segments[segment_name]
        lines.append(
            f"  {segment_name:<12} {segment['bridge']:<15} {segment['cidr']:<14} gateway {segment['gateway']:<10} "
            f"lease {segment['lease'] or 'static only':<12} probed from {segment['address']}"
        )
    lines += ["", *result["table"].splitlines(), "", "guests:"]
    for login in proof.logins:
        lines.append(
            f"  {login.name:<12} {login.segment:<15} {login.address:<14} port {login.port:<6} {ACCELERATORS[login.accelerator]:<20} "
            f"answered in {login.seconds:.1f} s, booted from {login.image}"
        )
    lines += [f"  measured again from inside them: {proof.inside['summary']}", "", LOOK_AROUND.format(name=name, inventory=INVENTORY), ""]
    lines.append(
        f"lab ok: segments {sound}/{len(segments)}, pairs {result['pairs_ok']}/{result['pairs_total']}, "
        f"internet {result['internet_ok']}/{result['internet_total']}, guests {len(proof.logins)}/{len(proof.logins)}, seconds {seconds:.0f}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
