# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""reachability as a task calls it: real packets between namespaces, through real rules."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_compile import compile_firewall
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.host.netns import Agent
from ansible_collections.hybridlab.platform.plugins.modules import reachability
from ansible_collections.hybridlab.platform.tests.unit.lab_network import OUTSIDE, OUTSIDE_ADDRESS, add_guest, build_host, first_line, inside, program, until
from ansible_collections.hybridlab.platform.tests.unit.private_network import private_network, run

CHECKOUT = Path(__file__).resolve().parents[3]


def segment(name: str, number: int, **values: Any) -> dict[str, Any]:
    """As an inventory has it. Without DNS and DHCP: the host of these tests has no dnsmasq."""
    base = {"name": name, "bridge": f"br-{name}", "cidr": f"10.0.{number}.0/24", "gateway": f"10.0.{number}.1", "host_services": []}
    return {**base, **values}


ONE = segment("one", 1, reaches=["two"])
TWO = segment("two", 2, internet=False)
CONFIG = [ONE, TWO]

# A DHCP server with one address and a DNS server with one name, for one bridge. RFC 2131 and RFC 1035, just enough.
SERVICES = """
import select, socket, struct, sys
bridge, gateway, leased, named = sys.argv[1:]
dhcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dhcp.setsockopt(socket.SOL_SOCKET, 25, bridge.encode())
dhcp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
dhcp.bind(("", 67))
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind((gateway, 53))
print("ready", flush=True)
while True:
    for server in select.select([dhcp, dns], [], [])[0]:
        data, peer = server.recvfrom(4096)
        if server is dhcp:
            kind = data[data.index(b"\\x35\\x01") + 2]
            print(kind, flush=True)
            if kind in (1, 3):
                options = [(53, bytes([2 if kind == 1 else 5])), (54, socket.inet_aton(gateway)), (1, bytes((255, 255, 255, 0))),
                           (3, socket.inet_aton(gateway)), (51, struct.pack("!I", 600))]
                answer = bytes([2]) + data[1:16] + socket.inet_aton(leased) + bytes(8) + data[28:240]
                answer += b"".join(bytes([code, len(value)]) + value for code, value in options) + b"\\xff"
                dhcp.sendto(answer, ("255.255.255.255", 68))
        else:
            answer = b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(named)
            dns.sendto(data[:2] + b"\\x81\\x80" + data[4:6] + b"\\x00\\x01" + bytes(4) + data[12:] + answer, peer)
"""


class Caller:
    def __init__(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.capsys = capsys
        self.remote_tmp = str(tmp_path)

    def arguments(self, check: bool = False, **params: Any) -> dict[str, Any]:
        return {"config": CONFIG, "timeout": 1, "_ansible_check_mode": check, "_ansible_remote_tmp": self.remote_tmp, **params}

    def __call__(self, check: bool = False, **params: Any) -> dict[str, Any]:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
        try:
            with patch_module_args(self.arguments(check, **params)), pytest.raises(SystemExit):
                reachability.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        answer: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return answer


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Caller]:
    with private_network():
        yield Caller(capsys, tmp_path)


def load_rules(config: list[dict[str, Any]]) -> None:
    platform = parse_platform({"platform_name": "x", "platform_domain": "x", "platform_segments": config})
    run("nft", "-f", "-", text=render(compile_firewall(platform)))


def left_over() -> list[str]:
    links = [link["ifname"] for link in json.loads(run("ip", "-j", "link")) if link["ifname"].startswith("hlprobe")]
    return links + [line for line in run("ip", "netns", "list").splitlines() if line.startswith("hybridlab")]


