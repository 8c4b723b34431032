# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose files of declared workloads, read back by a YAML library and held against the specs that the engine is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.compose_render import compose
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import SECOND
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_drift import ALTERED
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_engine import FULL, SMALL, VALUES, Engine, first
from hypothesis import given, settings
from hypothesis import strategies as st


def files(*workloads: Workload) -> dict[str, Any]:
    return {stack: yaml.safe_load(text) for stack, text in compose(Engine().declare(*workloads)).items()}


def spec_of(workload: Workload) -> dict[str, Any]:
    return Engine().declare(workload).services[f"{workload.stack}_{workload.name}"]


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1]) * SECOND


def test_the_file_says_what_the_engine_is_told() -> None:
    service, spec = files(FULL)["demo"]["services"]["web"], spec_of(FULL)
    container, template = spec["TaskTemplate"]["ContainerSpec"], spec["TaskTemplate"]

    assert service["image"] == container["Image"]
    assert (service["entrypoint"], service["command"]) == (container["Command"], container["Args"])
    assert [f"{key}={value}" for key, value in service["environment"].items()] == container["Env"]
    assert (service["user"], service["working_dir"], service["hostname"]) == (container["User"], container["Dir"], container["Hostname"])
    assert (service["read_only"], service["init"]) == (container["ReadOnly"], container["Init"])
    assert (service["cap_add"], sorted(service["cap_drop"])) == (container["CapabilityAdd"], sorted(container["CapabilityDrop"]))
    assert seconds(service["stop_grace_period"]) == container["StopGracePeriod"]
    assert service["networks"] == ["backend", "default"]
    assert sorted((port["published"], port["target"], port["protocol"], port["mode"]) for port in service["ports"]) == sorted(
        (port["PublishedPort"], port["TargetPort"], port["Protocol"], port["PublishMode"]) for port in spec["EndpointSpec"]["Ports"]
    )
    health = container["Healthcheck"]
    assert (service["healthcheck"]["test"], service["healthcheck"]["retries"]) == (health["Test"], health["Retries"])
    assert [seconds(service["healthcheck"][key]) for key in ("interval", "timeout", "start_period")] == [
        health[key] for key in ("Interval", "Timeout", "StartPeriod")
    ]
    deploy = service["deploy"]
    assert (deploy["endpoint_mode"], deploy["replicas"]) == (spec["EndpointSpec"]["Mode"], spec["Mode"]["Replicated"]["Replicas"])
    for words, key in ((deploy["update_config"], "UpdateConfig"), (deploy["rollback_config"], "RollbackConfig")):
        told = spec[key]
        assert [words[word] for word in ("parallelism", "failure_action", "order", "max_failure_ratio")] == [
            told[word] for word in ("Parallelism", "FailureAction", "Order", "MaxFailureRatio")
        ]
        assert (seconds(words["delay"]), seconds(words["monitor"])) == (told["Delay"], told["Monitor"])
    assert deploy["placement"]["constraints"] == sorted("".join(rule.split()) for rule in template["Placement"]["Constraints"])
    for words, key in ((deploy["resources"]["limits"], "Limits"), (deploy["resources"]["reservations"], "Reservations")):
        assert int(words["memory"][:-1]) == template["Resources"][key]["MemoryBytes"]
        assert round(float(words["cpus"]) * 10**9) == template["Resources"][key]["NanoCPUs"]
    assert deploy["labels"]["com.hybridlab.workload"] == "web"


def test_mounts_secrets_and_configs_are_those_of_the_engine() -> None:
    file, container = files(FULL)["demo"], spec_of(FULL)["TaskTemplate"]["ContainerSpec"]
    service = file["services"]["web"]

    mounts = {mount["target"]: mount for mount in service["volumes"]}
    assert mounts["/data"] == {"type": "volume", "target": "/data", "source": "data", "read_only": False}
    assert mounts["/site"] == {"type": "bind", "target": "/site", "source": "/srv/site", "read_only": True}
    assert mounts["/tmp"] == {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 8 * 1024 * 1024}}
    assert list(file["volumes"]) == ["data"]
    for kind, name in (("secrets", "SecretName"), ("configs", "ConfigName")):
        told = {use[name]: use["File"] for use in container[kind.capitalize()]}
        for use in service[kind]:
            assert file[kind][use["source"]]["external"] is True
            full = file[kind][use["source"]]["name"]
            assert {"Name": use["target"], "UID": use["uid"], "GID": use["gid"], "Mode": use["mode"]} == told[full]


def test_each_stack_has_a_file_with_its_own_parts() -> None:
    found = files(FULL, replace(SMALL, stack="other"))

    assert {stack: sorted(file["services"]) for stack, file in found.items()} == {"demo": ["web"], "other": ["edge"]}
    assert sorted(found["demo"]["networks"]) == ["backend", "default"]
    assert sorted(found["other"]) == ["networks", "services", "version"]


def test_two_configs_of_one_name_stay_apart() -> None:
    other = replace(FULL, name="other", ports=(), configs=first(FULL.configs, content="another\n"))
    file = files(FULL, other)["demo"]

    assert len(file["configs"]) == 3
    for name in ("web", "other"):
        assert {use["source"] for use in file["services"][name]["configs"]} <= set(file["configs"])


def test_no_value_stands_in_the_file() -> None:
    text = compose(Engine().declare(FULL))["demo"]

    assert VALUES["token"].decode() not in text
    assert "The first site." not in text


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=20))
def test_any_printable_value_comes_back_with_its_dollar_signs_doubled(value: str) -> None:
    found = files(replace(SMALL, environment={"VALUE": value}))["demo"]["services"]["edge"]["environment"]["VALUE"]

    assert found == value.replace("$", "$$")


@pytest.mark.parametrize("field", sorted(ALTERED))
def test_another_workload_is_another_file(field: str) -> None:
    assert files(ALTERED[field]) != files(FULL)
