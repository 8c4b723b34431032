# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to an engine: its daemon.json, its data root, its group, its service. Pure; host/docker_engine.py does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_daemon import (
    API_PORTS,
    CONFIG,
    CONTAINERD_STORE,
    DEFAULT_ROOT,
    FEATURES,
    containerd_store,
    daemon_json,
    data_root,
    needs_restart,
    render,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, here_document, shell_line

CONFIG_MODE = 0o600  # proxies in it may carry a password
ROOT_MODE = 0o710  # as dockerd makes it
GROUP = "docker"
SERVICE, SOCKET_UNIT = "docker.service", "docker.socket"
RSYNC = ("rsync", "-aHAXS", "--numeric-ids", "--one-file-system", "--delete")


@dataclass(frozen=True)
class Move:
    """Data of an engine on their way. copied: all of it is there and in use; counts: how much the engine had before, None where it did not run."""

    source: str
    target: str
    copied: bool = False
    counts: Optional[Mapping[str, int]] = None


@dataclass(frozen=True)
class Pending:
    """What a run that was cut short had begun.

    old:     text of daemon.json before it, None where there was none
    running: whether the engine ran before it
    action:  restart or reload
    """

    old: Optional[str] = None
    running: bool = True
    action: Optional[str] = None
    move: Optional[Move] = None


@dataclass(frozen=True)
class Directory:
    """mode, uid, gid: None where there is no such directory."""

    mode: Optional[int] = None
    uid: Optional[int] = None
    gid: Optional[int] = None
    empty: bool = True


@dataclass(frozen=True)
class Store:
    """What an engine keeps in containerd's store. driver: its snapshotter; containers, images: how many; of an engine at rest images are not known."""

    driver: str
    containers: int
    images: int = 0


@dataclass(frozen=True)
class Found:
    """An engine's host.

    config:     daemon.json; None where it holds no mapping
    file_mode:  its permissions, None where there is no file
    target:     the directory that the model declares
    used:       whether the data root in use holds anything that an engine would miss
    keep_as:    where the old data root would be kept; None where it is a mount point and stays where it is
    members:    of the group docker
    equivalent: what SELinux labels the declared directory like; None where nothing is said of it
    selinux:    whether SELinux is on
    running_containers: their names
    restarted:  whether the engine has started since daemon.json was written
    store:      containerd's store, where the engine uses it; None where it uses its own
    """

    config: Optional[Mapping[str, Any]] = field(default_factory=dict)
    file_mode: Optional[int] = None
    target: Directory = field(default_factory=Directory)
    used: bool = False
    keep_as: Optional[str] = None
    members: tuple[str, ...] = ()
    equivalent: Optional[str] = None
    selinux: bool = False
    enabled: bool = False
    running: bool = False
    running_containers: tuple[str, ...] = ()
    restarted: bool = True
    store: Optional[Store] = None
    pending: Optional[Pending] = None

    @property
    def root(self) -> str:
        """The data root in use."""
        return data_root(self.config)


@dataclass(frozen=True)
class Plan:
    """action: start, restart or reload; abandon: a half-made copy that nobody wants any more."""

    text: str
    write: bool
    directory: bool
    label: bool
    move: Optional[Move]
    abandon: Optional[Move]
    action: Optional[str]
    enable: bool
    join: tuple[str, ...]
    leave: tuple[str, ...]
    before: dict[str, Any]
    after: dict[str, Any]
    commands: list[str]
    disruptive: list[dict[str, str]]

    @property
    def engine(self) -> bool:
        """Whether the service or what it reads changes."""
        return self.write or self.directory or self.label or self.move is not None or self.abandon is not None or self.action is not None


def gathered(found: Found) -> dict[str, Any]:
    """The managed properties of the host as found, without what depends on the declaration."""
    return {
        "config": None if found.file_mode is None else {"mode": f"{found.file_mode:04o}", "content": found.config},
        "data_root": found.root,
        "users": sorted(found.members),
        "enabled": found.enabled,
        "running": found.running,
        "unfinished": found.pending is not None,
    }


