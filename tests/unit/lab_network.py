# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with bridges and an outside world, of plain network namespaces: what the segments' rules and probes need, without libvirt.

To be used inside ``private_network``: the thread's own namespace plays the host.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ansible_collections.hybridlab.platform.tests.unit.private_network import run

OUTSIDE = "outside"
HOST_ADDRESS, OUTSIDE_ADDRESS = "198.51.100.1", "198.51.100.10"

# Says that it begins; sends a number in each datagram, at RATE a second, until its input ends; then says how many.
SENDER = """
import select, socket, sys, time
address, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent, began = 0, time.monotonic()
print("sending", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    while sent < (time.monotonic() - began) * rate:
        try:
            client.sendto(sent.to_bytes(8, "big"), (address, port))
        except OSError:
            pass  # refused, as ICMP says: a flood goes on
        sent += 1
    time.sleep(0.001)
print(sent, flush=True)
"""

# Counts datagrams from its first on, until its input ends and no more come; then says how many different ones came.
RECEIVER = """
import select, socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
server.bind((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
seen, ending = set(), False
while True:
    ready = select.select([server] if ending else [server, sys.stdin], [], [], 0.5 if ending else None)[0]
    if server in ready:
        seen.add(server.recv(64))
    elif ending:
        break
    ending = ending or sys.stdin in ready
print(len(seen), flush=True)
"""

# Echo that first tells the client its address.
WHO = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print(server.getsockname()[1], flush=True)
while True:
    client, peer = server.accept()
    client.sendall(peer[0].encode() + b"\\n")
    while data := client.recv(4096):
        client.sendall(data)
"""


def build_host(segments: Sequence[dict[str, Any]], stp: bool = False) -> None:
    """Bridges with the gateways' addresses, forwarding, and an uplink to the namespace OUTSIDE."""
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for segment in segments:
        run("ip", "link", "add", segment["bridge"], "type", "bridge", "stp_state", "1" if stp else "0", "forward_delay", "200" if stp else "0")
        run("ip", "addr", "add", f"{segment['gateway']}/{segment['cidr'].split('/')[1]}", "dev", segment["bridge"])
        run("ip", "link", "set", segment["bridge"], "up")
    run("ip", "netns", "add", OUTSIDE)
    run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", OUTSIDE)
    run("ip", "addr", "add", f"{HOST_ADDRESS}/24", "dev", "uplink")
    run("ip", "link", "set", "uplink", "up")
    run("ip", "route", "add", "default", "via", OUTSIDE_ADDRESS)
    run("ip", "-n", OUTSIDE, "addr", "add", f"{OUTSIDE_ADDRESS}/24", "dev", "eth0")
    run("ip", "-n", OUTSIDE, "link", "set", "eth0", "up")


def add_guest(name: str, segment: dict[str, Any], address: str) -> None:
    """A namespace that plays a guest of ``segment``."""
    run("ip", "netns", "add", name)
    run("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", f"v-{name}", "master", segment["bridge"], "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
    run("ip", "-n", name, "addr", "add", f"{address}/{segment['cidr'].split('/')[1]}", "dev", "eth0")
    run("ip", "-n", name, "link", "set", "eth0", "up")
    run("ip", "-n", name, "route", "add", "default", "via", segment["gateway"])


def inside(name: str) -> list[str]:
    """Prefix of a command in that namespace."""
    return ["nsenter", f"--net=/run/netns/{name}"]


@contextmanager
def program(place: Sequence[str], text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program that runs in ``place`` until the block ends."""
    argv = [*place, sys.executable, "-u", "-c", text, *arguments]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    """What a program says first."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> str:
    """What a program says last, after its input was ended."""
    out, _err = process.communicate(timeout=60)
    return out.strip()


def until(done: Any, seconds: float = 20.0) -> None:
    """Waits for something that has to come true."""
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, f"not within {seconds} s"
        time.sleep(0.02)
