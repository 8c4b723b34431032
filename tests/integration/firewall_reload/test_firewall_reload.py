# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets through the segments' rules while these change: five bridges and their guests, as network namespaces."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.hybridlab.platform.plugins.module_utils.host.netns import Agent
from ansible_collections.hybridlab.platform.plugins.modules import reachability, segment_firewall

from tests.unit.lab_network import (
    HOST_ADDRESS,
    OUTSIDE,
    OUTSIDE_ADDRESS,
    RECEIVER,
    SENDER,
    WHO,
    add_guest,
    build_host,
    ended,
    first_line,
    inside,
    program,
)
from tests.unit.private_network import private_network, run

CHECKOUT = Path(__file__).resolve().parents[3]
LAB = CHECKOUT / "inventories" / "lab" / "group_vars" / "all"
RELOADS = 50
RATE = 1000

TALK = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print(client.recv(100).decode().strip(), flush=True)
for line in sys.stdin:
    client.sendall(line.encode())
    print(client.recv(100).decode().strip(), flush=True)
"""


def model() -> list[dict[str, Any]]:
    """The lab's segments, with a forward, and without the services of a dnsmasq that is not here."""
    segments = yaml.safe_load((LAB / "segments.yml").read_text(encoding="utf-8"))["platform_segments"]
    for segment in segments:
        segment.update(host_services=[], dhcp=[])
    segments[1]["hosts"] = [{"name": "web", "address": "10.0.1.10", "ssh_port": 2211}]
    return list(segments)


class Host:
    """The host of these tests: its modules are called in its namespaces."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self.capsys = capsys
        self.directory = directory
        self.segments = {segment["name"]: segment for segment in model()}

    def call(self, module: ModuleType, **params: Any) -> dict[str, Any]:
        args = {"config": list(self.segments.values()), "_ansible_remote_tmp": str(self.directory), **params}
        with patch_module_args(args), pytest.raises(SystemExit):
            module.main()
        answer: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        assert not answer.get("failed"), answer["msg"]
        return answer

    def load(self) -> dict[str, Any]:
        return self.call(segment_firewall, path=str(self.directory / "segments.nft"))

    def pairs(self) -> dict[tuple[str, str], int]:
        """Packets that each pair's counter has seen."""
        answer = self.call(segment_firewall, config=None, state="gathered", path=str(self.directory / "segments.nft"))
        return {(pair["source"], pair["destination"]): pair["packets"] for pair in answer["pairs"]}

    def measure(self) -> str:
        """The summary of the whole matrix; fails when anything is not as declared."""
        outside = Agent(inside(OUTSIDE), sys.executable, "the Internet")
        try:
            ports = {f"{protocol}_port": outside.ask("listen", protocol=protocol, address=OUTSIDE_ADDRESS).result(10)["port"] for protocol in ("tcp", "udp")}
            return str(self.call(reachability, internet={"address": OUTSIDE_ADDRESS, "udp": "echo", **ports})["summary"])
        finally:
            outside.close()


@pytest.fixture
def host(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Host]:
    with private_network():
        made = Host(capsys, tmp_path)
        build_host(list(made.segments.values()))
        for number, segment in enumerate(made.segments.values()):
            add_guest(segment["name"], segment, f"10.0.{number}.10")
        made.load()
        yield made


@contextmanager
def flood(source: str, destination: str, address: str) -> Iterator[list[int]]:
    """RATE datagrams a second from one guest to another, while the block runs. The list is then [sent, received]; fails when it was no such flood."""
    numbers: list[int] = []
    with ExitStack() as stack:
        receiver = stack.enter_context(program(inside(destination), RECEIVER, address))
        sender = stack.enter_context(program(inside(source), SENDER, address, first_line(receiver), str(RATE)))
        assert first_line(sender) == "sending"
        began = time.monotonic()
        yield numbers
        seconds = time.monotonic() - began
        sent = int(ended(sender))
        assert sent >= 0.8 * RATE * seconds, f"{sent} datagrams in {seconds:.1f} s"
        numbers += [sent, int(ended(receiver))]


def connect(place: str, address: str, port: int) -> subprocess.CompletedProcess[str]:
    """Opens a connection from there, and returns what the other side says first."""
    return subprocess.run([*inside(place), sys.executable, "-c", TALK, address, str(port)], input="", capture_output=True, text=True, timeout=30, check=False)


def test_the_labs_matrix_by_real_packets(host: Host) -> None:
    assert host.measure() == "pairs 20/20, internet 5/5"


def test_reloads_lose_no_packet_and_let_none_through(host: Host) -> None:
    with flood("public", "private", "10.0.2.10") as allowed, flood("private", "public", "10.0.1.10") as forbidden:
        for number in range(RELOADS):
            # Another pair comes and goes: each turn is a real change of the rules, of chains and of counters.
            host.segments["container"]["reaches"] = ["management"] if number % 2 else []
            assert host.load()["changed"] is (number > 0)

    assert allowed[1] == allowed[0]
    assert forbidden[1] == 0


