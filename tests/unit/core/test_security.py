# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""platform_security: its defaults, and what the role ships beside its tasks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_security import read_security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import HOST_JAILS, MAIL_JAILS, Account, Jail, Ssh
from ansible_collections.hybridlab.platform.plugins.module_utils.core.security_settings import settings
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model

ROLE = Path(__file__).resolve().parents[3] / "roles/host_security"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB4w23MruU6lve+0trqtIC87DHcIoRmcUS/3h16agnQx admin"
CONTEXT = Context(host_ssh_ports=(2201,), ssh_ports=frozenset(range(2201, 2281)))


def test_values_are_read() -> None:
    faults = Faults()
    raw = {
        "accounts": [{"name": "admin", "ssh_keys": [KEY], "sudo": True, "groups": ["adm"]}, {"name": "root", "ssh_keys": [KEY]}],
        "ssh": {"root_login": True},
        "fail2ban": {"jails": [{"name": "sshd", "retries": 3}], "never_ban": ["192.0.2.0/24", "2001:db8::1"]},
        "sysctl": {"net.core.somaxconn": 4096},
    }
    found = read_security(faults, raw, CONTEXT)
    assert faults.items == [] and found is not None
    assert found.accounts[0] == Account("admin", (KEY,), ("adm",), sudo=True)
    assert found.ssh == Ssh(root_login=True)
    assert found.fail2ban.jails == (Jail("sshd", retries=3),)
    assert found.fail2ban.never_ban == ("192.0.2.0/24", "2001:db8::1")
    assert found.sysctl == {"net.core.somaxconn": 4096}


def test_the_lab_is_sound() -> None:
    faults = Faults()
    read_security(faults, lab_model()["platform_security"], CONTEXT)
    assert faults.items == []


def test_settings_are_complete_and_plain() -> None:
    found = settings({"accounts": [{"name": "admin", "ssh_keys": [KEY], "sudo": True}], "fail2ban": {"jails": [{"name": "sshd", "retries": 3}]}})
    assert json.loads(json.dumps(found)) == found
    assert found["accounts"] == [{"name": "admin", "ssh_keys": [KEY], "groups": [], "sudo": True, "sudo_password": False, "shell": None}]
    assert found["fail2ban"] == {"jails": [{"name": "sshd", "retries": 3, "find_seconds": 600, "ban_seconds": 3600}], "never_ban": []}
    assert (found["selinux"], found["audit"], found["updates"]) == ("enforcing", True, {"day": "Sat", "time": "04:00", "reboot": False})
    with pytest.raises(ModelError, match=r"platform_security\.selinux: found 'disabled'"):
        settings({"accounts": [{"name": "admin", "ssh_keys": [KEY], "sudo": True}], "selinux": "disabled"})


def test_jails_of_the_mail_system_are_on_with_it_and_off_where_the_model_says_so() -> None:
    def names(jails: list[dict[str, Any]], mail: bool) -> list[str]:
        raw = {"accounts": [{"name": "admin", "ssh_keys": [KEY], "sudo": True}], "fail2ban": {"jails": jails}}
        return [jail["name"] for jail in settings(raw, mail)["fail2ban"]["jails"]]

    assert names([{"name": "sshd"}], mail=True) == ["sshd", *MAIL_JAILS]
    assert names([{"name": "sshd"}, {"name": "mail-web", "retries": 3}], mail=False) == ["sshd"]
    assert names([{"name": "sshd", "enabled": False}, {"name": "mail-web", "enabled": False}], mail=True) == ["mail-dovecot", "mail-postfix"]


def test_the_jails_file_has_every_jail_of_the_hardening() -> None:
    assert str(list(HOST_JAILS)) in (ROLE / "templates/jail.local.j2").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("family", "looked", "mode", "refused"),
    [
        ("Rocky_9", ["none"], "enforcing", True),
        ("Rocky_9", ["none"], "permissive", False),
        ("Rocky_9", ["none", "selinux"], "enforcing", False),
        ("Rocky_9", ["docker"], "enforcing", False),
        ("Debian_12", ["none"], "enforcing", False),
    ],
)
def test_selinux_that_is_off_is_refused_where_it_shall_enforce(family: str, looked: list[str], mode: str, refused: bool) -> None:
    loader = DataLoader()
    variables: dict[str, Any] = {}
    for name in ("main", family):
        variables.update(loader.load_from_file(str(ROLE / f"vars/{name}.yml"), trusted_as_template=True))
    variables.update(__host_security_virt={"stdout_lines": looked}, __host_security_settings={"selinux": mode})
    assert Templar(loader=loader, variables=variables).template(variables["__host_security_selinux_refused"]) is refused


def test_the_kernel_parameters_leave_the_host_its_job() -> None:
    kernel = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__host_security_kernel"]
    assert not [key for key in kernel if "forward" in key or key.startswith("net.bridge") or key == "kernel.modules_disabled"]
    assert {value for key, value in kernel.items() if key.endswith("rp_filter")} == {2}


