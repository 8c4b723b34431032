# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox host that is reached by SSH alone, from the sandbox's Internet."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.integration.lab import INVENTORY, NETWORKS_ONLY
from tools import playbook
from tools.sandbox.names import INTERNET, Identity


@dataclass(frozen=True)
class SshHost:
    """name: of the sandbox host; directory: for keys, ssh's configuration and the inventory; user: who logs in."""

    name: str
    directory: Path
    user: str

    @property
    def connection(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((Identity.of().hosts_dir / f"{self.name}.json").read_text(encoding="utf-8"))
        return found

    def key(self, name: str) -> str:
        """The public half of a key pair of that name, made when it is missing."""
        path = self.directory / name
        if not path.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
        return path.with_suffix(".pub").read_text(encoding="ascii").strip()

    def configure(self) -> None:
        """ssh's configuration: whatever the port, the way leads through the sandbox's Internet."""
        relay = shlex.join(["env", "-C", str(playbook.CHECKOUT), sys.executable, "-m", "tools.sandbox", "relay", INTERNET, self.connection["address"]])
        (self.directory / "config").write_text(
            f"Host {self.name}\n  User {self.user}\n  IdentitiesOnly yes\n  BatchMode yes\n"
            f"  StrictHostKeyChecking no\n  UserKnownHostsFile {self.directory}/known_hosts\n  ConnectTimeout 30\n  ProxyCommand {relay} %p\n",
            encoding="utf-8",
        )

    def inventory(self, port: int) -> Path:
        """The sandbox's model, with this host by SSH over that port."""
        place = self.directory / f"inventory{port}"
        group = place / "group_vars/all"
        group.mkdir(parents=True, exist_ok=True)
        for source in (playbook.CHECKOUT / INVENTORY / "group_vars/all").glob("*.yml"):
            if not (group / source.name).exists():
                (group / source.name).symlink_to(source.resolve())
        host = {
            "ansible_connection": "ssh",
            "ansible_port": port,
            "ansible_user": self.user,
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": f"-F {self.directory}/config",
            "ansible_control_path_dir": str(self.directory / "cp"),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {"all": {"children": {"kvm_hosts": {"hosts": {self.name: host}}}}}
        (place / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
        return place

    def play(self, name: str, port: int, **variables: Any) -> playbook.Outcome:
        """Run a playbook on the model of networks alone, with further values or other ones."""
        probe = yaml.safe_load((playbook.CHECKOUT / INVENTORY / "group_vars/all/probe.yml").read_text(encoding="utf-8"))
        probe["platform_internet_probe"]["address"] = self.connection["internet_address"]
        return playbook.run(name, str(self.inventory(port)), "-e", json.dumps({**NETWORKS_ONLY, **probe, **variables}))

    def ssh(self, port: int, *arguments: str, user: str = "", key: str = "key") -> list[str]:
        """The command of a login of its own, over no earlier connection, with that key alone."""
        options = ["-F", str(self.directory / "config"), "-S", "none", "-p", str(port), "-l", user or self.user]
        return ["ssh", *options, "-o", f"IdentityFile={self.directory / key}", self.name, *arguments]

    def login(self, port: int, **who: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.ssh(port, "sudo -n id -u", **who), capture_output=True, text=True, timeout=120, check=False)

    def enters(self, port: int, **who: str) -> bool:
        """Whether a login becomes root."""
        done = self.login(port, **who)
        return (done.returncode, done.stdout.strip()) == (0, "0")


def host_values(**changes: Any) -> Mapping[str, Any]:
    """The sandbox's platform_host with other values."""
    found: dict[str, Any] = yaml.safe_load((playbook.CHECKOUT / INVENTORY / "group_vars/all/host.yml").read_text(encoding="utf-8"))["platform_host"]
    return {**found, **changes}