def describe(found: Found, docker: Docker) -> dict[str, Any]:
    """The managed properties of the host as found."""
    target = found.target
    directory = None if target.mode is None else {"mode": f"{target.mode:04o}", "owner": f"{target.uid}:{target.gid}"}
    return {**gathered(found), "directory": {"path": docker.data_root, "is": directory}, "labelled_like": found.equivalent}


def plan(docker: Docker, found: Found) -> Plan:
    """Raises ResourceError where nothing can be done.

    An earlier move was cut short that the model no longer asks for, the declared directory holds something else, or images would be lost of sight.
    """
    config = daemon_json(docker)
    _refuse_other_store(config, found.store)
    write = found.config != config or found.file_mode != CONFIG_MODE
    abandon = _abandoned(docker, found)
    move = None if abandon is not None else _move(docker, found)
    action = _action(found, config, write, move)
    label = found.selinux and docker.data_root != DEFAULT_ROOT and found.equivalent != DEFAULT_ROOT
    target = found.target
    directory = (target.mode, target.uid, target.gid) != (ROOT_MODE, 0, 0)
    join = tuple(user for user in docker.users if user not in found.members)
    leave = tuple(user for user in sorted(found.members) if user not in docker.users)
    after = {
        "config": {"mode": f"{CONFIG_MODE:04o}", "content": config},
        "data_root": docker.data_root,
        "users": sorted(docker.users),
        "enabled": True,
        "running": True,
        "unfinished": False,
        "directory": {"path": docker.data_root, "is": {"mode": f"{ROOT_MODE:04o}", "owner": "0:0"}},
        "labelled_like": DEFAULT_ROOT if label else found.equivalent,
    }
    commands = _commands(docker, found, render(config), write, directory, label, move, abandon, action)
    commands += [shell_line(["gpasswd", "-a", user, GROUP]) for user in join] + [shell_line(["gpasswd", "-d", user, GROUP]) for user in leave]
    return Plan(
        text=render(config),
        write=write,
        directory=directory,
        label=label,
        move=move,
        abandon=abandon,
        action=action,
        enable=not found.enabled,
        join=join,
        leave=leave,
        before=describe(found, docker),
        after=after,
        commands=commands,
        disruptive=_disruptive(found, config, move, action),
    )


def _refuse_other_store(config: Mapping[str, Any], store: Optional[Store]) -> None:
    """An engine that is told to use its own store starts well, and knows nothing of what lies in containerd's any more."""
    if store is None or containerd_store(config) or not (store.containers or store.images):
        return
    held = " and ".join(f"{count} {noun}" for count, noun in ((store.containers, "containers"), (store.images, "images")) if count)
    raise ResourceError(
        f"platform_docker.daemon.{FEATURES}.{CONTAINERD_STORE}: found false, and {held} of this engine are in containerd's store: "
        "it would start without them. Nothing was changed. To keep that store, which lies in /var/lib/containerd and in no backup of the data root, declare "
        f"platform_docker.daemon: {{{FEATURES}: {{{CONTAINERD_STORE}: true}}, storage-driver: {store.driver}}}. "
        "To leave it, docker save what is needed, remove its containers and images, run again, and docker load: docs/docker.md."
    )


def _abandoned(docker: Docker, found: Found) -> Optional[Move]:
    """The move that was begun, where the model has gone back to the place that is still in use."""
    move = None if found.pending is None else found.pending.move
    if move is None or move.target == docker.data_root:
        return None
    if docker.data_root == move.source == found.root:
        return move
    raise ResourceError(
        f"a move of the engine's data from {move.source} to {move.target} was cut short, and platform_docker.data_root is now {docker.data_root}. "
        f"Set it to {move.target} and run again to finish the move, or to {move.source} to give it up; then move on."
    )


