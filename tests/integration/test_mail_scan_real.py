# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rspamd, ClamAV and Redis on a real Swarm, asked as Postfix asks. The tests share a host and run in order."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_rspamd
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Antivirus, Mail

from tests.integration.lab import Lab, fresh
from tools import playbook

MAIL = Mail(hostname="mail.example.org", domains=(), admins=(), antivirus=Antivirus(memory_mb=1024))
SOCKET = "/data/docker/volumes/mail_sockets_rspamd/_data/milter"
HERE = playbook.CHECKOUT / "tests/integration/mail"
FILES = ("scan_cases.py", "dns_server.py", "milter_client.py")
KEYS = """
for domain in a.example b.example; do mkdir -p /data/mail/dkim/$domain; for selector in s1 s2; do
  openssl genrsa -out /data/mail/dkim/$domain/$selector.key 2048 2>/dev/null
  openssl rsa -in /data/mail/dkim/$domain/$selector.key -pubout 2>/dev/null | grep -v -- -- | tr -d '\\n' >/data/mail/dkim/$domain/$selector.pub
done; done
printf 'a.example s1\\nb.example s2\\n' >/data/mail/dkim/selectors.map
chown -R root:5004 /data/mail/dkim; chmod -R u=rwX,g=rX,o= /data/mail/dkim
"""


def variables() -> tuple[str, str]:
    base = next(iter(sorted((playbook.CHECKOUT / ".cache/base").glob("*.tar"))))
    images = [{"name": "base", "rootfs": str(base)}, *mail_rspamd.images(MAIL, str(playbook.CHECKOUT / "images"))]
    workloads = mail_rspamd.workloads(MAIL)
    for workload in workloads:
        # Nobody waits here for half a minute to see that something is well.
        workload["health"]["interval_seconds"] = 3
    return "-e", json.dumps({"platform_container_images": images, "platform_workloads": workloads, "platform_secrets": {}, "model_checked": True})


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    with fresh("mail-scan", layers=("platform_docker", "platform_secrets", "platform_container_images", "platform_workloads")) as lab:
        lab.played("playbooks/docker.yml")
        lab.sh(KEYS)
        lab.played("playbooks/workloads.yml", *variables())
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for name in FILES:
                tar.add(HERE / name, f"tests/integration/mail/{name}")
        lab.sh(f"mkdir -p /root/cases; echo {base64.b64encode(archive.getvalue()).decode()} | base64 -d | tar -C /root/cases -xz")
        yield lab


def container(lab: Lab, name: str) -> str:
    return lab.sh(f"docker ps -q --filter label=com.docker.swarm.service.name=mail_{name}").strip()


