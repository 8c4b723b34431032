# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""port_probes as a task calls it: real packets from each side, through the real rules and Docker's translation, to a namespace that plays a container."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_compile import compile_firewall
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_ports import ALLOW, REFUSE, TABLE, compile_ports
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_ports import read
from ansible_collections.hybridlab.platform.plugins.modules import port_probes
from ansible_collections.hybridlab.platform.tests.unit.lab_network import OUTSIDE, WHO, add_guest, build_host, first_line, inside, program
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module
from ansible_collections.hybridlab.platform.tests.unit.private_network import private_network, run

SEGMENTS: list[dict[str, Any]] = [
    {"name": name, "bridge": f"br-{name}", "cidr": f"10.0.{number}.0/24", "gateway": f"10.0.{number}.1", "host_services": []}
    for number, name in ((1, "one"), (2, "two"))
]
RANGES = {"docker_bridge": "172.17.0.0/16"}
DOCKER = {"bridge": "docker0", "cidr": "172.17.0.0/16", "gateway": "172.17.0.1"}
CONTAINER = "172.17.0.2"
WEB = {"workload": "web", "published": 8080, "target": 80, "protocol": "tcp", "from": ["one", "host"]}
DNS = {"workload": "dns", "published": 5300, "target": 53, "protocol": "udp", "from": ["internet"]}
HAND = {"workload": "hand", "published": 9000, "target": 80, "protocol": "tcp", "from": []}

# Answers on TCP port 80 and hears on UDP port 53.
SERVER = """
import socket, sys
tcp = socket.create_server(("", 80))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 53))
print("ready", flush=True)
while True:
    tcp.accept()[0].close()
"""

# Opens a connection, says so, and after each line of its input what came back for a byte.
CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
print(connection.makefile("rb").readline().decode().strip(), flush=True)
for _line in sys.stdin:
    connection.sendall(b"x")
    print(connection.recv(1).decode(), flush=True)