def test_repeated_load_of_the_file_loses_nothing_either(host: Host) -> None:
    with flood("public", "private", "10.0.2.10") as allowed:
        for _turn in range(RELOADS):
            run("nft", "-f", str(host.directory / "segments.nft"))

    assert allowed[1] == allowed[0]


def test_counters_count_new_connections_and_survive_a_reload(host: Host) -> None:
    with flood("public", "private", "10.0.2.10"):
        host.segments["container"]["reaches"] = ["management"]
        host.load()
    counted = host.pairs()["public", "private"]
    host.segments["container"]["reaches"] = []
    host.load()

    # Datagrams that nobody answers are all new ones.
    assert counted > 0
    assert host.pairs()["public", "private"] == counted


def test_established_connection_survives_and_new_ones_follow_the_new_rules(host: Host) -> None:
    with program(inside("private"), WHO, "10.0.2.10", "0") as server:
        port = first_line(server)
        with program(inside("public"), TALK, "10.0.2.10", port) as client:
            assert first_line(client) == "10.0.1.10"
            host.segments["public"]["reaches"] = ["database", "container"]
            assert host.load()["changed"] is True
            assert client.stdin is not None
            client.stdin.write("still here\n")
            client.stdin.flush()
            assert first_line(client) == "still here"
            refused = connect("public", "10.0.2.10", int(port))
            assert "ConnectionRefusedError" in refused.stderr
    assert host.measure() == "pairs 20/20, internet 5/5"


def test_addresses_are_kept_between_segments_and_masqueraded_to_the_internet(host: Host) -> None:
    with program(inside("database"), WHO, "10.0.3.10", "0") as server:
        assert connect("private", "10.0.3.10", int(first_line(server))).stdout.strip() == "10.0.2.10"
    with program(inside(OUTSIDE), WHO, OUTSIDE_ADDRESS, "0") as server:
        assert connect("private", OUTSIDE_ADDRESS, int(first_line(server))).stdout.strip() == HOST_ADDRESS


def test_ssh_forward(host: Host) -> None:
    add_guest("second", host.segments["public"], "10.0.1.11")
    with program(inside("public"), WHO, "10.0.1.10", "2211") as server:
        first_line(server)
        # From outside and from an allowed segment the guest sees who it is.
        assert connect(OUTSIDE, HOST_ADDRESS, 2211).stdout.strip() == OUTSIDE_ADDRESS
        assert connect("management", "10.0.0.1", 2211).stdout.strip() == "10.0.0.10"
        # From its own segment the way back has to lead over the host.
        assert connect("second", HOST_ADDRESS, 2211).stdout.strip() == "10.0.1.1"
        with socket.create_connection((HOST_ADDRESS, 2211), 5) as own:
            assert own.recv(100).decode().strip() == HOST_ADDRESS
        assert "No route to host" in connect("database", "10.0.3.1", 2211).stderr
        run("ip", "-n", OUTSIDE, "route", "add", "10.0.0.0/16", "via", HOST_ADDRESS)
        assert "TimeoutError" in connect(OUTSIDE, "10.0.1.10", 2211).stderr


def test_forged_sources_reach_nobody(host: Host) -> None:
    run("ip", "-n", "private", "addr", "add", "10.0.1.77/32", "dev", "eth0")
    with program(inside("database"), RECEIVER, "10.0.3.10") as receiver:
        address = ("10.0.3.10", int(first_line(receiver)))
        forge = "import socket,sys; c=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c.bind((sys.argv[1],0)); c.sendto(b'x',(sys.argv[2],int(sys.argv[3])))"
        for source in ("10.0.1.77", "10.0.2.10"):
            run(*inside("private"), sys.executable, "-c", forge, source, address[0], str(address[1]))
        assert ended(receiver) == "1"


def test_docker_that_closes_forward_is_no_harm(host: Host) -> None:
    """What Docker does to iptables when it finds forwarding off."""
    run("iptables", "-P", "FORWARD", "DROP")
    run("iptables", "-I", "FORWARD", "-j", "DOCKER-USER")
    run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")

    assert host.measure() == "pairs 20/20, internet 5/5"


def test_bridged_frames_that_pass_the_rules_stay_free(host: Host) -> None:
    """br_netfilter, which Docker may turn on, shows the rules what stays on a bridge."""
    add_guest("second", host.segments["private"], "10.0.2.11")
    if Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
    with program(inside("second"), WHO, "10.0.2.11", "0") as server:
        assert connect("private", "10.0.2.11", int(first_line(server))).stdout.strip() == "10.0.2.10"
    assert host.measure() == "pairs 20/20, internet 5/5"
