# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks over captured outputs: what is seen, how it is judged, and that nothing unknown counts as good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import model_monitoring
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring import (
    docker_checks,
    guest_checks,
    host_checks,
    mail_checks,
    metrics,
    settings,
    suites,
    weekly_checks,
)
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.model import Check, Limits, exit_code
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.probe import Host, Output
from ansible_collections.hybridlab.platform.roles.monitoring.files.hybridlab_monitoring.settings import Settings, parse
from ansible_collections.hybridlab.platform.tests.unit.monitoring.fake_host import DAY, NOW, FakeHost

PARTS = ("docker", "swarm", "libvirt", "fail2ban", "updates", "selinux", "backup")
FULL = Settings(
    expect=PARTS,
    units=("docker.service",),
    tables=("hybridlab_segments",),
    guests=("db",),
    jails=("sshd",),
    update_units=("apt-daily-upgrade.service",),
    certificates=("/etc/ssl/web.pem",),
)


def one(checks: list[Check], name: str, subject: str = "") -> Check:
    return next(check for check in checks if check.name == name and check.subject == subject)


def measured(checks: list[Check]) -> dict[tuple[str, str], float]:
    return {(row.name, ",".join(value for _key, value in row.labels)): row.value for check in checks for row in check.metrics}


@pytest.mark.parametrize(("available", "severity"), [(3_100_000, "ok"), (3_000_000, "warning"), (1_000_000, "critical")])
def test_memory_is_judged_by_what_is_available(available: int, severity: str) -> None:
    text = f"MemTotal:       10000000 kB\nMemFree:          100000 kB\nMemAvailable:    {available} kB\n"
    check = one(host_checks.memory(FakeHost(files={"/proc/meminfo": text}), Settings()), "memory")
    assert check.severity == severity
    assert bool(check.cure) == (severity != "ok")


DF = """Type          1B-blocks       Avail Use%    Inodes IUse% Mounted on
overlay    270553174016 69261611008  30%  16777216    5% /
ext4       270553174016  1261611008  91%  16777216   81% /data/with space
btrfs      270553174016 69261611008  30%         0     - /srv
overlay    270553174016 69261611008  99%  16777216    5% /data/docker/overlay2/abc/merged
ext4       270553174016 69261611008  99%  16777216    5% /etc/resolv.conf
"""


def test_each_disk_is_judged_by_space_and_inodes_and_views_of_containers_are_left_out() -> None:
    checks = host_checks.filesystems(FakeHost({"df ": DF}), Settings())
    assert {check.key: check.severity for check in checks} == {
        "disk:/": "ok",
        "inodes:/": "ok",
        "disk:/data/with space": "critical",
        "inodes:/data/with space": "warning",
        "disk:/srv": "ok",
    }
    assert measured(checks)["hybridlab_filesystem_used_ratio", "/data/with space"] == 0.91


def test_a_mount_that_hangs_is_unknown() -> None:
    host = FakeHost({"df ": Output(124, "", problem="df: no answer within 20 seconds")})
    assert [(check.severity, "no answer" in check.message) for check in host_checks.filesystems(host, Settings())] == [("unknown", True)]


@pytest.mark.parametrize(("cores", "severity"), [(8, "ok"), (2, "warning"), (1, "critical")])
def test_load_is_judged_for_each_core(cores: int, severity: str) -> None:
    host = FakeHost(files={"/proc/loadavg": "9.00 4.50 1.00 2/300 12345\n"}, cores=cores)
    assert one(host_checks.load(host, Settings()), "load").severity == severity


def test_units_that_do_not_run_or_do_not_exist_are_critical() -> None:
    text = (
        "Id=docker.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\n"
        "Id=libvirtd.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\n\n"
        "Id=none.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n"
    )
    checks = host_checks.units(FakeHost({"systemctl show": text}), Settings(units=("docker.service", "libvirtd.service", "none.service")))
    assert [check.severity for check in checks] == ["ok", "critical", "critical"]
    assert "does not exist" in checks[2].message


