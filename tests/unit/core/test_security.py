# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""platform_security: its defaults, and what the role ships beside its tasks."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from pathlib import Path

import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_security import JAILS, read_security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Account, Jail, Security, Ssh
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


def test_the_role_has_the_defaults_of_the_model() -> None:
    role = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__host_security_defaults"]
    model = asdict(Security(accounts=()))
    assert role["fail2ban"].pop("jails") == [{"name": jail.name} for jail in Security(accounts=()).fail2ban.jails]
    assert role["fail2ban"]["never_ban"] == list(model["fail2ban"]["never_ban"])
    for key in ("ssh", "updates", "sysctl", "audit", "selinux", "selinux_booleans"):
        assert role[key] == model[key], key
    jails = (ROLE / "templates/jail.local.j2").read_text(encoding="utf-8")
    defaults = Jail("sshd")
    for name, value in (("retries", defaults.retries), ("find_seconds", defaults.find_seconds), ("ban_seconds", defaults.ban_seconds)):
        assert f"{name} | default({value})" in jails
    assert str(list(JAILS)) in jails


def test_the_kernel_parameters_leave_the_host_its_job() -> None:
    kernel = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__host_security_kernel"]
    assert not [key for key in kernel if "forward" in key or key.startswith("net.bridge") or key == "kernel.modules_disabled"]
    assert {value for key, value in kernel.items() if key.endswith("rp_filter")} == {2}


def test_a_storm_of_bans_is_one_message(tmp_path: Path) -> None:
    told = tmp_path / "told"
    notify = tmp_path / "notify"
    notify.write_text(f'#!/bin/sh\n{{ echo "$@"; cat; }} >>{told}\n', encoding="utf-8")
    notify.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "HYBRIDLAB_NOTIFY": str(notify), "HYBRIDLAB_BAN_STATE": str(tmp_path / "state")}

    def ban(address: str) -> None:
        subprocess.run(["sh", str(ROLE / "files/hybridlab-ban-notify"), "sshd", address, "5"], env=environment, check=True)

    for last in range(1, 6):
        ban(f"192.0.2.{last}")
    text = told.read_text(encoding="utf-8")
    assert text.count("--event ban") == 1 and "sshd: 192.0.2.1 banned" in text
    (tmp_path / "state").write_text("0 4\n", encoding="utf-8")  # a minute later
    ban("192.0.2.9")
    assert "4 further bans since the last message" in told.read_text(encoding="utf-8")


def test_without_an_alert_tool_a_ban_goes_on(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HYBRIDLAB_NOTIFY": str(tmp_path / "none"), "HYBRIDLAB_BAN_STATE": str(tmp_path / "state")}
    subprocess.run(["sh", str(ROLE / "files/hybridlab-ban-notify"), "sshd", "192.0.2.1", "5"], env=environment, check=True)
    assert not (tmp_path / "state").exists()
