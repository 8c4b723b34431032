# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until guests have an address, answer SSH, have an agent, are done with cloud-init. Each wait ends: at its deadline at the latest.

Several guests are waited for in one loop, each with its own deadline, so eight guests take as long as the slowest of them.
"""

from __future__ import annotations

import os
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import AGENT_CHANNEL
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.waits import (
    GOALS,
    CloudInit,
    Progress,
    explain,
    explain_cloud_init,
    judge_console,
    judge_result,
    last_lines,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guest_agent
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guest_address import AddressLook
from ansible_collections.hybridlab.platform.plugins.module_utils.host.reach import SshLook

try:
    import libvirt
except ImportError:
    libvirt = None

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 1.0  # seconds between two looks
_AGENT_PAUSE = 3.0  # seconds between two questions to an agent that lets one wait: libvirt gives it 5 s each time
_AGENT_LIMIT = 10.0  # seconds for a look at cloud-init's result in the guest
_LOG_BYTES = 1 << 20  # of the end of a console's log

# virDomainShutoffReason (libvirt-domain.h).
_OFF_REASONS = {1: "shut down from inside", 2: "destroyed by somebody", 3: "crashed", 4: "migrated away", 5: "saved", 6: "failed to start", 7: "reverted"}

# virDomainPausedReason: those that do not pass by themselves.
_PAUSE_REASONS = {
    1: "it was suspended (`virsh resume`)",
    5: "it was paused because a disk failed (is the pool full? `df` on the host, then `virsh resume`)",
}

# Codes: 0 with the result and telling lines of the logs, 3 no cloud-init in the guest, 4 not done yet, 5 switched off.
_ASK_CLOUD_INIT = """\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
command -v cloud-init >/dev/null || exit 3
[ ! -e /run/cloud-init/disabled ] || exit 5
[ -s /run/cloud-init/result.json ] || exit 4
cat /run/cloud-init/result.json
{
    grep -E 'ERROR|CRITICAL|WARNING' /var/log/cloud-init.log | tail -n 8
    tail -n 5 /var/log/cloud-init-output.log
} >&2
exit 0
"""
_NO_CLOUD_INIT = {3: "the image has no cloud-init", 5: "cloud-init is switched off in the guest, or found no data source"}


@dataclass(frozen=True)
class Wait:
    """What to wait for, and what is known about the guest.

    goal:    one of GOALS
    seconds: limit, from the call on
    network, mac: of its first interface
    address: that it is to take; None for one that is leased from the range
    port:    of its SSH server
    since:   epoch seconds of its start (of the plugging, for an interface); only what was seen after that is proof. 0 for a guest that runs already
    """

    name: str
    goal: str
    seconds: float
    network: Optional[str] = None
    mac: Optional[str] = None
    address: Optional[str] = None
    port: int = 22
    console_log: Optional[str] = None
    since: float = 0.0


@dataclass(frozen=True)
class Reached:
    """How a wait ended well.

    seconds: from the call on
    detail:  in words, such as ``SSH-2.0-OpenSSH_9.2 at 10.0.1.20 port 2211``
    address: where the guest was found; None when nothing proved one
    """

    seconds: float
    detail: str
    address: Optional[str] = None


class WaitFailed(ResourceError):
    """The goal was not reached; the message says how far the guest came."""


def wait_for(
    conn: Any,
    name: str,
    goal: str,
    deadline_s: float,
    *,
    ssh: Optional[tuple[Optional[str], int]] = None,
    console_log: Optional[str] = None,
    mac: Optional[str] = None,
    network: Optional[str] = None,
    since: float = 0.0,
) -> Reached:
    """Waits for one guest. ssh: address (None for the leased one) and port; otherwise as in Wait. Raises WaitFailed."""
    address, port = ssh or (None, 22)
    wait = Wait(name, goal, deadline_s, network=network, mac=mac, address=address, port=port, console_log=console_log, since=since)
    outcome = wait_for_all(conn, [wait])[name]
    if isinstance(outcome, WaitFailed):
        raise outcome
    return outcome


def wait_for_all(conn: Any, waits: Sequence[Wait]) -> dict[str, Union[Reached, WaitFailed]]:
    """Waits for all at the same time; how it ended for each, by name."""
    outcomes: dict[str, Union[Reached, WaitFailed]] = {}
    watches = [_Watch(conn, wait) for wait in waits]
    pause = _FIRST_PAUSE
    try:
        while True:
            for watch in watches:
                if watch.wait.name not in outcomes:
                    outcome = watch.look()
                    if outcome is not None:
                        outcomes[watch.wait.name] = outcome
            open_ = [watch for watch in watches if watch.wait.name not in outcomes]
            if not open_:
                return outcomes
            # Never beyond the next deadline, so that none is overslept.
            next_end = min(watch.deadline for watch in open_) - time.monotonic()
            time.sleep(max(0.01, min(pause, next_end)))
            pause = min(pause * 1.2, _LONGEST_PAUSE)
    finally:
        for watch in watches:
            watch.close()


class _Watch:
    """One guest's way to its goal."""

    def __init__(self, conn: Any, wait: Wait) -> None:
        if wait.goal not in GOALS:
            raise ResourceError(f"guest {wait.name}: wait_for: found {wait.goal!r}; write one of {', '.join(GOALS)}.")
        self.wait = wait
        self.begun = time.monotonic()
        self.deadline = self.begun + wait.seconds
        self.progress = Progress(wait.name, wait.goal, wait.seconds, conn.getURI(), wait.console_log, expected=wait.address)
        self._conn = conn
        self._address = AddressLook(conn, wait.network, wait.mac, wait.address, wait.since) if wait.network and wait.mac else None
        self._ssh: Optional[SshLook] = None
        self._ask_agent_from = self.begun
        self._exec_refused = False
        self._goal: Callable[[Any], Optional[str]] = {
            "address": self._has_address,
            "ssh": self._answers_ssh,
            "agent": self._has_agent,
            "cloud_init": self._ran_cloud_init,
        }[wait.goal]

    def look(self) -> Optional[Union[Reached, WaitFailed]]:
        """How it ended, or None as long as the wait goes on."""
        try:
            domain = self._conn.lookupByName(self.wait.name)
            self._say(ended=_how_it_ended(domain, self.wait.since))
            if self.progress.ended:
                return self._failure()
            self._look_for_address()
            detail = self._goal(domain)
        except WaitFailed as failure:
            return failure
        except libvirt.libvirtError as error:
            gone = error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
            self._say(ended="it was removed" if gone else f"libvirt stopped answering ({' '.join(str(error).split())}; is libvirtd running?)")
            return self._failure()
        if detail is not None:
            return Reached(time.monotonic() - self.begun, detail, self.progress.address)
        return self._failure() if time.monotonic() >= self.deadline else None

    def close(self) -> None:
        if self._address is not None:
            self._address.close()
        if self._ssh is not None:
            self._ssh.close()

    def _say(self, **news: Any) -> None:
        self.progress = replace(self.progress, **news)

    def _failure(self) -> WaitFailed:
        self._say(console=last_lines(self._console()))
        return WaitFailed(explain(self.progress), guest=self.wait.name)

    def _hopeless(self, why: str) -> WaitFailed:
        return WaitFailed(f"guest {self.wait.name}: wait_for: {self.wait.goal} cannot be reached: {why}", guest=self.wait.name)

    def _look_for_address(self) -> None:
        if self._address is None or self.progress.address is not None:
            return
        found = self._address.look()
        if found is None:
            self._say(missing=self._address.missing)
        else:
            self._say(address=found.address, proof=found.proof)

    def _has_address(self, _domain: Any) -> Optional[str]:
        if self._address is None:
            raise self._hopeless("it is in no network of libvirt, where an address could be looked for. Wait for agent, or give it an interface in a segment.")
        return f"{self.progress.proof} {self.progress.address}" if self.progress.address else None

    def _answers_ssh(self, _domain: Any) -> Optional[str]:
        # Somebody else may have the expected address: no SSH before there is a proof. Where none can be had, the banner has to do.
        unprovable = self._address is None or not self._address.provable
        address = self.wait.address if self.progress.address or unprovable else None
        address = address or self.progress.address
        if address is None:
            return None
        if self._ssh is None:
            self._ssh = SshLook(address, self.wait.port)
        banner = self._ssh.look()
        if banner is None:
            self._say(trouble=f"no SSH at {address} port {self.wait.port} ({self._ssh.trouble})")
            return None
        self._say(address=address)
        return f"{banner} at {address} port {self.wait.port}"

    def _has_agent(self, domain: Any) -> Optional[str]:
        channel = _agent_channel(domain)
        if channel is None:
            raise self._hopeless("the guest has no channel for an agent. Set `agent: true`, or wait for ssh.")
        if channel != "connected":
            self._say(trouble="no agent has opened its channel in the guest (package qemu-guest-agent and its service)")
            return None
        if time.monotonic() < self._ask_agent_from:
            return None
        if guest_agent.ping(domain, timeout=1):
            return "the guest agent answers"
        self._ask_agent_from = time.monotonic() + _AGENT_PAUSE
        self._say(trouble="an agent has opened its channel in the guest, but does not answer")
        return None

    def _ran_cloud_init(self, domain: Any) -> Optional[str]:
        channel = _agent_channel(domain)
        if channel is None and self.wait.console_log is None:
            raise self._hopeless(
                "the guest has neither an agent nor a console that tells how cloud-init ends. Set `agent: true` or `console: true`, or wait for ssh."
            )
        verdict = judge_console(self._console())
        if verdict.state == "unknown" and channel == "connected":
            verdict = self._ask_cloud_init(domain) or verdict
        if verdict.state == "failed":
            raise WaitFailed(explain_cloud_init(self.progress, verdict), guest=self.wait.name, cloud_init=list(verdict.lines))
        if verdict.state == "done":
            return "cloud-init is done, without errors"
        so_far = f"; what it has said so far: {' | '.join(verdict.lines)}" if verdict.lines else ""
        self._say(trouble=f"neither agent nor console says that cloud-init has ended{so_far}")
        return None

    def _ask_cloud_init(self, domain: Any) -> Optional[CloudInit]:
        """What the agent tells; None when it tells nothing now."""
        if self._exec_refused or time.monotonic() < self._ask_agent_from:
            return None
        self._ask_agent_from = time.monotonic() + _AGENT_PAUSE
        try:
            code, result, log = guest_agent.execute(domain, ["/bin/sh", "-c", _ASK_CLOUD_INIT], timeout=_AGENT_LIMIT)
        except guest_agent.AgentRefused:
            # EL9 forbids its agents to run commands; the console remains.
            self._exec_refused = True
            return None
        except ResourceError:
            return None
        if code in _NO_CLOUD_INIT:
            raise self._hopeless(f"{_NO_CLOUD_INIT[code]}. Take an image that has it, or wait for ssh or agent.")
        return judge_result(result, log) if code == 0 else None

    def _console(self) -> str:
        """The end of the console's log; empty where there is none or it cannot be read."""
        if self.wait.console_log is None:
            return ""
        try:
            with Path(self.wait.console_log).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""


def _how_it_ended(domain: Any, since: float) -> str:
    """In words; empty as long as it runs, or is held for a moment by libvirt itself."""
    state, reason = domain.state()
    if state in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED):
        how = _OFF_REASONS.get(reason, "off") if state == libvirt.VIR_DOMAIN_SHUTOFF else "crashed"
        age = f" {max(0.0, time.time() - since):.0f} s after its start" if since else ""
        return f"it stopped ({how}){age}"
    if state == libvirt.VIR_DOMAIN_PAUSED:
        return _PAUSE_REASONS.get(reason, "")
    return ""


def _agent_channel(domain: Any) -> Optional[str]:
    """connected or disconnected, as QEMU sees the guest's end of the agent's channel; None when there is no such channel."""
    channel = ET.fromstring(domain.XMLDesc(0)).find(f"devices/channel/target[@name='{AGENT_CHANNEL}']")
    return None if channel is None else channel.get("state", "disconnected")