def test_each_failed_unit_is_named_and_they_are_counted_once() -> None:
    checks = host_checks.failed_units(
        FakeHost({"systemctl list-units": "a.service loaded failed failed A thing\nb.mount loaded failed failed B\n"}), Settings()
    )
    assert [(check.subject, check.severity) for check in checks] == [("a.service", "critical"), ("b.mount", "critical")]
    assert measured(checks) == {("hybridlab_failed_units", ""): 2}
    assert one(host_checks.failed_units(FakeHost({"systemctl list-units": ""}), Settings()), "failed_units").severity == "ok"


def test_errors_of_the_journal_are_counted_by_unit() -> None:
    rows = [{"_SYSTEMD_UNIT": "docker.service"}] * 15 + [{"SYSLOG_IDENTIFIER": "kernel"}] * 6
    check = host_checks.journal_errors(FakeHost({"journalctl": "\n".join(map(json.dumps, rows))}), Settings())[0]
    assert (check.severity, check.value) == ("warning", 21)
    assert "docker.service (15), kernel (6)" in check.message


def test_failed_logins_are_counted_and_other_lines_are_not() -> None:
    text = (
        "Failed password for root from 192.0.2.9 port 4 ssh2\nInvalid user oracle from 192.0.2.9 port 5\nAccepted publickey for admin from 192.0.2.1\n"
        "Connection closed by authenticating user root 192.0.2.9 port 40022 [preauth]\n"
    )
    check = host_checks.ssh_failures(FakeHost({"journalctl": text}), parse({"thresholds": {"ssh_failures": {"warning": 3, "critical": 9}}}))[0]
    assert (check.value, check.severity) == (3, "warning")


def _status(**values: Any) -> dict[str, str]:
    row = {"started": None, "finished": "2026-11-20T03:00:00Z", "ok": True, "last_good": "2026-11-20T03:00:00Z", "bytes": 5, "error": None, **values}
    return {"/var/lib/hybridlab/backup/status.json": json.dumps(row)}


@pytest.mark.parametrize(
    ("files", "severity", "words"),
    [
        (_status(), "ok", "1.6 days old"),
        (_status(last_good="2026-11-13T03:00:00+00:00"), "critical", "8.6 days old"),
        (_status(ok=False, error="disk full"), "critical", "disk full"),
        (_status(ok=False, last_good=None, error="disk full"), "critical", "there is no good one"),
        (_status(ok=False, finished=None), "ok", "1.6 days old"),
        ({}, "critical", "No backup has run yet"),
        ({"/var/lib/hybridlab/backup/status.json": "{"}, "unknown", "is not what the backup writes"),
        ({"/var/lib/hybridlab/backup/status.json": '{"ok": true}'}, "unknown", "is not what the backup writes"),
    ],
)
def test_a_backup_that_is_old_failed_or_missing_is_critical(files: dict[str, str], severity: str, words: str) -> None:
    check = host_checks.backup(FakeHost(files=files), FULL)[0]
    assert check.severity == severity
    assert words in check.message


PS = [
    {"Names": "web.1.k3v9x2m4n5b6c7d8e9f0a1b2c", "State": "running", "Status": "Up 2 hours (healthy)"},
    {"Names": "db", "State": "running", "Status": "Up 1 minute (unhealthy)"},
    {"Names": "loop", "State": "restarting", "Status": "Restarting (1) 3 seconds ago"},
    {"Names": "web.1.aaaaaaaaaaaaaaaaaaaaaaaaa", "State": "exited", "Status": "Exited (0) 2 hours ago"},
]


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_unhealthy_and_restarting_containers_are_critical_and_ended_tasks_are_not() -> None:
    checks = docker_checks.containers(FakeHost({"docker ps": lines(PS)}), FULL)
    assert {check.key: check.severity for check in checks} == {"containers": "ok", "container:db": "critical", "container:loop": "critical"}
    assert measured(checks)["hybridlab_containers", "exited"] == 1


