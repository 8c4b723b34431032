# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a host against the model: every row passes on a sound host, and the one that is broken fails alone."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from ipaddress import IPv4Network
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import validate, validate_care, validate_docker, validate_host
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Pool
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import AddressPool, Docker, Swarm
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import Guest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_monitoring import Monitoring
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Account, Security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_services import Services
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answer, Row
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation_report import as_html, as_text, summary

POOL_XML = "<pool type='dir'><name>fast</name><target><path>/var/lib/libvirt/images</path></target></pool>"
NETWORK_XML = """<network><name>public</name><forward mode='open'/><bridge name='br-public' stp='on' delay='0'/>
<ip address='10.0.1.1' netmask='255.255.255.0'><dhcp><range start='10.0.1.100' end='10.0.1.200'/></dhcp></ip></network>"""
INFO: dict[str, Any] = {
    "Driver": "overlay2",
    "LoggingDriver": "json-file",
    "DockerRootDir": "/data/docker",
    "DefaultAddressPools": [{"Base": "172.22.0.0/16", "Size": 24}],
    "Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "Cluster": {"DefaultAddrPool": ["172.20.0.0/16"]}},
}
DOCKER = Docker(
    bridge=IPv4Network("172.17.0.0/16"),
    gwbridge=IPv4Network("172.18.0.0/16"),
    address_pools=(AddressPool(IPv4Network("172.22.0.0/16"), 24),),
    users=("admin",),
    swarm=Swarm(IPv4Network("172.20.0.0/16")),
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB4w23MruU6lve+0trqtIC87DHcIoRmcUS/3h16agnQx"
SSHD = "port 2201\npermitrootlogin no\npubkeyauthentication yes\npasswordauthentication no\nkbdinteractiveauthentication no\npermitemptypasswords no\n"
# As systemd-analyze cat-config has it: each file under its name, in the order in which they count.
JOURNAL = """# /etc/systemd/journald.conf
[Journal]
#SystemMaxUse=
SystemMaxUse=1G

# /etc/systemd/journald.conf.d/50-hybridlab.conf
[Journal]
Storage=persistent
MaxRetentionSec=30day
SystemMaxUse=2048M
"""
NOW = 1795190400  # 2026-11-20 16:00 UTC
STATUS = {"started": "2026-11-15T03:00:00Z", "finished": "2026-11-15T03:09:00Z", "ok": True, "last_good": "2026-11-15T03:09:00Z", "error": None}


def unit(name: str, active: str = "active", enabled: str = "enabled") -> str:
    return f"Id={name}\nLoadState=loaded\nActiveState={active}\nUnitFileState={enabled}\n"


def a_platform() -> Platform:
    segments: list[dict[str, Any]] = [{"name": "public", "cidr": "10.0.1.0/24", "dhcp": [{"first": "10.0.1.100", "last": "10.0.1.200"}]}]
    segments[0]["hosts"] = [{"name": "web", "address": "10.0.1.10", "ssh_port": 2211}]
    segments[0]["ssh_ports"] = {"first": 2211, "last": 2220}
    platform = parse_platform({"platform_name": "lab", "platform_domain": "lab.local", "platform_segments": segments})
    services = Services(
        docker=DOCKER,
        workloads=(Workload(name="web", image="web", stack="lab", replicas=2),),
        security=Security(accounts=(Account("admin", ssh_keys=(f"{KEY} admin@desk",), sudo=True),)),
        backup=Backup(),
        monitoring=Monitoring(),
    )
    host = replace(platform.host, distribution="Rocky", version="9.6")
    guests = (Guest("web"), Guest("old", state="stopped"))
    return replace(platform, host=host, host_ssh_ports=(2201,), guests=guests, pools=(Pool("fast", "/var/lib/libvirt/images"),), services=services)


def sound() -> dict[str, Answer]:
    """Answers of a host on which everything is as declared."""
    said = {
        "os": 'NAME="Rocky Linux"\nVERSION_ID="9.6"\n',
        "cpuinfo": "flags\t\t: fpu vmx\n",
        "kvm": "",
        "virt_host_validate": "  QEMU: Checking for hardware virtualization : PASS\n  QEMU: Checking for secure guest support : WARN\n",
        "libvirt_units": "\n".join(unit(name) for name in validate_host.MODULAR),
        "ip_forward": "1\n",
        "rules_unit": unit(validate_host.RULES_UNIT),
        "rules": "chain forwards {\n tcp dport 2211 dnat ip to 10.0.1.10:2211\n}\n",
        "networks": " public   active   yes   yes\n default   inactive   no   yes\n",
        "domains": " 1    web   running\n -    old   shut off\n",
        "addresses": "7: br-public    inet 10.0.1.1/24 brd 10.0.1.255 scope global br-public\n",
        "pool fast": POOL_XML,
        "pool state fast": "Name: fast\nState: running\nAutostart: yes\n",
        "network public": NETWORK_XML,
        "docker_units": "\n".join(unit(name) for name in ("docker.service", validate_docker.PORTS_UNIT)),
        "docker_info": json.dumps(INFO),
        "docker_networks": json.dumps([{"Name": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}}, {"Name": "none", "IPAM": {"Config": None}}]),
        "docker_services": json.dumps({"Name": "lab_web", "Replicas": "2/2 (max 1 per node)"}) + "\n",
        "docker_unhealthy": "",
        "data_root": "root:root 710\n",
        "docker_group": "docker:x:998:admin\n",
        "listeners": "LISTEN 0 128 0.0.0.0:2201 0.0.0.0:*\n",
        "ports_table": "table inet hybridlab_ports {\n}\n",
        "sshd": SSHD,
        "jails": "Status\n|- Number of jail:\t2\n`- Jail list:\tdocker-auth, sshd\n",
        "guards": "\n".join([unit("fail2ban.service"), unit("dnf-automatic.timer")]),
        "firewalld": "running\n",
        "selinux": "1",
        "selinux_installed": "",
        "selinux_denials": "",
        "keys admin": f"# managed\n{KEY} admin@laptop\n",
        "sudoers": "/etc/sudoers: parsed OK\n/etc/sudoers.d/hybridlab: parsed OK\n",
        "admins": "sudo:x:27:\n",
        "sudo admin": "User admin may run the following commands on host:\n    (ALL : ALL) NOPASSWD: ALL\n",
        "groups admin": "admin docker\n",
        "backup_timer": unit(validate_care.BACKUP_TIMER),
        "backup_mount": "/mnt/backup\n",
        "backup_status": json.dumps(STATUS),
        "backup_logrotate": "",
        "now": f"{NOW}\n",
        "health_timers": "\n".join(unit(name) for name in validate_care.HEALTH_TIMERS),
        "monitoring_mode": "root 600\n",
        "docker_logrotate": "",
        "journal": JOURNAL,
    }
    return {key: Answer(0, text) for key, text in said.items()}