class Bans:
    """The two halves of telling of a ban, with a notifier that writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self.spool, self.told = folder / "spool", folder / "told"
        notify = folder / "notify"
        notify.write_text(f'#!/bin/sh\n{{ echo "$@"; cat; }} >>{self.told}\n', encoding="utf-8")
        notify.chmod(0o755)
        self.environment = {"PATH": "/usr/bin:/bin", "HYBRIDLAB_NOTIFY": str(notify), "HYBRIDLAB_BAN_SPOOL": str(self.spool)}

    def ban(self, address: str) -> None:
        subprocess.run(["sh", str(ROLE / "files/hybridlab-ban-notify"), "sshd", address, "5"], env=self.environment, check=True)

    def tell(self) -> str:
        self.told.unlink(missing_ok=True)
        subprocess.run(["sh", str(ROLE / "files/hybridlab-ban-tell"), "0"], env=self.environment, check=True)
        return self.told.read_text(encoding="utf-8") if self.told.exists() else ""


def test_a_ban_is_noted_by_fail2ban_and_told_by_another(tmp_path: Path) -> None:
    bans = Bans(tmp_path)
    bans.ban("192.0.2.1")
    assert not bans.told.exists() and (bans.spool.stat().st_mode & 0o777, [path.stat().st_mode & 0o777 for path in bans.spool.iterdir()]) == (0o700, [0o600])
    text = bans.tell()
    assert "--event ban --subject sshd: 192.0.2.1 banned\n" in text and "192.0.2.1 in the jail sshd after 5 failures" in text
    assert list(bans.spool.iterdir()) == [] and bans.tell() == ""


def test_a_storm_of_bans_is_one_message(tmp_path: Path) -> None:
    bans = Bans(tmp_path)
    for last in range(1, 45):
        bans.ban(f"192.0.2.{last}")
    text = bans.tell()
    assert text.count("--event ban") == 1 and " banned, and 43 more\n" in text
    assert text.count("in the jail") == 40 and "and 4 more: fail2ban-client banned" in text
    for number in range(1000):
        (bans.spool / str(number)).touch()
    bans.ban("192.0.2.9")
    assert len(list(bans.spool.iterdir())) == 1000


def test_what_is_no_note_of_a_ban_is_removed_and_not_told(tmp_path: Path) -> None:
    bans = Bans(tmp_path)
    bans.ban("192.0.2.1")
    (tmp_path / "secret").write_text("sshd 192.0.2.2 5\n", encoding="utf-8")
    (bans.spool / "1").symlink_to(tmp_path / "secret")
    (bans.spool / "2").write_text("sshd $(touch x) 5\n", encoding="utf-8")
    (bans.spool / "-rf").write_text("sshd 2001:db8::1 5\nsshd 192.0.2.3 5\n", encoding="utf-8")
    (bans.spool / "3").mkdir()
    text = bans.tell()
    assert "2001:db8::1" in text and "192.0.2.1 " in text and "and 1 more" in text
    assert "192.0.2.2" not in text and "192.0.2.3" not in text and "touch" not in text
    assert list(bans.spool.iterdir()) == [] and (tmp_path / "secret").exists()


def test_without_an_alert_tool_notes_are_taken_away(tmp_path: Path) -> None:
    bans = Bans(tmp_path)
    bans.environment["HYBRIDLAB_NOTIFY"] = str(tmp_path / "none")
    bans.ban("192.0.2.1")
    assert bans.tell() == "" and list(bans.spool.iterdir()) == []


@pytest.fixture
def audit(tmp_path: Path) -> Callable[[], list[str]]:
    """Runs audit-load.sh with an augenrules that writes down what it is asked; a container may have no rules of its own."""
    (tmp_path / "rules").write_text("old\n", encoding="utf-8")
    os.utime(tmp_path / "rules", (1, 1))
    tool = tmp_path / "bin" / "augenrules"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/asked\n[ ! -e {tmp_path}/new ] || echo "Rules have changed and should be updated"\n', encoding="utf-8")
    tool.chmod(0o755)

    def load() -> list[str]:
        (tmp_path / "asked").write_text("", encoding="utf-8")
        argv = ["sh", str(ROLE / "files/audit-load.sh"), str(tmp_path / "rules"), str(tmp_path / "docker"), str(tmp_path / "libvirt")]
        done = subprocess.run(argv, env={"PATH": f"{tool.parent}:/usr/bin:/bin"}, check=True, capture_output=True, text=True)
        asked = (tmp_path / "asked").read_text(encoding="utf-8").split()
        assert ("stale" in done.stdout.split()) == ("--load" in asked)
        return asked

    return load


def test_audit_rules_are_loaded_again_for_a_directory_made_since(audit: Callable[[], list[str]], tmp_path: Path) -> None:
    assert audit() == ["--check"]
    (tmp_path / "docker").mkdir()
    assert audit() == ["--check", "--load"]
    assert audit() == ["--check"]
    (tmp_path / "new").touch()
    assert audit() == ["--check", "--load"]
