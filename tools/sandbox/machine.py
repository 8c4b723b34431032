# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine can and cannot do, and what is done instead."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
from pathlib import Path

from tools.sandbox.errors import SandboxError
from tools.sandbox.progress import Step, output, run_logged
from tools.sandbox.runtime_wrapper import CAPABILITIES, bounding_set

# command -> Debian package
OWN_ENGINE_NEEDS = {"dockerd": "docker.io", "ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "runc": "runc", "iptables": "iptables"}
BASE_NEEDS = {"mmdebstrap": "mmdebstrap"}
SETUP = Path(__file__).parents[1] / "setup.sh"
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin")


def find_command(name: str) -> str:
    """Path of a command, also where PATH leaves out the sbin directories; empty where it is missing."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(SBIN)) or ""


def lacking_capabilities(status: str, last_cap: int) -> list[str]:
    """Names that the bounding set of ``/proc/<pid>/status`` lacks among those the kernel knows."""
    bounding = bounding_set(status)
    return [f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if number <= last_cap and not bounding >> number & 1]


def own_lacking_capabilities() -> list[str]:
    return lacking_capabilities(Path("/proc/self/status").read_text(encoding="ascii"), int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii")))


def missing_packages(needs: dict[str, str]) -> list[str]:
    return sorted({package for command, package in needs.items() if not find_command(command)})


def require(needs: dict[str, str], install: bool, log: Path) -> None:
    """Installs the packages behind missing commands where that is allowed, else names them.

    :raises SandboxError: something is missing and ``install`` is false, this is not root, or the packages did not help
    """
    packages = missing_packages(needs)
    if not packages:
        if install and os.geteuid() == 0:
            run_logged([str(SETUP), "--packages"], log, "Cure that and repeat the up verb")  # ends what a killed installation began
        return
    listed = " ".join(packages)
    if not install:
        raise SandboxError(
            f"this machine lacks the Debian packages {listed}", f"Run this again with --install as root, or: apt-get install --no-install-recommends {listed}"
        )
    if os.geteuid() != 0:
        raise SandboxError(f"--install needs root to install {listed}", "Use sudo, or have an administrator install them")
    with Step(f"packages {listed}"):
        run_logged([str(SETUP), "--packages", *packages], log, f"Repair the machine's APT sources, or install {listed} by hand")
    left = missing_packages(needs)
    if left:
        raise SandboxError(f"this machine still lacks {' '.join(left)}", f"Install what holds {', '.join(sorted(needs))} by hand; {log} says what was tried")


def capability_report(engine: str) -> list[str]:
    """One line for each thing that this machine lacks, and what is done instead."""
    lines = []
    kvm = Path("/dev/kvm")
    if not kvm.exists():
        lines.append("KVM: no /dev/kvm; guests run by software emulation")
    elif not os.access(kvm, os.R_OK | os.W_OK):
        lines.append("KVM: /dev/kvm may not be opened by this user; guests run by software emulation unless the engine's root may")
    else:
        lines.append("KVM: /dev/kvm present, not trusted until a guest has started on it; software emulation is used where that fails")
    lacking = own_lacking_capabilities() if os.geteuid() == 0 else []
    if lacking:
        instead = "the own engine's runtime drops them from every container" if engine == "own" else "the machine's engine must do without them"
        lines.append(f"capabilities: this machine lacks {', '.join(lacking)}; {instead}")
    if not (Path("/proc/net/ip_vs").exists() or _module("ip_vs")):
        lines.append("IP_VS: absent; Swarm services use DNS round robin and host ports in place of virtual addresses and the ingress mesh")
    if not (Path("/sys/module/wireguard").exists() or _module("wireguard")):
        lines.append("WireGuard: absent from the kernel; tailscaled runs in user space")
    if not Path("/sys/kernel/security/apparmor").exists() and not Path("/sys/fs/selinux").exists():
        lines.append("SELinux and AppArmor: absent; confinement is not proven here")
    return lines


def _module(name: str) -> bool:
    modules = Path("/lib/modules") / os.uname().release
    index = modules / "modules.dep"
    return index.exists() and any(Path(line.split(":", 1)[0]).name.split(".")[0] == name for line in index.read_text(encoding="utf-8").splitlines())


def resolvers(named: tuple[str, ...], resolv_conf: Path = Path("/etc/resolv.conf"), upstream: Path = Path("/run/systemd/resolve/resolv.conf")) -> list[str]:
    """Resolvers that answer from another network namespace: the named ones, else the machine's that are not on loopback.

    :raises SandboxError: the machine resolves on its loopback only
    """
    if named:
        return list(named)
    for path in (resolv_conf, upstream):
        if path.exists():
            found = re.findall(r"^\s*nameserver\s+(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
            usable = [address for address in found if not address.startswith("127.") and ":" not in address]
            if usable:
                return usable
    raise SandboxError(f"{resolv_conf} names no resolver outside the loopback", "Set HYBRIDLAB_SANDBOX_DNS to the address of one")


def machine_routes() -> list[str]:
    """Destinations of every IPv4 route of the machine, as CIDRs; the default route left out."""
    routes = json.loads(output([find_command("ip"), "-j", "-4", "route", "show", "table", "all"]) or "[]")
    return [route["dst"] for route in routes if route.get("dst") not in (None, "default") and route.get("type", "unicast") in ("unicast", "local")]


def addresses_of(text: str) -> list[str]:
    """IPv4 addresses, as /32, of every host whose URL stands in ``text``; unknown names are left out."""
    found: set[str] = set()
    for name in set(re.findall(r"https?://(?:[^/@\s\"]*@)?([^/:\s\"]+)", text)):
        with contextlib.suppress(OSError):
            found.update(f"{entry[4][0]}/32" for entry in socket.getaddrinfo(name, None, socket.AF_INET))
    return sorted(found)


def machine_mtu() -> int:
    """MTU of the interface of the default route, 1500 without one."""
    routes = json.loads(output([find_command("ip"), "-j", "-4", "route", "show", "default"]) or "[]")
    for route in routes:
        path = Path("/sys/class/net") / route.get("dev", "") / "mtu"
        if path.exists():
            return min(1500, int(path.read_text(encoding="ascii")))
    return 1500
