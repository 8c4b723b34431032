# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is saved under write load, by runs that meet every misfortune, is destroyed, and stands again on a fresh one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.integration.backup_workload import ARGUMENTS, IMAGE, PLAIN, SERVICE, write_app
from tests.integration.lab import CommandFailed, Lab, fresh
from tools.sandbox.names import Identity

PREPARED = "backup-prepared"
LAYERS = ("platform_docker",)
GENERATION = "/var/tmp/generation.tar"

PREPARE = """
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io >/dev/null 2>&1
mkdir -p /srv/compose && echo 'services: {}' >/srv/compose/compose.yaml
# Stands for the alert of the monitoring.
printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c "echo %%i >>/var/tmp/alerts"\\n' >/etc/systemd/system/hybridlab-alert@.service
systemctl daemon-reload
"""

MOUNT = "mkdir -p /mnt/backup && mount -t tmpfs -o size=192m tmpfs /mnt/backup"

# Ends the run's own process without a chance to clean up, once `{until}`.
KILL = """
systemctl start --no-block hybridlab-backup
count=0; until {until}; do count=$((count + 1)); test $count -lt 2000; sleep 0.02; done
systemctl kill --signal=KILL --kill-who=main hybridlab-backup
while systemctl is-active --quiet hybridlab-backup || test "$(systemctl is-active hybridlab-backup)" = deactivating; do sleep 0.1; done
systemctl reset-failed hybridlab-backup
"""


class Host:
    """What the tests ask of a host."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lab.sh("cat /var/lib/hybridlab/backup/status.json"))
        return found

    def alerts(self) -> int:
        return int(self.lab.sh("cat /var/tmp/alerts 2>/dev/null | wc -l"))

    def refused(self, words: str) -> None:
        """A run of the unit that fails with these words, and is told of."""
        before = self.alerts()
        with pytest.raises(CommandFailed):
            self.lab.sh("systemctl start hybridlab-backup")
        assert words in str(self.status()["error"])
        assert self.alerts() == before + 1

    def app(self, verb: str) -> list[int]:
        """The numbers that a verb of the service prints."""
        chosen = "docker ps --quiet --filter label=com.docker.swarm.service.name=demo_app"
        # Swarm may be about to replace the container.
        wait = f"for _ in $(seq 60); do [ -z $({chosen}) ] || break; sleep 1; done"
        return [int(word) for word in self.lab.sh(f"{wait}; docker exec $({chosen}) python3 /app.py {verb}").split()]

    @contextmanager
    def _container(self) -> Iterator[Any]:
        """The host, as the engine that holds it sees it."""
        connection = json.loads((Identity.of().hosts_dir / f"{self.lab.name}.json").read_text(encoding="utf-8"))
        client = docker.DockerClient(base_url=connection["docker_host"])
        try:
            yield client.containers.get(connection["container"])
        finally:
            client.close()

    def carried(self) -> bytes:
        """GENERATION, as a tar of its own."""
        with self._container() as container:
            chunks, _status = container.get_archive(GENERATION)
            return b"".join(chunks)

    def receive(self, carried: bytes) -> None:
        with self._container() as container:
            container.put_archive(str(Path(GENERATION).parent), carried)

    def generations(self) -> list[str]:
        return self.lab.sh("ls /mnt/backup/docker").split()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with the engine and the backup, kept as an image for its successor before it holds any data."""
    with fresh("backup", layers=LAYERS) as lab:
        lab.sh(PREPARE)
        assert lab.played("playbooks/backup.yml", *ARGUMENTS).rc == 0
        lab.commit(PREPARED)
        lab.sh(write_app() + IMAGE + SERVICE + PLAIN)
        lab.sh("until docker ps | grep -q '(healthy)'; do sleep 0.2; done; touch $(docker volume inspect --format '{{.Mountpoint}}' demo_files)/go")
        yield Host(lab)


def test_installed_without_a_disk(host: Host) -> None:
    outcome = host.lab.played("playbooks/backup.yml", *ARGUMENTS)

    assert outcome.changed == 0 and "nothing is mounted at /mnt/backup" in outcome.output
    assert "hybridlab-backup.timer" in host.lab.sh("systemctl list-timers --no-pager")
    assert host.lab.sh("systemd-analyze verify hybridlab-backup.service hybridlab-backup.timer 2>&1 | grep hybridlab || true") == ""
    host.lab.sh("logrotate --debug /etc/logrotate.d/hybridlab-backup 2>&1 | grep -q 'docker-backup'")
    host.refused("/mnt/backup is no mount point")
    assert host.lab.sh("ls -A /mnt") == ""


def test_saved_under_load(host: Host) -> None:
    host.lab.sh(MOUNT)
    begin = host.app("judge")[0]
    host.lab.sh("systemctl start hybridlab-backup")

    assert host.status()["ok"] is True and host.app("judge")[0] > begin
    assert "0 differences" in host.lab.sh("hybridlab-backup verify")
    assert "0 to" not in host.lab.sh("hybridlab-backup list")
    assert host.lab.sh("docker ps --quiet --filter status=paused") == "" and "plain" in host.lab.sh("docker ps")
    assert host.lab.sh("stat -c %a /mnt/backup/docker/*/dumps/app.dump").strip() == "600"


