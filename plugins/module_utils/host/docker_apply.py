# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out a plan for the engine, so that it ends in the new state or in the old one, also when it is killed and run again.

The journal is written before the first change and removed after the last. What it names is taken up by the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_daemon import CONFIG, DEFAULT_ROOT
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_engine import (
    CONFIG_MODE,
    GROUP,
    ROOT_MODE,
    RSYNC,
    SERVICE,
    SOCKET_UNIT,
    Found,
    Move,
    Pending,
    Plan,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_engine as host
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_sdk, files

LOCK = "/var/lib/hybridlab/docker-engine.lock"
_SPARE = 256 * 1024 * 1024  # bytes that stay free beside a copy


class Engine:
    """root: the declared data root; seconds, move_seconds: how long the service may take to start or stop, and the copy of its data."""

    def __init__(self, root: str, seconds: float, move_seconds: float) -> None:
        self._root = root
        self._seconds = seconds
        self._move_seconds = move_seconds
        self._begun = ""  # what this run has done to the service: reload, restart, or nothing yet

    def apply(self, plan: Plan, found: Found) -> Optional[str]:
        """Returns where the old data is kept after a move, else None. ResourceError, after the old state has come back, when the engine does not start."""
        if plan.write:
            host.validate(plan.text)
        kept = None
        if plan.engine or found.pending is not None:
            with self._lock() as lock:
                kept = self._change(plan, found, lock)
        if plan.enable:
            host.checked(["systemctl", "enable", SERVICE], self._seconds)
        for option, users in (("-a", plan.join), ("-d", plan.leave)):
            for user in users:
                host.checked(["gpasswd", option, user, GROUP])
        return kept

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int]:
        """Inherited by rsync: a run that was killed leaves one behind, and its copy must have ended before another begins."""
        Path(LOCK).parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self._move_seconds
        with Path(LOCK).open("w", encoding="ascii") as lock:
            while True:
                try:
                    fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise ResourceError(f"another run still holds {LOCK} after {self._move_seconds:.0f} seconds. See: fuser -v {LOCK}") from error
                    time.sleep(1)
            yield lock.fileno()

    def _change(self, plan: Plan, found: Found, lock: int) -> Optional[str]:
        if plan.abandon is not None:
            _remove_tree(plan.abandon.target)
        move = plan.move
        if move is not None and not move.copied:
            if found.running:
                move = replace(move, counts=_counts())
            _check_room(move)
        begun = found.pending
        old, running = (files.read_text(CONFIG), found.running) if begun is None else (begun.old, begun.running)
        pending = Pending(old, running, plan.action if plan.action != "start" else "restart", move)
        host.write_journal(pending)
        try:
            self._prepare(plan)
            if move is not None and not move.copied:
                self._copy(move, lock)
            if plan.label:
                host.checked(["restorecon", "-R", self._root], self._move_seconds)
            if plan.write:
                files.write_text(CONFIG, plan.text, CONFIG_MODE)
            if plan.action is not None:
                self._systemctl("restart" if plan.action == "start" else plan.action)
            if plan.action is not None or move is not None:
                self._verify(move)
        except (ResourceError, OSError) as error:
            if move is not None and move.copied:
                # The engine has worked on the new root since, for an hour or a month: what it wrote there must not go.
                raise
            raise self._back(pending, plan, error, begun is not None) from error
        kept = None if move is None else self._keep(move, found)
        files.remove(host.JOURNAL)
        return kept

    def _prepare(self, plan: Plan) -> None:
        if plan.directory:
            Path(self._root).mkdir(parents=True, exist_ok=True)
            os.chown(self._root, 0, 0)
            Path(self._root).chmod(ROOT_MODE)
        if plan.label:
            host.checked(["semanage", "fcontext", "-a", "-e", DEFAULT_ROOT, self._root], self._seconds)

    def _copy(self, move: Move, lock: int) -> None:
        self._begun = "restart"
        host.checked(["systemctl", "stop", SOCKET_UNIT, SERVICE], self._seconds)
        busy = _mounts_below(move.source)
        if busy:
            raise ResourceError(f"{busy[0]} is still mounted although the engine has stopped, so that a copy of {move.source} would not be whole")
        host.checked([*RSYNC, f"{move.source}/", f"{move.target}/"], self._move_seconds, [lock])

    def _systemctl(self, verb: str) -> None:
        self._begun = self._begun or verb
        code, output = host.run(["systemctl", verb, SERVICE], self._seconds)
        if code != 0:
            journal = host.run(["journalctl", "-u", SERVICE, "-n", "30", "--no-pager", "-o", "cat"])[1]
            told = [line for line in journal.splitlines() if "failed" in line or "level=fatal" in line or "unable" in line or "error" in line]
            raise ResourceError(f"systemctl {verb} {SERVICE}: {output[-300:]} The engine says: {' | '.join(told[-3:]) or journal[-600:]}")

    def _verify(self, move: Optional[Move]) -> None:
        """What the engine says of itself."""
        root = docker_sdk.asked(lambda client: client.info()["DockerRootDir"])
        if root != self._root:
            raise ResourceError(f"the engine keeps its data in {root}, not in {self._root}. An option in docker.service or a drop-in of it may say so")
        if move is not None and move.counts is not None and not move.copied:
            now = _counts()
            if now != dict(move.counts):
                raise ResourceError(f"the engine had {_told(move.counts)} in {move.source}, and finds {_told(now)} in {self._root}")

    def _back(self, pending: Pending, plan: Plan, error: Exception, resumed: bool) -> ResourceError:
        """The old file, the old data root, and the engine as it was: touched only where this run, or the one that it resumes, had done so.

        resumed: whether an earlier run had begun. Returns what to tell.
        """
        replaced = files.read_text(CONFIG) != pending.old
        disturbed = self._begun == "restart" or (resumed and replaced)
        if disturbed:
            host.run(["systemctl", "stop", SOCKET_UNIT, SERVICE], self._seconds)
            host.run(["systemctl", "reset-failed", SOCKET_UNIT, SERVICE])
        if replaced and pending.old is None:
            files.remove(CONFIG)
        elif replaced and pending.old is not None:
            files.write_text(CONFIG, pending.old, CONFIG_MODE)
        if plan.label:
            host.run(["semanage", "fcontext", "-d", "-e", DEFAULT_ROOT, self._root], self._seconds)
        if self._begun == "reload" and not disturbed:
            host.run(["systemctl", "reload", SERVICE], self._seconds)
        elif pending.running:  # nothing happens where it was never stopped
            code, output = host.run(["systemctl", "start", SERVICE], self._seconds)
            if code != 0:
                return ResourceError(
                    f"{error}. {CONFIG} is the old one again, and the engine does not start with it either: {output[-300:]}. See: journalctl -u docker"
                )
        if pending.move is not None:
            _remove_tree(pending.move.target)
        files.remove(host.JOURNAL)
        file = f"{CONFIG} is the old one again" if replaced else f"{CONFIG} is as it was"
        return ResourceError(f"{error}. {file}, and the engine {'runs' if pending.running else 'is stopped'} as before.")

    def _keep(self, move: Move, found: Found) -> str:
        if found.keep_as is None or not Path(move.source).is_dir() or os.path.ismount(move.source):
            return move.source
        try:
            Path(move.source).rename(found.keep_as)
        except OSError:  # still mounted on itself, as the engine does where its place is not shared: the data are safe where they are
            return move.source
        return found.keep_as


