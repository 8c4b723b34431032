# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker publishes is as open as the model says and no wider, on one host that goes through all that takes rules away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.lab import CommandFailed, Lab, fresh
from tools.playbook import Outcome

IMAGE = "tiny@sha256:" + "0" * 64
WORKLOADS = [
    {"name": "web", "image": "tiny", "ports": [{"published": 8080, "target": 80, "from": ["public", "host"]}]},
    {"name": "site", "image": "tiny", "ports": [{"published": 8081, "target": 80, "from": ["internet", "private"]}]},
]
MODEL: dict[str, Any] = {
    "platform_container_images": [{"name": "tiny", "reference": IMAGE}],
    "platform_workloads": WORKLOADS,
}
ARGUMENTS = ("-e", json.dumps(MODEL))

# An image of one program, without any registry; a plain container, a Swarm service, and one that nobody declared.
CONTAINERS = """
apt-get install -y -qq --no-install-recommends busybox-static >/dev/null
root=$(mktemp -d); mkdir $root/bin $root/www; cp /bin/busybox $root/bin/; echo hello >$root/www/index.html
tar -C $root -cf - . | docker import - tiny >/dev/null
serve='/bin/busybox httpd -f -p 80 -h /www'
docker run -d --restart always --name web -p 8080:80 tiny $serve
docker run -d --restart always --name hand -p 9000:80 tiny $serve
docker service create -d --name site --endpoint-mode dnsrr --publish mode=host,target=80,published=8081 tiny $serve 2>/dev/null
"""

# HTTP status, or why there is none, of each address and port.
ASK = """python3 - <<'EOF'
import socket
for place in ("127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:9000", "::1:8080", "::1:8081"):
    address, port = place.rsplit(":", 1)
    try:
        with socket.create_connection((address, int(port)), 3) as connection:
            connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            print(place, connection.recv(15).decode())
    except OSError as error:
        print(place, type(error).__name__)
EOF
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    with fresh("ports", layers=("platform_docker",)) as lab:
        for layer in ("host", "segments", "docker", "ports"):
            lab.played(f"playbooks/{layer}.yml", *ARGUMENTS)
        lab.sh(CONTAINERS)
        serving(lab)
        yield lab


def serving(lab: Lab, seconds: float = 60) -> None:
    """Waits until all three run."""
    ends = time.monotonic() + seconds
    while lab.sh("docker ps --format '{{.Ports}}' | grep -c -- '->80/tcp' || true").strip() != "3":
        assert time.monotonic() < ends, lab.sh("docker ps -a; docker service ps site")
        time.sleep(1)


def verified(lab: Lab) -> Outcome:
    """The segments' matrix and the ports from each side are as declared, also the port that nobody declared."""
    outcome = lab.played("playbooks/verify.yml", *ARGUMENTS)
    assert "pairs 20/20, internet 5/5" in outcome.output
    assert "published ports 3/3, connections 42/42" in outcome.output
    return outcome


def refused(lab: Lab) -> str:
    """What verify.yml says where it fails."""
    outcome = lab.play("playbooks/verify.yml", *ARGUMENTS)
    assert outcome.rc != 0
    return outcome.output


def test_ports_are_as_declared_from_each_side_and_a_second_run_changes_nothing(host: Lab) -> None:
    verified(host)
    assert host.sh(ASK).splitlines() == [
        "127.0.0.1:8080 HTTP/1.1 200 OK",
        "127.0.0.1:8081 ConnectionRefusedError",
        "127.0.0.1:9000 OSError",
        "::1:8080 ConnectionRefusedError",
        "::1:8081 ConnectionRefusedError",
    ]
    assert host.played("playbooks/ports.yml", *ARGUMENTS).changed == 0
    # Containers reach each other, and by the host's address no more than what they are named for: nothing.
    peek = "docker exec hand /bin/busybox sh -c 'echo GET / | /bin/busybox nc -w3 {}'"
    # On docker0 itself the engine keeps them apart (icc).
    host.sh("docker network create inner; docker network connect inner web; docker network connect inner hand")
    address = host.sh("docker inspect -f '{{.NetworkSettings.Networks.inner.IPAddress}}' web").strip()
    host.sh(peek.format(f"{address} 80"))
    for port in (8080, 8081, 9000):
        with pytest.raises(CommandFailed, match=r"Connection refused|No route to host"):
            host.sh(peek.format(f"172.17.0.1 {port}"))
    host.sh("docker network disconnect inner web; docker network disconnect inner hand; docker network rm inner")


@pytest.mark.parametrize("command", ["systemctl restart docker", "firewall-cmd --reload"])
def test_ports_are_as_declared_after_others_have_written_their_rules_again(host: Lab, command: str) -> None:
    host.sh(command)
    serving(host)
    verified(host)


def test_without_the_table_verify_tells_what_docker_opens(host: Lab) -> None:
    host.sh("nft delete table inet hybridlab_ports")
    told = refused(host)
    assert "8080/tcp (web): from internet open; declared closed" in told
    assert "9000/tcp (undeclared): from internet open; declared closed" in told
    assert host.played("playbooks/ports.yml", *ARGUMENTS).changed == 1


def test_a_first_load_is_refused_while_it_would_close_what_somebody_publishes(host: Lab) -> None:
    host.sh("nft delete table inet hybridlab_ports; rm /etc/hybridlab/ports.nft")
    for mode in (("--check",), ()):
        told = host.play("playbooks/ports.yml", *mode, *ARGUMENTS)
        assert told.rc != 0
        assert "closed to everybody by these rules: 9000/tcp (container hand). Nothing was changed" in told.output
    assert "hybridlab_ports" not in host.sh("nft list tables")
    assert host.played("playbooks/ports.yml", *ARGUMENTS, "-e", "published_ports_allow_disruption=true").changed == 1
    assert host.played("playbooks/ports.yml", *ARGUMENTS).changed == 0


def test_rules_that_cannot_be_loaded_close_every_port(host: Lab) -> None:
    host.sh("echo nonsense >>/etc/hybridlab/ports.nft; nft delete table inet hybridlab_ports; systemctl restart hybridlab-ports || true")
    assert host.sh("systemctl is-failed hybridlab-ports").strip() == "failed"
    told = refused(host)
    assert " open; " not in told.replace("declared open", "")
    # Docker brings the closed table back before it starts.
    host.sh("nft delete table inet hybridlab_ports; systemctl restart docker")
    assert "counter packets" in host.sh("nft list chain inet hybridlab_ports forward")

    assert host.played("playbooks/ports.yml", *ARGUMENTS).changed == 2
    serving(host)
    verified(host)


def test_ports_are_as_declared_after_a_reboot_and_removal_takes_everything_away(host: Lab) -> None:
    host.restart()
    serving(host)
    verified(host)
    told = host.play("playbooks/teardown.yml", "-e", "teardown=sandbox", *ARGUMENTS)
    assert told.rc != 0
    assert "open to everybody without these rules: 8080/tcp (container web), 8081/tcp (container site.1." in told.output
    assert told.changed == 0
    host.sh("docker service rm site; docker rm -f web hand; until [ -z $(docker ps -q) ]; do sleep 0.2; done")
    host.played("playbooks/teardown.yml", "-e", "teardown=sandbox", *ARGUMENTS)
    left = host.sh("nft list tables; ls /etc/systemd/system/hybridlab-ports.service /etc/systemd/system/docker.service.d /etc/hybridlab 2>&1 || true")
    assert "hybridlab_ports" not in left
    assert "20-ports.conf" not in left
