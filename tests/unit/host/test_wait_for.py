# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits end: at the goal, at the deadline, or when there is nothing left to wait for; and then say how far the guest came."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.cloud_init import DONE, FAILED
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guest_address, guest_agent, reach, waits
from ansible_collections.hybridlab.platform.plugins.module_utils.host.waits import Reached, Wait, WaitFailed, wait_for, wait_for_all
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import libvirt_host

MAC = "52:54:00:aa:00:01"
CHANNEL = "<channel type='pty'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@pytest.fixture
def conn() -> Iterator[Any]:
    with libvirt_host() as opened:
        yield opened
        for domain in opened.listAllDomains():
            if domain.isActive():
                domain.destroy()
            domain.undefine()


def start(conn: Any, name: str = "web", devices: str = "") -> Any:
    domain = conn.defineXML(
        f"<domain type='test'><name>{name}</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices>{devices}</devices></domain>"
    )
    domain.create()
    return domain


class Server:
    """A TCP server on loopback that greets each caller with the given bytes, after a while."""

    def __init__(self, *greeting: bytes, pause: float = 0.0) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(greeting, pause), daemon=True).start()

    def _serve(self, greeting: tuple[bytes, ...], pause: float) -> None:
        while True:
            try:
                caller, _address = self.listener.accept()
            except OSError:
                return
            # Who has seen enough hangs up.
            with caller, suppress(OSError):
                for part in greeting:
                    time.sleep(pause)
                    caller.sendall(part)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def failed(conn: Any, name: str, goal: str, seconds: float, **known: Any) -> tuple[str, float]:
    """Message of a wait that must fail, and how long that took."""
    begin = time.monotonic()
    with pytest.raises(WaitFailed) as caught:
        wait_for(conn, name, goal, seconds, **known)
    return str(caught.value), time.monotonic() - begin


def test_ssh_is_there_when_its_banner_was_read(conn: Any) -> None:
    start(conn)
    server = Server(b"Welcome\r\nSSH-2.0-Te", b"st_1\r\n", pause=0.3)
    reached = wait_for(conn, "web", "ssh", 10, ssh=("127.0.0.1", server.port))
    assert reached.detail == f"SSH-2.0-Test_1 at 127.0.0.1 port {server.port}"
    assert reached.address == "127.0.0.1" and 0.5 < reached.seconds < 5


def test_an_open_port_is_not_yet_ssh(conn: Any, closed_port: int) -> None:
    start(conn)
    message, took = failed(conn, "web", "ssh", 0.6, ssh=("127.0.0.1", closed_port))
    assert f"wait_for: ssh was not reached within 0.6 s: no SSH at 127.0.0.1 port {closed_port} (connection refused)" in message
    assert 0.6 <= took < 2
    mute = Server()
    message, _took = failed(conn, "web", "ssh", 3, ssh=("127.0.0.1", mute.port))
    assert "(the connection was closed before a banner came)" in message
    web = Server(b"x" * 9000)
    message, _took = failed(conn, "web", "ssh", 3, ssh=("127.0.0.1", web.port))
    assert "(what answers there is no SSH server)" in message
    slow = Server(b"SSH-2.0-late\r\n", pause=30)
    message, took = failed(conn, "web", "ssh", 1.5, ssh=("127.0.0.1", slow.port))
    assert "(connected, but the server sent no banner yet)" in message and took < 3


def test_without_any_proof_of_an_address_the_message_says_where_it_was_looked_for(conn: Any) -> None:
    start(conn)
    message, took = failed(conn, "web", "address", 0.5, network="default", mac=MAC, ssh=("192.168.122.20", 22))
    assert "it runs, but has no address (expected: 192.168.122.20) after 0.5 s: no new DHCP lease for 52:54:00:aa:00:01 in network default; " in message
    assert "ARP could not be asked (" in message
    assert "`virsh -c test:///default console web`" in message
    assert took < 2


