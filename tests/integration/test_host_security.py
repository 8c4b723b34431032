# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host guards itself, and its people keep their way in: one host that somebody else has set up, over SSH alone."""

from __future__ import annotations

import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker import DockerClient

from tests.integration.lab import Lab, fresh
from tests.integration.ssh_host import SshHost, host_values
from tools import playbook
from tools.sandbox.names import INTERNET

NAME = "security"
OLD_PORT, NEW_PORT, OTHER_PORT, TAKEN_PORT = 2222, 2201, 2202, 2205
POLICY_FILE = "/etc/firewalld/policies/hybridlab-host.xml"
POLICY = "Hardened Debian 12 (version 3)"
# lynis 3.0.8 on the sandbox's bare image with an sshd.
BARE_INDEX = 62
ACCEPTED = playbook.CHECKOUT / "docs" / "lynis-accepted.yml"
RETRIES = 4

# A host as somebody else has set it up: another port, a former colleague's key, a cloud image's drop-in that lets passwords in.
PREPARE = f"""
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server sudo firewalld lynis >/dev/null
echo 'Port {OLD_PORT}' >/etc/ssh/sshd_config.d/port.conf
echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/50-cloud-init.conf
systemctl restart ssh
firewall-cmd --quiet --permanent --add-port={OLD_PORT}/tcp
firewall-cmd --quiet --reload
useradd --create-home --gid users --shell /bin/bash keeper
echo 'keeper ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/keeper; chmod 440 /etc/sudoers.d/keeper
install -d -m 700 -o keeper -g users ~keeper/.ssh
printf '%s\\n' {{keys}} >~keeper/.ssh/authorized_keys
systemd-run --quiet --unit=other python3 -m http.server {TAKEN_PORT}
"""


