# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent's protocol as libvirt hands it on: limits, codes, bytes, silence, refusals."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from typing import Any, Optional

import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guest_agent
from ansible_collections.hybridlab.platform.tests.unit.modules.libvirt_host import libvirt_host


class Guest:
    """A domain whose agent runs commands on this machine; it stands in for libvirt_qemu too."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.held = False
        self.failure: Optional[tuple[int, str]] = None

    def name(self) -> str:
        return "web"

    def qemuAgentCommand(self, domain: Any, text: str, timeout: int, flags: int) -> str:  # noqa: N802
        assert domain is self and flags == 0
        question = json.loads(text)
        self.asked.append((question["execute"], timeout))
        if self.failure:
            raise failure(*self.failure)
        answer = getattr(self, question["execute"].replace("-", "_"))(**question.get("arguments", {}))
        return json.dumps({"return": answer})

    def guest_ping(self) -> dict[str, Any]:
        return {}

    def guest_exec(self, **arguments: Any) -> dict[str, Any]:
        argv = [arguments["path"], *arguments["arg"]]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(base64.b64decode(arguments.get("input-data", "")))
        process.stdin.close()
        process.stdin = None
        self.processes[process.pid] = process
        return {"pid": process.pid}

    def guest_exec_status(self, pid: int) -> dict[str, Any]:
        process = self.processes[pid]
        if process.poll() is None:
            return {"exited": False}
        out, err = process.communicate()
        answer: dict[str, Any] = {"exited": True}
        answer.update({"exitcode": process.returncode} if process.returncode >= 0 else {"signal": -process.returncode})
        # As QEMU does: no key where there was no output.
        answer.update({key: base64.b64encode(data).decode() for key, data in (("out-data", out), ("err-data", err)) if data})
        return answer

    def guest_network_get_interfaces(self) -> list[dict[str, Any]]:
        address = {"ip-address-type": "ipv4", "ip-address": "10.0.1.20", "prefix": 24}
        return [{"name": "lo"}, {"name": "eth0", "hardware-address": "52:54:00:AA:00:01", "ip-addresses": [address]}]

    def guest_fsfreeze_freeze(self) -> int:
        self.held = True
        return 2

    def guest_fsfreeze_thaw(self) -> int:
        was, self.held = self.held, False
        return 2 if was else 0

    def guest_fsfreeze_status(self) -> str:
        return "frozen" if self.held else "thawed"


def failure(code: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(text)
    error.err = (code, 10, text, 2, "", None, None, 0, 0)
    return error


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    made = Guest()
    monkeypatch.setattr(guest_agent, "libvirt_qemu", made)
    return made


def test_output_input_and_code_come_through(guest: Guest) -> None:
    assert guest_agent.execute(guest, ["sh", "-c", "cat; echo wrong >&2; exit 7"], stdin="grün\n") == (7, "grün\n", "wrong\n")
    assert guest_agent.execute(guest, ["true"]) == (0, "", "")
    assert guest_agent.execute(guest, ["sh", "-c", "kill -TERM $$"]) == (143, "", "")
    assert guest_agent.execute(guest, ["printf", r"\377"]) == (0, "\ufffd", "")


def test_a_command_that_does_not_end_is_killed(guest: Guest) -> None:
    begin = time.monotonic()
    with pytest.raises(ResourceError, match=r"guest web: `sleep 600` did not end within 0.3 s in the guest and was killed"):
        guest_agent.execute(guest, ["sleep", "600"], timeout=0.3)
    assert time.monotonic() - begin < 5
    sleeper = next(iter(guest.processes.values()))
    assert sleeper.wait(timeout=5) == -9


def test_every_question_has_a_limit_of_whole_seconds(guest: Guest) -> None:
    guest_agent.ping(guest, timeout=0.2)
    guest_agent.fsfreeze(guest, timeout=12.5)
    guest_agent.interfaces(guest)
    assert guest.asked == [("guest-ping", 1), ("guest-fsfreeze-freeze", 13), ("guest-network-get-interfaces", 5)]


def test_interfaces_as_the_guest_has_them(guest: Guest) -> None:
    assert guest_agent.interfaces(guest) == [
        guest_agent.GuestInterface("lo", "", ()),
        guest_agent.GuestInterface("eth0", "52:54:00:aa:00:01", ("10.0.1.20/24",)),
    ]


def test_file_systems_are_held_and_let_go(guest: Guest) -> None:
    assert guest_agent.fsfreeze(guest) == 2
    assert guest_agent.frozen(guest) is True
    assert guest_agent.fsthaw(guest) == 2
    assert guest_agent.frozen(guest) is False
    assert guest_agent.fsthaw(guest) == 0


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED, libvirt.VIR_ERR_OPERATION_INVALID])
def test_silence(guest: Guest, code: int) -> None:
    guest.failure = code, "Guest agent is not responding:\n QEMU guest agent is not connected"
    assert guest_agent.ping(guest) is False
    with pytest.raises(guest_agent.AgentSilent) as caught:
        guest_agent.fsfreeze(guest)
    assert str(caught.value).startswith(
        "guest web: its agent does not answer guest-fsfreeze-freeze: Guest agent is not responding: QEMU guest agent is not connected. The guest must run"
    )


def test_a_refusal_is_no_silence(guest: Guest) -> None:
    guest.failure = libvirt.VIR_ERR_INTERNAL_ERROR, "unable to execute QEMU agent command 'guest-exec': Command guest-exec has been disabled"
    with pytest.raises(guest_agent.AgentRefused, match=r"its agent refused guest-exec: .* has been disabled. Look in the guest"):
        guest_agent.execute(guest, ["true"])


def test_a_hypervisor_without_agents_is_silent() -> None:
    with libvirt_host() as conn:
        domain = conn.defineXML("<domain type='test'><name>web</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>")
        with pytest.raises(guest_agent.AgentSilent, match="guest web: its agent does not answer guest-ping: "):
            guest_agent.command(domain, "guest-ping")


def test_a_host_without_the_module_is_told_what_to_install(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_agent, "libvirt_qemu", None)
    assert guest_agent.ping(guest) is False
    with pytest.raises(guest_agent.AgentSilent, match="install the package python3-libvirt"):
        guest_agent.fsthaw(guest)
