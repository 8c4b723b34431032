# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine that holds the containers: the machine's own Docker or Podman where one answers, else an isolated dockerd of ours."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.sandbox.addresses import gateway
from tools.sandbox.errors import SandboxError
from tools.sandbox.machine import find_command, machine_mtu, own_lacking_capabilities, resolvers
from tools.sandbox.names import Identity, Settings
from tools.sandbox.netns import Namespace
from tools.sandbox.processes import end, processes_with
from tools.sandbox.progress import Step, tail
from tools.sandbox.record import ENGINE_DIRECTORIES
from tools.sandbox.state import State, Store, write_atomically

MACHINE_SOCKETS = (Path("/var/run/docker.sock"), Path("/run/podman/podman.sock"))
OWN = "own"
START_SECONDS = 60
WRAPPER = Path(__file__).with_name("runtime_wrapper.py")


def connect(url: str, timeout: int = 60) -> Any:
    """Client of a local engine.

    :raises SandboxError: the URL is not of a Unix socket, or nothing answers
    """
    import docker
    import docker.errors
    import requests.exceptions

    if not url.startswith("unix://"):
        raise SandboxError(
            f"the engine {url} is not on a Unix socket", "A sandbox needs an engine on this machine; unset DOCKER_HOST or give unix:///path/to/socket"
        )
    path = Path(url[len("unix://") :])
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise SandboxError(f"this user may not open {path}", "Become a member of the socket's group (docker), or run this as root")
    try:
        client = docker.DockerClient(base_url=url, timeout=timeout)
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise SandboxError(f"no engine answers at {url} ({error})", "Start it, or set HYBRIDLAB_SANDBOX_ENGINE=own as root") from error
    return client


class OwnEngine:
    """An isolated dockerd: its own network namespace, data, sockets and control group."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.namespace = Namespace(identity)
        self.socket = identity.run_dir / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.config = identity.run_dir / "daemon.json"

    def alive(self) -> bool:
        with contextlib.suppress(SandboxError):
            connect(self.url, 5).close()
            return True
        return False

    def start(self, state: State, dns: list[str]) -> None:
        """Starts what is not running, with the link and the pool that the state holds."""
        mtu = machine_mtu()
        self.identity.run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.namespace.up(state.link, mtu)
        if self.alive():
            return
        self.stop()
        log = self.identity.log_dir / "dockerd.log"
        self._configure(state, mtu, dns)
        self.identity.engine_data.mkdir(mode=0o711, parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with Step("engine of our own"), log.open("w", encoding="utf-8") as stream:
            daemon = subprocess.Popen(
                [find_command("nsenter"), f"--net={self.namespace.path}", "unshare", "--mount", "--propagation=slave", "sh", "-euc", self._entry()],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"},
            )
            deadline = time.monotonic() + START_SECONDS
            while not self.alive():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise SandboxError(
                        f"dockerd did not start; the last lines of {log}:\n{tail(log)}\n", "Where overlay2 is not supported, put the checkout on ext4 or xfs"
                    )
                time.sleep(0.1)

    def _entry(self) -> str:
        """Shell lines that become the daemon in a mount namespace of its own: its mounts end with it, and its directories on the machine are ours."""
        lines = []
        for directory in ENGINE_DIRECTORIES:
            directory.mkdir(parents=True, exist_ok=True)
            own = self.identity.run_dir / "private" / directory.relative_to("/")
            own.mkdir(parents=True, exist_ok=True)
            lines.append(shlex.join(["mount", "--bind", str(own), str(directory)]))
        certificates = Path("/etc/docker/certs.d")
        if certificates.is_dir():
            shutil.copytree(certificates, self.identity.run_dir / "private/etc/docker/certs.d", dirs_exist_ok=True)
        return "\n".join([*lines, shlex.join(["exec", find_command("dockerd"), f"--config-file={self.config}"])])

    def _configure(self, state: State, mtu: int, dns: list[str]) -> None:
        run, width = self.identity.run_dir, state.pool.split("/")[1]
        config: dict[str, Any] = {
            "hosts": [self.url],
            "data-root": str(self.identity.engine_data),
            "exec-root": str(run / "exec"),
            "pidfile": str(run / "docker.pid"),
            "storage-driver": "overlay2",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": self.identity.cgroup,
            "bip": f"{gateway(state.pool)}/{width}",
            "mtu": mtu,
            "dns": dns,
            "userland-proxy": False,
            "log-level": "warn",
            "log-driver": "json-file",
            "log-opts": {"max-size": "5m", "max-file": "2"},
        }
        if own_lacking_capabilities():
            # Not a script below /run, which is mounted noexec on most machines.
            config["runtimes"] = {"hybridlab": {"path": sys.executable, "runtimeArgs": ["-I", "-S", str(WRAPPER), find_command("runc")]}}
            config["default-runtime"] = "hybridlab"
        write_atomically(self.config, json.dumps(config, indent=2) + "\n")

    def stop(self) -> None:
        """Ends the daemon and whatever it left; nothing happens where it is not running."""
        daemons = processes_with(f"--config-file={self.config}")
        end(daemons, signal.SIGTERM, 30)
        end(processes_with(str(self.identity.run_dir / "exec")), signal.SIGKILL, 10)
        # A process that is dead but not yet reaped would count as alive for the next daemon.
        for name in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.identity.run_dir / name).unlink(missing_ok=True)


def decide(settings: Settings, store: Store) -> str:
    """``own`` or the URL of the machine's engine, as the state says from now on; nothing is started."""
    if not store.state.engine:
        store.state.engine = _wanted(settings)
        store.save()
    if store.state.engine == OWN and os.geteuid() != 0:
        raise SandboxError(
            "no Docker or Podman answers on this machine, and starting one of our own needs root", "Start the machine's, join the group docker, or use sudo"
        )
    return store.state.engine


def started(identity: Identity, settings: Settings, state: State) -> Any:
    """Client of the decided engine, which runs."""
    if state.engine != OWN:
        return connect(state.engine, timeout=600)
    engine = OwnEngine(identity)
    engine.start(state, resolvers(settings.dns))
    return connect(engine.url, timeout=600)


def _wanted(settings: Settings) -> str:
    if settings.engine == OWN:
        return OWN
    if settings.engine != "auto":
        connect(settings.engine).close()
        return settings.engine
    if os.geteuid() == 0 and own_lacking_capabilities():
        # A machine's engine without our runtime cannot start a privileged container here.
        return OWN
    named = os.environ.get("DOCKER_HOST", "")
    if named:
        connect(named).close()
        return named
    refused = None
    for socket in MACHINE_SOCKETS:
        if socket.exists():
            try:
                connect(f"unix://{socket}").close()
                return f"unix://{socket}"
            except SandboxError as error:
                refused = error
    if refused and os.geteuid() != 0:
        raise refused
    return OWN


def existing(identity: Identity, state: State) -> str:
    """URL of the engine that this sandbox already uses.

    :raises SandboxError: there is none
    """
    if not state.engine:
        raise SandboxError("no sandbox is up", "Run the up verb first")
    url = OwnEngine(identity).url if state.engine == OWN else state.engine
    connect(url).close()
    return url
