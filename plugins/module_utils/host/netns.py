# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short-lived network namespaces on the segments' bridges, and the agents in them. All are gone at the end."""

from __future__ import annotations

import fcntl
import inspect
import json
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.host import probe_agent

# Everything with these names is ours, and what a killed run left behind is known by them.
NAMESPACE_PREFIX = "hybridlab-probe-"
LINK_PREFIX = "hlprobe"
INTERFACE = "eth0"

# Two runs on one host would take each other's namespaces for left-overs.
LOCK = "/run/hybridlab-reachability.lock"

# A bridge with spanning tree lets a new port listen and learn first: two forward delays, of 2 to 15 s each (IEEE 802.1D).
PORT_LIMIT_S = 35.0

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

_BOOT = "import sys;exec(compile(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())),'probe_agent','exec'))"


class Agent:
    """A running probe_agent. Its operations run at the same time; each answer comes as a Future."""

    def __init__(self, command: Sequence[str], python: str, where: str, shell: bool = False) -> None:
        """command: what runs a program in its place, such as ``ip netns exec NAME``; the interpreter and its arguments are appended

        where: for messages
        shell: whether what is appended goes through a shell, as with ssh
        """
        self.where = where
        source = inspect.getsource(probe_agent).encode()
        self._errors: deque[str] = deque(maxlen=5)
        words = [python, "-u", "-c", _BOOT]
        argv = [*command, *(map(shlex.quote, words) if shell else words)]
        try:
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise ResourceError(f"{where}: {shell_line(command)}: {error}. Correct the command of this probe.") from None
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._dead = False
        self._write(b"%d\n%s" % (len(source), source))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._listener = threading.Thread(target=self._hear, daemon=True)
        self._listener.start()

    def ask(self, operation: str, **arguments: Any) -> Future[dict[str, Any]]:
        """The answer of an operation of probe_agent. When the agent ends first, it is an ``error`` that says why."""
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            self._number += 1
            if self._dead:
                future.set_result(self._ended())
                return future
            self._waiting[self._number] = future
            self._write(json.dumps({"id": self._number, "op": operation, **arguments}).encode() + b"\n")
        return future

    def close(self) -> None:
        """Ends the agent: by the end of its input, and if that does not do, by force."""
        with suppress(OSError):
            self._pipe(self._process.stdin).close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)
        self._pipe(self._process.stdout).close()
        self._listener.join(1)
        self._pipe(self._process.stderr).close()

    def _write(self, data: bytes) -> None:
        with suppress(BrokenPipeError):  # the reader sees the end, and knows why
            pipe = self._pipe(self._process.stdin)
            pipe.write(data)
            pipe.flush()

    def _read(self) -> None:
        for line in self._pipe(self._process.stdout):
            try:
                answer = json.loads(line)
                future = self._waiting.pop(answer.pop("id"))
            except (ValueError, KeyError, AttributeError):
                continue  # a login greeting, or the like
            future.set_result(answer)
        with self._lock:
            self._dead = True
            for future in self._waiting.values():
                future.set_result(self._ended())
            self._waiting.clear()

    def _ended(self) -> dict[str, Any]:
        self._listener.join(1)
        return {"result": "error", "why": f"the probe of {self.where} ended: {' '.join(self._errors) or 'it said nothing'}"}

    def _hear(self) -> None:
        for line in self._pipe(self._process.stderr):
            self._errors.append(line.decode("utf-8", "replace").strip())

    @staticmethod
    def _pipe(stream: Optional[Any]) -> Any:
        if stream is None:
            raise ValueError("the process has no such pipe")
        return stream