def test_as_declared(call: Caller) -> None:
    build_host(CONFIG)
    load_rules(CONFIG)

    answer = call()

    assert "failed" not in answer, answer
    assert answer["summary"] == "pairs 2/2, internet 0/0"
    assert answer["matrix"] == {"one": {"two": dict.fromkeys(("tcp", "udp", "icmp"), "open")}, "two": {"one": dict.fromkeys(("tcp", "udp", "icmp"), "refused")}}
    assert answer["segments"]["one"] == {
        "ok": True,
        "bridge": "br-one",
        "cidr": "10.0.1.0/24",
        "gateway": "10.0.1.1",
        "address": "10.0.1.254",
        "probe": "namespace",
        "ping": "open",
        "dns": "refused",
        "lease": None,
        "dhcp": None,
    }
    assert left_over() == []


def test_host_that_lets_everything_pass(call: Caller) -> None:
    build_host(CONFIG)

    answer = call(protocols=["tcp", "icmp"])

    assert answer["failed"] is True
    assert (answer["pairs_ok"], answer["pairs_total"]) == (1, 2)
    assert answer["differences"] == ["two -> one: tcp open, icmp open; declared closed (platform_segments[two].reaches does not name one)"]
    assert "two -> one: tcp open" in answer["msg"]
    assert answer["segments"]["one"]["ok"] is True
    assert answer["segments"]["two"]["ok"] is False
    assert left_over() == []
    assert "failed" not in call(protocols=["tcp"], fail_on_difference=False)


def test_host_that_forwards_nothing(call: Caller) -> None:
    build_host(CONFIG)
    run("sysctl", "-qw", "net.ipv4.ip_forward=0")

    answer = call(fail_on_difference=False)

    assert answer["matrix"]["one"]["two"] == dict.fromkeys(("tcp", "udp", "icmp"), "timeout")
    assert answer["pairs_ok"] == 1


def test_the_internet(call: Caller) -> None:
    build_host(CONFIG)
    load_rules(CONFIG)
    outside = Agent(inside(OUTSIDE), sys.executable, "the Internet")
    try:
        ports = {f"{protocol}_port": outside.ask("listen", protocol=protocol, address=OUTSIDE_ADDRESS).result(5)["port"] for protocol in ("tcp", "udp")}
        answer = call(internet={"address": OUTSIDE_ADDRESS, "udp": "echo", **ports})
    finally:
        outside.close()

    assert "failed" not in answer, answer
    assert answer["summary"] == "pairs 2/2, internet 2/2"
    assert answer["matrix"]["one"]["internet"] == dict.fromkeys(("tcp", "udp", "icmp"), "open")
    assert answer["matrix"]["two"]["internet"] == dict.fromkeys(("tcp", "udp", "icmp"), "refused")


def test_lease_and_names(call: Caller) -> None:
    hosts = [{"name": "web", "address": "10.0.1.20"}]
    config = [segment("one", 1, host_services=["dhcp", "dns"], dhcp=[{"first": "10.0.1.100", "last": "10.0.1.120"}], hosts=hosts)]
    build_host(config)
    load_rules(config)
    with program([], SERVICES, "br-one", "10.0.1.1", "10.0.1.107", "10.0.1.20") as services:
        assert first_line(services) == "ready"
        answer = call(config=config, domain="lab.local")
        heard = [first_line(services) for _turn in range(3)]

    assert "failed" not in answer, answer
    assert answer["segments"]["one"]["lease"] == "10.0.1.107"
    assert answer["segments"]["one"]["dhcp"]["router"] == "10.0.1.1"
    assert answer["segments"]["one"]["dhcp"]["seconds"] == 600
    assert answer["segments"]["one"]["dns"] == "open"
    assert heard == ["1", "3", "7"]  # discover, request, release


def test_wrong_lease_and_wrong_name(call: Caller) -> None:
    hosts = [{"name": "web", "address": "10.0.1.20"}]
    config = [segment("one", 1, host_services=["dhcp", "dns"], dhcp=[{"first": "10.0.1.100", "last": "10.0.1.120"}], hosts=hosts)]
    build_host(config)
    with program([], SERVICES, "br-one", "10.0.1.1", "10.0.1.7", "10.0.1.21") as services:
        assert first_line(services) == "ready"
        answer = call(config=config, domain="lab.local")

    assert answer["differences"] == [
        "one: DNS at 10.0.1.1 says 10.0.1.21 for web.lab.local; declared 10.0.1.20",
        "one: DHCP leased 10.0.1.7, outside 10.0.1.100-10.0.1.120",
    ]


