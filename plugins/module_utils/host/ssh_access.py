# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sshd's files and the accounts' keys on this host: read, tried, proven, taken back."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import sshd
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ssh_access import (
    DROPIN,
    DROPIN_DIRECTORY,
    MAIN,
    MODULI,
    PENDING,
    REVERT,
    RSA,
    RSA_BITS,
    RSA_LONG,
    Found,
    Wanted,
    known_hosts,
    revert_script,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files

# rc, standard output, standard error
Run = Callable[[Sequence[str]], tuple[int, str, str]]

DEADLINE_UNIT = "hybridlab-ssh-deadline"
LISTEN_SECONDS = 10.0
ALIAS = "hybridlab-proof"


@dataclass(frozen=True)
class Host:
    """This host's sshd. unit, socket_unit: their names in systemd."""

    run: Run
    unit: str
    socket_unit: str

    def read(self, wanted: Wanted) -> Found:
        socket = f"/etc/systemd/system/{self.socket_unit}.d/hybridlab.conf" if self._by_socket() else None
        paths = [MAIN, DROPIN, MODULI, *(str(path) for path in sorted(Path(DROPIN_DIRECTORY).glob("*.conf"))), *([socket] if socket else [])]
        return Found(
            texts={path: files.read_text(path) for path in paths},
            keys={name: (path, files.read_text(path)) for name, path in ((name, _keys_path(name)) for name in wanted.accounts)},
            rsa_bits=sshd.key_bits(self._out("ssh-keygen", "-lf", RSA)) if Path(RSA).exists() else 0,
            has_long=Path(RSA_LONG).exists(),
            socket=socket,
            listening=self.listening(),
        )

    def listening(self) -> dict[int, set[str]]:
        return sshd.listeners(self._out("ss", "-Hltnp"))

    def make_key(self) -> None:
        """A long RSA key beside the distribution's. Made under another name first: half a key would never be replaced."""
        with tempfile.TemporaryDirectory(dir=Path(RSA_LONG).parent) as directory:
            made = Path(directory) / "key"
            self._out("ssh-keygen", "-q", "-t", "rsa", "-b", str(RSA_BITS), "-N", "", "-C", "", "-f", str(made))
            made.with_suffix(".pub").replace(f"{RSA_LONG}.pub")
            made.replace(RSA_LONG)
        self._relabel([RSA_LONG, f"{RSA_LONG}.pub"])

    def check(self, wanted: Wanted, found: Found, new: Mapping[str, str], ports: Sequence[int]) -> None:
        """Whether sshd itself takes the new files and makes of them what is declared, before one of them is in its place."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd -T refuses without it, and a stopped service takes it along
        texts = {path: text for path, text in {**found.texts, **new}.items() if text is not None and path.startswith("/etc/ssh/sshd_config")}
        with tempfile.TemporaryDirectory(dir="/run", prefix="hybridlab-sshd-") as directory:
            main = f"{directory}/sshd_config"
            files.write_text(main, texts[MAIN].replace(f"{DROPIN_DIRECTORY}/", f"{directory}/dropins/"), 0o600)
            for path, text in texts.items():
                if path != MAIN:
                    files.write_text(f"{directory}/dropins/{Path(path).name}", text, 0o600)
            rc, out, err = self.run(["sshd", "-T", "-f", main])
            if rc != 0:
                raise ResourceError(
                    f"sshd refuses the new settings: {(err or out).strip()}. Nothing was changed. Correct what it names, in {MAIN} and beside it"
                )
        wrong = sshd.differences(sshd.parse_effective(out), wanted.options, ports, wanted.users)
        if wrong:
            raise ResourceError(
                f"sshd would not do what is declared: {'; '.join(wrong)}. Nothing was changed. Look for the cause in {MAIN} and what it includes"
            )

    def arm(self, paths: Sequence[str], seconds: int) -> None:
        """Put by what is there, and have it put back in ``seconds`` unless somebody says that all is well."""
        self.disarm()
        new = Path(f"{PENDING}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        saved: dict[str, Optional[str]] = {}
        for index, path in enumerate(paths):
            saved[path] = f"saved{index}" if Path(path).exists() else None
            if saved[path] is not None:
                self._out("cp", "-a", path, str(new / f"saved{index}"))
        files.write_text(str(new / "revert"), revert_script(saved, self.unit, self.socket_unit if self._by_socket() else None), 0o700)
        os.sync()
        new.replace(PENDING)
        # By way of the shell: SELinux lets systemd run no program of /var/lib.
        self._out(
            "systemd-run", "--quiet", "--collect", f"--unit={DEADLINE_UNIT}", f"--on-active={seconds}", "--timer-property=AccuracySec=1s", "/bin/sh", REVERT
        )

    def disarm(self) -> None:
        self.run(["systemctl", "stop", f"{DEADLINE_UNIT}.timer"])

    def pending(self) -> bool:
        return Path(REVERT).exists()

    def revert(self) -> None:
        """Take an unproven change back."""
        self._out("/bin/sh", REVERT)
        self.disarm()

    def forget(self) -> None:
        """The change is proven: nothing will be taken back."""
        shutil.rmtree(PENDING)

    def write(self, new: Mapping[str, str], found: Found) -> None:
        owners = {path: name for name, (path, _text) in found.keys.items()}
        for path, text in new.items():
            if path in owners:
                _write_keys(owners[path], path, text)
            else:
                files.write_text(path, text, _mode(path))
        self._relabel(list(new))

    def activate(self, ports: Sequence[int]) -> None:
        """Let sshd read its files, and wait until it answers on all ``ports``, and on no other. ResourceError with its last words."""
        by_socket = self._by_socket()
        if by_socket:
            self._out("systemctl", "daemon-reload")
            self._out("systemctl", "restart", self.socket_unit)
        else:
            self._out("systemctl", "reload-or-restart", self.unit)
        program = "systemd" if by_socket else "sshd"
        end = time.monotonic() + LISTEN_SECONDS
        while True:
            listening = self.listening()
            missing = [port for port in ports if program not in listening.get(port, set())]
            extra = [port for port, names in listening.items() if "sshd" in names and port not in ports]
            if not missing and (by_socket or not extra):
                return
            if time.monotonic() > end:
                words = self.run(["journalctl", "-u", self.unit, "-n", "5", "-o", "cat", "--no-pager"])[1].strip()
                what = f"sshd does not answer on {', '.join(map(str, missing))}" if missing else f"sshd still answers on {', '.join(map(str, extra))}"
                raise ResourceError(f"{what} {LISTEN_SECONDS:.0f} s after it has read its files; its last words:\n{words}")
            time.sleep(0.2)

    def host_keys(self, paths: Sequence[str]) -> list[str]:
        """The public halves."""
        return [text.strip() for text in (files.read_text(f"{path}.pub") for path in paths) if text is not None]

    def probe(self, ports: Sequence[int], public_keys: Sequence[str], user: str) -> None:
        """Whether each port answers with this host's own key, and takes keys alone. ResourceError when it does not."""
        with tempfile.TemporaryDirectory(prefix="hybridlab-sshd-") as directory:
            known = f"{directory}/known_hosts"
            files.write_text(known, "".join(line + "\n" for line in known_hosts(ALIAS, public_keys)), 0o600)
            options = {
                "UserKnownHostsFile": known,
                "GlobalKnownHostsFile": "/dev/null",
                "HostKeyAlias": ALIAS,
                "StrictHostKeyChecking": "yes",
                "BatchMode": "yes",
                "PreferredAuthentications": "none",
                "ConnectTimeout": "10",
            }
            for port in ports:
                argv = ["ssh", "-F", "/dev/null", "-p", str(port), *(f"-o{key}={value}" for key, value in options.items()), f"{user}@127.0.0.1", "true"]
                rc, _out, err = self.run(argv)
                if rc != 255 or "Permission denied (publickey)." not in err:
                    raise ResourceError(f"port {port} does not answer as this host's sshd that takes keys alone: {err.strip() or f'exit code {rc}'}")

    def _by_socket(self) -> bool:
        return any(self.run(["systemctl", "--quiet", verb, self.socket_unit])[0] == 0 for verb in ("is-active", "is-enabled"))

    def _relabel(self, paths: Sequence[str]) -> None:
        if Path("/sys/fs/selinux/enforce").exists():
            self._out("restorecon", "-F", *paths, *{str(Path(path).parent) for path in paths if path.endswith("/authorized_keys")})

    def _out(self, *argv: str) -> str:
        rc, out, err = self.run(list(argv))
        if rc != 0:
            raise ResourceError(f"{shell_line(argv)} ended with {rc}: {(err or out).strip()}")
        return out


def _mode(path: str) -> int:
    found = Path(path)
    if found.exists():
        return stat.S_IMODE(found.stat().st_mode)
    return 0o600 if path.startswith("/etc/ssh/") else 0o644


def _keys_path(name: str) -> str:
    """An account's authorized_keys; of one that is still to be made, where useradd would put its home."""
    try:
        home = pwd.getpwnam(name).pw_dir
    except KeyError:
        home = f"/home/{name}"
    path = Path(home) / ".ssh"
    for part in (path, path / "authorized_keys"):
        if part.is_symlink():
            raise ResourceError(f"account {name}: {part} is a symbolic link, and keys are not written through one. Replace it by what it stands for")
    return str(path / "authorized_keys")


def _write_keys(name: str, path: str, text: str) -> None:
    account = pwd.getpwnam(name)
    directory = Path(path).parent
    if not Path(account.pw_dir).is_dir():
        raise ResourceError(f"account {name}: its home {account.pw_dir} is not there, so it has no place for its keys. Make it, owned by {name}")
    directory.mkdir(mode=0o700, exist_ok=True)
    # The account may put a link there at any moment: none is followed.
    opened = os.open(str(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(opened, account.pw_uid, account.pw_gid)
        os.fchmod(opened, 0o700)
    finally:
        os.close(opened)
    files.write_text(path, text, 0o600)
    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