class ProbeNamespaces:
    """For each bridge a namespace with one interface on it. Use as a context: what it made is removed when the block ends.

    What an earlier run left behind is removed first.
    """

    def __init__(self, bridges: Mapping[str, Optional[str]]) -> None:
        """bridges: segment -> bridge; None for a place that has a link of its own with the host"""
        self.bridges = dict(bridges)
        self._names = {segment: f"{NAMESPACE_PREFIX}{index}" for index, segment in enumerate(self.bridges)}
        self._links = {segment: f"{LINK_PREFIX}{index}" for index, segment in enumerate(self.bridges)}
        self._stack = ExitStack()

    def __enter__(self) -> ProbeNamespaces:
        with ExitStack() as stack:
            lock = stack.enter_context(Path(LOCK).open("w", encoding="ascii"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResourceError(f"another measurement runs on this host ({LOCK} is locked). Wait until it ends, and run again.") from None
            stack.callback(self._sweep)
            self._sweep()
            self._check_bridges()
            for segment in self.bridges:
                self._make(segment)
            self._await_forwarding()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def command(self, segment: str) -> list[str]:
        """Prefix of a command that is to run in the segment's namespace."""
        return ["nsenter", f"--net=/run/netns/{self._names[segment]}"]

    def configure(self, segment: str, address: str, prefix: int, gateway: str) -> None:
        """Gives the namespace its address, and the segment's gateway as its way out."""
        name = self._names[segment]
        _ip("-n", name, "addr", "add", f"{address}/{prefix}", "dev", INTERFACE)
        _ip("-n", name, "route", "replace", "default", "via", gateway)

    def connect(self, place: str, host: str, address: str, prefix: int) -> None:
        """Gives a link with the host its two addresses, ``host`` here and ``address`` there."""
        _ip("addr", "add", f"{host}/{prefix}", "dev", self._links[place])
        self.configure(place, address, prefix, host)

    def _make(self, segment: str) -> None:
        name, link = self._names[segment], self._links[segment]
        _ip("netns", "add", name)
        _ip("link", "add", link, "type", "veth", "peer", "name", INTERFACE, "netns", name)
        _ip("-n", name, "link", "set", INTERFACE, "addrgenmode", "none")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", INTERFACE, "up")
        _ip("link", "set", link, "addrgenmode", "none")
        bridge = self.bridges[segment]
        _ip("link", "set", link, *(["up"] if bridge is None else ["master", bridge, "up"]))

    def _check_bridges(self) -> None:
        present = {link["ifname"] for link in _ip_json("link", "show", "type", "bridge")}
        missing = [f"{segment} ({bridge})" for segment, bridge in self.bridges.items() if bridge not in (None, *present)]
        if missing:
            raise ResourceError(
                f"platform_segments: this host has no bridge for {', '.join(missing)}. Build the segments first (playbooks/segments.yml), "
                "or start their networks: virsh net-start NAME."
            )

    def _await_forwarding(self) -> None:
        ends = time.monotonic() + PORT_LIMIT_S
        while True:
            links = _ip_json("-d", "link", "show", "type", "veth")
            states = {link["ifname"]: link.get("linkinfo", {}).get("info_slave_data", {}).get("state") for link in links}
            waiting = [link for segment, link in self._links.items() if self.bridges[segment] is not None and states.get(link) != "forwarding"]
            if not waiting:
                return
            if time.monotonic() > ends:
                raise ResourceError(f"{', '.join(waiting)}: the bridge does not forward after {PORT_LIMIT_S:.0f} s. Look at: bridge link show.")
            time.sleep(0.1)

    @staticmethod
    def _sweep() -> None:
        """Removes all of ours; of what is busy or gone by itself meanwhile, the rest is removed all the same."""
        for name in ours(link["ifname"] for link in _ip_json("link", "show", "type", "veth")):
            with suppress(ResourceError):
                _ip("link", "del", name)
        for name in ours(entry["name"] for entry in _ip_json("netns", "list")):
            with suppress(ResourceError):
                _ip("netns", "del", name)


def ours(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that this module made."""
    return [name for name in names if name.startswith((NAMESPACE_PREFIX, LINK_PREFIX))]


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ResourceError("the program ip is not on this host. Install iproute2 (Debian) or iproute (EL).") from None
    if done.returncode != 0:
        raise ResourceError(f"{shell_line(['ip', *arguments])}: {done.stderr.strip()}. Run as root.")
    return done.stdout


def _ip_json(*arguments: str) -> list[dict[str, Any]]:
    # An empty list of namespaces is printed as nothing; a link that goes away meanwhile as an empty object.
    found: list[dict[str, Any]] = json.loads(_ip("-j", *arguments) or "[]")
    return [entry for entry in found if entry]


def end_on_signals() -> None:
    """From now on SIGTERM, SIGHUP and SIGINT end this program by an error, so that what was made is removed on the way out."""
    for number in _ENDING:
        signal.signal(number, _end)


def _end(number: int, _frame: Any) -> NoReturn:
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise ResourceError(f"interrupted by {signal.Signals(number).name}; the probes were removed")


def interpreter() -> str:
    """The Python that runs this, for agents on the same host."""
    return sys.executable