def test_segment_without_a_free_static_address_is_measured_from_a_leased_one(call: Caller) -> None:
    full = segment("one", 1, cidr="10.0.1.0/24", host_services=["dhcp", "dns"], dhcp=[{"first": "10.0.1.2", "last": "10.0.1.254"}])
    build_host([full, TWO])
    with program([], SERVICES, "br-one", "10.0.1.1", "10.0.1.107", "10.0.1.20") as services:
        assert first_line(services) == "ready"
        answer = call(config=[full, TWO], fail_on_difference=False)

    assert answer["segments"]["one"]["address"] == "10.0.1.107"
    assert answer["matrix"]["two"]["one"]["tcp"] == "open"


def test_segment_without_any_address(call: Caller) -> None:
    hosts = [{"name": f"h{number}", "address": f"10.0.1.{number}"} for number in range(2, 7)]
    full = segment("one", 1, cidr="10.0.1.0/29", hosts=hosts)
    build_host([full])

    answer = call(config=[full])

    assert answer["failed"] is True
    assert "platform_segments[one].cidr: found 10.0.1.0/29, which has no free static address" in answer["msg"]
    assert left_over() == []


def test_address_that_somebody_uses_is_not_taken(call: Caller) -> None:
    build_host(CONFIG)
    add_guest("stranger", ONE, "10.0.1.254")

    assert call(fail_on_difference=False)["segments"]["one"]["address"] == "10.0.1.253"


@pytest.mark.parametrize("shell", [False, True])
def test_given_probe(call: Caller, shell: bool) -> None:
    build_host(CONFIG)
    load_rules(CONFIG)
    add_guest("web", ONE, "10.0.1.10")
    # As ssh does: all words are joined and handed to a shell.
    command = [*inside("web"), *(["sh", "-c", 'exec sh -c "$*"', "-"] if shell else [])]

    answer = call(probes=[{"segment": "one", "address": "10.0.1.10", "command": command, "shell": shell, "python": sys.executable}])

    assert "failed" not in answer, answer
    assert answer["segments"]["one"]["probe"] == "given"
    assert answer["segments"]["one"]["address"] == "10.0.1.10"
    assert answer["summary"] == "pairs 2/2, internet 0/0"


def test_identity_is_a_private_file_for_as_long_as_it_measures(call: Caller, tmp_path: Path) -> None:
    build_host(CONFIG)
    load_rules(CONFIG)
    add_guest("web", ONE, "10.0.1.10")
    seen = tmp_path / "seen"
    # Notes what it was given, then does what the other probes do.
    script = f'stat -c "%a %n" "$1" "$2" > {seen}; cat "$1" >> {seen}; shift 2; exec "$@"'
    command = ["sh", "-c", script, "-", "{identity}", "{known_hosts}", *inside("web")]

    answer = call(identity="the key", probes=[{"segment": "one", "address": "10.0.1.10", "command": command, "python": sys.executable}])

    assert "failed" not in answer, answer
    identity, known_hosts, key = seen.read_text().splitlines()
    assert [identity.split()[0], known_hosts.split()[0], key] == ["600", "600", "the key"]
    assert not Path(identity.split()[1]).parent.exists()


def test_probe_that_does_not_start(call: Caller) -> None:
    build_host(CONFIG)

    answer = call(probes=[{"segment": "one", "address": "10.0.1.10", "command": ["sh", "-c", "echo no route >&2; exit 7"]}])
    missing = call(probes=[{"segment": "one", "address": "10.0.1.10", "command": ["/no/such/program"]}])

    assert "segment one: its probe cannot listen on 10.0.1.10: error: the probe of segment one ended: no route" in answer["msg"]
    assert "Correct the command of this probe" in missing["msg"]
    assert left_over() == []


