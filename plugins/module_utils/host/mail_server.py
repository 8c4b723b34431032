# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running mail containers, by way of Docker's command: whatever holds a secret goes in by standard input."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import is_hash
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

SECONDS = 60.0
# A second for each password is plenty: one takes a tenth.
SECONDS_EACH = 1.0
# doveadm asks twice. printf is the shell's own: the password is in no list of processes.
HASH_SCRIPT = """while IFS= read -r password; do printf '%s\\n%s\\n' "$password" "$password" | doveadm -O pw -s ARGON2ID || exit 1; done"""

NO_IMAGE = "nothing here can hash a password: Dovecot does not run, and there is no service of it. Run playbooks/workloads.yml first, or give hashes"
# How a part reads its certificate again, with every open connection kept (images/mail_*). Others read it at each start alone, or do not have it.
RELOADS = (("dovecot", ("/usr/local/bin/mail-reload",)), ("postfix", ("/usr/sbin/postfix", "reload")), ("nginx", ("/usr/sbin/nginx", "-s", "reload")))


class Server:
    """The containers of a stack. image: what hashes passwords while Dovecot does not run yet; where none is given, the one of its service."""

    def __init__(self, stack: str, image: Optional[str] = None, docker: str = "docker") -> None:
        self.stack = stack
        self.image = image
        self.docker = docker

    def container(self, part: str) -> Optional[str]:
        """Id of the running container of a part (dovecot, postfix, ...); None without one, or without Docker."""
        try:
            rc, out, _err = self._run(["ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={self.stack}_{part}", "--filter", "status=running"])
        except FileNotFoundError:
            return None
        return out.split()[0] if rc == 0 and out.split() else None

    def running(self, part: str) -> str:
        """The same, or a ResourceError."""
        found = self.container(part)
        if found is None:
            raise ResourceError(f"no container of {self.stack}_{part} runs here. See: docker service ps --no-trunc {self.stack}_{part}")
        return found

    def execute(self, part: str, argv: Sequence[str], data: str = "", seconds: float = SECONDS) -> str:
        """What a command in the part's container prints. ResourceError with its words when it fails."""
        rc, out, err = self._run(["exec", "--interactive", self.running(part), *argv], data, seconds)
        if rc != 0:
            raise ResourceError(
                f"{self.stack}_{part}: {argv[0]} failed ({rc}): {(err or out).strip()[-1000:]}. See: docker service logs --tail 50 {self.stack}_{part}"
            )
        return out

    def reload(self) -> list[str]:
        """Have the parts that run read their certificate again. Returns their names."""
        told = [(part, argv) for part, argv in RELOADS if self.container(part) is not None]
        for part, argv in told:
            self.execute(part, argv)
        return [part for part, _argv in told]

    def end_sessions(self, address: str) -> bool:
        """Throw the mailbox's open IMAP sessions out. Whether Dovecot was there to be asked."""
        container = self.container("dovecot")
        if container is None:
            return False
        rc, _out, err = self._run(["exec", container, "doveadm", "kick", address])
        # 68 (EX_NOHOST): it had none.
        if rc not in (0, 68):
            cure = f"They end with: docker exec {container} doveadm kick {address}"
            raise ResourceError(f"{address}: its login is refused now, yet its open sessions could not be ended: {err.strip()[-500:]}. {cure}")
        return True

    def hashes(self, passwords: Mapping[str, str]) -> dict[str, str]:
        """ARGON2ID hashes by address; what is a hash already stays as it is. ResourceError where nothing here can make them."""
        made = {address: value for address, value in passwords.items() if is_hash(value)}
        plain = [address for address in passwords if address not in made]
        if plain:
            made.update(zip(plain, self._hash([passwords[address] for address in plain])))
        return made

    def _hash(self, values: Sequence[str]) -> list[str]:
        data = "".join(f"{value}\n" for value in values)
        seconds = SECONDS + SECONDS_EACH * len(values)
        try:
            rc, out, err = self._run([*self._hasher(), "/bin/sh", "-c", HASH_SCRIPT], data, seconds)
        except FileNotFoundError as error:
            raise ResourceError(
                "there is no docker on this host, and passwords are hashed in Dovecot's image. Run playbooks/docker.yml first, or give hashes"
            ) from error
        found = out.split()
        if rc != 0 or len(found) != len(values) or not all(value.startswith("{ARGON2ID}$") for value in found):
            raise ResourceError(f"doveadm pw made {len(found)} hashes of {len(values)} ({rc}): {err.strip()[-500:]}. Nothing was changed")
        return found

    def _hasher(self) -> list[str]:
        """The beginning of a command in Dovecot's container, or in one of its image."""
        container = self.container("dovecot")
        if container is not None:
            return ["exec", "--interactive", container]
        image = self.image or self._image("dovecot")
        if image is None:
            raise ResourceError(NO_IMAGE)
        return ["run", "--rm", "--interactive", "--network=none", "--read-only", "--cap-drop=ALL", "--user=65534:65534", "--entrypoint=", image]

    def _image(self, part: str) -> Optional[str]:
        """The image of a part's service, as the engine knows it; None without the service."""
        rc, out, _err = self._run(["service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", f"{self.stack}_{part}"])
        return (out.strip() or None) if rc == 0 else None

    def _run(self, argv: Sequence[str], data: str = "", seconds: float = SECONDS) -> tuple[int, str, str]:
        try:
            done = subprocess.run([self.docker, *argv], input=data, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise ResourceError(f"docker {argv[0]}: no answer in {seconds:g} s. See: systemctl status docker") from error
        return done.returncode, done.stdout, done.stderr
