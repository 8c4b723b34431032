# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU guest agent of a guest, asked through libvirt. Every question has a time limit.

Commands and their values: QEMU Guest Agent Protocol Reference. ``domain`` is a virDomain everywhere.
libvirt synchronises with the agent before each command and gives that 5 seconds, whatever the command's own limit is.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line

try:
    import libvirt
    import libvirt_qemu  # type: ignore[import-untyped]
except ImportError:
    libvirt = libvirt_qemu = None

# virErrorNumber (virterror.h): the guest does not run, has no channel for the agent, does not answer, answers a question of before.
_SILENT = ("VIR_ERR_OPERATION_INVALID", "VIR_ERR_ARGUMENT_UNSUPPORTED", "VIR_ERR_NO_SUPPORT", "VIR_ERR_AGENT_UNRESPONSIVE", "VIR_ERR_AGENT_UNSYNCED")
_FIRST_POLL, _SLOWEST_POLL = 0.05, 1.0  # seconds between two looks at a command that runs in the guest
_SIGNALLED = 128  # added to a signal's number, as a shell does


class AgentSilent(ResourceError):
    """The guest has no agent that answers."""


class AgentRefused(ResourceError):
    """The agent answers, and does not do this: the command is unknown to it, switched off, or failed."""


@dataclass(frozen=True)
class GuestInterface:
    """An interface as the guest itself has it.

    mac:       lower case; empty for one that has none (lo)
    addresses: <address>/<prefix>, IPv4 and IPv6
    """

    name: str
    mac: str
    addresses: tuple[str, ...]


def command(domain: Any, name: str, arguments: Optional[Mapping[str, Any]] = None, timeout: float = 5) -> Any:
    """What the agent returns for a command such as guest-info. timeout: seconds. AgentSilent, AgentRefused."""
    question: dict[str, Any] = {"execute": name}
    if arguments:
        question["arguments"] = dict(arguments)
    with _errors(domain, name):
        answer = libvirt_qemu.qemuAgentCommand(domain, json.dumps(question), max(1, math.ceil(timeout)), 0)
    return json.loads(answer).get("return")


def ping(domain: Any, timeout: float = 5) -> bool:
    """Whether the agent answers."""
    try:
        command(domain, "guest-ping", timeout=timeout)
    except AgentSilent:
        return False
    return True


def execute(domain: Any, argv: Sequence[str], timeout: float = 60, stdin: str = "") -> tuple[int, str, str]:
    """Runs a command in the guest, as root: its code (128 + number for a signal), its output, its error output.

    One that is not done after ``timeout`` seconds is killed, and ResourceError raised.
    """
    deadline = time.monotonic() + timeout
    arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if stdin:
        arguments["input-data"] = base64.b64encode(stdin.encode()).decode("ascii")
    pid = command(domain, "guest-exec", arguments)["pid"]
    pause = _FIRST_POLL
    while True:
        status = command(domain, "guest-exec-status", {"pid": pid})
        if status["exited"]:
            return _code(status), _text(status, "out-data"), _text(status, "err-data")
        if time.monotonic() >= deadline:
            _kill(domain, pid)
            raise ResourceError(
                f"guest {domain.name()}: `{shell_line(argv)}` did not end within {timeout:g} s in the guest and was killed. "
                "Run it there by hand to see what it waits for, or allow it more time."
            )
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 2, _SLOWEST_POLL)


def interfaces(domain: Any, timeout: float = 5) -> list[GuestInterface]:
    found = command(domain, "guest-network-get-interfaces", timeout=timeout)
    return [
        GuestInterface(
            entry["name"],
            entry.get("hardware-address", "").lower(),
            tuple(f"{address['ip-address']}/{address['prefix']}" for address in entry.get("ip-addresses", ())),
        )
        for entry in found
    ]


def fsfreeze(domain: Any, timeout: float = 30) -> int:
    """Writes everything to the disks and holds all further writing; the number of file systems.

    The caller thaws in a ``finally``, also when this raises: a freeze that took too long may still come about.
    """
    return int(command(domain, "guest-fsfreeze-freeze", timeout=timeout))


def fsthaw(domain: Any, timeout: float = 30) -> int:
    """The number of file systems that were frozen; 0 is no error."""
    return int(command(domain, "guest-fsfreeze-thaw", timeout=timeout))


def frozen(domain: Any, timeout: float = 5) -> bool:
    """Whether file systems are held, such as by a run that was killed."""
    return bool(command(domain, "guest-fsfreeze-status", timeout=timeout) == "frozen")


@contextmanager
def _errors(domain: Any, name: str) -> Iterator[None]:
    if libvirt_qemu is None:
        raise AgentSilent("the Python module libvirt_qemu is missing on the managed host; install the package python3-libvirt there (role kvm_host does)")
    try:
        yield
    except libvirt.libvirtError as error:
        text = " ".join(str(error).split())
        if error.get_error_code() in {getattr(libvirt, code) for code in _SILENT}:
            raise AgentSilent(
                f"guest {domain.name()}: its agent does not answer {name}: {text}. "
                "The guest must run with `agent: true`, and with the package qemu-guest-agent installed and its service started in it."
            ) from None
        raise AgentRefused(
            f"guest {domain.name()}: its agent refused {name}: {text}. "
            "Look in the guest which commands its agent is allowed (on EL9 in /etc/sysconfig/qemu-ga), and whether they work there by hand."
        ) from None


def _kill(domain: Any, pid: int) -> None:
    try:
        command(domain, "guest-exec", {"path": "kill", "arg": ["-KILL", str(pid)]})
    except (AgentSilent, AgentRefused):
        # It is reported as not ended in any case; that the agent is gone too says no more.
        return


def _code(status: Mapping[str, Any]) -> int:
    return int(status["exitcode"]) if "exitcode" in status else _SIGNALLED + int(status.get("signal", 0))


def _text(status: Mapping[str, Any], key: str) -> str:
    return base64.b64decode(status.get(key, "")).decode(errors="replace")