def test_a_foreign_volume_keeps_nothing_else_from_being_saved(host: Host) -> None:
    whole = host.generations()
    good = host.status()["last_good"]
    host.lab.sh("docker volume create --opt type=tmpfs --opt device=tmpfs foreign")
    host.refused("volume foreign: its data lies elsewhere")

    status = host.status()
    assert (status["last_good"], status["services"]["app"]) == (good, status["finished"])
    assert "holds all but this: volume foreign: " in host.lab.sh("journalctl --unit=hybridlab-backup --lines=25 --no-pager")
    assert "0 differences" in host.lab.sh("hybridlab-backup verify")
    lacking = next(name for name in host.generations() if name not in whole)
    assert "volume foreign" in host.lab.sh("hybridlab-backup list")
    with pytest.raises(CommandFailed):
        host.lab.sh(f"hybridlab-backup remove {whole[-1]}")
    host.lab.sh(f"docker volume rm foreign; hybridlab-backup remove {lacking}")
    assert host.generations() == whole


@pytest.mark.parametrize(
    "until",
    ["test -d /mnt/backup/docker/*.partial", "test -e /var/lib/hybridlab/backup/held.json", "test -e /mnt/backup/docker/*.partial/engine/volumes.json"],
    ids=["at the first file", "while containers stand still", "at the end"],
)
def test_killed_anywhere(host: Host, until: str) -> None:
    whole = [name for name in host.generations() if not name.endswith(".partial")]
    alerts = host.alerts()
    host.lab.sh(KILL.format(until=until))

    assert host.status()["ok"] is False and "ended before its end" in host.status()["error"]
    assert host.alerts() == alerts + 1
    assert [name for name in host.generations() if not name.endswith(".partial")] == whole
    assert "0 differences" in host.lab.sh("hybridlab-backup verify")
    assert host.lab.sh("docker ps --quiet --filter status=paused") == "" and "plain" in host.lab.sh("docker ps")


def test_a_full_disk_keeps_the_good_generation(host: Host) -> None:
    host.lab.sh("head -c 48M /dev/urandom >/srv/compose/large; fallocate -l $(($(df --output=avail -B1 /mnt/backup | tail -1) - 4194304)) /mnt/backup/filler")
    host.refused("too small")

    assert "0 differences" in host.lab.sh("hybridlab-backup verify")
    host.lab.sh("rm /mnt/backup/filler /srv/compose/large; systemctl start hybridlab-backup")
    assert host.status()["ok"] is True
    assert len(host.generations()) == 2 and not any("." in name for name in host.generations())
    assert "0 differences" in host.lab.sh("for name in $(ls /mnt/backup/docker); do hybridlab-backup verify $name; done")


def test_restored_on_a_fresh_host(host: Host) -> None:
    rows = host.app("judge")
    assert rows[0] > 0 and rows[1] == 0
    generation = host.generations()[-1]
    host.lab.sh(f"tar -C /mnt/backup/docker --xattrs --xattrs-include='*' --acls -cf {GENERATION} {generation}")
    carried = host.carried()
    wanted = host.lab.sh("cd $(docker volume inspect --format '{{.Mountpoint}}' plain); stat -c '%n %a %u %g %s %h %F' *; getfattr -d owned")
    host.lab.down()

    successor = Lab("backup", layers=LAYERS)
    successor.up(PREPARED)
    new = Host(successor)
    new.receive(carried)
    successor.sh(MOUNT + "; mkdir -m 700 /mnt/backup/docker")
    successor.sh(f"tar -C /mnt/backup/docker -xf {GENERATION} --xattrs --xattrs-include='*' --acls --numeric-owner")
    assert "0 differences" in successor.sh("hybridlab-backup verify")
    # As the workloads' playbook would: the definition, and no data. Not even the image is there.
    successor.sh(SERVICE)
    foreseen = successor.played("playbooks/restore.yml", "-e", "restore_service=all", "--check", *ARGUMENTS)
    assert "would be filled" in foreseen.output and successor.sh("docker volume ls --quiet") == ""
    successor.sh("rm -rf /srv/compose")
    done = successor.played("playbooks/restore.yml", "-e", "restore_service=all", *ARGUMENTS)

    assert "equal to the manifest" in done.output and "DIFFERENCES" not in done.output
    count, bad = new.app("judge")
    dumped = int(successor.sh(f"grep -c '^INSERT INTO' /mnt/backup/docker/{generation}/dumps/app.dump"))
    assert bad == 0 and count >= dumped > 0
    found = successor.sh("cd $(docker volume inspect --format '{{.Mountpoint}}' plain); stat -c '%n %a %u %g %s %h %F' *; getfattr -d owned")
    assert found == wanted
    assert successor.sh("docker volume inspect --format '{{.Labels.keep}}' plain").strip() == "me"
    assert successor.sh("cat /srv/compose/compose.yaml").strip() == "services: {}"
    refused = successor.play("playbooks/restore.yml", "-e", "restore_service=plain", *ARGUMENTS)
    assert refused.rc != 0 and "would be lost" in refused.output