def failed(answers: dict[str, Answer]) -> list[str]:
    return [row.check for row in validate.rows(a_platform(), answers) if not row.ok]


def test_a_sound_host_passes_every_check() -> None:
    assert set(validate.questions(a_platform())) == set(sound())
    rows = validate.rows(a_platform(), sound())
    assert [row for row in rows if not row.ok] == []
    assert {row.area for row in rows} == {"hypervisor", "networks", "guests", "docker", "swarm", "workloads", "security", "backup", "monitoring"}


@pytest.mark.parametrize(
    ("key", "text", "check"),
    [
        ("os", 'NAME="Rocky Linux"\nVERSION_ID="9.5"\n', "distribution"),
        ("cpuinfo", "flags : fpu\n", "CPU virtualisation"),
        ("virt_host_validate", "QEMU: Checking if device /dev/kvm exists : FAIL (load the module)\n", "virt-host-validate"),
        (
            "libvirt_units",
            unit("virtqemud.socket", "failed") + "\n" + unit("virtnetworkd.socket") + "\n" + unit("virtstoraged.socket"),
            "unit virtqemud.socket",
        ),
        ("ip_forward", "0\n", "net.ipv4.ip_forward"),
        ("pool fast", POOL_XML.replace("images", "other"), "pool fast: directory"),
        ("pool state fast", "State: running\nAutostart: no\n", "pool fast: state, autostart"),
        ("rules", "chain forwards {\n}\n", "forward 2211 to web"),
        ("rules_unit", unit(validate_host.RULES_UNIT, enabled="disabled"), f"unit {validate_host.RULES_UNIT}"),
        ("networks", " public   inactive   yes   yes\n", "public: active, autostart"),
        ("networks", " public   active   yes   yes\n default   active   yes   yes\n", "network default"),
        ("network public", NETWORK_XML.replace("'open'", "'nat'"), "public: bridge, mode"),
        ("network public", NETWORK_XML.replace("10.0.1.200", "10.0.1.250"), "public: dynamic range"),
        ("addresses", "7: br-public    inet 10.0.1.2/24 scope global br-public\n", "public: address of br-public"),
        ("domains", " 1    web   paused\n -    old   shut off\n", "web"),
        ("domains", " 1    web   running\n 2    old   running\n", "old"),
        ("docker_info", json.dumps({**INFO, "Driver": "vfs"}), "storage driver"),
        ("docker_info", json.dumps({**INFO, "LoggingDriver": "journald"}), "log driver"),
        ("docker_info", json.dumps({**INFO, "DockerRootDir": "/var/lib/docker"}), "data root"),
        ("docker_info", json.dumps({**INFO, "DefaultAddressPools": None}), "address pools"),
        ("docker_info", json.dumps({**INFO, "Swarm": {**INFO["Swarm"], "Cluster": {"DefaultAddrPool": ["10.0.0.0/8"]}}}), "address pool"),
        ("docker_networks", json.dumps([{"Name": "ingress", "IPAM": {"Config": [{"Subnet": "10.0.1.0/24"}]}}]), "networks that overlap a segment"),
        ("docker_services", json.dumps({"Name": "lab_web", "Replicas": "1/2"}), "web: replicas"),
        ("docker_services", "", "web: replicas"),
        ("docker_unhealthy", "lab_web.1.x\n", "unhealthy containers"),
        ("data_root", "root:root 755\n", "mode of the data root"),
        ("docker_group", "docker:x:998:admin,guest\n", "members of group docker"),
        ("listeners", "LISTEN 0 128 *:2375 *:*\n", "TCP listener of the API"),
        ("sshd", SSHD.replace("passwordauthentication no", "passwordauthentication yes"), "sshd passwordauthentication"),
        ("sshd", SSHD.replace("permitrootlogin no", "permitrootlogin without-password"), "sshd permitrootlogin"),
        ("sshd", "port 22\n" + SSHD, "sshd ports"),
        ("jails", "`- Jail list:\tsshd\n", "jail docker-auth"),
        ("guards", "\n".join([unit("fail2ban.service"), unit("dnf-automatic.timer", enabled="disabled")]), "unit dnf-automatic.timer"),
        ("firewalld", "not running\n", "firewalld"),
        ("selinux", "0", "SELinux"),
        ("keys admin", f"{KEY}\nssh-ed25519 AAAAother mallory\n", "keys of admin"),
        ("keys admin", "", "keys of admin"),
        ("selinux_denials", 'type=AVC msg=audit(1): avc:  denied  { read } for comm="nginx"\n', "SELinux: denials since boot"),
        ("admins", "sudo:x:27:mallory\nwheel:x:10:\n", "members of sudo, wheel"),
        ("sudo admin", "User admin may run the following commands on host:\n    (ALL : ALL) ALL\n", "sudo of admin"),
        ("sudo admin", "User admin is not allowed to run sudo on host.\n", "sudo of admin"),
        ("groups admin", "admin docker libvirt\n", "groups of admin"),
        ("groups admin", "admin\n", "groups of admin"),
        ("backup_timer", unit(validate_care.BACKUP_TIMER, "inactive"), f"unit {validate_care.BACKUP_TIMER}"),
        ("backup_status", json.dumps({**STATUS, "ok": False, "error": "no space"}), "last run"),
        ("backup_status", json.dumps({**STATUS, "last_good": "2026-11-10T03:09:00+00:00"}), "last good run"),
        ("backup_status", "", "last good run"),
        ("health_timers", "\n".join(unit(name) for name in validate_care.HEALTH_TIMERS[:2]), "unit hybridlab-health-watch.timer"),
        ("monitoring_mode", "root 644\n", "owner, mode of the settings"),
        ("journal", JOURNAL + "\n# /etc/systemd/journald.conf.d/99-mine.conf\nSystemMaxUse=8G\n", "journal: SystemMaxUse"),
        ("journal", JOURNAL.replace("MaxRetentionSec=30day\n", ""), "journal: MaxRetentionSec"),
    ],
)
def test_what_is_broken_fails_alone(key: str, text: str, check: str) -> None:
    assert failed({**sound(), key: Answer(0, text)}) == [check]


