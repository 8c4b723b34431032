# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine and Swarm beside libvirt and the segments on one host: built, broken, moved, killed.

The tests of this module build on each other: each leaves the host as the next one's name says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any

import pytest
import yaml

from tests.integration.compare import assert_same, plan
from tests.integration.lab import Lab, fresh
from tools.playbook import CHECKOUT

PLAYBOOK = "playbooks/docker.yml"
VARIABLES = CHECKOUT / "inventories/sandbox/group_vars/all"
ENGINE = "Set up the engine as declared"

# One image of one file, and a volume that holds something.
THINGS = """
tar -C /etc -cf - hostname | docker import - thing:1 >/dev/null
docker volume create kept >/dev/null
install -o 1000 -m 0640 /etc/hostname "$(docker volume inspect -f '{{.Mountpoint}}' kept)/here"
"""
FIND_THINGS = """
docker image inspect -f '{{.Id}}' thing:1
stat -c '%u %a %s' "$(docker volume inspect -f '{{.Mountpoint}}' kept)/here"
docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.Cluster.ID}} {{.ID}}'
"""

SWARM = "docker info -f '{{json .Swarm.Cluster}}'; docker network ls -q | sort"

# In the place of rsync: waits long enough to be killed, and says who it is.
SLOW_RSYNC = """
printf '#!/bin/sh\\necho $$ >/run/slow-rsync.pid\\n/usr/bin/rsync "$@" --exclude=volumes\\nexec sleep 300\\n' >/usr/local/bin/rsync
chmod 0755 /usr/local/bin/rsync
"""
END_SLOW_RSYNC = 'rm /usr/local/bin/rsync; kill "$(cat /run/slow-rsync.pid)"'

# In the place of systemctl: has the engine started, and does not come back.
SLOW_SYSTEMCTL = """
cat >/usr/local/bin/systemctl <<'END'
#!/bin/sh
/usr/bin/systemctl "$@"
code=$?
[ "$*" = "restart docker.service" ] || exit $code
echo $$ >/run/slow-systemctl.pid
exec sleep 300
END
chmod 0755 /usr/local/bin/systemctl
"""
END_SLOW_SYSTEMCTL = 'rm /usr/local/bin/systemctl; kill "$(cat /run/slow-systemctl.pid)"'


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    with fresh("dockerengine", layers=("platform_docker",)) as lab:
        lab.played("playbooks/host.yml")
        lab.played("playbooks/segments.yml")
        yield lab


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """What earlier tests of this module leave for later ones."""
    return {}


def docker(**changes: Any) -> tuple[str, str]:
    """Arguments that run a playbook with another platform_docker."""
    declared: dict[str, Any] = yaml.safe_load((VARIABLES / "docker.yml").read_text(encoding="utf-8"))["platform_docker"]
    return "-e", json.dumps({"platform_docker": {**declared, **changes}})


def kill_at(lab: Lab, sign: str, *arguments: str) -> None:
    """Kill a run that has come as far as to make the file ``sign``."""
    for seconds in (15, 30, 60, 120):  # a busy machine gets later to where it is to be killed
        assert lab.killed(PLAYBOOK, seconds, *arguments)
        if lab.sh(f"ls {sign} 2>/dev/null || true"):
            return
    raise AssertionError(f"no run came as far as {sign}")


def inspected(lab: Lab) -> dict[str, list[IPv4Network]]:
    """Networks of the engine and of its Swarm: name -> subnets."""
    found = json.loads(lab.sh("docker network inspect $(docker network ls -q)"))
    return {row["Name"]: [IPv4Network(config["Subnet"]) for config in row["IPAM"]["Config"] or []] for row in found}


def test_check_mode_without_an_engine_shows_the_plan_and_changes_nothing(host: Lab, runs: dict[str, Any]) -> None:
    before = host.snapshot()
    runs["plan"] = plan(host.played(PLAYBOOK, "--check", "--diff"))
    assert_same(before, host.snapshot())
    assert "docker swarm init" in json.dumps(runs["plan"])


def test_the_engine_is_built_as_planned_and_then_left_alone(host: Lab, runs: dict[str, Any]) -> None:
    assert_same(json.dumps(runs["plan"], indent=1), json.dumps(plan(host.played(PLAYBOOK, "--diff")), indent=1))
    again = host.played(PLAYBOOK, "--diff")
    assert again.changed == 0, plan(again)
    assert host.sh("docker info -f '{{.DockerRootDir}} {{.Driver}} {{.LoggingDriver}} {{.LiveRestoreEnabled}}'").split() == [
        "/data/docker",
        "overlay2",
        "json-file",
        "false",
    ]
    assert host.sh("stat -c '%a %U:%G' /data/docker /etc/docker/daemon.json").split("\n")[:2] == ["710 root:root", "600 root:root"]
    assert not host.sh("ss -Hltn '( sport = :2375 or sport = :2376 )'").strip()


