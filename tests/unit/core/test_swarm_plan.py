# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for the workloads of a Swarm: what is made, what is left alone, what goes, and that nobody else's things are touched."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Port, Volume, Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, to_yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import CHECK_LABEL, PLATFORM_LABEL, declare_names
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_plan import Found, plan
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_drift import ALTERED, NOT_TOLD
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_engine import FULL, IMAGES, PLATFORM, SMALL, VALUES, Engine, built, first, kinds
from hypothesis import given, settings
from hypothesis import strategies as st

SERVICE = "demo_web"


def _model_fields() -> set[str]:
    """Paths of all fields of a workload, and of the dataclasses in it."""
    found = set()
    for field in fields(Workload):
        found.add(field.name)
        value: Any = getattr(FULL, field.name)
        part = value[0] if isinstance(value, tuple) and value and is_dataclass(value[0]) else value
        if is_dataclass(part):
            found |= {f"{field.name}.{inner.name}" for inner in fields(part)}
    return found


def test_no_field_of_the_model_is_forgotten() -> None:
    assert set(ALTERED) | NOT_TOLD == _model_fields()


@pytest.mark.parametrize("field", sorted(ALTERED))
def test_drift_in_any_field_is_found_and_repaired(field: str) -> None:
    """Somebody made the service as ALTERED; the model says FULL."""
    engine = built(ALTERED[field])

    wanted = engine.run(FULL)

    update = [step for step in wanted.steps if step.kind == "service"]
    assert [(step.verb, step.name) for step in update] == [("update", SERVICE)]
    assert wanted.before["workloads"] != wanted.after["workloads"]
    assert any(line.startswith("docker service update ") for line in wanted.commands)
    assert engine.plan(FULL).steps == ()