def test_a_disk_that_is_not_mounted_fails() -> None:
    assert failed({**sound(), "backup_mount": Answer(1)}) == ["disk at /mnt/backup"]


@pytest.mark.parametrize(
    ("key", "answer", "check", "found"),
    [
        ("docker_logrotate", Answer(1, "", "reading config file\nerror: docker:3 unknown option 'weakly'\n"), None, "unknown option"),
        ("docker_logrotate", Answer(0, "", "error: docker:3 unknown option 'weakly' -- ignoring line\n"), None, "unknown option"),
        ("backup_logrotate", Answer(1, "", "error: cannot stat /etc/logrotate.d/hybridlab-backup: No such file or directory\n"), None, "cannot stat"),
        ("sudoers", Answer(1, "/etc/sudoers.d/own:1:5: syntax error\n"), "sudoers", "syntax error"),
        ("selinux_denials", Answer(1, "", "Error opening /var/log/audit/audit.log\n"), "SELinux: denials since boot", "Error opening"),
    ],
)
def test_what_a_command_complains_of_is_told(key: str, answer: Answer, check: Optional[str], found: str) -> None:
    (row,) = [row for row in validate.rows(a_platform(), {**sound(), key: answer}) if not row.ok]
    assert row.check == (check or {"docker_logrotate": validate_care.DOCKER_LOGROTATE, "backup_logrotate": validate_care.BACKUP_LOGROTATE}[key])
    assert found in row.found


