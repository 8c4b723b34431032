# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports against the programs that listen on the host already; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding
from ansible_collections.hybridlab.platform.plugins.module_utils.core.hardware import kernel_address
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload

# The engine holds each port that it publishes open, itself or by a proxy.
_ENGINE = ("dockerd", "docker-proxy")
# include/net/tcp_states.h: TCP_LISTEN, and for UDP a socket that takes from anybody.
_WAITS = {"tcp": "0A", "udp": "07"}


@dataclass(frozen=True)
class Socket:
    """A socket that waits for anybody. inode: the kernel's number for it."""

    protocol: str
    address: str
    port: int
    inode: int


@dataclass(frozen=True)
class Listener:
    """A socket and whose it is. program: empty where no process is to be seen that holds it, such as of the kernel's own NFS server."""

    protocol: str
    address: str
    port: int
    program: str = ""
    pid: int = 0

    def __str__(self) -> str:
        who = f"{self.program} (pid {self.pid})" if self.program else "the kernel, or a program that cannot be seen,"
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{who} listens on {address}:{self.port}"


def parse_sockets(protocol: str, text: str) -> list[Socket]:
    """``text``: of /proc/net/tcp, tcp6, udp or udp6. Those of loopback too: they keep the engine from the port as any other."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        address, port = fields[1].split(":")
        if fields[3] == _WAITS[protocol]:
            found.append(Socket(protocol, str(kernel_address(address)), int(port, 16), int(fields[9])))
    return found


def swarm_ports(workloads: Iterable[Workload]) -> set[tuple[str, int]]:
    """(protocol, port) of all that this host shall publish."""
    return {(port.protocol, port.published) for workload in workloads if workload.target == "swarm" for port in workload.ports}


def compare_listeners(workloads: Iterable[Workload], listeners: Sequence[Listener]) -> list[Finding]:
    """A finding for each port that something other than the engine has."""
    found = []
    for workload in workloads:
        for index, port in enumerate(workload.ports if workload.target == "swarm" else ()):
            others = [one for one in listeners if (one.protocol, one.port) == (port.protocol, port.published) and one.program not in _ENGINE]
            if others:
                found.append(_finding(f"platform_workloads[{workload.name}].ports[{index}].published", port.published, port.protocol, others[0]))
    return found


def _finding(path: str, port: int, protocol: str, other: Listener) -> Finding:
    value: Union[int, str] = port if protocol == "tcp" else f"{port}/{protocol}"
    asks = f"systemctl status {other.pid} names its unit" if other.program else f"ss -lnp 'sport = :{port}' shows it"
    reason = f"is taken: {other} of this host already, so Docker cannot publish it"
    return Finding(path, value, reason, f"Publish another port, or stop what listens there ({asks})", "port-taken")