def _move(docker: Docker, found: Found) -> Optional[Move]:
    begun = None if found.pending is None else found.pending.move
    if begun is not None:
        # Until the engine's file names the new place, an engine that was started meanwhile writes to the old one: only then is the copy the whole.
        return replace(begun, copied=found.root == begun.target)
    if found.root == docker.data_root or not found.used:
        return None
    if not found.target.empty:
        raise ResourceError(
            f"platform_docker.data_root: found {docker.data_root}: it holds something already, and the engine's data of {found.root} would be mixed with it. "
            f"Empty it (or name another directory), or, if it is what the engine shall use, move {found.root} away by hand."
        )
    for outer, inner in ((found.root, docker.data_root), (docker.data_root, found.root)):
        if inner.startswith(f"{outer}/"):
            raise ResourceError(f"platform_docker.data_root: found {docker.data_root}: it and the data root in use, {found.root}, lie one inside the other.")
    return Move(found.root, docker.data_root)


def _action(found: Found, config: Mapping[str, Any], write: bool, move: Optional[Move]) -> Optional[str]:
    if not found.running:
        return "start"
    begun = None if found.pending is None else found.pending.action
    if needs_restart(found.config or {}, config) or (begun == "restart" and not found.restarted) or (move is not None and not move.copied):
        return "restart"
    changed = write and found.config != config
    return "reload" if changed or begun == "reload" else None


def _disruptive(found: Found, config: Mapping[str, Any], move: Optional[Move], action: Optional[str]) -> list[dict[str, str]]:
    if action != "restart" or not found.running_containers:
        return []
    names = ", ".join(found.running_containers[:5]) + (" and others" if len(found.running_containers) > 5 else "")
    keys = ", ".join(needs_restart(found.config or {}, config))
    why = f"the engine's data move to {move.target}" if move is not None else f"the engine restarts ({keys or 'as a run that was cut short had begun to'})"
    return [{"name": "docker", "reason": f"{why}, and these containers stop meanwhile: {names}"}]


def _commands(
    docker: Docker,
    found: Found,
    text: str,
    write: bool,
    directory: bool,
    label: bool,
    move: Optional[Move],
    abandon: Optional[Move],
    action: Optional[str],
) -> list[str]:
    root, lines = docker.data_root, []
    if abandon is not None:
        lines.append(shell_line(["rm", "-rf", "--one-file-system", abandon.target]))
    if directory:
        lines.append(shell_line(["install", "-d", "-o", "root", "-g", "root", "-m", f"{ROOT_MODE:04o}", root]))
    if label:
        lines.append(shell_line(["semanage", "fcontext", "-a", "-e", DEFAULT_ROOT, root]))
    if move is not None and not move.copied:
        lines += [f"systemctl stop {SOCKET_UNIT} {SERVICE}", shell_line([*RSYNC, f"{move.source}/", f"{move.target}/"])]
    if label:
        lines.append(shell_line(["restorecon", "-R", root]))
    if write:
        lines.append(here_document(["install", "-D", "-m", f"{CONFIG_MODE:04o}", "/dev/stdin", CONFIG], text))
    if not found.enabled:
        lines.append(f"systemctl enable {SERVICE}")
    if action is not None:
        lines.append(f"systemctl {'start' if move is not None and not move.copied else action} {SERVICE}")
    if move is not None and found.keep_as is not None:
        lines.append(shell_line(["mv", move.source, found.keep_as]))
    return lines


def opened(arguments: str, environment: Sequence[str], socket: str) -> Optional[str]:
    """Where the service is told to answer on the network, in words; None where it is not.

    arguments:   ExecStart of docker.service as systemd shows it
    environment: texts of its variables and environment files
    socket:      Listen of docker.socket as systemd shows it
    """
    for place, text in (("ExecStart of docker.service", arguments), *(("the environment of docker.service", text) for text in environment)):
        for line in text.splitlines():
            if "tcp://" in line and not line.lstrip().startswith("#"):
                return f"{place} has tcp:// in it ({line.strip()[:200]})"
    foreign = [line for line in socket.splitlines() if line.strip() and not line.lstrip().startswith("/")]
    return f"docker.socket listens on {foreign[0].strip()}" if foreign else None


def listening(table: str, ports: Sequence[int] = API_PORTS) -> list[int]:
    """Those of ``ports`` on which anybody answers, on the loopback too, by the text of /proc/net/tcp or tcp6."""
    rows = [line.split() for line in table.splitlines()[1:]]
    open_ports = {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == "0A"}  # TCP_LISTEN of net/tcp_states.h
    return [port for port in ports if port in open_ports]