"""


def load(config: list[dict[str, Any]], undeclared: str = REFUSE) -> None:
    """The segments' table and the ports', as a host has them."""
    platform = parse_platform({"platform_name": "x", "platform_domain": "x", "platform_segments": SEGMENTS, "platform_ranges": RANGES})
    ports = [one.port for one in read(config, [segment.name for segment in platform.segments])]
    rules = compile_ports(ports, platform.segments, [IPv4Network(DOCKER["cidr"])], undeclared)
    run("nft", "-f", "-", text=render(compile_firewall(platform)) + render(rules))


def publish(protocol: str, port: int, target: int) -> None:
    """As Docker does without its proxy."""
    run(
        "iptables", "-t", "nat", "-A", "DOCKER", "-p", protocol, "-m", protocol, "--dport", str(port), "-j", "DNAT", "--to-destination", f"{CONTAINER}:{target}"
    )


@pytest.fixture
def host() -> Iterator[None]:
    with private_network():
        build_host(SEGMENTS)
        run("ip", "link", "add", "docker0", "type", "bridge")
        run("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
        run("ip", "link", "set", "docker0", "up")
        run("sysctl", "-qw", "net.ipv4.conf.docker0.route_localnet=1")
        add_guest("web", DOCKER, CONTAINER)
        for arguments in ("-N DOCKER", "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER", "-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER"):
            run("iptables", "-t", "nat", *arguments.split())
        run("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "docker0", "-m", "addrtype", "--src-type", "LOCAL", "-j", "MASQUERADE")
        publish("tcp", 8080, 80)
        publish("udp", 5300, 53)
        load([WEB, DNS])
        yield


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    def caller(check: bool = False, **params: Any) -> dict[str, Any]:
        args = {"config": [WEB, DNS], "segments": SEGMENTS, "timeout": 1, "_ansible_check_mode": check, "_ansible_remote_tmp": str(tmp_path), **params}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
        try:
            return call_module(port_probes, args, capsys)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    return caller


@contextmanager
def serving() -> Iterator[None]:
    with program(inside("web"), SERVER) as server:
        assert first_line(server) == "ready"
        yield


def leftovers() -> list[str]:
    named = run("ip", "-o", "link") + run("ip", "-o", "-4", "addr") + run("ip", "netns", "list")
    return [line for line in named.splitlines() if "hlprobe" in line or "hybridlab-probe" in line]


def test_as_declared_from_each_side(host: None, call: Any) -> None:
    with serving():
        answer = call()

    assert answer.get("failed") is None, answer
    assert answer["summary"] == "ports 2/2, connections 16/16"
    web, dns = answer["ports"]
    assert web["results"] == {"one": "open", "two": "refused", "host": "open", "localhost": "open", "internet": "refused"}
    assert web["direct"] == {"one": "refused", "two": "refused", "internet": "refused"}
    assert dns["results"] == {"one": "refused", "two": "refused", "host": "refused", "localhost": "refused", "internet": "timeout"}
    assert (web["container"], web["listening"], web["ok"]) == ("172.17.0.2:80", True, True)
    assert leftovers() == []


def test_without_the_rules_docker_opens_it_to_everybody(host: None, call: Any) -> None:
    run("nft", "delete", "table", "inet", TABLE)
    with serving():
        answer = call(config=[WEB])

    assert answer["failed"] is True
    # The segments' rules still refuse what carries no mark, so it is closed to the one that may, too.
    assert answer["ports"][0]["results"] == {"one": "refused", "two": "refused", "host": "open", "localhost": "open", "internet": "open"}
    assert answer["ports"][0]["direct"]["internet"] == "open"
    assert "8080/tcp (web): from internet open; declared closed (platform_workloads[web].ports from does not name internet)" in answer["msg"]
    assert "5300/udp (undeclared): from internet timeout; declared closed" in answer["msg"]
    assert "8080/tcp (web): from internet its container 172.17.0.2:80 is open" in answer["msg"]
    assert leftovers() == []


@pytest.mark.parametrize(("loaded", "asked", "faults"), [(REFUSE, REFUSE, 0), (ALLOW, ALLOW, 0), (ALLOW, REFUSE, 3)])
def test_what_is_published_past_the_model(host: None, call: Any, loaded: str, asked: str, faults: int) -> None:
    publish("tcp", 9000, 80)
    load([WEB, DNS], loaded)
    with serving():
        answer = call(undeclared=asked, fail_on_difference=False)

    assert len(answer["differences"]) == faults, answer["differences"]
    assert [line.split(";")[0] for line in answer["differences"]] == [f"9000/tcp (undeclared): from {name} open" for name in ("host", "localhost", "internet")][
        :faults
    ]
    assert len(answer["ports"]) == (3 if asked == REFUSE else 2)


def test_a_port_at_which_nobody_listens_is_not_sound(host: None, call: Any) -> None:
    run("iptables", "-t", "nat", "-F", "DOCKER")
    publish("tcp", 8080, 80)

    answer = call(fail_on_difference=False)

    assert answer["differences"] == [
        "8080/tcp (web): its container 172.17.0.2:80 does not answer (refused), so nothing is proved. Start the workload, or remove the port from it",
        "5300/udp (dns): Docker publishes no such port, so nothing is proved. Start the workload, or remove the port from it",
    ]
    assert answer["summary"] == "ports 0/2, connections 13/13, 2 differences"


def test_a_port_closed_to_all_is_proved_too(host: None, call: Any) -> None:
    publish("tcp", 9000, 80)
    load([WEB, DNS, HAND])
    with serving():
        answer = call(config=[WEB, DNS, HAND])

    assert set(answer["ports"][2]["results"].values()) == {"refused"}


def test_the_container_sees_who_comes(host: None) -> None:
    add_guest("guest", SEGMENTS[0], "10.0.1.10")
    with program(inside("web"), WHO, CONTAINER, "80") as server:
        assert first_line(server) == "80"
        with program(inside("guest"), CLIENT, "10.0.1.1", "8080") as client:
            assert first_line(client) == "10.0.1.10"


def test_an_established_connection_outlives_the_change_that_forbids_it(host: None) -> None:
    add_guest("guest", SEGMENTS[0], "10.0.1.10")
    with program(inside("web"), WHO, CONTAINER, "80") as server:
        assert first_line(server) == "80"
        with program(inside("guest"), CLIENT, "10.0.1.1", "8080") as client:
            assert first_line(client) == "10.0.1.10"
            load([{**WEB, "from": ["host"]}, DNS])
            assert client.stdin is not None
            client.stdin.write("more\n")
            client.stdin.flush()
            assert first_line(client) == "x"
        with program(inside("guest"), CLIENT, "10.0.1.1", "8080") as late:
            assert late.wait(10) != 0


def test_a_forged_container_gets_nothing_in(host: None) -> None:
    load([{**WEB, "from": ["internet"]}])
    forged = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('172.17.0.9', 0)); s.sendto(b'x', ('198.51.100.1', 8080))"
    run("ip", "-n", OUTSIDE, "addr", "add", "172.17.0.9/32", "dev", "lo")
    run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.uplink.rp_filter=0")
    run(*inside(OUTSIDE), "python3", "-c", forged)

    listed = [line for line in run("nft", "list", "chain", "inet", TABLE, "prerouting").splitlines() if "172.17.0.0/16" in line]
    assert "packets 1 " in listed[0]


def test_check_mode_measures_nothing(host: None, call: Any) -> None:
    answer = call(check=True)

    assert (answer["summary"], answer["ports"], answer["changed"]) == ("not measured", [], False)
    assert "nothing was measured" in str(answer["warnings"])


def test_a_missing_bridge_is_named(host: None, call: Any) -> None:
    run("ip", "link", "del", "br-two")

    answer = call()

    assert "this host has no bridge for two (br-two)" in answer["msg"]
    assert leftovers() == []


def test_wrong_input_is_refused_before_anything_is_made(host: None, call: Any) -> None:
    assert "found 'three', from where nobody can come" in call(config=[{**WEB, "from": ["three"]}])["msg"]
    assert subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.count("\n") == 2
