# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Eight guests from one base image: our one task, the stock modules' four loops, and kcli's one plan.

All stand on the same sandbox host, in one pool and one network, in turn: a side's guests are gone before the next side starts.
Processors are emulated on every side. When guests get leases and answer SSH is seen by one watcher on the host (guests_probe.py).
community.libvirt 2.0.0 has no module for a cloud instance; what it has for one is virt_volume (disk and seed) and virt (definition and start).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from bench.host import Host
from bench.row import Row
from bench.segments import SANDBOX, Measured, row, sandbox
from tools import guest_image

NAMES = ("guests_defined", "guests_lease", "guests_ssh", "guests_second", "guests_kcli_defined", "guests_kcli_ssh")
COUNT = 8
BOOT_RUNS = 2
SECOND_RUNS = 3
# Until all guests of a side answer: two emulated cores of a busy machine need about a minute and a half.
BOOT_SECONDS = 300.0
MEMORY_MB = 192
# The public half of a key that nobody has.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB4w23MruU6lve+0trqtIC87DHcIoRmcUS/3h16agnQx nobody@example"
KCLI = "kcli==99.0.202610251748"
POOL = {"name": "bench", "path": "/srv/bench"}
BASE = f"{POOL['path']}/base.qcow2"
BRIDGE = "br-bench"
SEGMENT = {
    "name": "bench",
    "bridge": BRIDGE,
    "cidr": "10.98.0.0/24",
    "gateway": "10.98.0.1",
    "dhcp": [{"first": "10.98.0.50", "last": "10.98.0.250"}],
    "reaches": [],
    "internet": False,
}
LEASES = f"/var/lib/libvirt/dnsmasq/{BRIDGE}.status"
KCLI_CREATE = ("/opt/kcli/bin/kcli", "create", "plan", "--threaded", "-f", "/opt/plan.yml", "peer")

# The peers' guests go by hand, on a host that is thrown away. What is refused shows: nothing here may be left for the next side.
REMOVE_PEERS = f"""
for name in $(virsh -q list --all --name | grep '^peer-'); do virsh -q destroy "$name"; virsh -q undefine "$name"; done
rm -f {POOL["path"]}/peer-*
virsh -q pool-refresh {POOL["name"]}
"""


@dataclass(frozen=True)
class Booted:
    """Eight guests of one side: until the call ended, until the eighth lease, until the eighth greeting of an SSH server; all from the call's start."""

    defined: Measured
    lease: Measured
    ssh: Measured


def rows() -> Iterator[Row]:
    image = guest_image.ensure("tiny")
    sandbox("up", "--name", SANDBOX)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            variables = Path(scratch) / "bench.json"
            variables.write_text(json.dumps(_variables(image, _kcli_wheel(Path(scratch)))), encoding="utf-8")
            yield from _measure(GuestHost(variables))
    finally:
        sandbox("down", "--name", SANDBOX)


class GuestHost(Host):
    """Its guests are waited for."""

    def boot(self, make: Callable[[], Measured]) -> Booted:
        """``make`` defines and starts the guests; then they are waited for."""
        script = Path(__file__).with_name("guests_probe.py").read_text(encoding="utf-8")
        _code, chunks = self.container.exec_run(["python3", "-c", script, LEASES, str(COUNT), str(BOOT_SECONDS)], stream=True)
        if next(chunks) != b"ready\n":
            raise SystemExit(f"bench: the watcher of leases did not start: {b''.join(chunks).decode(errors='replace')}")
        used, started = self.cpu_seconds(), time.time()
        defined = make()
        seen = json.loads(b"".join(chunks))
        # The clock of the host's container is this machine's.
        leased, greeted = ([moment - started for moment in seen[key]] for key in ("leased", "greeted"))
        if len(greeted) < COUNT:
            raise SystemExit(f"bench: after {BOOT_SECONDS:.0f} s {len(leased)} of {COUNT} guests had a lease and {len(greeted)} answered SSH")
        host = self.cpu_seconds() - used
        return Booted(defined, Measured(leased[-1], defined.controller, host), Measured(greeted[-1], defined.controller, host))


def _measure(host: GuestHost) -> Iterator[Row]:
    host.play("guests_prepare")
    ours, stock, kcli = [], [], []
    second_ours, second_stock = [], []
    for index in range(BOOT_RUNS):
        last = index == BOOT_RUNS - 1
        ours.append(host.boot(lambda: host.play("guests_ours")))
        second_ours += _again(host, "guests_ours") if last else []
        host.play("guests_ours_remove")
        stock.append(host.boot(lambda: host.play("guests_peer")))
        second_stock += _again(host, "guests_peer") if last else []
        host.execute("sh", "-euc", REMOVE_PEERS)
        kcli.append(host.boot(lambda: host.execute(*KCLI_CREATE)))
        host.execute("sh", "-euc", REMOVE_PEERS)
    yield from _boot_rows("guests_", ours, stock, "peer: virt_volume twice, virt twice, a loop of eight each", ("defined", "lease", "ssh"))
    yield row("guests_second", second_ours, second_stock, 0.125, "nothing to change, eight guests running and idle on either side")
    yield from _boot_rows("guests_kcli_", ours, kcli, f"peer: {KCLI}, on the host, one plan with --threaded", ("defined", "ssh"))


