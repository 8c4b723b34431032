# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody is locked out by the first run, not even who comes by a port that the model does not name."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from tests.integration.lab import INVENTORY, Lab, fresh
from tools import playbook
from tools.sandbox.names import INTERNET, Identity

HOST = "lockout"
# inventories/sandbox names 2201.
PORT = 2222
OTHER_PORT = 2223
POLICY = "/etc/firewalld/policies/hybridlab-host.xml"

# A host as somebody else has set it up; the service on another port shows what becomes of a port that nobody asked for.
PREPARE = f"""
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server sudo >/dev/null
echo 'Port {PORT}' >/etc/ssh/sshd_config.d/port.conf
systemctl restart ssh
useradd --create-home --gid users --shell /bin/bash operator
echo 'operator ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/operator
install -d -m 700 -o operator -g users ~operator/.ssh
echo {{key}} >~operator/.ssh/authorized_keys
systemd-run --quiet --unit=other python3 -m http.server {OTHER_PORT}
"""


def ssh_config(directory: Path, address: str) -> Path:
    """A key and the ssh configuration that logs in with it, through the sandbox's Internet."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key")], check=True)
    relay = shlex.join(["env", "-C", str(playbook.CHECKOUT), sys.executable, "-m", "tools.sandbox", "relay", INTERNET, address, str(PORT)])
    config = directory / "config"
    config.write_text(
        f"Host {HOST}\n  Port {PORT}\n  User operator\n  IdentityFile {directory}/key\n  IdentitiesOnly yes\n  BatchMode yes\n"
        f"  StrictHostKeyChecking no\n  UserKnownHostsFile {directory}/known_hosts\n  ConnectTimeout 30\n  ProxyCommand {relay}\n",
        encoding="utf-8",
    )
    return config


def inventory(directory: Path, config: Path, internet_address: str) -> Path:
    """The sandbox's model, with a host that is reached by SSH alone."""
    variables = directory / "inventory/group_vars/all"
    variables.mkdir(parents=True)
    for source in (playbook.CHECKOUT / INVENTORY / "group_vars/all").glob("*.yml"):
        (variables / source.name).symlink_to(source.resolve())
    probe = yaml.safe_load((variables / "probe.yml").read_text(encoding="utf-8"))
    probe["platform_internet_probe"]["address"] = internet_address
    (variables / "probe.yml").unlink()
    (variables / "probe.yml").write_text(yaml.safe_dump(probe), encoding="utf-8")
    host = {
        # The sandbox's own place for it is named after its own hosts.
        "guests_snapshot": str(directory / "guests.json"),
        "ansible_connection": "ssh",
        "ansible_port": PORT,
        "ansible_user": "operator",
        "ansible_ssh_common_args": f"-F {config}",
        "ansible_control_path_dir": str(directory / "cp"),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    hosts = {"all": {"children": {"kvm_hosts": {"hosts": {HOST: host}}}}}
    (directory / "inventory/hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    return directory / "inventory"


def login(config: Path) -> subprocess.CompletedProcess[str]:
    """A login of its own, over no earlier connection."""
    return subprocess.run(["ssh", "-F", str(config), "-S", "none", HOST, "sudo -n id -u"], capture_output=True, text=True, timeout=120, check=False)


def reaches(address: str, port: int) -> bool:
    """Whether the Internet may open a TCP connection to that port."""
    return bool(json.loads(Lab(INTERNET).sh(f"python3 /responder.py connect {address} {port} || true"))["ok"])


def test_the_port_of_the_first_run_stays_open(tmp_path: Path) -> None:
    with fresh(HOST) as lab:
        connection = json.loads((Identity.of().hosts_dir / f"{HOST}.json").read_text(encoding="utf-8"))
        config = ssh_config(tmp_path, connection["address"])
        lab.sh(PREPARE.format(key=shlex.quote((tmp_path / "key.pub").read_text(encoding="ascii").strip())))
        before = login(config)
        assert before.stdout.strip() == "0", before.stderr
        assert reaches(connection["address"], OTHER_PORT)

        outcome = playbook.run("site.yml", str(inventory(tmp_path, config, connection["internet_address"])), *lab.model)

        assert lab.sh("systemctl is-active firewalld || true").strip() == "active", outcome.output[-6000:]
        after = login(config)
        assert (after.returncode, after.stdout.strip()) == (0, "0"), f"locked out: {after.stderr}\n{lab.sh(f'cat {POLICY}')}"
        assert outcome.rc == 0, f"{outcome.failures()}\n{outcome.output[-6000:]}"
        policy = lab.sh(f"cat {POLICY}")
        assert f'port="{PORT}"' in policy and 'port="2201"' in policy
        # firewalld does guard this host: what the login owes to the policy, another port does not get.
        assert not reaches(connection["address"], OTHER_PORT)