def test_a_task_of_swarm_keeps_its_name_when_it_is_started_anew() -> None:
    rows = [{**PS[0], "Status": "Up (unhealthy)"}]
    assert docker_checks.containers(FakeHost({"docker ps": lines(rows)}), FULL)[1].subject == "web.1"


def test_services_below_their_replicas() -> None:
    rows = [
        {"Name": "demo_web", "Mode": "replicated", "Replicas": "2/2 (max 1 per node)"},
        {"Name": "demo_api", "Mode": "replicated", "Replicas": "1/2"},
        {"Name": "demo_db", "Mode": "replicated", "Replicas": "0/1"},
        {"Name": "demo_off", "Mode": "replicated", "Replicas": "0/0"},
        {"Name": "demo_job", "Mode": "replicated job", "Replicas": "0/1 (1/1 completed)"},
    ]
    checks = docker_checks.services(FakeHost({"docker service ls": lines(rows)}), FULL)
    assert {check.subject: check.severity for check in checks} == {"demo_web": "ok", "demo_api": "warning", "demo_db": "critical", "demo_off": "ok"}


@pytest.mark.parametrize(("text", "size"), [("0B", 0), ("1.5GB", 1.5e9), ("12kB (3%)", 12_000), ("2.1TB", 2.1e12), ("--", 0)])
def test_sizes_of_docker(text: str, size: float) -> None:
    assert docker_checks.size(text) == size


def test_what_docker_keeps_and_could_free() -> None:
    rows = [{"Type": "Images", "Size": "80GB", "Reclaimable": "60GB (75%)"}, {"Type": "Build Cache", "Size": "1GB", "Reclaimable": "1GB"}]
    check = docker_checks.disk_use(FakeHost({"docker system df": lines(rows)}), FULL)[0]
    assert (check.severity, check.value) == ("warning", 61.0)


def test_a_container_near_its_memory_limit() -> None:
    rows = [{"Name": "db", "MemPerc": "95.10%", "CPUPerc": "150.0%", "MemUsage": "95MiB / 100MiB"}, {"Name": "new", "MemPerc": "--", "CPUPerc": "--"}]
    checks = docker_checks.statistics(FakeHost({"docker stats": lines(rows)}), FULL)
    assert [(check.subject, check.severity) for check in checks] == [("db", "warning"), ("new", "ok")]
    assert measured(checks)["hybridlab_container_cpu_ratio", "db"] == 1.5


def test_guests_that_do_not_run_though_they_should() -> None:
    text = " 1    web    running\n -    db     shut off\n 2    old    paused\n -    spare  shut off\n"
    checks = guest_checks.guests(FakeHost({"virsh": text}), Settings(guests=("db", "web", "gone")))
    found = {check.subject: check.severity for check in checks if check.name == "guest"}
    assert found == {"db": "critical", "gone": "critical", "old": "warning", "web": "ok"}
    assert "spare shut off" in checks[0].message


def test_pools_that_are_full_or_stopped() -> None:
    outputs = {
        "virsh --quiet --connect qemu:///system pool-list": "fast\nlarge\noff\n\n",
        "virsh --quiet --connect qemu:///system pool-info --bytes fast": "State:          running\nCapacity:       1000\nAllocation:  1\nAvailable:  100\n",
        "virsh --quiet --connect qemu:///system pool-info --bytes large": "State:          running\nCapacity:       1000\nAvailable:  900\n",
        "virsh --quiet --connect qemu:///system pool-info --bytes off": "State:          inactive\n",
    }
    checks = guest_checks.pools(FakeHost(outputs), Settings())
    assert {check.subject: check.severity for check in checks} == {"fast": "critical", "large": "ok", "off": "critical"}


def test_rules_that_are_not_loaded_are_critical() -> None:
    checks = guest_checks.tables(FakeHost({"nft": "table inet hybridlab_segments\ntable ip nat\n"}), Settings(tables=("hybridlab_segments", "hybridlab_ports")))
    assert [check.severity for check in checks] == ["ok", "critical"]
    assert "systemctl restart hybridlab-ports.service" in checks[1].cure