@pytest.mark.parametrize("field", sorted(set(ALTERED) - {"image"}))
def test_every_drift_has_a_flag_of_the_client(field: str) -> None:
    line = next(line for line in built(ALTERED[field]).plan(FULL).commands if line.startswith("docker service update "))

    assert line.count("--") > len(["--detach", "--no-resolve-image"])
    assert "through the API" not in line


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("TaskTemplate.ContainerSpec.Hosts", ["10.0.0.9 db"]),
        ("TaskTemplate.ContainerSpec.Groups", ["docker"]),
        ("TaskTemplate.ContainerSpec.Sysctls", {"net.ipv4.ip_forward": "1"}),
        ("TaskTemplate.ContainerSpec.TTY", True),
        ("TaskTemplate.ContainerSpec.Privileges", {"NoNewPrivileges": False, "Seccomp": {"Mode": "unconfined"}}),
        ("TaskTemplate.ContainerSpec.DNSConfig", {"Nameservers": ["10.0.0.9"]}),
        ("TaskTemplate.Resources.Limits.Pids", 7),
        ("TaskTemplate.LogDriver", {"Name": "none"}),
        ("TaskTemplate.Placement.MaxReplicas", 1),
        ("TaskTemplate.RestartPolicy", {"Condition": "none"}),
        ("EndpointSpec.Mode", "vip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_model_does_not_know_is_put_back_too(path: str, value: Any) -> None:
    engine = built(FULL)
    *steps, last = path.split(".")
    node = engine.kinds["service"][SERVICE]["Spec"]
    for step in steps:
        node = node[step]
    node[last] = value

    wanted = engine.run(FULL)

    assert kinds(wanted) == [("update", "service", SERVICE)]
    assert wanted.before != wanted.after
    assert engine.plan(FULL).steps == ()


def test_first_run_makes_everything_in_order_and_the_second_nothing() -> None:
    engine = Engine()

    wanted = engine.run(FULL, SMALL)

    assert [(verb, kind) for verb, kind, _name in kinds(wanted)] == [
        *[("create", "network")] * 2,
        ("create", "secret"),
        *[("create", "config")] * 2,
        *[("create", "service")] * 2,
    ]
    assert wanted.before == {"workloads": [], "networks": [], "secrets": [], "configs": []}
    assert [item["name"] for item in wanted.after["workloads"]] == ["demo_edge", SERVICE]
    assert wanted.after["secrets"] == ["demo_token_v1"]
    again = engine.plan(FULL, SMALL)
    assert (again.steps, again.commands) == ((), [])
    assert again.before == again.after == wanted.after


def test_a_look_at_an_empty_host_tells_what_the_run_does() -> None:
    """In check mode there is no key of the host yet."""
    look = Engine().plan(FULL, key=None)
    real = Engine().plan(FULL)

    assert (look.before, look.after, look.commands) == (real.before, real.after, real.commands)


def test_values_of_secrets_and_contents_of_configs_are_never_shown() -> None:
    engine = Engine()
    wanted = engine.run(FULL)
    told = repr((wanted, engine.declare(FULL), engine.found())) + to_yaml(wanted.after) + "\n".join(wanted.commands)

    for value in (*VALUES.values(), b"The first site.\n"):
        assert value.decode().strip() not in told
    assert engine.kinds["secret"]["demo_token_v1"]["Spec"]["Labels"][CHECK_LABEL] not in to_yaml(wanted.after) + "\n".join(wanted.commands)


def test_a_password_that_somebody_put_into_the_environment_is_not_shown() -> None:
    engine = built(FULL)
    engine.kinds["service"][SERVICE]["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"].append("DB_PASSWORD=hunter2")

    wanted = engine.plan(FULL)

    assert wanted.before["workloads"][0]["environment"]["DB_PASSWORD"] == "a value that is not shown"
    assert "hunter2" not in to_yaml(wanted.before) + "\n".join(wanted.commands)
    assert "--env-rm=DB_PASSWORD" in wanted.commands[0]


def test_a_secret_is_rotated_and_the_old_one_goes_last() -> None:
    engine = built(FULL)

    wanted = engine.run(FULL, values={**VALUES, "token": b"new value"})

    assert kinds(wanted) == [("create", "secret", "demo_token_v2"), ("update", "service", SERVICE), ("remove", "secret", "demo_token_v1")]
    assert wanted.restarts == (SERVICE,)
    assert engine.values["demo_token_v2"] == b"new value"
    assert engine.plan(FULL, values={**VALUES, "token": b"new value"}).steps == ()


def test_a_config_is_rotated_by_its_content() -> None:
    engine = built(FULL)

    wanted = engine.run(ALTERED["configs.content"])

    assert [(verb, kind) for verb, kind, _name in kinds(wanted)] == [("create", "config"), ("update", "service"), ("remove", "config")]


def test_a_host_that_lost_its_key_rotates_once() -> None:
    engine = built(FULL)

    assert ("create", "secret", "demo_token_v2") in kinds(engine.run(FULL, key=b"another"))
    assert engine.plan(FULL, key=b"another").steps == ()


def test_a_secret_of_two_workloads_is_one_object_and_stays_while_one_uses_it() -> None:
    both = replace(SMALL, secrets=FULL.secrets)
    engine = built(FULL, both)

    assert list(engine.kinds["secret"]) == ["demo_token_v1"]
    assert ("remove", "secret", "demo_token_v1") not in kinds(engine.run(replace(FULL, secrets=())))
    assert ("remove", "secret", "demo_token_v1") in kinds(engine.run(SMALL))


@pytest.mark.parametrize("done", range(8))
def test_a_run_that_was_killed_is_taken_up_again(done: int) -> None:
    engine = built(FULL, SMALL)
    changed = replace(ALTERED["configs.content"], secrets=FULL.secrets)
    values = {**VALUES, "token": b"new value"}

    engine.run(changed, state="overridden", values=values, steps=done)
    engine.run(changed, state="overridden", values=values)

    assert engine.plan(changed, state="overridden", values=values).steps == ()
    assert list(engine.kinds["service"]) == [SERVICE]
    assert list(engine.kinds["secret"]) == ["demo_token_v2"]
    assert len(engine.kinds["config"]) == len(changed.configs)


def test_leftovers_of_a_killed_first_run_go_when_the_model_changes() -> None:
    engine = Engine()
    engine.run(FULL, steps=5)

    engine.run(SMALL)

    assert (list(engine.kinds["secret"]), list(engine.kinds["config"]), list(engine.kinds["network"])) == ([], [], ["demo_default"])


def test_merged_leaves_other_services_overridden_does_not() -> None:
    assert engine_services(built(FULL, SMALL), FULL, state="merged") == ["demo_edge", SERVICE]
    assert engine_services(built(FULL, SMALL), FULL, state="overridden") == [SERVICE]


def engine_services(engine: Engine, *workloads: Workload, state: str) -> list[str]:
    engine.run(*workloads, state=state)
    return sorted(engine.kinds["service"])


def test_overridden_by_nothing_removes_all_that_is_ours_and_nothing_else() -> None:
    engine = built(FULL, SMALL)
    engine.kinds["service"]["theirs"] = {"ID": "t", "Version": {"Index": 1}, "Spec": {"Name": "theirs", "Mode": {}, "TaskTemplate": {"ContainerSpec": {}}}}
    engine.kinds["secret"]["theirs"] = {"ID": "s", "Spec": {"Name": "theirs", "Labels": {}}}
    engine.kinds["network"]["theirs"] = {"Id": "n", "Name": "theirs", "Scope": "swarm", "Labels": None}

    wanted = engine.run(state="overridden")

    assert {kind: list(items) for kind, items in engine.kinds.items()} == {"network": ["theirs"], "secret": ["theirs"], "config": [], "service": ["theirs"]}
    assert wanted.after == {"workloads": [], "networks": [], "secrets": [], "configs": []}


@pytest.mark.parametrize(("named", "left"), [((FULL,), ["demo_edge"]), ((), [])])
def test_deleted_takes_the_named_ones_or_all(named: tuple[Workload, ...], left: list[str]) -> None:
    engine = built(FULL, SMALL)

    wanted = plan(declare_names(named, PLATFORM), engine.found(), "deleted")
    for step in wanted.steps:
        engine.apply(step, engine.declare())

    assert list(engine.kinds["service"]) == left
    assert list(engine.kinds["secret"]) == []
    assert [item["name"] for item in wanted.after["workloads"]] == left
    assert plan(declare_names(named, PLATFORM), engine.found(), "deleted").steps == ()


@pytest.mark.parametrize("kind", ["service", "network", "config", "secret"])
def test_somebody_else_s_things_are_refused(kind: str) -> None:
    engine = built(FULL)
    for item in engine.kinds[kind].values():
        (item["Labels"] if kind == "network" else item["Spec"]["Labels"])[PLATFORM_LABEL] = "another"

    if kind == "secret":
        # Its number is taken, and the next one is free.
        assert ("create", "secret", "demo_token_v2") in kinds(engine.plan(FULL))
        return
    with pytest.raises(ResourceError, match=f"found a {kind} 'demo_.*nothing was changed.*docker {kind} rm demo_"):
        engine.plan(FULL)


def test_a_network_of_this_node_alone_is_in_the_way_too() -> None:
    network = {"Name": "demo_default", "Id": "local", "Scope": "local", "Labels": {"com.docker.compose.project": "demo"}}

    with pytest.raises(ResourceError, match="found a network 'demo_default'"):
        plan(Engine().declare(SMALL), Found.read([], [network], [], []), "merged")


def test_a_global_service_is_made_anew() -> None:
    engine = built(SMALL)
    engine.kinds["service"]["demo_edge"]["Spec"]["Mode"] = {"Global": {}}

    assert kinds(engine.run(SMALL)) == [("remove", "service", "demo_edge"), ("create", "service", "demo_edge")]


def test_a_service_under_another_name_takes_the_port_of_the_old_one() -> None:
    old = replace(SMALL, name="old", ports=(Port(8080, 80, ("host",)),))
    engine = built(old, replace(SMALL, name="bystander"))

    wanted = engine.run(replace(old, name="new"), state="overridden")

    assert kinds(wanted) == [("remove", "service", "demo_old"), ("create", "service", "demo_new"), ("remove", "service", "demo_bystander")]


def test_a_port_that_a_service_outside_the_list_has_is_refused() -> None:
    engine = built(replace(SMALL, name="old", ports=(Port(8080, 80, ("host",)),)))

    with pytest.raises(ResourceError, match="'demo_web' is to publish 8080/tcp, which the service 'demo_old' publishes"):
        engine.plan(FULL)


@pytest.mark.parametrize(("field", "restarts"), [("replicas", ()), ("labels", ()), ("update.order", ()), ("ports.published", (SERVICE,)), ("user", (SERVICE,))])
def test_what_restarts_tasks_is_told(field: str, restarts: tuple[str, ...]) -> None:
    assert built(FULL).plan(ALTERED[field]).restarts == restarts


def test_what_is_for_another_target_is_none_of_the_swarm_s() -> None:
    assert Engine().plan(replace(FULL, target="ecs")).steps == ()


@pytest.mark.parametrize(
    ("workload", "given", "message"),
    [
        (replace(FULL, image="nothing"), {}, r"platform_workloads\[web\].image: found 'nothing'"),
        (FULL, {"values": {}}, r"platform_workloads\[web\].secrets: found 'token'"),
        (replace(FULL, configs=first(FULL.configs, content=None, file="nowhere")), {}, r"platform_workloads\[web\].configs\[site\].file: found 'nowhere'"),
    ],
)
def test_what_is_not_given_is_told(workload: Workload, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        Engine().declare(workload, **given)


_SETS = st.lists(st.sampled_from(sorted(ALTERED)), unique=True, max_size=4)


@settings(max_examples=50, deadline=None)
@given(
    before=st.sampled_from(sorted(ALTERED)), names=_SETS, state=st.sampled_from(["merged", "overridden"]), done=st.integers(0, 12), token=st.binary(min_size=1)
)
def test_from_anywhere_one_run_is_enough(before: str, names: list[str], state: str, done: int, token: bytes) -> None:
    """Whatever was there, and wherever the run before was killed: one run makes it right, and another finds nothing."""
    engine = built(ALTERED[before], SMALL)
    several = [
        replace(ALTERED[name], name=f"web-{index}", volumes=(Volume(f"v{index}", "/data"),), ports=(Port(9000 - index, 80, ("host",)),))
        for index, name in enumerate(names)
    ]
    values = {**VALUES, "token": token}

    engine.run(*several, state=state, values=values, steps=done)
    engine.run(*several, state=state, values=values)

    again = engine.plan(*several, state=state, values=values)
    assert (again.steps, again.before) == ((), again.after)
    assert {f"demo_{workload.name}" for workload in several} <= set(engine.kinds["service"])
    assert IMAGES["edge"] in {item["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] for item in engine.kinds["service"].values()} or state == "overridden"
