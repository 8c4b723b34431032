# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads on a real Swarm: deployed, updated without a lost request, broken, drifted, killed. The tests share a host and run in order."""

from __future__ import annotations

import copy
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.integration.lab import INVENTORY, Lab, fresh
from tools import playbook

MODEL = yaml.safe_load((playbook.CHECKOUT / INVENTORY / "group_vars/all/workloads.yml").read_text(encoding="utf-8"))
PLAY = "playbooks/workloads.yml"
LAYERS = ("platform_docker", "platform_secrets", "platform_container_images", "platform_workloads")
REQUESTS = 10_000
OLD_SECRET, NEW_SECRET = "first-5f1d7c0a9b", "second-c84be2a6d3"

# Four clients, each request on a connection of its own, until there is word that the rollout is over and there were enough.
CLIENT = f"""
import collections, http.client, os, threading
done, faults = [0] * 4, []
def ask(me):
    while not (os.path.exists("/run/rollout-is-over") and sum(done) >= {REQUESTS}):
        try:
            link = http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
            link.request("GET", "/")
            answer = link.getresponse()
            answer.read()
            link.close()
            if answer.status != 200:
                faults.append(str(answer.status))
        except OSError as error:
            faults.append(repr(error))
        done[me] += 1
threads = [threading.Thread(target=ask, args=(me,)) for me in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(done), len(faults), collections.Counter(faults))
"""


def model(version: str = "1", secret: str = OLD_SECRET, drop: tuple[str, ...] = (), **web: Any) -> tuple[str, str]:
    """Arguments that change the sandbox's workloads; ``web``: keys of the workload of that name."""
    workloads = [workload for workload in copy.deepcopy(MODEL["platform_workloads"]) if workload["name"] not in drop]
    for workload in workloads:
        if workload["name"] == "web":
            workload["environment"]["VERSION"] = version
            workload.update(web)
    secrets = {"web_token": {"value": secret}}
    return "-e", json.dumps({"platform_workloads": workloads, "platform_secrets": secrets, "model_checked": True})


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    with fresh("workloads", layers=LAYERS) as lab:
        lab.played("playbooks/docker.yml")
        yield lab


def answer(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        lab.sh("python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8080/\", timeout=20).read().decode())'")
    )
    return found


def inspect(lab: Lab, service: str) -> Any:
    return json.loads(lab.sh(f"docker service inspect {service}"))[0]


def test_workloads_are_deployed_and_a_second_run_changes_nothing(host: Lab) -> None:
    planned = host.played(PLAY, *model(), "--check")
    first = host.played(PLAY, *model())
    services = host.sh("docker stack services demo --format '{{.Name}} {{.Replicas}}'").split("\n")
    assert sorted(filter(None, services)) == ["demo_edge 1/1", "demo_web 2/2"]
    said = answer(host)
    assert (said["version"], said["greeting"], said["secret"]) == ("1", "Hello from the sandbox.", True)
    for task in ("Bring the images", "Run the workloads"):
        assert planned.task(task).result["commands"] == first.task(task).result["commands"]
        assert planned.task(task).result["after"] == first.task(task).result["after"]
    assert host.played(PLAY, *model()).changed == 0


def test_no_request_is_lost_while_a_new_version_rolls_out(host: Lab) -> None:
    counted: list[str] = []
    client = threading.Thread(target=lambda: counted.append(host.sh(f"rm -f /run/rollout-is-over; python3 - <<'EOF'\n{CLIENT}\nEOF")))
    client.start()
    try:
        updated = host.played(PLAY, *model("2"))
    finally:
        host.sh("touch /run/rollout-is-over")
        client.join()
    requests, faults, kinds = counted[0].split(maxsplit=2)
    assert int(faults) == 0, kinds
    assert int(requests) >= REQUESTS
    assert updated.task("Run the workloads").result["restarts"] == ["demo_web"]
    assert answer(host)["version"] == "2"


def test_a_run_that_was_killed_while_a_secret_is_rotated_is_continued(host: Lab) -> None:
    rotated = model("2", NEW_SECRET)
    assert host.killed(PLAY, 9, *rotated)
    # With all that Ansible can say of it.
    shown = subprocess.run(
        [*playbook.command(PLAY, INVENTORY, *host.model, *rotated), "-vvv", "--diff"],
        cwd=playbook.CHECKOUT,
        env=playbook.environment(host.name),
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout[-4000:]
    assert host.sh("docker exec $(docker ps -q --filter name=demo_web | head -n 1) cat /run/secrets/web_token") == NEW_SECRET
    assert len(host.sh("docker secret ls -q").split()) == 1
    elsewhere = host.sh(
        "docker service inspect demo_web; docker secret inspect $(docker secret ls -q); docker inspect $(docker ps -aq); journalctl --no-pager -o cat"
    )
    for value in (OLD_SECRET, NEW_SECRET):
        assert value not in shown.stdout + shown.stderr
        assert value not in elsewhere
    assert host.played(PLAY, *rotated).changed == 0


def test_a_version_that_is_never_healthy_is_taken_back_and_reported_each_time(host: Lab) -> None:
    health = {"command": ["/bin/sh", "-c", "echo nothing works; exit 1"], "interval_seconds": 1, "timeout_seconds": 2, "retries": 2, "start_seconds": 1}
    for _attempt in range(2):
        broken = host.play(PLAY, *model("3", NEW_SECRET, health=health))
        assert broken.rc != 0
        failure = broken.task("Run the workloads").result["failures"]
        assert len(failure) == 1
        assert failure[0].startswith("demo_web: the new version failed, and the engine went back to the old one.")
        assert "(health check) nothing works" in failure[0], failure[0]
        assert answer(host)["version"] == "2"
    assert host.played(PLAY, *model("2", NEW_SECRET)).changed == 0


def test_what_was_changed_by_hand_is_put_back_and_what_is_not_declared_goes(host: Lab) -> None:
    before = inspect(host, "demo_web")["Spec"]
    host.sh(
        "docker service update --detach --no-resolve-image --env-add EXTRA=1 --replicas 1 --limit-memory 96M --label-add made=by-hand --stop-grace-period 3s "
        "--update-parallelism 2 --cap-add NET_RAW --user 0 demo_web >/dev/null; docker service scale --detach demo_edge=0 >/dev/null"
    )
    repaired = host.played(PLAY, *model("2", NEW_SECRET, drop=("edge",)))
    after = inspect(host, "demo_web")["Spec"]
    before["TaskTemplate"].pop("ForceUpdate"), after["TaskTemplate"].pop("ForceUpdate")
    assert after == before
    line = next(line for line in repaired.task("Run the workloads").result["commands"] if line.startswith("docker service update"))
    for flag in ("--env-rm=EXTRA", "--replicas=2", "--limit-memory", "--label-rm=made", "--stop-grace-period=10s", "--update-parallelism=1", "--user="):
        assert flag in line
    assert host.sh("docker service ls --format '{{.Name}}'").split() == ["demo_web"]
    assert "haproxy" not in host.sh("docker config ls --format '{{.Name}}'")
    assert host.played(PLAY, *model("2", NEW_SECRET, drop=("edge",))).changed == 0