APT = """NOTE: This is only a simulation!
Inst libc6 [2.36-9] (2.36-9+deb12u10 Debian:12.9/stable [amd64])
Inst openssl [3.0.1] (3.0.2 Debian-Security:12/stable-security [amd64])
Conf openssl (3.0.2 Debian-Security:12/stable-security [amd64])
"""
DNF = """
kernel.x86_64                 5.14.0-570.el9        baseos
openssl-libs.x86_64           1:3.2.2-6.el9_5       baseos
Obsoleting Packages
new.noarch                    1-1                   appstream
    old.noarch                1-0                   @System
"""


def test_pending_updates_of_apt() -> None:
    host = FakeHost({"apt-get": APT}, times={"/var/lib/apt/lists/partial": NOW - 20 * DAY})
    checks = weekly_checks.updates(host, FULL)
    assert (checks[0].severity, checks[0].value, "openssl" in checks[0].message) == ("warning", 1, True)
    assert one(checks, "package_lists").severity == "warning"


def test_pending_updates_of_dnf() -> None:
    host = FakeHost(
        {"dnf --quiet check-update --security": Output(100, DNF.replace("kernel.x86_64", "# kernel")), "dnf --quiet check-update": Output(100, DNF)}
    )
    check = weekly_checks.updates(host, Settings(packages="dnf"))[0]
    assert (check.severity, check.value) == ("warning", 1)
    assert "2 updates are pending" in check.message
    quiet = FakeHost({"dnf": Output(0, "")})
    assert weekly_checks.updates(quiet, Settings(packages="dnf"))[0].severity == "ok"
    broken = FakeHost({"dnf": Output(1, "", "Error: Failed to download metadata")})
    assert weekly_checks.updates(broken, Settings(packages="dnf"))[0].severity == "unknown"


@pytest.mark.parametrize(
    ("days", "tail", "severity"),
    [(1, "Finished Daily apt upgrade", "ok"), (9, "Finished", "warning"), (1, "x.service: Failed with result 'exit-code'.", "warning"), (None, "", "critical")],
)
def test_automatic_updates_must_have_run(days: Optional[float], tail: str, severity: str) -> None:
    text = "" if days is None else f"{NOW - days * DAY:.6f} host systemd[1]: {tail}\n"
    assert weekly_checks.automatic_updates(FakeHost({"journalctl": text}), FULL)[0].severity == severity


def test_a_reboot_that_is_due() -> None:
    assert weekly_checks.reboot(FakeHost(), FULL)[0].severity == "ok"
    assert weekly_checks.reboot(FakeHost(files={"/run/reboot-required": ""}), FULL)[0].severity == "warning"
    dnf = Settings(packages="dnf")
    assert weekly_checks.reboot(FakeHost({"needs-restarting": Output(1, "Reboot is required")}), dnf)[0].severity == "warning"
    assert weekly_checks.reboot(FakeHost(), dnf)[0].severity == "unknown"


@pytest.mark.parametrize(("size", "severity", "value"), [("8.0M", "ok", 8), ("3.5G", "warning", 3584), ("1.0T", "critical", 1024**2)])
def test_size_of_the_journal(size: str, severity: str, value: int) -> None:
    text = f"Archived and active journals take up {size} in the file system.\n"
    check = weekly_checks.journal_size(FakeHost({"journalctl": text}), FULL)[0]
    assert (check.severity, check.value) == (severity, value)


@pytest.mark.parametrize(("days", "severity"), [(0.5, "ok"), (3, "warning"), (9, "critical")])
def test_logs_that_are_not_rotated(days: float, severity: str) -> None:
    host = FakeHost(times={"/var/lib/logrotate/status": NOW - days * DAY})
    assert weekly_checks.rotation(host, FULL)[0].severity == severity


JAIL = """Status for the jail: sshd
|- Filter
|  |- Currently failed: 1
|  |- Total failed:     12
|  `- Journal matches:  _SYSTEMD_UNIT=sshd.service + _COMM=sshd
`- Actions
   |- Currently banned: 2
   |- Total banned:     5
   `- Banned IP list:   192.0.2.7 192.0.2.8
"""


