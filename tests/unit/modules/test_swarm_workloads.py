# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""swarm_workloads and container_images where there is no Swarm yet, and what is read for them on the controller."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.filter.workloads import workload_files, workload_secrets
from ansible_collections.hybridlab.platform.plugins.module_utils.host import docker_sdk
from ansible_collections.hybridlab.platform.plugins.modules import container_images, swarm_workloads
from ansible_collections.hybridlab.platform.tests.unit.host.docker_engine_fake import engine_at
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

WEB = {"name": "web", "stack": "demo", "image": "web", "secrets": ["token"], "configs": [{"name": "motd", "target": "/etc/motd", "content": "Hello.\n"}]}
SECRETS = json.dumps({"token": base64.b64encode(b"s3cret-value").decode()})
IMAGES = {"web": "hybridlab/web:000000000001"}
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def without_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    def client(planning: bool = False) -> Any:
        if planning:
            return None
        raise docker_sdk.ResourceError("the Docker SDK for Python cannot be imported on this host")

    monkeypatch.setattr(docker_sdk, "client", client)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine that is in no Swarm."""

    def answers(_method: str, path: str, _body: Any) -> tuple[int, Any]:
        return (200, {"Swarm": {"LocalNodeState": "inactive"}}) if path == "/info" else (503, {"message": "This node is not a swarm manager."})

    with engine_at(tmp_path / "docker.sock", answers) as client:
        monkeypatch.setattr(docker_sdk, "client", lambda *_args: client)
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def call(check: bool = False, **args: Any) -> dict[str, Any]:
        given = {"platform": "lab", "images": IMAGES, "secrets": SECRETS, "config": [WEB], "key": str(tmp_path / "secret.key"), **args}
        return call_module(swarm_workloads, {**given, "_ansible_check_mode": check, "_ansible_diff": True}, capsys)

    return call


@pytest.mark.usefixtures("without_docker")
def test_check_mode_plans_on_a_host_without_docker(run: Run, tmp_path: Path) -> None:
    found = run(check=True, state="overridden")
    assert found["changed"]
    assert found["warnings"] == ["this host is no manager of a Swarm yet. Planned as if it had no services."]
    assert [line.split()[:3] for line in found["commands"]] == [
        ["docker", "network", "create"],
        ["docker", "secret", "create"],
        ["docker", "config", "create"],
        ["docker", "service", "create"],
    ]
    assert "s3cret" not in json.dumps(found)
    assert base64.b64encode(b"s3cret-value").decode() not in json.dumps(found)
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.usefixtures("alone")
def test_a_host_in_no_swarm_is_planned_for_and_refused(run: Run) -> None:
    assert len(run(check=True)["commands"]) == 4
    refused = run()
    assert refused["failed"]
    assert "no manager of a Swarm. Nothing was changed. Run the role docker_swarm first" in refused["msg"]


@pytest.mark.usefixtures("without_docker")
def test_a_run_without_docker_fails(run: Run) -> None:
    assert "Docker SDK" in run()["msg"]


def test_rendered_is_a_compose_file_and_needs_neither_docker_nor_secrets(run: Run) -> None:
    found = run(state="rendered", secrets="{}")
    compose = yaml.safe_load(found["rendered"]["demo"])
    assert compose["services"]["web"]["image"] == IMAGES["web"]
    assert [secret["external"] for secret in compose["secrets"].values()] == [True]


@pytest.mark.usefixtures("without_docker")
def test_workloads_of_other_targets_are_named_and_left_alone(run: Run) -> None:
    found = run(check=True, config=[WEB, {**WEB, "name": "queue", "target": "ecs"}])
    assert found["skipped"] == ["queue"]
    assert [service["name"] for service in found["after"]["workloads"]] == ["demo_web"]


def test_a_workload_with_an_unknown_image_is_refused_by_its_path(run: Run) -> None:
    assert "platform_workloads[web].image" in run(config=[{**WEB, "image": "wbe"}])["msg"]


@pytest.mark.usefixtures("without_docker")
def test_images_are_planned_on_a_host_without_docker(capsys: pytest.CaptureFixture[str]) -> None:
    resolved = [{"name": "base", "reference": "hybridlab/base:000000000001", "source": "import", "path": None}]
    given = {"config": [{"name": "base", "rootfs": "base.tar"}], "resolved": resolved, "_ansible_check_mode": True}
    found = call_module(container_images, given, capsys)
    assert (found["missing"], found["references"], found["changed"]) == (["base"], {"base": "hybridlab/base:000000000001"}, True)


def test_images_that_nobody_resolved_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "action plugin" in call_module(container_images, {"config": [{"name": "base", "rootfs": "base.tar"}]}, capsys)["msg"]


def test_only_secrets_that_a_swarm_uses_are_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x00\xff\n")
    secrets = {"token": {"value": "s3cret-value"}, "key": {"file": str(tmp_path / "key")}, "unused": {"file": "no/such/file"}}
    workloads = [WEB, {**WEB, "name": "other", "secrets": [{"name": "key", "target": "/k"}]}, {**WEB, "name": "cloud", "target": "ecs", "secrets": ["unused"]}]
    found = json.loads(workload_secrets(secrets, workloads))
    assert {name: base64.b64decode(value) for name, value in found.items()} == {"token": b"s3cret-value", "key": b"\x00\xff\n"}


def test_a_secret_file_that_is_missing_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match=r"platform_secrets\[token\]\.file: found no/such/file, which cannot be read"):
        workload_secrets({"token": {"file": "no/such/file"}}, [WEB])


def test_files_of_configs_are_read(tmp_path: Path) -> None:
    (tmp_path / "motd").write_bytes(b"Hello.\n")
    config = {"name": "motd", "target": "/etc/motd", "file": str(tmp_path / "motd")}
    assert workload_files([{**WEB, "configs": [config]}]) == {config["file"]: base64.b64encode(b"Hello.\n").decode()}