def test_check_mode_measures_nothing(call: Caller) -> None:
    answer = call(check=True)

    assert "failed" not in answer, answer
    assert answer["expected"] == {"one": {"two": True, "internet": True}, "two": {"one": False, "internet": False}}
    assert answer["matrix"] == {}
    assert answer["summary"] == "not measured"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"config": [{"name": "one", "cidr": "10.0.1.0/24", "reaches": ["tow"]}, {"name": "two", "cidr": "10.0.2.0/24"}]}, "Did you mean 'two'?"),
        ({"internet": {"address": "10.0.1.9"}}, "which lies in platform_segments[one] (10.0.1.0/24)"),
        ({"internet": {"address": "172.17.0.9"}, "ranges": {"docker": "172.17.0.0/16"}}, "which lies in ranges.docker"),
        ({"internet": {"address": "example.org"}}, "internet.address: found 'example.org', which is no IPv4 address"),
        ({"ranges": {"docker": "172.17.0.0/33"}}, "ranges.docker: found '172.17.0.0/33'"),
        ({"probes": [{"segment": "tow", "address": "10.0.1.9", "command": ["x"]}]}, "found segment 'tow', which is none of one, two"),
        ({"probes": [{"segment": "one", "address": "10.0.2.9", "command": ["x"]}]}, "probes[one].address: found 10.0.2.9, which lies outside 10.0.1.0/24"),
        ({"probes": [{"segment": "one", "address": "10.0.1.9", "command": ["x"]}] * 2}, "probes[1].segment"),
    ],
)
def test_wrong_arguments(call: Caller, params: dict[str, Any], message: str) -> None:
    answer = call(**params)

    assert answer["failed"] is True
    assert message in answer["msg"]


def test_host_without_the_bridges(call: Caller) -> None:
    answer = call()

    assert "no bridge for one (br-one), two (br-two)" in answer["msg"]
    assert left_over() == []


def test_left_overs_of_a_killed_run_are_removed(call: Caller) -> None:
    build_host(CONFIG)
    run("ip", "netns", "add", "hybridlab-probe-7")
    run("ip", "link", "add", "hlprobe7", "type", "veth", "peer", "name", "eth0", "netns", "hybridlab-probe-7")
    run("ip", "netns", "add", "somebody-else")

    call()

    assert left_over() == []
    assert "somebody-else" in run("ip", "netns", "list")


def test_one_measurement_at_a_time(call: Caller) -> None:
    build_host(CONFIG)
    with program([], "import fcntl,time; f=open('/run/hybridlab-reachability.lock','w'); fcntl.flock(f,fcntl.LOCK_EX); print('held'); time.sleep(60)") as other:
        assert first_line(other) == "held"
        answer = call()

    assert "another measurement runs on this host" in answer["msg"]


RUNNER = """
import json, sys
sys.path.insert(0, {checkout!r})
import tests.conftest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.hybridlab.platform.plugins.modules import reachability
with patch_module_args(json.loads({arguments!r})):
    reachability.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_killed_in_the_middle(call: Caller, number: signal.Signals) -> None:
    # With spanning tree the ports are not open for some seconds: a middle that is long enough to be hit.
    build_host(CONFIG, stp=True)
    text = RUNNER.format(checkout=str(CHECKOUT), arguments=json.dumps(call.arguments()))
    measurement = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    until(lambda: len(left_over()) >= 4)

    measurement.send_signal(number)
    out, _err = measurement.communicate(timeout=20)

    if number != signal.SIGKILL:
        assert left_over() == []
        assert f"interrupted by {number.name}" in json.loads(out)["msg"]
    run("ip", "link", "set", "br-one", "type", "bridge", "stp_state", "0")
    run("ip", "link", "set", "br-two", "type", "bridge", "stp_state", "0")
    load_rules(CONFIG)
    assert call()["summary"] == "pairs 2/2, internet 0/0"
    assert left_over() == []