def test_statistics_of_fail2ban() -> None:
    checks = weekly_checks.bans(FakeHost({"fail2ban-client status sshd": JAIL}), FULL)
    assert (checks[0].severity, checks[0].value) == ("ok", 2)
    assert measured(checks)["hybridlab_fail2ban_failures", "sshd"] == 12
    down = FakeHost({"fail2ban-client": Output(255, "", "Failed to access socket path")})
    assert weekly_checks.bans(down, FULL)[0].severity == "critical"


def test_denials_of_selinux() -> None:
    line = 'type=AVC msg=audit(1.1:1): avc:  denied  { read } for  pid=1 comm="nginx" name="x"'
    outputs = {"getenforce": "Permissive\n", "ausearch": line + "\n" + line + "\n"}
    checks = weekly_checks.selinux(FakeHost(outputs), FULL)
    assert [(check.severity, check.value) for check in checks] == [("critical", "permissive"), ("warning", 2)]
    none = FakeHost({"getenforce": "Enforcing\n", "ausearch": Output(1, "", "<no matches>\n")})
    assert [check.severity for check in weekly_checks.selinux(none, FULL)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("date", "severity"), [("Dec 25 10:00:00 2027 GMT", "ok"), ("Dec 11 10:00:00 2026 GMT", "warning"), ("Nov  1 10:00:00 2026 GMT", "critical")]
)
def test_certificates_that_end(date: str, severity: str) -> None:
    assert weekly_checks.certificates(FakeHost({"openssl": f"notAfter={date}\n"}), FULL)[0].severity == severity


def test_the_log_of_the_backup_is_searched_for_errors() -> None:
    files = {"/var/log/docker-backup/old.log": "error: x\n", "/var/log/docker-backup/new.log": "ok\nrsync error: some files\n"}
    host = FakeHost(files=files, times={"/var/log/docker-backup/old.log": NOW - 9 * DAY})
    check = weekly_checks.backup_log(host, FULL)[0]
    assert (check.severity, "new.log" in check.message, "some files" in check.message) == ("warning", True, True)


Look = Callable[[Host, Settings], list[Check]]


# A backup that never ran and updates that never came are told as such, and a host without a mail agent has no queue.
SILENT = (host_checks.backup, weekly_checks.automatic_updates, mail_checks.mail_queue)


@pytest.mark.parametrize("look", [look for look, _part in suites.SUITES["all"] if look not in SILENT])
def test_a_missing_tool_is_never_ok(look: Look) -> None:
    checks = look(FakeHost(), FULL)
    assert checks
    if look is weekly_checks.reboot:  # Debian says it by a file
        return
    assert {check.severity for check in checks} <= {"unknown", "critical"}
    assert all(check.cure for check in checks)


def postfix_queue(*minutes: int) -> FakeHost:
    lines = "".join(json.dumps({"queue_name": "deferred", "queue_id": str(age), "arrival_time": int(NOW) - age * 60}) + "\n" for age in minutes)
    return FakeHost({"/usr/sbin/postqueue -j": lines}, files={"/usr/sbin/postqueue": ""})


def dma_queue(*minutes: int) -> FakeHost:
    times = {f"/var/spool/dma/Q{age}": NOW - age * 60 for age in minutes}
    others = ("/usr/sbin/dma", "/var/spool/dma/flush", *(f"/var/spool/dma/M{age}" for age in minutes))
    return FakeHost(files=dict.fromkeys((*times, *others), ""), times={**times, "/var/spool/dma/flush": NOW - 9 * DAY})