@dataclass(frozen=True)
class Guarded:
    lab: Lab
    host: SshHost
    session: subprocess.Popen[str]

    def security(self, keys: list[str]) -> dict[str, Any]:
        jails = [{"name": "sshd", "retries": RETRIES, "find_seconds": 600, "ban_seconds": 600}, {"name": "docker-auth"}]
        return {"accounts": [{"name": "keeper", "sudo": True, "ssh_keys": keys}], "fail2ban": {"jails": jails}}

    def play(self, port: int, new_port: int = NEW_PORT, key: str = "key") -> playbook.Outcome:
        values = host_values(ssh_ports=[new_port])
        return self.host.play("playbooks/security.yml", port, platform_host=values, platform_security=self.security([self.host.key(key)]))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with fresh(NAME) as lab:
        host = SshHost(NAME, tmp_path_factory.mktemp("ssh"), "keeper")
        host.configure()
        lab.sh(PREPARE.format(keys=shlex.join([host.key("key"), host.key("former")])))
        assert host.enters(OLD_PORT) and host.enters(OLD_PORT, key="former")
        session = subprocess.Popen(host.ssh(OLD_PORT, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Guarded(lab, host, session)
        finally:
            session.kill()
            session.wait()


def settings(lab: Lab) -> str:
    """sshd's files and the keys, as text."""
    return lab.sh("cd /; grep -r . etc/ssh/sshd_config etc/ssh/sshd_config.d home/keeper/.ssh; stat -c '%a %U %n' home/keeper/.ssh/authorized_keys")


def test_a_port_that_another_program_has_is_refused(guarded: Guarded) -> None:
    before = settings(guarded.lab)
    outcome = guarded.play(OLD_PORT, new_port=TAKEN_PORT)
    assert outcome.rc != 0
    assert f"platform_host.ssh_ports: port {TAKEN_PORT} is taken by python3" in outcome.output, outcome.failures()
    assert settings(guarded.lab) == before
    assert guarded.host.enters(OLD_PORT)


def test_a_port_that_does_not_let_the_login_through_is_taken_back(guarded: Guarded) -> None:
    before = settings(guarded.lab)
    rule = f"table inet somebody {{ chain input {{ type filter hook input priority -300; iifname != lo tcp dport {NEW_PORT} drop; }}; }}"
    guarded.lab.sh(f"nft {shlex.quote(rule)}")
    outcome = guarded.play(OLD_PORT)
    guarded.lab.sh("nft delete table inet somebody")
    assert outcome.rc != 0
    assert f"a login over port {NEW_PORT} as keeper has failed" in outcome.output, outcome.failures()
    assert "as they were before this run" in outcome.output, outcome.failures()
    assert settings(guarded.lab) == before
    assert guarded.host.enters(OLD_PORT) and not guarded.host.enters(NEW_PORT)


def test_keys_without_that_of_the_run_are_taken_back(guarded: Guarded) -> None:
    before = settings(guarded.lab)
    outcome = guarded.play(OLD_PORT, key="colleague")
    assert outcome.rc != 0
    assert "with the key of this run" in outcome.output, outcome.failures()
    assert settings(guarded.lab) == before
    assert guarded.host.enters(OLD_PORT)


def test_the_port_moves_under_a_session_that_stays(guarded: Guarded) -> None:
    outcome = guarded.play(OLD_PORT)
    assert outcome.rc == 0, f"{outcome.failures()}\n{outcome.output[-6000:]}"
    # As it happens, and as the role's last word.
    assert outcome.output.index("Set ansible_port: 2201") < outcome.output.index("Refuse an engine that answers over TCP"), outcome.failures()
    assert outcome.output.rindex("Set ansible_port: 2201") > outcome.output.index("Refuse an engine that answers over TCP"), outcome.failures()
    assert guarded.host.enters(NEW_PORT)
    assert not guarded.host.enters(OLD_PORT)
    assert guarded.session.stdin is not None and guarded.session.stdout is not None
    guarded.session.stdin.write("still here\n")
    guarded.session.stdin.flush()
    assert guarded.session.stdout.readline() == "still here\n"
    assert only_the_new_port_is_open(guarded.lab)


def only_the_new_port_is_open(lab: Lab) -> bool:
    policy = lab.sh(f"cat {POLICY_FILE}; firewall-cmd --info-policy hybridlab-host")
    services = lab.sh("firewall-cmd --zone=public --list-services; firewall-cmd --permanent --zone=public --list-services").split()
    return str(NEW_PORT) in policy and str(OLD_PORT) not in policy and "ssh" not in services


def test_what_a_killed_run_has_left_open_is_closed_by_the_next(guarded: Guarded) -> None:
    guarded.lab.sh(f"""
        sed -i 's!.*port="{NEW_PORT}".*!&\\n  <port port="{OLD_PORT}" protocol="tcp"/>!' {POLICY_FILE}
        firewall-cmd --quiet --permanent --zone=public --add-service=ssh
        firewall-cmd --quiet --reload
    """)
    assert not only_the_new_port_is_open(guarded.lab)
    outcome = guarded.play(NEW_PORT)
    assert outcome.rc == 0, f"{outcome.failures()}\n{outcome.output[-6000:]}"
    assert only_the_new_port_is_open(guarded.lab)
    assert "Set ansible_port" not in outcome.output


def test_the_second_run_changes_nothing(guarded: Guarded) -> None:
    outcome = guarded.play(NEW_PORT)
    assert (outcome.rc, outcome.changed) == (0, 0), f"{outcome.failures()}\n{outcome.output[-6000:]}"


def test_keys_alone_open_and_a_removed_one_does_not(guarded: Guarded) -> None:
    effective = guarded.lab.sh("sshd -T").splitlines()
    for line in ("passwordauthentication no", "pubkeyauthentication yes", "permitrootlogin no", "kbdinteractiveauthentication no", "allowusers keeper"):
        assert line in effective
    assert [line for line in effective if line.startswith("port ")] == [f"port {NEW_PORT}"]
    removed = guarded.host.login(NEW_PORT, key="former")
    assert removed.returncode == 255 and "Permission denied (publickey)" in removed.stderr
    guarded.lab.sh("visudo -c")


def test_ssh_audit_passes_the_host(guarded: Guarded) -> None:
    program = find_spec("ssh_audit")
    assert program is not None and program.submodule_search_locations
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(program.submodule_search_locations[0], arcname="ssh_audit")
    connection = guarded.host.connection
    with closing(DockerClient(base_url=connection["docker_host"])) as client:
        assert client.containers.get(connection["container"]).put_archive("/opt", archive.getvalue())
    report = guarded.lab.sh(f"cd /opt; python3 -m ssh_audit.ssh_audit -P {shlex.quote(POLICY)} -p {NEW_PORT} 127.0.0.1 || true")
    assert "Passed" in report, report


def test_failures_ban_and_the_ban_can_be_lifted(guarded: Guarded) -> None:
    source = guarded.host.connection["internet_address"]
    guarded.host.key("stranger")
    # Stands for the notifier of the monitoring.
    guarded.lab.sh(
        "printf '#!/bin/sh\\n{ echo \"$@\"; cat; } >>/var/tmp/told\\n' >/root/told.sh; install -m 755 /root/told.sh /usr/local/sbin/hybridlab-notify"
    )

    def banned() -> bool:
        return source in guarded.lab.sh("fail2ban-client get sshd banip")

    try:
        for _attempt in range(RETRIES):
            # sshd may write more than one line of a failure, and the ban may then come in the middle of a login.
            if not banned():
                with suppress(subprocess.TimeoutExpired):
                    guarded.host.login(NEW_PORT, key="stranger", user="root")
        until(banned)
        until(lambda: f"--event ban --subject sshd: {source} banned" in guarded.lab.sh("cat /var/tmp/told 2>/dev/null || true"))
        assert not guarded.host.enters(NEW_PORT)
        assert guarded.lab.sh("firewall-cmd --reload && nft list table inet f2b-table").count(source) == 1
        assert not guarded.host.enters(NEW_PORT)
    finally:
        guarded.lab.sh(f"fail2ban-client set sshd unbanip {source}")
    assert guarded.host.enters(NEW_PORT)


def test_who_manages_the_host_is_not_banned_meanwhile(guarded: Guarded) -> None:
    source = guarded.host.connection["internet_address"]

    def spared() -> bool:
        return source in guarded.lab.sh("fail2ban-client get sshd ignoreip; fail2ban-client get docker-auth ignoreip")

    assert not spared()
    guarded.lab.sh(f"fail2ban-client set sshd banip {source}; hybridlab-spare {source} sshd docker-auth")
    assert spared() and guarded.host.enters(NEW_PORT)
    assert "hybridlab-spare.timer" in guarded.lab.sh("systemctl list-timers --no-legend")
    guarded.lab.sh("systemctl restart fail2ban")
    assert spared()
    guarded.lab.sh("hybridlab-spare --end")
    assert not spared()
    assert "hybridlab-spare" not in guarded.lab.sh("systemctl list-timers --no-legend; ls /run/hybridlab")
    guarded.lab.sh("hybridlab-spare --end")


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing of the kind within the time"
        time.sleep(0.5)


def test_who_knocks_at_dockers_api_is_counted(guarded: Guarded) -> None:
    address = guarded.host.connection["address"]
    Lab(INTERNET).sh(f"python3 /responder.py connect {address} 2375 || true")
    # The kernel of a test machine keeps a container's packets out of its log: the rule counts them, and the filter gets the line that it would write.
    assert "docker-auth: " in guarded.lab.sh("nft list table inet hybridlab_docker_auth")
    line = f"Nov 21 16:40:00 host kernel: hybridlab docker-auth: IN=eth0 OUT= MAC= SRC=203.0.113.9 DST={address} LEN=60 PROTO=TCP SPT=4 DPT=2375 SYN"
    assert "1 matched" in guarded.lab.sh(f"fail2ban-regex {shlex.quote(line)} docker-auth")
    assert "docker-auth" in guarded.lab.sh("fail2ban-client status")


def test_a_change_that_nobody_proves_goes_back_by_itself(guarded: Guarded, tmp_path: Path) -> None:
    before = settings(guarded.lab)
    change = {
        "authorized_keys": {"keeper": [guarded.host.key("stranger")]},
        "ports": [OTHER_PORT],
        "options": {"PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no"},
        "unit": "ssh.service",
        "socket_unit": "ssh.socket",
        "seconds": 5,
    }
    play = [{"hosts": "kvm_hosts", "gather_facts": False, "become": True, "tasks": [{"hybridlab.platform.ssh_access": change}]}]
    (tmp_path / "unproven.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
    outcome = guarded.host.play(str(tmp_path / "unproven.yml"), NEW_PORT)
    assert outcome.rc == 0, outcome.output[-4000:]
    until(lambda: settings(guarded.lab) == before)
    until(lambda: guarded.host.enters(NEW_PORT))
    assert f":{OTHER_PORT} " not in guarded.lab.sh("ss -Hltn")
    assert guarded.lab.sh("ls -A /var/lib/hybridlab/ssh") == ""


def test_lynis_rises_and_what_it_still_says_is_known(guarded: Guarded) -> None:
    guarded.lab.sh("cd /usr/share/lynis; lynis audit system --quick --no-colors >/dev/null 2>&1 || true")
    report = guarded.lab.sh("grep -E '^(hardening_index|warning|suggestion)' /var/log/lynis-report.dat").splitlines()
    found = dict(line.split("=", 1) for line in report if line.startswith("hardening_index"))
    assert int(found["hardening_index"]) >= BARE_INDEX + 15
    accepted = yaml.safe_load(ACCEPTED.read_text(encoding="utf-8"))
    said = {line.split("=", 1)[1].split("|")[0] for line in report if line.startswith(("warning", "suggestion"))}
    assert sorted(said - set(accepted)) == []
