# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell lines of a plan, word for word where Docker's client is particular. Each was run against Docker 20.10.24 and left the service as declared."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.workload_digest import digest, secret_check
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_drift import ALTERED
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_engine import FULL, SMALL, Engine, built

UPDATE = ["docker", "service", "update", "--detach", "--no-resolve-image"]


def flags(found: Workload, wanted: Workload = FULL) -> list[str]:
    (line,) = [line for line in built(found).plan(wanted).commands if line.startswith("docker service update ")]
    words = shlex.split(line, comments=True)
    assert (words[: len(UPDATE)], words[-1]) == (UPDATE, "demo_web")
    return words[len(UPDATE) : -1]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("args", ["--args=8000 'a b'"]),
        ("command", ["--entrypoint=/usr/local/bin/web --listen"]),
        ("environment", ["--env-add=LISTEN=8000"]),
        ("labels", ["--label-add=org.example.team=web"]),
        ("cap_drop", ["--cap-drop=RESET", "--cap-drop=CAP_CHOWN", "--cap-drop=CAP_NET_RAW"]),
        ("memory_mb", ["--limit-memory=67108864"]),
        ("cpus", ["--limit-cpu=0.5"]),
        ("stop_seconds", ["--stop-grace-period=20s"]),
        ("init", ["--init=false"]),
        # a mount takes the place of another one on the same path; removed as well, it would be gone
        ("tmpfs.size_mb", ["--mount-add=type=tmpfs,target=/tmp,tmpfs-size=8388608"]),
        ("tmpfs", ["--mount-rm=/run"]),
        (
            "ports.published",
            ["--publish-rm=published=8081,target=80,protocol=tcp,mode=host", "--publish-add=published=8080,target=80,protocol=tcp,mode=host"],
        ),
        ("networks", ["--network-add=name=demo_backend,alias=web"]),
        ("placement", ["--constraint-add=node.labels.disk==ssd"]),
        ("health.retries", ["--health-retries=2"]),
        (
            "secrets.mode",
            ["--secret-rm=demo_token_v1", "--secret-add=source=demo_token_v1,target=/run/secrets/token,mode=0440,uid=1000,gid=1000"],
        ),
        ("update.order", ["--update-order=start-first"]),
    ],
)
def test_update(field: str, expected: list[str]) -> None:
    assert set(expected) <= set(flags(ALTERED[field]))
    if not field.startswith("update."):
        assert flags(ALTERED[field]) == expected


def test_a_health_check_that_is_no_longer_declared() -> None:
    assert flags(FULL, replace(FULL, health=None)) == ["--no-healthcheck"]


def test_limits_that_are_no_longer_declared() -> None:
    assert flags(FULL, replace(FULL, cpus=None, memory_mb=None)) == ["--limit-cpu=0", "--limit-memory=0"]


def test_what_the_client_has_no_flag_for_is_said() -> None:
    engine = built(FULL)
    engine.kinds["service"]["demo_web"]["Spec"]["TaskTemplate"]["ContainerSpec"]["TTY"] = True

    (line,) = engine.plan(FULL).commands
    assert line.endswith("demo_web  # and through the API, back to nothing: TaskTemplate.ContainerSpec.TTY")


def test_a_service_is_made_with_its_image_and_arguments_last() -> None:
    words = shlex.split(Engine().plan(FULL).commands[-1])

    assert words[:7] == ["docker", "service", "create", "--detach", "--no-resolve-image", "--name", "demo_web"]
    assert words[-3:] == ["hybridlab/web:0123456789ab", "8000", "a b"]
    assert "--endpoint-mode=dnsrr" in words
    assert "--publish=published=8080,target=80,protocol=tcp,mode=host" in words


def test_a_secret_is_read_from_standard_input() -> None:
    (line,) = [line for line in Engine().plan(FULL).commands if " secret " in line]

    assert shlex.split(line, comments=True)[-2:] == ["demo_token_v1", "-"]


def test_what_goes_is_removed_by_name() -> None:
    lines = built(FULL, SMALL).plan(replace(SMALL), state="overridden").commands

    assert lines[:2] == ["docker service rm demo_web", "docker secret rm demo_token_v1"]
    assert lines[-1] == "docker network rm demo_backend"


def test_a_digest_is_of_the_content_and_not_of_the_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})
    assert digest(b"x") == "2d711642b726"


def test_a_check_tells_nothing_without_the_key() -> None:
    checks = {secret_check(key, name, b"weak") for key in (b"one", b"two") for name in ("a", "b")}

    assert len(checks) == 4
    # Neither does moving a letter from the name to the value make the same.
    assert secret_check(b"k", "ab", b"c") != secret_check(b"k", "a", b"bc")