@pytest.mark.parametrize("queue", [postfix_queue, dma_queue])
def test_mail_that_waits_for_an_hour_is_told_with_its_count_and_its_oldest(queue: Callable[..., FakeHost]) -> None:
    assert [check.severity for check in mail_checks.mail_queue(queue(), Settings())] == ["ok"]
    assert mail_checks.mail_queue(queue(59, 1), Settings())[0].severity == "ok"
    checks = mail_checks.mail_queue(queue(5, 61, 300), Settings())
    assert (checks[0].severity, checks[0].value, checks[0].threshold) == ("warning", 300, "60/1440")
    assert "3 messages wait" in checks[0].message and "2 of them for more than 60 minutes, the oldest for 5 hours" in checks[0].message
    assert measured(checks) == {("hybridlab_mail_queue_messages", ""): 3, ("hybridlab_mail_queue_oldest_seconds", ""): 18000}
    assert mail_checks.mail_queue(queue(1440), Settings())[0].severity == "critical"
    patient = parse({"thresholds": {"mail_queue_minutes": {"warning": 400}}})
    assert mail_checks.mail_queue(queue(300), patient)[0].severity == "ok"


def test_a_mail_queue_that_cannot_be_read_is_unknown_and_a_host_without_one_has_none() -> None:
    for output in (Output(1, "", "postqueue: fatal: Queue report unavailable"), Output(0, "-Queue ID-  --Size--")):
        assert mail_checks.mail_queue(FakeHost({"/usr/sbin/postqueue": output}, files={"/usr/sbin/postqueue": ""}), Settings())[0].severity == "unknown"
    assert mail_checks.mail_queue(FakeHost(), Settings()) == []


def test_parts_that_the_model_leaves_out_are_not_looked_for() -> None:
    names = {check.name for check in suites.examine(FakeHost(), Settings(), "all")}
    assert not names & {"container", "service", "guest", "pool", "backup", "fail2ban", "selinux"}
    assert names >= {"memory", "disk", "load", "updates"}


def test_a_check_that_breaks_stops_no_other() -> None:
    class Broken(FakeHost):
        def cores(self) -> int:
            raise RuntimeError("no such thing")

    host = Broken(files={"/proc/loadavg": "1 1 1 1/1 1", "/proc/meminfo": "MemTotal: 10 kB\nMemAvailable: 9 kB\n"})
    checks = suites.examine(host, Settings(), "daily")
    assert (one(checks, "load").severity, one(checks, "memory").severity) == ("unknown", "ok")


def test_every_command_has_a_time_limit_and_is_ended_with_its_children(tmp_path: Path) -> None:
    host = FakeHost()
    suites.examine(host, FULL, "all")
    assert host.limits
    assert max(host.limits) <= 180
    mark = tmp_path / "late"
    output = Host().run(["sh", "-c", f"(sleep 1.5; touch {mark}) & sleep 9"], seconds=0.3)
    assert "no answer within" in output.problem
    assert not Host().run(["sh", "-c", "sleep 1.6"]).problem
    assert not mark.exists()


def test_limits_work_in_both_directions() -> None:
    assert [Limits(70, 90).judge(value) for value in (69.9, 70, 90)] == ["ok", "warning", "critical"]
    assert [Limits(30, 7).judge(value) for value in (31, 30, 7)] == ["ok", "warning", "critical"]


@pytest.mark.parametrize(("severities", "code"), [((), 0), (("ok",), 0), (("ok", "unknown"), 1), (("warning", "unknown"), 1), (("warning", "critical"), 2)])
def test_the_exit_code_is_the_worst(severities: tuple[str, ...], code: int) -> None:
    assert exit_code([Check("x", severity, "") for severity in severities]) == code


def test_the_tool_and_the_model_have_the_same_thresholds() -> None:
    assert dict(model_monitoring.THRESHOLDS) == settings.THRESHOLDS
    assert model_monitoring.WEBHOOK_KINDS == settings.KINDS
    assert {name for name, (warning, critical) in settings.THRESHOLDS.items() if critical < warning} == set(model_monitoring.FALLING)


def test_every_metric_is_named_as_prometheus_wants_it() -> None:
    for name in metrics.METRICS:
        assert name.startswith("hybridlab_")
        assert not name.endswith(("_percent", "_ms", "_kb", "_mb", "_count", "_total"))
