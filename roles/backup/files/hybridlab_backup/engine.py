# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine, through its own command: it is there wherever the engine is, and speaks every version's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from .errors import BackupError, DiskFull, Fatal
from .settings import Hook, Service

SECONDS = 120
ATTEMPTS = 4


class Docker:
    """Each call ends after ``SECONDS`` at the latest, unless it says otherwise."""

    def __init__(self, command: str = "docker") -> None:
        self.command = command

    def call(self, *arguments: str, seconds: int = SECONDS) -> str:
        """Standard output; BackupError with docker's words when it fails."""
        try:
            done = subprocess.run([self.command, *arguments], capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise BackupError(f"{self.command}: there is no such command. Run playbooks/docker.yml, which installs the engine") from None
        except subprocess.TimeoutExpired:
            raise BackupError(f"docker {' '.join(arguments[:3])}: no answer in {seconds} s. See: systemctl status docker") from None
        if done.returncode != 0:
            raise BackupError(f"docker {' '.join(arguments[:3])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def inspect(self, kind: str, names: Sequence[str]) -> list[Any]:
        return list(json.loads(self.call(kind, "inspect", *names))) if names else []

    def names(self, *arguments: str) -> list[str]:
        return self.call(*arguments).split()

    def every(self, kind: str, *listing: str) -> list[Any]:
        """All that ``listing`` names. What has gone before it was looked at makes the engine refuse the others too: then both are done again."""
        for _again in range(ATTEMPTS - 1):
            try:
                return self.inspect(kind, list(dict.fromkeys(self.names(*listing))))
            except Fatal:
                raise
            except BackupError:
                time.sleep(0.3)
        return self.inspect(kind, list(dict.fromkeys(self.names(*listing))))

    def there(self, kind: str, name: str) -> bool:
        done = subprocess.run([self.command, kind, "inspect", name], capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
        return done.returncode == 0

    def volumes(self) -> list[dict[str, Any]]:
        return self.every("volume", "volume", "ls", "--quiet")

    def containers(self, service: Service, every: bool = False) -> list[str]:
        """Ids of the service's containers on this host; those that run, or every one."""
        if service.swarm is not None:
            chosen = ["--filter", f"label=com.docker.swarm.service.name={service.swarm}"]
        elif service.container is not None:
            chosen = ["--filter", f"name=^/{service.container}$"]
        else:
            return []
        return self.names("ps", "--quiet", "--no-trunc", *(["--all"] if every else []), *chosen)

    def replicas(self, swarm: str) -> Optional[int]:
        """Of a replicated service; None where there is no such service."""
        if not self.there("service", swarm):
            return None
        mode = self.inspect("service", [swarm])[0]["Spec"]["Mode"]
        if "Replicated" not in mode:
            raise BackupError(f"{swarm}: is a global service, which can't be stopped by its count. Use quiesce: pause, and restore it with --to")
        return int(mode["Replicated"]["Replicas"])

    def scale(self, swarm: str, count: int) -> None:
        self.call("service", "scale", "--detach", f"{swarm}={count}")

    def ready(self, container: str) -> bool:
        """Whether it runs, and is healthy where it has a health check. One that is gone, as Swarm replaces them, is not."""
        try:
            state = self.inspect("container", [container])[0]["State"]
        except BackupError:
            return False
        return bool(state["Running"]) and state.get("Health", {}).get("Status", "healthy") == "healthy"

    def succeeds(self, container: str, command: Sequence[str]) -> bool:
        try:
            done = subprocess.run([self.command, "exec", container, *command], capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def export(self, arguments: Sequence[str], path: Path, seconds: int) -> None:
        """Standard output of a docker command into ``path`` (0600): whole, or not there."""
        beside = path.with_name(f".{path.name}.new")
        try:
            self._write(arguments, beside, path.name, seconds)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def _write(self, arguments: Sequence[str], path: Path, name: str, seconds: int) -> None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            try:
                done = subprocess.run([self.command, *arguments], stdout=stream, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=seconds, check=False)
            except subprocess.TimeoutExpired:
                raise BackupError(f"{name}: docker {arguments[0]} took more than {seconds} s") from None
        words = done.stderr.decode("utf-8", "backslashreplace").strip()[-1000:]
        if done.returncode != 0:
            if "no space left" in words.lower():
                raise DiskFull(f"{name}: the disk is full ({words}). Older generations are untouched")
            raise BackupError(f"{name}: docker {arguments[0]} ended with {done.returncode}: {words}")

    def feed(self, container: str, hook: Hook, path: Path) -> None:
        """``hook`` in the container, reading ``path``."""
        with path.open("rb") as stream:
            try:
                done = subprocess.run(
                    [self.command, "exec", "--interactive", container, *hook.command], stdin=stream, capture_output=True, timeout=hook.seconds, check=False
                )
            except subprocess.TimeoutExpired:
                raise BackupError(f"restore of {path.name}: the command took more than {hook.seconds} s") from None
        if done.returncode != 0:
            words = (done.stderr or done.stdout).decode("utf-8", "backslashreplace").strip()[-1000:]
            raise BackupError(f"restore of {path.name}: the command ended with {done.returncode}: {words}")


def wait(what: str, seconds: int, done: Callable[[], bool]) -> None:
    """Until ``done``; BackupError after ``seconds``."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise BackupError(f"{what}: not after {seconds} s (stop_seconds of the service in platform_backup)")
        time.sleep(0.3)
