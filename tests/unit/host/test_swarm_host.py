# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps, waits and builds against an engine that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.container_images import BUILD, WantedImage
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.rollout import Goal
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import Declared
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_plan import NETWORK, REMOVE, SERVICE, UPDATE, Found, Plan, Step
from ansible_collections.hybridlab.platform.plugins.module_utils.host import swarm, swarm_run, swarm_wait
from ansible_collections.hybridlab.platform.plugins.module_utils.host.container_images import ImageMaker
from ansible_collections.hybridlab.platform.plugins.module_utils.host.engine_api import Engine, EngineRefused
from ansible_collections.hybridlab.platform.tests.unit.host.docker_engine_fake import engine_at

SPEC: dict[str, Any] = {"Name": "demo_web", "TaskTemplate": {"ContainerSpec": {}}, "Mode": {"Replicated": {"Replicas": 1}}}
STEP = Step(UPDATE, SERVICE, "demo_web", "service1", 5, SPEC, 20)


class Script:
    """Notes each call; answers by ``METHOD /path``, a list of answers one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answers: dict[str, list[tuple[int, Any]]] = {}

    def on(self, call: str, *answers: tuple[int, Any]) -> None:
        self.answers[call] = list(answers)

    def __call__(self, method: str, path: str, _body: Any) -> tuple[int, Any]:
        call = f"{method} {path}"
        self.calls.append(call)
        left = self.answers[call]
        return left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def engine(tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    for module in (swarm, swarm_wait):
        monkeypatch.setattr(module, "_PAUSE", 0.01)
    with engine_at(tmp_path / "docker.sock", script) as client:
        yield Engine(client)


def applier(engine: Engine) -> swarm.Applier:
    return swarm.Applier(engine, Declared("lab"), Found())


OUT_OF_SEQUENCE = (500, {"message": "rpc error: code = Unknown desc = update out of sequence"})


def test_an_update_that_met_another_one_is_sent_again(engine: Engine, script: Script) -> None:
    script.on("POST /services/service1/update", OUT_OF_SEQUENCE, (200, {}))
    script.on("GET /services/service1", (200, {"Version": {"Index": 9}}))
    applier(engine).apply(STEP)
    assert script.calls == ["POST /services/service1/update", "GET /services/service1", "POST /services/service1/update"]


def test_an_update_that_always_meets_another_one_ends(engine: Engine, script: Script) -> None:
    script.on("POST /services/service1/update", OUT_OF_SEQUENCE)
    script.on("GET /services/service1", (200, {"Version": {"Index": 9}}))
    with pytest.raises(ResourceError, match="service demo_web: it changed 5 times"):
        applier(engine).apply(STEP)


def test_a_refusal_says_what_the_engine_said(engine: Engine, script: Script) -> None:
    script.on("POST /services/service1/update", (400, {"message": "invalid CPU value"}))
    with pytest.raises(EngineRefused, match="POST /services/service1/update: the Docker engine refused it: invalid CPU value"):
        applier(engine).apply(STEP)


def test_a_network_that_a_task_still_holds_is_removed_when_it_lets_go(engine: Engine, script: Script) -> None:
    held = (403, {"message": "network demo_default is in use by task x"})
    script.on("DELETE /networks/network1", held, held, (200, {}))
    applier(engine).apply(Step(REMOVE, NETWORK, "demo_default", "network1"))
    assert len(script.calls) == 3


def test_what_is_gone_already_is_removed(engine: Engine, script: Script) -> None:
    script.on("DELETE /networks/network1", (404, {"message": "no such network"}))
    applier(engine).apply(Step(REMOVE, NETWORK, "demo_default", "network1"))


def test_a_removed_service_whose_task_does_not_end_is_not_waited_for_without_limit(engine: Engine, script: Script) -> None:
    script.on("GET /containers/json", (200, [{"Labels": {"com.docker.swarm.service.name": "demo_web"}}]))
    with pytest.raises(ResourceError, match="demo_web: removed, yet its tasks still run"):
        swarm_wait.wait_gone(engine, ["demo_web"], 0.05)


def test_a_removed_network_is_waited_for(engine: Engine, script: Script) -> None:
    there = (200, [{"Name": "demo_default"}, {"Name": "bridge"}])
    script.on("GET /networks", there, there, (200, [{"Name": "bridge"}]))
    swarm_wait.wait_networks_gone(engine, ["demo_default"], 5)
    assert len(script.calls) == 3
    script.on("GET /networks", there)
    with pytest.raises(ResourceError, match="demo_default: removed, yet the engine still lists it"):
        swarm_wait.wait_networks_gone(engine, ["demo_default"], 0.05)


def frame(text: str) -> bytes:
    data = text.encode()
    return b"\x01\x00\x00\x00" + len(data).to_bytes(4, "big") + data


def test_a_failure_has_the_tasks_own_words_and_no_secret(engine: Engine, script: Script) -> None:
    failed = {
        "ID": "task1",
        "DesiredState": "shutdown",
        "Status": {"State": "failed", "Err": "task: non-zero exit (1)", "ContainerStatus": {"ContainerID": "c1"}},
    }
    script.on("GET /tasks", (200, [failed]))
    script.on("GET /services/service1", (200, {"Spec": SPEC, "UpdateStatus": {"State": "rollback_completed"}}))
    script.on("GET /containers/c1/logs", (200, frame("cannot log in with s3cret-value\n") + frame("giving up\x1b[0m\n")))
    script.on("GET /containers/c1/json", (200, {"State": {"Health": {"Log": [{"Output": "old"}, {"Output": "connection refused\n"}]}}}))
    (failure,) = swarm_wait.wait_for(engine, [Goal("demo_web", "service1", 20)], swarm_wait.hider({"token": b"s3cret-value\n"}))
    assert "task: non-zero exit (1)" in failure
    assert "  cannot log in with ********\n  giving up [0m\n  (health check) connection refused" in failure
    assert "s3cret" not in failure


def test_a_task_that_the_engine_has_forgotten_is_remembered(engine: Engine, script: Script) -> None:
    starting = {"ID": "task1", "DesiredState": "running", "Status": {"State": "starting", "ContainerStatus": {"ContainerID": "c1"}}}
    failed = {"ID": "task1", "DesiredState": "remove", "Status": {"State": "failed", "Err": "task: non-zero exit (137): dockerexec: unhealthy container"}}
    script.on("GET /tasks", (200, [starting]), (200, [failed]), (200, []))
    updating, back = ({"Spec": SPEC, "UpdateStatus": {"State": state}} for state in ("updating", "rollback_completed"))
    script.on("GET /services/service1", (200, updating), (200, updating), (200, back))
    script.on("GET /containers/c1/logs", (200, b""))
    script.on("GET /containers/c1/json", (200, {"State": {"Health": {"Log": [{"Output": "nothing works\n"}]}}}))
    (failure,) = swarm_wait.wait_for(engine, [Goal("demo_web", "service1", 20)], str)
    assert "Task task1 was last seen failed: task: non-zero exit (137): dockerexec: unhealthy container." in failure
    assert "(health check) nothing works" in failure


def test_a_task_that_ends_in_good_order_before_it_ever_ran_is_the_reason(engine: Engine, script: Script) -> None:
    starting = {"ID": "task1", "DesiredState": "running", "Status": {"State": "starting", "ContainerStatus": {"ContainerID": "c1"}}}
    script.on("GET /tasks", (200, [starting]), (200, [{"ID": "task1", "DesiredState": "shutdown", "Status": {"State": "complete"}}]))
    updating, back = ({"Spec": SPEC, "UpdateStatus": {"State": state}} for state in ("updating", "rollback_completed"))
    script.on("GET /services/service1", (200, updating), (200, back))
    script.on("GET /containers/c1/logs", (200, frame("waiting\n")))
    script.on("GET /containers/c1/json", (200, {"State": {}}))
    (failure,) = swarm_wait.wait_for(engine, [Goal("demo_web", "service1", 20)], str)
    assert "Task task1 was last seen starting. Its last lines:\n  waiting" in failure


def test_what_the_old_version_needs_stays_when_a_rollout_fails(engine: Engine, script: Script) -> None:
    script.on("GET /tasks", (200, []))
    script.on("POST /services/service1/update", (200, {}))
    script.on("GET /services/service1", (200, {"Spec": SPEC, "UpdateStatus": {"State": "rollback_completed"}}))
    script.on("DELETE /networks/network1", (200, {}))
    # A network may have the name of the service that still uses it.
    going = (Step(REMOVE, NETWORK, "demo_web", "network1"), Step(REMOVE, "secret", "demo_token_v1", "secret1"))
    planned = Plan({}, {}, [], (STEP, *going), ("demo_web",))
    failures = swarm_run.run(engine, Declared("lab"), Found(), planned, {})
    assert len(failures) == 1
    assert not [call for call in script.calls if call.startswith("DELETE")]


def test_a_service_that_goes_makes_room_for_one_that_takes_its_port(engine: Engine, script: Script) -> None:
    ports = {"EndpointSpec": {"Ports": [{"Protocol": "tcp", "PublishedPort": 8080}]}}
    old = {"ID": "service2", "Spec": {**SPEC, **ports, "Name": "demo_old"}}
    script.on("GET /tasks", (200, []))
    script.on("DELETE /services/service2", (200, {}))
    script.on("POST /services/service1/update", (400, {"message": "enough seen"}))
    step = Step(UPDATE, SERVICE, "demo_web", "service1", 5, {**SPEC, **ports}, 20)
    planned = Plan({}, {}, [], (step, Step(REMOVE, SERVICE, "demo_old", "service2")))
    with pytest.raises(EngineRefused):
        swarm_run.run(engine, Declared("lab"), Found(services={"demo_old": old}), planned, {})
    assert script.calls.index("DELETE /services/service2") < script.calls.index("POST /services/service1/update")


def test_the_hosts_key_is_made_once_and_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "workloads/secret.key"
    assert swarm.read_key(str(path)) is None
    key = swarm.make_key(str(path))
    assert swarm.make_key(str(path)) == key == swarm.read_key(str(path))
    assert (len(key), oct(path.stat().st_mode)[-3:], oct(path.parent.stat().st_mode)[-3:]) == (32, "600", "700")
    assert [item.name for item in path.parent.iterdir()] == ["secret.key"]


def test_a_build_that_fails_ends_with_its_last_lines(engine: Engine, script: Script, tmp_path: Path) -> None:
    (tmp_path / "web.tar").write_bytes(b"")
    lines = [{"stream": f"line {number}\n"} for number in range(40)] + [{"error": "The command '/bin/sh -c false' returned a non-zero code: 1"}]
    script.on("POST /build", (200, "\r\n".join(json.dumps(line) for line in lines).encode()))
    image = WantedImage("web", "hybridlab/web:000000000001", BUILD, str(tmp_path / "web.tar"), "hybridlab/base:000000000002")
    with pytest.raises(ResourceError) as refused:
        ImageMaker(engine, 20, "host").make(image)
    text = str(refused.value)
    assert text.startswith("image web (build): The command '/bin/sh -c false' returned a non-zero code: 1\nThe last lines were:\n  line 15")
    assert text.endswith("line 39")


def test_a_build_that_leaves_no_image_is_not_taken_for_one(engine: Engine, script: Script, tmp_path: Path) -> None:
    (tmp_path / "web.tar").write_bytes(b"")
    script.on("POST /build", (200, b'{"stream": "done"}'))
    script.on("GET /images/hybridlab/web:000000000001/json", (404, {"message": "no such image"}))
    with pytest.raises(ResourceError, match="every step succeeded, yet the engine does not know hybridlab/web"):
        ImageMaker(engine, 20, "host").make(WantedImage("web", "hybridlab/web:000000000001", BUILD, str(tmp_path / "web.tar")))


def test_an_engine_that_is_gone_is_an_error_for_a_person(tmp_path: Path, script: Script) -> None:
    with engine_at(tmp_path / "docker.sock", script) as client:
        engine = Engine(client)
    with pytest.raises(ResourceError, match="no answer of the Docker engine"):
        engine.get("/services")