def _again(host: GuestHost, name: str) -> list[Measured]:
    return [host.play(name) for _index in range(SECOND_RUNS)]


def _boot_rows(prefix: str, ours: Sequence[Booted], peer: Sequence[Booted], what: str, stages: Sequence[str]) -> Iterator[Row]:
    goals = {"defined": 0.5, "lease": 1.1, "ssh": 1.1}
    meaning = {
        "defined": "until the call that defines and starts eight guests has ended",
        "lease": "from the call's start until the eighth guest has a lease",
        "ssh": "from the call's start until the eighth guest's SSH server has greeted",
    }
    for stage in stages:
        sides = [[getattr(run, stage) for run in side] for side in (ours, peer)]
        yield row(f"{prefix}{stage}", sides[0], sides[1], goals[stage], f"{meaning[stage]}; {what}; the host's cpu with its guests'")


def _kcli_wheel(directory: Path) -> Path:
    """kcli without what it depends on, which the host has as packages: a sandbox host reaches no registry."""
    subprocess.run([sys.executable, "-m", "pip", "-q", "download", "--no-deps", "--dest", str(directory), KCLI], stdout=sys.stderr, check=True)
    return next(directory.glob("kcli-*.whl"))


def _variables(image: Path, kcli_wheel: Path) -> dict[str, Any]:
    return {
        "bench_image_file": str(image),
        "bench_base": BASE,
        "bench_pools": [POOL],
        "bench_segments": [SEGMENT],
        "bench_guests": [_guest(number) for number in range(1, COUNT + 1)],
        "bench_peer_guests": [_peer_guest(number) for number in range(1, COUNT + 1)],
        "bench_kcli_wheel": str(kcli_wheel),
        "bench_kcli_plan": {f"peer-{number}": _kcli_guest() for number in range(1, COUNT + 1)},
    }


def _guest(number: int) -> dict[str, Any]:
    return {
        "name": f"ours-{number}",
        "segment": "bench",
        "address": "dynamic",
        "memory_mb": MEMORY_MB,
        "image": "base",
        "users": [{"name": "admin", "ssh_keys": [KEY]}],
    }


def _peer_guest(number: int) -> dict[str, Any]:
    """What an operator of the stock modules writes by hand: the same machine as ours."""
    admin = {"name": "admin", "lock_passwd": True, "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [KEY]}
    name, mac = f"peer-{number}", f"52:54:00:98:00:{number:02x}"
    return {
        "name": name,
        "volume_xml": (
            f"<volume><name>{name}.qcow2</name><target><format type='qcow2'/></target>"
            f"<backingStore><path>{BASE}</path><format type='qcow2'/></backingStore></volume>"
        ),
        "seed": {
            "METADATA": {"instance-id": name, "local-hostname": name},
            "USERDATA": {"users": [admin]},
            "NETWORK_CONFIG": {"version": 2, "ethernets": {"net0": {"match": {"macaddress": mac}, "dhcp4": True}}},
        },
        "xml": _peer_domain(name, mac),
    }


def _peer_domain(name: str, mac: str) -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>{MEMORY_MB}</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os><features><acpi/><apic/></features><cpu mode='maximum'/>"
        "<devices><controller type='usb' model='none'/>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{POOL['path']}/{name}.qcow2'/>"
        "<target dev='vda' bus='virtio'/></disk>"
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{POOL['path']}/{name}-seed.iso'/>"
        "<target dev='vdb' bus='virtio'/><readonly/></disk>"
        f"<interface type='network'><mac address='{mac}'/><source network='bench'/><model type='virtio'/></interface>"
        "<serial type='pty'/><console type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><memballoon model='virtio'/></devices></domain>"
    )


def _kcli_guest() -> dict[str, Any]:
    """The same, as far as kcli lets one choose: its seed is on a CD drive. Without a key it would look for one, or make one."""
    return {
        "image": Path(BASE).name,
        "pool": POOL["name"],
        "disks": [1],
        "nets": ["bench"],
        "memory": MEMORY_MB,
        "numcpus": 1,
        "virttype": "qemu",
        "machine": "q35",
        "vnc": False,
        "nested": False,
        "keys": [KEY],
        "autostart": True,
        "rng": True,
    }