def lease(address: str, expiry: float) -> dict[str, Any]:
    return {"type": 0, "ipaddr": address, "mac": MAC, "expirytime": int(expiry)}


def test_a_lease_since_the_start_is_an_address_and_an_older_one_is_not(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start(conn)
    now = time.time()
    # The network's leases last an hour: this one was given ten seconds before the start.
    monkeypatch.setattr(guest_address, "_leases", lambda net, mac: [lease("10.0.1.20", now - 10 + 3600)])
    message, _took = failed(conn, "web", "address", 0.4, network="default", mac=MAC, since=now)
    assert f"no new DHCP lease for {MAC} in network default (an old one for 10.0.1.20 is no proof)" in message
    monkeypatch.setattr(guest_address, "_leases", lambda net, mac: [lease("10.0.1.20", now - 10 + 3600), lease("10.0.1.21", now + 1 + 3600)])
    assert wait_for(conn, "web", "address", 5, network="default", mac=MAC, since=now).detail == "lease 10.0.1.21"
    # For a guest that runs already, each lease will do.
    assert wait_for(conn, "web", "address", 5, network="default", mac=MAC).address == "10.0.1.20"


class Neighbours:
    """In place of the bridge: who answers to ARP."""

    answering: dict[str, set[str]]

    def __init__(self, bridge: str, source: IPv4Address) -> None:
        assert (bridge, str(source)) == ("virbr0", "192.168.122.1")
        self.answers: dict[str, set[str]] = {}
        self.asked: list[str] = []

    def ask(self, address: str) -> None:
        self.asked.append(address)

    def look(self) -> None:
        self.answers.update({address: self.answering[address] for address in self.asked if address in self.answering})

    def close(self) -> None:
        self.asked.clear()


def test_a_static_guest_is_known_by_its_own_answer(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start(conn)
    monkeypatch.setattr(guest_address, "ArpLook", Neighbours)
    monkeypatch.setattr(Neighbours, "answering", {"127.0.0.1": {MAC}}, raising=False)
    server = Server(b"SSH-2.0-Test\r\n")
    reached = wait_for(conn, "web", "ssh", 5, network="default", mac=MAC.upper(), ssh=("127.0.0.1", server.port), since=time.time())
    assert reached.address == "127.0.0.1"


def test_ssh_of_somebody_else_at_the_address_is_not_the_guest_s(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start(conn)
    monkeypatch.setattr(guest_address, "ArpLook", Neighbours)
    monkeypatch.setattr(Neighbours, "answering", {"127.0.0.1": {"52:54:00:ff:ff:ff"}}, raising=False)
    server = Server(b"SSH-2.0-Test\r\n")
    message, _took = failed(conn, "web", "ssh", 0.8, network="default", mac=MAC, ssh=("127.0.0.1", server.port), since=time.time())
    assert "127.0.0.1 is answered for by 52:54:00:ff:ff:ff, which is not this guest" in message


def test_arp_frames() -> None:
    asked = reach.request(bytes.fromhex("525400000001"), IPv4Address("10.0.1.1"), IPv4Address("10.0.1.20"))
    assert asked.hex() == "ffffffffffff525400000001" + "0806" + "0001080006040001" + "5254000000010a000101" + "0000000000000a000114"
    assert reach.reply(asked) is None
    answer = bytes.fromhex("525400000001525400aa0001" + "0806" + "0001080006040002" + "525400aa00010a000114" + "5254000000010a000101")
    assert reach.reply(answer + b"\0" * 18) == (IPv4Address("10.0.1.20"), MAC)
    assert reach.reply(answer[:30]) is None


def test_a_guest_that_is_suspended_ends_the_wait(conn: Any) -> None:
    start(conn).suspend()
    message, took = failed(conn, "web", "ssh", 30, ssh=("127.0.0.1", 1))
    assert "guest web: it was suspended (`virsh resume`) before wait_for: ssh was reached" in message and took < 2


@pytest.mark.parametrize(("goal", "stop", "words"), [("ssh", "destroy", "destroyed by somebody"), ("agent", "shutdown", "shut down from inside")])
def test_a_guest_that_stops_ends_the_wait_at_once(conn: Any, goal: str, stop: str, words: str, closed_port: int) -> None:
    domain = start(conn, devices=CHANNEL)
    timer = threading.Timer(0.5, getattr(domain, stop))
    timer.start()
    message, took = failed(conn, "web", goal, 30, ssh=("127.0.0.1", closed_port), since=time.time() - 3)
    timer.join()
    assert f"it stopped ({words}) " in message and f" s after its start before wait_for: {goal} was reached" in message
    assert took < 3


def test_a_guest_that_is_removed_ends_the_wait(conn: Any) -> None:
    assert "guest web: it was removed before wait_for: ssh was reached" in failed(conn, "web", "ssh", 30)[0]


def test_a_guest_that_never_ran(conn: Any) -> None:
    start(conn).destroy()
    assert "it stopped (destroyed by somebody) before wait_for: ssh" in failed(conn, "web", "ssh", 30)[0]


def test_libvirt_that_goes_away_ends_the_wait(conn: Any) -> None:
    start(conn)

    class Gone:
        def getURI(self) -> str:  # noqa: N802
            return "qemu:///system"

        def lookupByName(self, name: str) -> Any:  # noqa: N802
            return conn.networkLookupByName("nosuch")

    assert "libvirt stopped answering (" in failed(Gone(), "web", "ssh", 30)[0]


def test_goals_that_can_never_be_reached_are_refused_at_once(conn: Any) -> None:
    start(conn)
    for goal, words in (
        ("agent", "has no channel for an agent. Set `agent: true`"),
        ("cloud_init", "has neither an agent nor a console"),
        ("address", "is in no network of libvirt"),
    ):
        message, took = failed(conn, "web", goal, 30)
        assert f"wait_for: {goal} cannot be reached: " in message and words in message and took < 1
    with pytest.raises(ResourceError, match=r"guest web: wait_for: found 'login'; write one of address, ssh, agent, cloud_init"):
        wait_for(conn, "web", "login", 1)


def test_agent(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start(conn, devices=CHANNEL)
    assert "no agent has opened its channel in the guest" in failed(conn, "web", "agent", 0.4)[0]
    monkeypatch.setattr(waits, "_agent_channel", lambda domain: "connected")
    # The test driver has no agent, so nobody answers.
    assert "an agent has opened its channel in the guest, but does not answer" in failed(conn, "web", "agent", 0.4)[0]
    monkeypatch.setattr(guest_agent, "ping", lambda domain, timeout: True)
    assert wait_for(conn, "web", "agent", 5).detail == "the guest agent answers"


def test_cloud_init_by_the_console(conn: Any, tmp_path: Path) -> None:
    start(conn)
    log = tmp_path / "console.log"
    message, _took = failed(conn, "web", "cloud_init", 0.4, console_log=str(log))
    assert "neither agent nor console says that cloud-init has ended" in message
    log.write_bytes(b"\x1b[2Jx.py[WARNING]: slow mirror\r\nlogin: \xff")
    message, _took = failed(conn, "web", "cloud_init", 0.4, console_log=str(log))
    assert "what it has said so far: x.py[WARNING]: slow mirror" in message and "last lines: x.py[WARNING]: slow mirror | login:" in message
    log.write_text(f'{FAILED} {{"v1": {{"errors": ["no such package: foo"]}}}}\n', encoding="utf-8")
    message, took = failed(conn, "web", "cloud_init", 30, console_log=str(log))
    assert "cloud-init ended with errors: no such package: foo." in message and took < 1
    # Only the end of a long log is read.
    log.write_bytes(log.read_bytes() + b"." * (1 << 20) + f"\n{DONE}\n".encode())
    assert wait_for(conn, "web", "cloud_init", 5, console_log=str(log)).detail == "cloud-init is done, without errors"


@pytest.mark.parametrize(
    ("code", "out", "words"),
    [
        (0, '{"v1": {"errors": []}}', "cloud-init is done, without errors"),
        (0, '{"v1": {"errors": ["broken"]}}', "cloud-init ended with errors: broken | its log"),
        (3, "", "cannot be reached: the image has no cloud-init"),
        (5, "", "cannot be reached: cloud-init is switched off"),
        (4, "", "neither agent nor console says that cloud-init has ended"),
    ],
)
def test_cloud_init_by_the_agent(conn: Any, monkeypatch: pytest.MonkeyPatch, code: int, out: str, words: str) -> None:
    start(conn, devices=CHANNEL)
    monkeypatch.setattr(waits, "_agent_channel", lambda domain: "connected")
    monkeypatch.setattr(guest_agent, "execute", lambda domain, argv, timeout: (code, out, "its log\n"))
    outcome = wait_for_all(conn, [Wait("web", "cloud_init", 0.4)])["web"]
    assert words in (outcome.detail if isinstance(outcome, Reached) else str(outcome))


def test_an_agent_that_may_run_nothing_leaves_the_console(conn: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    start(conn, devices=CHANNEL)
    log = tmp_path / "console.log"
    asked = []

    def refuse(domain: Any, argv: list[str], timeout: float) -> Any:
        asked.append(argv)
        log.write_text(f"{DONE}\n", encoding="utf-8")
        raise guest_agent.AgentRefused("no")

    monkeypatch.setattr(waits, "_agent_channel", lambda domain: "connected")
    monkeypatch.setattr(guest_agent, "execute", refuse)
    assert wait_for(conn, "web", "cloud_init", 5, console_log=str(log)).detail == "cloud-init is done, without errors"
    assert len(asked) == 1


def test_what_is_asked_in_the_guest(tmp_path: Path) -> None:
    program = waits._ASK_CLOUD_INIT.replace("/usr/local/sbin:", f"{tmp_path}:").replace("/run/cloud-init", str(tmp_path)).replace("/var/log", str(tmp_path))

    def ask() -> tuple[int, str, str]:
        done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    tool = tmp_path / "cloud-init"
    tool.touch()
    assert ask()[0] == 3  # not executable: none
    tool.chmod(0o755)
    assert ask()[0] == 4
    (tmp_path / "cloud-init.log").write_text("DEBUG: a\nutil.py[WARNING]: b\n", encoding="utf-8")
    (tmp_path / "cloud-init-output.log").write_text("".join(f"line {number}\n" for number in range(9)), encoding="utf-8")
    (tmp_path / "result.json").write_text("{}\n", encoding="utf-8")
    assert ask() == (0, "{}\n", "util.py[WARNING]: b\nline 4\nline 5\nline 6\nline 7\nline 8\n")
    (tmp_path / "disabled").touch()
    assert ask()[0] == 5


def test_many_guests_take_as_long_as_the_slowest(conn: Any, closed_port: int) -> None:
    names = [f"g{number}" for number in range(8)]
    for name in names:
        start(conn, name)
    server = Server(b"SSH-2.0-Test\r\n", pause=0.4)
    all_waits = [Wait(name, "ssh", 20, address="127.0.0.1", port=server.port) for name in names[:6]]
    all_waits += [Wait("g6", "ssh", 0.5, address="127.0.0.1", port=closed_port), Wait("g7", "ssh", 1.5, address="127.0.0.1", port=closed_port)]
    begin = time.monotonic()
    outcomes = wait_for_all(conn, all_waits)
    took = time.monotonic() - begin
    assert sorted(outcomes) == names
    assert all(isinstance(outcomes[name], Reached) for name in names[:6])
    assert "within 0.5 s" in str(outcomes["g6"]) and "within 1.5 s" in str(outcomes["g7"])
    # One after the other, the six callers of the server alone would take 2.4 s.
    assert took < 6


def test_nothing_to_wait_for(conn: Any) -> None:
    assert wait_for_all(conn, []) == {}