def test_a_log_without_a_denial_and_an_account_that_may_nothing_are_as_declared() -> None:
    platform = a_platform()
    security = Security(accounts=(Account("admin", ssh_keys=(KEY,)), Account("root", ssh_keys=(KEY,)), Account("ops", groups=("wheel", "audio"))))
    several = replace(platform, services=replace(platform.services, security=security))
    answers = {
        **sound(),
        "selinux_denials": Answer(1, "", "<no matches>\n"),
        "sudo admin": Answer(1, "User admin is not allowed to run sudo on host.\n"),
        "keys root": Answer(0, KEY),
        "groups root": Answer(0, "root\n"),
        "admins": Answer(2, "wheel:x:10:ops\n"),
        "keys ops": Answer(0, ""),
        "groups ops": Answer(0, "ops wheel audio video\n"),
        "sudo ops": Answer(0, "    (ALL) ALL\n"),
    }
    assert set(validate.questions(several)) == set(answers)
    assert [row for row in validate.rows(several, answers) if not row.ok] == []


# A host without SELinux is none that has it switched off.
@pytest.mark.parametrize("key", sorted(set(validate.questions(a_platform())) - {"selinux_installed"}))
def test_no_answer_is_never_a_passed_check(key: str) -> None:
    assert failed({**sound(), key: Answer(None, "", f"{key}: not installed")}) != []


def test_layers_that_the_model_leaves_out_are_not_judged() -> None:
    bare = replace(a_platform(), services=Services())
    assert {row.area for row in validate.rows(bare, sound())} == {"hypervisor", "networks", "guests"}
    assert not any(key.startswith("docker") for key in validate.questions(bare))


def test_a_measurement_becomes_rows() -> None:
    good = {"pairs_ok": 20, "pairs_total": 20, "internet_ok": 5, "internet_total": 5, "differences": []}
    assert all(row.ok for row in validate.measured_rows("reachability", good))
    bad = validate.measured_rows("reachability", {**good, "pairs_ok": 19, "differences": ["public -> private: refused"]})
    assert [(row.check, row.ok) for row in bad] == [("pairs of segments", False), ("ways to the Internet", True), ("difference", False)]
    assert [row.found for row in validate.measured_rows("reachability", {"msg": "no bridge br-public"})] == ["no bridge br-public"]


def test_measured_ports_become_rows() -> None:
    web = {"workload": "web", "published": 8080, "protocol": "tcp", "from": ["public", "host"], "ok": True}
    hand = {"workload": "", "published": 9000, "protocol": "tcp", "from": [], "ok": True}
    good = {"ports": [web, hand], "differences": [], "summary": "ports 2/2, connections 28/28"}
    assert [(row.check, row.expected, row.found, row.ok) for row in validate.measured_rows("published ports", good)] == [
        ("8080/tcp (web)", "open to public, host only", "open to public, host only", True),
        ("9000/tcp (undeclared)", "closed to all", "closed to all", True),
    ]
    lines = ["9000/tcp (undeclared): from internet open; declared closed", "9000/tcp (undeclared): from host open; declared closed"]
    bad = validate.measured_rows("published ports", {**good, "ports": [web, {**hand, "ok": False}], "differences": lines})
    assert [row.found for row in bad if not row.ok] == ["from internet open; declared closed; from host open; declared closed"]
    assert [row.ok for row in validate.measured_rows("published ports", {"msg": "no bridge"})] == [False]
    assert [row.ok for row in validate.measured_rows("published ports", {"ports": [], "differences": [], "summary": "not measured"})] == [False]
    assert validate.measured_rows("published ports", {"changed": False, "skipped": True, "skip_reason": "Conditional result was False"}) == []


def test_the_reports_name_what_failed() -> None:
    rows = [Row("docker", "storage driver", "overlay2", "overlay2", True).to_dict(), Row("backup", "last <good>", "8 days", "x" * 90, False).to_dict()]
    assert summary(rows) == "validation FAILED: 1 of 2 checks, in backup"
    text = as_text(rows)
    assert [line for line in text.splitlines() if line.endswith("FAILED")] and "x" * 90 not in text
    page = as_html(rows, "Lab & host")
    assert "last &lt;good&gt;" in page and "Lab &amp; host" in page and "x" * 90 in page

    class Balanced(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open_tags: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag != "meta":
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    parser = Balanced()
    parser.feed(page)
    assert parser.open_tags == []
