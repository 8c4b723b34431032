# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host after site.yml: each role's work looked at with the tools of an operator, then by the platform's own validation."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
SEGMENTS = [ip_network(f"10.0.{number}.0/24") for number in range(5)]


def test_engine_is_as_the_model_says(host: Any) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert (info["Driver"], info["LoggingDriver"], info["DockerRootDir"]) == ("overlay2", "json-file", "/data/docker")
    root = host.file("/data/docker")
    assert (root.user, root.group, root.mode) == ("root", "root", 0o710)
    assert host.service("docker").is_enabled


def test_engine_has_no_tcp_listener(host: Any) -> None:
    assert not any(host.socket(f"tcp://{port}").is_listening for port in (2375, 2376))


def test_no_network_of_docker_overlaps_a_segment(host: Any) -> None:
    networks = json.loads(host.check_output("docker network inspect $(docker network ls --quiet)"))
    subnets = [ip_network(config["Subnet"]) for network in networks for config in network["IPAM"]["Config"] or []]
    assert len(subnets) >= 3
    assert [(subnet, segment) for subnet in subnets for segment in SEGMENTS if subnet.overlaps(segment)] == []


def test_workloads_run_as_a_stack(host: Any) -> None:
    lines = host.check_output("docker stack services demo --format '{{.Name}} {{.Replicas}}'").splitlines()
    assert sorted(lines) == ["demo_edge 1/1", "demo_web 2/2"]
    assert "Hello from the sandbox." in host.check_output(
        "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080').read().decode())\""
    )


def test_rules_of_published_ports_are_loaded_before_docker(host: Any) -> None:
    assert host.check_output("nft list table inet hybridlab_ports")
    assert host.service("hybridlab-ports").is_enabled
    assert "docker.service" in host.check_output("systemctl show --property=Before --value hybridlab-ports.service").split()


def test_only_keys_open_the_host(host: Any) -> None:
    settings = host.check_output("sshd -T").splitlines()
    assert {"port 2201", "passwordauthentication no", "pubkeyauthentication yes", "permitrootlogin no"} <= set(settings)
    assert "port 22" not in settings


def test_jails_watch(host: Any) -> None:
    assert "docker-auth, sshd" in host.check_output("fail2ban-client status")


@pytest.mark.parametrize("name", ["backup", "health-daily", "health-weekly", "health-watch"])
def test_timers_wait(host: Any, name: str) -> None:
    timer = host.service(f"hybridlab-{name}.timer")
    assert timer.is_running and timer.is_enabled


def validate(tmp_path: Path) -> tuple[int, list[dict[str, Any]]]:
    """Exit code of the validation, and its checks."""
    argv = [sys.executable, "-m", "tools.validate", "-i", "inventories/sandbox", "--output", str(tmp_path), "--json"]
    argv += ["-e", "@tests/integration/models/networks_only.yml"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)["sandbox"]
    for suffix in ("txt", "json", "html"):
        assert told["summary"] in (tmp_path / f"sandbox.{suffix}").read_text(encoding="utf-8")
    return done.returncode, told["checks"]


def test_the_validation_passes(host: Any, tmp_path: Path) -> None:
    # A disk for the backup, as far as the host can tell.
    host.check_output("mkdir -p /mnt/backup && mount -t tmpfs -o size=1g tmpfs /mnt/backup && systemctl start hybridlab-backup.service")
    code, checks = validate(tmp_path)
    assert [check for check in checks if not check["ok"]] == []
    assert code == 0
    areas = {"hypervisor", "networks", "docker", "swarm", "workloads", "security", "backup", "monitoring", "reachability", "published ports"}
    assert {check["area"] for check in checks} == areas


def test_the_validation_finds_what_is_broken(host: Any, tmp_path: Path) -> None:
    host.check_output("fail2ban-client stop sshd && systemctl disable --now hybridlab-backup.timer && virsh -q net-autostart public --disable")
    code, checks = validate(tmp_path)
    assert code == 1
    assert {(check["area"], check["check"]) for check in checks if not check["ok"]} == {
        ("security", "jail sshd"),
        ("backup", "unit hybridlab-backup.timer"),
        ("networks", "public: active, autostart"),
    }
