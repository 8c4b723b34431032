# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The look-alike after the roles: what EL9 names differently from Debian is there, under EL9's names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
MODEL = yaml.safe_load((CHECKOUT / "inventories/sandbox/group_vars/all/segments.yml").read_text(encoding="utf-8"))
NAMES = yaml.safe_load((CHECKOUT / "roles/kvm_host/vars/Rocky_9.yml").read_text(encoding="utf-8"))


def test_host_is_what_it_plays(host: Any) -> None:
    assert (host.system_info.distribution, host.system_info.release) == ("rocky", "9.6")
    assert host.check_output("python3 --version").startswith("Python 3.9.")
    assert not host.exists("apt-get")


@pytest.mark.parametrize("name", NAMES["__kvm_host_packages"])
def test_package_is_installed_by_its_own_name(host: Any, name: str) -> None:
    assert host.check_output(f"rpm -q --queryformat '%{{NAME}}' {name}") == name


@pytest.mark.parametrize("unit", NAMES["__kvm_host_units"], ids=lambda unit: str(unit["name"]))
def test_unit_is_as_declared(host: Any, unit: dict[str, Any]) -> None:
    assert host.run(f"systemctl is-enabled {unit['name']}").stdout.strip() == "enabled"
    if unit.get("running"):
        assert host.run(f"systemctl is-active {unit['name']}").stdout.strip() == "active"


def test_monolithic_daemon_does_not_run(host: Any) -> None:
    assert host.run("systemctl is-active libvirtd.service").stdout.strip() == "inactive"


def test_every_segment_is_an_active_network(host: Any) -> None:
    assert sorted(host.check_output("virsh -c network:///system net-list --name").split()) == sorted(segment["name"] for segment in MODEL["platform_segments"])


def test_stock_network_no_longer_starts(host: Any) -> None:
    info = host.check_output("virsh -c qemu:///system net-info default")
    assert "Active:         no" in info
    assert "Autostart:      no" in info


def test_nothing_failed(host: Any) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


def test_what_epel_has_came_after_epel(host: Any) -> None:
    """The stock repositories have none of it: a role that forgets epel-release, or plans without it, fails before this."""
    for name in ("fail2ban-server", "golang-github-prometheus-node-exporter"):
        assert "epel" in host.check_output(f"dnf --quiet repoquery --installed --queryformat '%{{from_repo}}' {name}")


@pytest.mark.parametrize(
    "unit", ["sshd.service", "fail2ban.service", "dnf-automatic.timer", "hybridlab-docker-auth.service", "hybridlab-ban-tell.path", "hybridlab-backup.timer"]
)
def test_what_guards_and_saves_runs_after_a_reboot(host: Any, unit: str) -> None:
    assert host.check_output(f"systemctl is-enabled {unit}") == "enabled"
    assert host.check_output(f"systemctl is-active {unit}") == "active"


@pytest.mark.parametrize("unit", ["crond.service", "postfix.service", "rsyslog.service", "prometheus-node-exporter.service", "hybridlab-health-daily.timer"])
def test_what_tells_runs_after_a_reboot(host: Any, unit: str) -> None:
    assert host.check_output(f"systemctl is-enabled {unit}") == "enabled"
    assert host.check_output(f"systemctl is-active {unit}") == "active"


def test_ssh_settings_win_over_the_crypto_policy(host: Any) -> None:
    """EL9 includes the policy's file in 50-redhat.conf, and sshd takes the first value that it reads."""
    settings = dict(line.partition(" ")[::2] for line in host.check_output("sshd -T").splitlines())
    assert (settings["port"], settings["passwordauthentication"], settings["gssapiauthentication"], settings["x11forwarding"]) == ("2201", "no", "no", "no")
    assert "hmac-sha1" not in settings["macs"]
    assert "nistp256" not in settings["kexalgorithms"] + settings["hostkeyalgorithms"]


def test_sshd_answers_on_the_declared_port_alone(host: Any) -> None:
    listening = host.check_output("ss -Hltnp").splitlines()
    assert {line.split()[3].rpartition(":")[2] for line in listening if '"sshd"' in line} == {"2201"}
    assert "ssh" not in host.check_output("firewall-cmd --zone=public --list-services").split()


def test_jails_read_the_journal_as_el9_names_its_parts(host: Any) -> None:
    assert "_SYSTEMD_UNIT=sshd.service" in host.check_output("fail2ban-client get sshd journalmatch")
    assert "docker-auth, sshd" in host.check_output("fail2ban-client status")


def test_security_updates_are_taken_at_their_time(host: Any) -> None:
    timer = host.check_output("systemctl show --property TimersCalendar,Unit dnf-automatic.timer")
    assert "OnCalendar=Sat *-*-* 04:00:00" in timer
    assert "06:00" not in timer
    assert "Unit=dnf-automatic.service" in timer
    # dnf's own program reads the role's file, and has nothing to do.
    assert host.run("systemctl start dnf-automatic.service").rc == 0
    settings = host.check_output("cat /etc/dnf/automatic.conf")
    assert "upgrade_type = security" in settings
    assert "apply_updates = yes" in settings


def test_health_looks_where_el9_has_things(host: Any) -> None:
    settings = json.loads(host.check_output("cat /etc/hybridlab/monitoring.json"))
    assert (settings["packages"], settings["logrotate_state"]) == ("dnf", "/var/lib/logrotate/logrotate.status")
    assert "selinux" in settings["expect"]
    for unit in settings["units"] + settings["update_units"]:
        assert host.check_output(f"systemctl show --property LoadState {unit}") == "LoadState=loaded"


@pytest.mark.parametrize("role", ["backup", "docker_engine", "host_security", "monitoring"])
def test_every_name_of_a_role_is_a_package_that_dnf_finds(host: Any, role: str) -> None:
    names = yaml.safe_load((CHECKOUT / f"roles/{role}/vars/Rocky_9.yml").read_text(encoding="utf-8"))
    wanted = {name for key, value in names.items() if key.endswith(("_packages", "_repositories")) for name in value}
    wanted |= {value for key, value in names.items() if key.endswith("_package")}
    assert host.run(f"dnf --assumeno install {' '.join(sorted(wanted))}").stderr.find("Unable to find a match") == -1
