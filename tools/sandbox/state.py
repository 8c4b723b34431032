# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was chosen for this sandbox, written before it is used, and the lock that keeps two runs apart."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.sandbox.errors import SandboxError
from tools.sandbox.names import Identity


@dataclass
class HostState:
    """One host: its address on the uplink, the image it came from, and whether its creation was completed."""

    address: str
    image: str = ""
    ready: bool = False


@dataclass
class State:
    """The choices of one sandbox.

    engine: ``own`` or the URL of the machine's engine.
    uplink: CIDR of the uplink network.
    link:   CIDR (/30) between the machine and the own engine's namespace; empty with the machine's engine.
    pool:   CIDR (/24) of the own engine's default bridge (image builds).
    """

    engine: str = ""
    uplink: str = ""
    link: str = ""
    pool: str = ""
    hosts: dict[str, HostState] = field(default_factory=dict)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(path)


class Store:
    """The state file of one identity."""

    def __init__(self, identity: Identity) -> None:
        self.path = identity.state_dir / "state.json"
        self.state = self._load()

    def _load(self) -> State:
        if not self.path.exists():
            return State()
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8"))
            hosts = {name: HostState(**host) for name, host in raw.pop("hosts", {}).items()}
            return State(hosts=hosts, **raw)
        except (ValueError, TypeError) as error:
            raise SandboxError(
                f"{self.path} cannot be read ({error})", "Remove that file, then run the down verb, which finds everything without it"
            ) from error

    def save(self) -> None:
        write_atomically(self.path, json.dumps(asdict(self.state), indent=2, sort_keys=True) + "\n")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def only_one(identity: Identity, wait_seconds: int = 600) -> Iterator[None]:
    """Holds the checkout's lock; released by the kernel when the process dies, however it dies."""
    identity.cache.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(identity.cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline, told = time.monotonic() + wait_seconds, False
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise SandboxError(f"another run of the sandbox has worked on {identity.cache} for {wait_seconds} s", "End it, then run this again")
            if not told:
                print("waiting for another run of the sandbox to end", file=sys.stderr)
                told = True
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