def healthy(lab: Lab, name: str, seconds: float = 120) -> None:
    """Wait until a task is there and its check is passed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = container(lab, name)
        if found and lab.sh(f"docker inspect --format '{{{{.State.Health.Status}}}}' {found} || true").strip() == "healthy":
            return
        time.sleep(2)
    raise AssertionError(f"mail_{name} did not become healthy: {lab.sh(f'docker service ps --no-trunc mail_{name}')}")


def renewed(lab: Lab, name: str) -> None:
    """Its container killed, and a new one there."""
    old = container(lab, name)
    lab.sh(f"docker kill {old}")
    end = time.monotonic() + 60
    while container(lab, name) in ("", old) and time.monotonic() < end:
        time.sleep(1)
    healthy(lab, name)


def asked(lab: Lab, address: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.sh(f"cd /root/cases && timeout 150 python3 -m tests.integration.mail.scan_cases {SOCKET} {address} /data/mail/dkim"))
    return found


def test_no_mail_stands_still_where_no_name_server_answers(host: Lab) -> None:
    host.sh("cp /etc/resolv.conf /root/resolv.conf; echo nameserver 192.0.2.254 >/etc/resolv.conf")
    renewed(host, "rspamd")
    found = asked(host, "none")
    assert {case["reply"] for case in found.values()} == {"accept"}
    assert max(case["seconds"] for case in found.values()) < 10, found


def test_verdicts(host: Lab) -> None:
    address = host.sh("ip -4 -o address show docker_gwbridge").split()[3].partition("/")[0]
    host.sh(f"echo nameserver {address} >/etc/resolv.conf")
    renewed(host, "rspamd")
    found = asked(host, address)

    def reply(name: str) -> str:
        return str(found[name]["reply"])

    def header(name: str, field: str) -> list[str]:
        values: list[str] = found[name]["headers"].get(field, [])
        return values

    assert reply("plain") == "accept"
    assert header("plain", "x-spam") == []
    (results,) = header("forged headers", "authentication-results")
    assert "spf=pass" in results and "bank.example" not in results
    assert (header("forged headers", "x-spam"), header("forged headers", "x-spam-flag")) == ([], [])
    assert len(header("forged headers", "x-spamd-result")) == 1 and "-99" not in header("forged headers", "x-spamd-result")[0]
    for name in ("spoofed, reject", "spoofed from a private network", "gtube"):
        assert reply(name).startswith("554 "), (name, reply(name))
    assert (reply("spoofed, quarantine"), header("spoofed, quarantine", "x-spam")) == ("accept", ["Yes"])
    assert reply("honest, reject") == "accept"
    for name in (case for case in found if case.startswith("virus")):
        assert reply(name) == "554 5.7.1 Virus found: Platform.Test.EICAR.UNOFFICIAL", name
    for domain, selector in (("a.example", "s1"), ("b.example", "s2")):
        (signature,) = header(f"login of {domain}", "dkim-signature")
        assert f"d={domain}; s={selector};" in signature
        assert f"dkim=pass header.d={domain}" in header(f"signed by {domain}, come in", "authentication-results")[0]
    for name in ("login, header of another domain", "login, no sender, header of another domain", "login, header of another at ours"):
        assert reply(name).startswith("554 5.7.1 From: boss@"), (name, reply(name))
    for name in ("login, header with a detail", "a script's answer"):
        assert (reply(name), len(header(name, "dkim-signature"))) == ("accept", 1), name
    for name in ("no login, our domain", "a script's redirect"):
        assert (reply(name), header(name, "dkim-signature")) == ("accept", []), name
    assert (header("no login, our domain", "x-spam"), header("a script's redirect", "x-spam")) == (["Yes"], [])
    assert (reply("too much in it"), header("too much in it", "x-spam")) == ("accept", ["Yes"])
    (found_limits,) = header("too much in it", "x-spamd-result")
    assert "CLAM_LIMITS" in found_limits and "R_SPF_ALLOW" in found_limits


def test_without_clamav_no_mail_is_taken_and_none_is_lost(host: Lab) -> None:
    host.sh("docker service scale -d mail_clamav=0 && for i in $(seq 60); do docker ps | grep -q mail_clamav || break; sleep 1; done")
    assert {case["reply"] for case in asked(host, "none").values()} == {"451 4.7.1 The virus scanner is away, try again later"}
    # The same where it never was there.
    renewed(host, "rspamd")
    assert {case["reply"] for case in asked(host, "none").values()} == {"451 4.7.1 The virus scanner is away, try again later"}
    host.sh("docker service scale -d mail_clamav=1")
    healthy(host, "clamav")
    assert {case["reply"] for case in asked(host, "none").values()} == {"accept"}


def test_killed_redis_keeps_what_was_learned(host: Lab) -> None:
    redis = "redis-cli -s /run/mail/redis/redis"
    host.sh(f"docker exec {container(host, 'redis')} {redis} set learned before")
    time.sleep(1.5)
    renewed(host, "redis")
    assert host.sh(f"docker exec {container(host, 'redis')} {redis} get learned").strip() == "before"
    assert {case["reply"] for case in asked(host, "none").values()} == {"accept"}
    host.sh("cp /root/resolv.conf /etc/resolv.conf")
