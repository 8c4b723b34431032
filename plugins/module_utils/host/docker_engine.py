# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's service, files and group on the managed host."""

from __future__ import annotations

import datetime
import grp
import json
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import docker_daemon as daemon
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_engine import (
    GROUP,
    SERVICE,
    SOCKET_UNIT,
    Directory,
    Found,
    Move,
    Pending,
    Store,
    listening,
    opened,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_sdk, files

# Says that a run has begun to change the engine; gone when it has ended, well or not.
JOURNAL = "/var/lib/hybridlab/docker-engine.json"
SELINUX = "/sys/fs/selinux/enforce"
EQUIVALENCES = "/etc/selinux/targeted/contexts/files/file_contexts.subs"
TCP_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
SHORT = 60

# What an engine would miss of a data root, beside the directories and databases that it makes at each first start.
_TREASURE = ("containers/*", "volumes/*/", "image/*/imagedb/content/sha256/*", "swarm/docker-state.json", "plugins/????????????????*/")
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
_BUILTIN_NETWORKS = frozenset({"bridge", "host", "none", "docker_gwbridge", "ingress"})


def run(argv: Sequence[str], seconds: float = SHORT, inherited: Sequence[int] = ()) -> tuple[int, str]:
    """Exit status and output of a command; 124 when it was not done in time."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env=environment,
            pass_fds=tuple(inherited),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return 124, f"{(error.output or b'').decode(errors='replace')}not done after {seconds:.0f} seconds"
    except FileNotFoundError:
        return 127, f"{argv[0]} is not installed"
    return done.returncode, done.stdout.decode(errors="replace").strip()


def checked(argv: Sequence[str], seconds: float = SHORT, inherited: Sequence[int] = ()) -> str:
    """Output of a command that has to succeed; ResourceError with its last words."""
    code, output = run(argv, seconds, inherited)
    if code != 0:
        raise ResourceError(f"{shell_line(argv)}: {output[-1500:] or f'ended with {code}'}")
    return output


def unit(name: str, *properties: str) -> dict[str, str]:
    """Properties of a unit as systemd shows them; one that stands on several lines is joined by newlines."""
    found: dict[str, str] = {}
    for line in checked(["systemctl", "show", "--timestamp=unix", f"--property={','.join(properties)}", name]).splitlines():
        key, equals, value = line.partition("=")
        if equals and key in properties:
            found[key] = f"{found[key]}\n{value}" if key in found else value
    return found


def read_journal(path: str = JOURNAL) -> Optional[Pending]:
    text = files.read_text(path)
    if text is None:
        return None
    try:
        raw: dict[str, Any] = json.loads(text)
        move = raw["move"]
        begun = None if move is None else Move(move["source"], move["target"], counts=move["counts"])
        return Pending(raw["old"], raw["running"], raw["action"], begun)
    except (ValueError, KeyError, TypeError) as error:
        raise ResourceError(f"{path}: found something that this collection did not write ({error}). Remove it and run again.") from error


def write_journal(pending: Pending, path: str = JOURNAL) -> None:
    move = None if pending.move is None else vars(pending.move)
    files.write_text(path, json.dumps({**vars(pending), "move": move}) + "\n", 0o600)


class Reader:
    """Reads the host once. assume_started: of a service that does not exist yet, in check mode; None in a real run."""

    def __init__(self, root: str, users: Sequence[str], assume_started: Optional[bool]) -> None:
        self._root = root
        self._users = users
        self._assumed = assume_started
        self.warnings: list[str] = []

    def found(self) -> Found:
        service = unit(SERVICE, "LoadState", "ActiveState", "UnitFileState", "ActiveEnterTimestamp")
        exists = service.get("LoadState") == "loaded"
        if not exists:
            self._absent()
        running = service.get("ActiveState") in ("active", "reloading") if exists else bool(self._assumed)
        enabled = service.get("UnitFileState", "").startswith("enabled") if exists else bool(self._assumed)
        self._refuse_tcp(exists)
        self._refuse_strangers()
        text = files.read_text(daemon.CONFIG)
        config = daemon.parse(text)
        place = daemon.data_root(config)
        client = docker_sdk.client(planning=self._assumed is not None) if exists and running else None
        if exists and running and client is None:
            self.warnings.append("the Docker SDK is not on this host yet: containers that a restart would stop, and where images are kept, are not seen")
        containers = [] if client is None else client.containers.list()
        written = Path(daemon.CONFIG).stat().st_mtime if text is not None else 0.0
        since = service.get("ActiveEnterTimestamp", "").lstrip("@")
        pending = read_journal()
        left = place if pending is None or pending.move is None else pending.move.source
        return Found(
            config=config,
            file_mode=None if text is None else stat.S_IMODE(Path(daemon.CONFIG).stat().st_mode),
            target=read_directory(self._root),
            used=used(place) or (client is not None and any(network.name not in _BUILTIN_NETWORKS for network in client.networks.list())),
            keep_as=None if os.path.ismount(left) else backup_name(left),
            members=members(),
            equivalent=equivalent(self._root),
            selinux=Path(SELINUX).exists(),
            enabled=enabled,
            running=running,
            running_containers=tuple(sorted(container.name for container in containers)),
            restarted=not since.isdecimal() or int(since) > written,
            store=store_at_rest(place) if client is None else store_in_use(client.info()),
            pending=pending,
        )

    def _absent(self) -> None:
        if self._assumed is None:
            raise ResourceError(f"{SERVICE} does not exist on this host. Install the engine first; the role docker_engine does. Nothing was changed.")
        self.warnings.append(f"{SERVICE} does not exist yet; planned as {'started' if self._assumed else 'stopped'} by its package")

    def _refuse_tcp(self, exists: bool) -> None:
        if not exists:
            return
        service = unit(SERVICE, "ExecStart", "Environment", "EnvironmentFiles")
        named = [line.split(" (", 1)[0] for line in service.get("EnvironmentFiles", "").splitlines() if line.startswith("/")]
        texts = [service.get("Environment", ""), *(files.read_text(path) or "" for path in named)]
        where = opened(service.get("ExecStart", ""), texts, unit(SOCKET_UNIT, "Listen").get("Listen", ""))
        if where is not None:
            raise ResourceError(
                f"the engine is told to answer on the network: {where}. Who reaches it there is root on this host. Nothing was changed. "
                f"Take it out (systemctl cat {SERVICE} {SOCKET_UNIT} names the files), then: systemctl daemon-reload. From elsewhere use SSH: docs/docker.md."
            )

    def _refuse_strangers(self) -> None:
        missing = []
        for user in self._users:
            try:
                pwd.getpwnam(user)
            except KeyError:
                missing.append(user)
        if missing and self._assumed is None:
            raise ResourceError(
                f"platform_docker.users: found {', '.join(missing)}: there is no such account on this host. Nothing was changed. "
                "Declare it in platform_security.accounts, or remove it."
            )
        if missing:
            self.warnings.append(f"platform_docker.users: {', '.join(missing)} must have an account before the engine is set up")


def store_in_use(info: Mapping[str, Any]) -> Optional[Store]:
    """By the answer to GET /info of an engine that runs: the type of its storage driver is then a kind of containerd's plugins."""
    if ["driver-type", _SNAPSHOTTER] not in (info.get("DriverStatus") or ()):
        return None
    return Store(info["Driver"], info["Containers"], info["Images"])


def store_at_rest(root: str) -> Optional[Store]:
    """By what lies in the data root: a storage driver of the engine's own has its images beside the containers that say its name."""
    found = [(daemon.parse(files.read_text(str(path))) or {}).get("Driver") for path in Path(root).glob("containers/*/config.v2.json")]
    foreign = sorted(driver for driver in found if isinstance(driver, str) and driver and not Path(root, "image", driver).is_dir())
    return Store(foreign[0], len(foreign)) if foreign else None


def read_directory(path: str) -> Directory:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return Directory()
    if not stat.S_ISDIR(found.st_mode):
        raise ResourceError(f"platform_docker.data_root: found {path}: it is no directory. Remove it, or name another place.")
    return Directory(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, not any(entry.name != "lost+found" for entry in os.scandir(path)))


def used(root: str) -> bool:
    """Whether a data root holds containers, volumes, images, plugins or a Swarm's state."""
    return any(next(Path(root).glob(pattern), None) is not None for pattern in _TREASURE)


def backup_name(root: str) -> str:
    """Where the old data root is kept: with the day in its name, and a number when there is one of that day."""
    day = datetime.datetime.now().astimezone().strftime("%Y-%m-%d")
    first = f"{root}.backup-{day}"
    return next(name for name in (first, *(f"{first}-{number}" for number in range(2, 1000))) if not Path(name).exists())


def members() -> tuple[str, ...]:
    try:
        return tuple(grp.getgrnam(GROUP).gr_mem)
    except KeyError:
        return ()


def equivalent(root: str) -> Optional[str]:
    """What the local policy labels ``root`` like (file_contexts.subs(5): two paths a line)."""
    pairs = [line.split() for line in (files.read_text(EQUIVALENCES) or "").splitlines()]
    return next((pair[1] for pair in pairs if len(pair) == 2 and pair[0] == root), None)


def validate(text: str) -> None:
    """Let this host's dockerd judge a daemon.json. ResourceError with its words.

    From Docker 23 on it has --validate. An older one reads and merges its file before it looks at its pid file: it is started with the pid file of
    a process that lives, this one, and refuses to go on in the one case and to begin in the other. Both know keys and types; what only a start can show, such
    as a storage driver that does not work here, is found by the start, after which the old file comes back.
    The older one also mounts its data root, and notes in the run directory whether it has: it gets directories, and a mount namespace, of its own.
    """
    with tempfile.TemporaryDirectory(prefix="hybridlab-docker-") as folder:
        config = {key: value for key, value in json.loads(text).items() if key not in ("data-root", "exec-root")}
        candidate, pid = Path(folder, "daemon.json"), Path(folder, "pid")
        candidate.write_text(json.dumps(config), encoding="utf-8")
        pid.write_text(str(os.getpid()), encoding="ascii")
        places = ["--data-root", str(Path(folder, "data")), "--exec-root", str(Path(folder, "run"))]
        arguments = ["unshare", "--mount", "dockerd", "--config-file", str(candidate), *places]
        if "--validate" in run(["dockerd", "--help"])[1]:
            code, output = run([*arguments, "--validate"])
            sound = code == 0
        else:
            code, output = run([*arguments, "--pidfile", str(pid)])
            sound = "pid file found" in output
    if not sound:
        said = output.replace(str(candidate), daemon.CONFIG).strip()[-1000:]
        raise ResourceError(f"the engine refuses its new {daemon.CONFIG}: {said}. Nothing was changed. Correct platform_docker.daemon.")


def open_ports() -> list[int]:
    """Those of the engine's two network ports on which anybody answers on this host."""
    return sorted({port for table in TCP_TABLES for port in listening(files.read_text(table) or "")})