def test_the_matrix_holds_and_no_network_of_dockers_is_a_segments(host: Lab) -> None:
    host.verified()
    host.sh("docker network create -d overlay first >/dev/null; docker network create second >/dev/null")
    networks = inspected(host)
    host.sh("docker network rm first second >/dev/null")
    segments = yaml.safe_load((VARIABLES / "segments.yml").read_text(encoding="utf-8"))["platform_segments"]
    clashes = [
        (name, segment["name"])
        for name, subnets in networks.items()
        for subnet in subnets
        for segment in segments
        if subnet.overlaps(IPv4Network(segment["cidr"]))
    ]
    assert clashes == []
    ranges = {"bridge": "172.17.0.0/16", "docker_gwbridge": "172.18.0.0/16", "ingress": "172.20.0.0/16", "first": "172.20.0.0/16", "second": "172.22.0.0/16"}
    for name, pool in ranges.items():
        assert networks[name], name
        assert all(subnet.subnet_of(IPv4Network(pool)) for subnet in networks[name]), (name, networks[name])


def test_what_the_engine_refuses_leaves_it_running_as_it_was(host: Lab) -> None:
    state = "systemctl show -p MainPID docker; cat /etc/docker/daemon.json"
    before = host.sh(state)
    unknown = host.play(PLAYBOOK, *docker(daemon={"log-levle": "debug"}))
    assert unknown.rc != 0
    assert "log-levle" in unknown.failures()
    assert "Nothing was changed" in unknown.failures()
    assert_same(before, host.sh(state))


def test_what_only_a_start_shows_brings_the_old_file_back(host: Lab) -> None:
    before = host.sh("cat /etc/docker/daemon.json")
    broken = host.play(PLAYBOOK, *docker(daemon={"storage-driver": "nosuch"}))
    assert broken.rc != 0
    assert "runs as before" in broken.failures(), broken.failures()
    assert "nosuch" in broken.failures()
    assert_same(before, host.sh("systemctl is-active docker >/dev/null; cat /etc/docker/daemon.json"))
    assert host.sh("ls /var/lib/hybridlab | grep -c docker-engine.json || true").strip() == "0"


def test_a_pool_that_clashes_and_a_swarm_that_would_end_are_refused(host: Lab) -> None:
    before = host.sh(SWARM)
    ranges = yaml.safe_load((VARIABLES / "ranges.yml").read_text(encoding="utf-8"))["platform_ranges"]
    clash = host.play(PLAYBOOK, "-e", json.dumps({"platform_ranges": {**ranges, "swarm_pool": "10.0.0.0/8"}}))
    assert clash.rc != 0
    assert "overlaps platform_ranges.swarm_pool (10.0.0.0/8)" in clash.failures()
    other = host.play(PLAYBOOK, *docker(swarm={"pool": "swarm_pool", "subnet_size": 26}))
    assert other.rc != 0
    assert "fixed when a Swarm is made" in other.failures()
    assert "allow_disruption" in other.failures()
    assert_same(before, host.sh(SWARM))


def test_data_move_to_a_new_root_with_all_that_is_in_it(host: Lab, runs: dict[str, Any]) -> None:
    host.sh(f"mkdir -p /data/fast; mount -t tmpfs none /data/fast; {THINGS}")
    runs["things"] = host.sh(FIND_THINGS)
    moved = host.played(PLAYBOOK, *docker(data_root="/data/fast/one"))
    assert moved.task(ENGINE).result["kept"] == "/data/docker"  # a mount point cannot be renamed
    assert_same(runs["things"], host.sh(FIND_THINGS))
    assert host.sh("docker info -f '{{.DockerRootDir}}'; stat -c %a /data/fast/one").split() == ["/data/fast/one", "710"]


def test_a_move_that_is_killed_is_finished_by_the_next_run(host: Lab, runs: dict[str, Any]) -> None:
    arguments = docker(data_root="/data/fast/two")
    host.sh(SLOW_RSYNC)
    kill_at(host, "/run/slow-rsync.pid", *arguments)
    assert host.sh("cat /var/lib/hybridlab/docker-engine.json; ls /data/fast/two; systemctl is-active docker || true").split()[-1] == "inactive"
    host.sh(END_SLOW_RSYNC)
    resumed = host.played(PLAYBOOK, *arguments)
    kept = resumed.task(ENGINE).result["kept"]
    assert kept.startswith("/data/fast/one.backup-")
    assert_same(runs["things"], host.sh(FIND_THINGS))
    assert host.sh(f"ls -d {kept} /data/fast/one 2>/dev/null || true").split() == [kept]
    assert host.played(PLAYBOOK, *arguments).changed == 0


def test_what_the_engine_wrote_after_a_killed_move_is_kept(host: Lab, runs: dict[str, Any]) -> None:
    arguments = docker(data_root="/data/fast/three")
    host.sh(SLOW_SYSTEMCTL)
    kill_at(host, "/run/slow-systemctl.pid", *arguments)
    host.sh(END_SLOW_SYSTEMCTL)
    assert host.sh("test -e /var/lib/hybridlab/docker-engine.json; docker info -f '{{.DockerRootDir}}'").strip() == "/data/fast/three"
    host.sh("docker volume create later >/dev/null; echo new >/data/fast/three/volumes/later/_data/here")
    resumed = host.played(PLAYBOOK, *arguments)
    assert resumed.task(ENGINE).result["kept"].startswith("/data/fast/two.backup-")
    assert host.sh("cat /data/fast/three/volumes/later/_data/here; docker volume inspect -f '{{.Name}}' later").split() == ["new", "later"]
    assert_same(runs["things"], host.sh(FIND_THINGS))
    assert host.played(PLAYBOOK, *arguments).changed == 0