def _counts() -> dict[str, int]:
    """How much the engine has of each kind of thing."""

    def count(client: Any) -> dict[str, int]:
        info = client.info()
        return {
            "containers": info["Containers"],
            "images": info["Images"],
            "volumes": len(client.volumes.list()),
            "networks": len(client.networks.list(filters={"type": "custom"})),
        }

    found: dict[str, int] = docker_sdk.asked(count)
    return found


def _told(counts: Any) -> str:
    return ", ".join(f"{count} {noun}" for noun, count in counts.items())


def _check_room(move: Move) -> None:
    size = _size(move.source)
    there = next(path for path in (Path(move.target), *Path(move.target).parents) if path.exists())
    status = os.statvfs(str(there))
    free = status.f_bavail * status.f_frsize + (_size(move.target) if Path(move.target).exists() else 0)
    if free < size + _SPARE:
        raise ResourceError(
            f"platform_docker.data_root: found {move.target}: {free // 2**20} MiB are free there, and the data of {move.source} "
            f"are {size // 2**20} MiB. Nothing was changed. Make room (docker system df), or name a larger place."
        )


def _size(root: str) -> int:
    """Bytes on disk, each inode once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, names, others in os.walk(root):
        for name in (*names, *others):
            with contextlib.suppress(FileNotFoundError):
                status = Path(folder, name).lstat()
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
    return total


def _mounts_below(root: str) -> list[str]:
    """Mount points inside ``root`` (proc(5): the fifth field of mountinfo, blanks in it as octal)."""
    points = [line.split()[4] for line in (files.read_text("/proc/self/mountinfo") or "").splitlines()]
    return [point for point in points if point.startswith(f"{root}/")]


def _remove_tree(root: str) -> None:
    """Everything in it; the directory too, where it is no mount point."""
    if _mounts_below(root):
        raise ResourceError(f"{root}: something is mounted inside of it, so it is left as it is. Unmount that, then remove the directory by hand.")
    if not Path(root).is_dir():
        return
    failed: list[str] = []
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, onerror=_collect(failed))
        else:
            Path(entry.path).unlink()
    if failed:
        raise ResourceError(f"{root}: could not be emptied ({failed[0]}). Remove what is in it by hand.")
    with contextlib.suppress(OSError):  # a mount point stays
        Path(root).rmdir()


def _collect(failed: list[str]) -> Callable[..., None]:
    return lambda _function, path, _info: failed.append(str(path))
