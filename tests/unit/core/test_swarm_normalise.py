# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The canonical form of a Swarm service, held against what a real engine returned.

swarm_services.json: the answers of Docker 20.10.24 (API 1.41) after it was told FULL and SMALL of swarm_engine.py, cut to what is read of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_normalise import changes, normalise, shown
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_plan import Found, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.workload_names import is_secret_name
from ansible_collections.hybridlab.platform.tests.unit.core.swarm_engine import FULL, SMALL, Engine
from hypothesis import given, settings
from hypothesis import strategies as st

REAL: dict[str, Any] = json.loads((Path(__file__).parent / "swarm_services.json").read_text(encoding="utf-8"))


def real() -> Found:
    return Found.read(REAL["services"], REAL["networks"], REAL["secrets"], REAL["configs"])


def test_a_real_engine_that_was_told_so_needs_nothing() -> None:
    engine = Engine()
    engine.kinds["secret"] = dict(real().secrets)  # type: ignore[arg-type]

    assert plan(engine.declare(FULL, SMALL), real(), "overridden").steps == ()


@pytest.mark.parametrize("name", ["demo_web", "demo_edge"])
def test_the_engine_of_these_tests_answers_as_the_real_one(name: str) -> None:
    engine = Engine()
    engine.run(FULL, SMALL)

    ours, theirs = (_without_ids(found.services[name]["Spec"]) for found in (engine.found(), real()))
    assert _set_paths(ours) == _set_paths(theirs)


def _without_ids(spec: Mapping[str, Any]) -> dict[str, Any]:
    kept = deepcopy(dict(spec))
    container = kept["TaskTemplate"]["ContainerSpec"]
    for kind in ("Secret", "Config"):
        for item in container.get(f"{kind}s", ()):
            del item[f"{kind}ID"]
    for network in kept["TaskTemplate"]["Networks"]:
        del network["Target"]
    return kept


def _set_paths(value: Any, path: str = "") -> set[str]:
    """path=value of each leaf that is not empty."""
    if isinstance(value, dict):
        return {leaf for key, item in value.items() for leaf in _set_paths(item, f"{path}.{key}" if path else key)}
    if isinstance(value, list):
        return {leaf for index, item in enumerate(value) for leaf in _set_paths(item, f"{path}[{index}]")}
    return {f"{path}={value!r}"} if value else set()


@pytest.mark.parametrize("workload", [FULL, SMALL], ids=lambda workload: workload.name)
def test_a_declared_spec_is_the_same_after_the_engine_has_had_it(workload: Any) -> None:
    engine = Engine()
    declared = engine.declare(workload)
    engine.run(workload)
    (name, spec), found = next(iter(declared.services.items())), engine.found()

    assert normalise(found.services[name]["Spec"], found.network_names()) == normalise(spec)


def test_nothing_that_was_read_is_changed() -> None:
    before = deepcopy(REAL)
    normalise(REAL["services"][0]["Spec"], real().network_names())

    assert before == REAL


def test_what_the_engine_fills_in_is_the_same_as_nothing() -> None:
    """The defaults of swarmkit's api/defaults/service.go, and fields of newer engines without a value."""
    spec = {"Name": "a", "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}
    filled = {
        "Name": "a",
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "a", "Isolation": "default", "DNSConfig": {}, "StopGracePeriod": 10_000_000_000, "OomScoreAdj": 0, "Privileges": None},
            "Resources": {"Limits": {}, "Reservations": {}},
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000, "MaxAttempts": 0},
            "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
            "Runtime": "container",
            "ForceUpdate": 3,
        },
        "UpdateConfig": {"Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000, "MaxFailureRatio": 0, "Order": "stop-first"},
        "RollbackConfig": {"Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000, "MaxFailureRatio": 0, "Order": "stop-first"},
        "EndpointSpec": {"Mode": "vip"},
    }

    assert normalise(filled) == normalise(spec)


def test_order_without_a_meaning_has_none() -> None:
    found = deepcopy(REAL["services"])
    (spec,) = [item["Spec"] for item in found if item["Spec"]["Name"] == "demo_web"]
    template = spec["TaskTemplate"]
    lists = [template["ContainerSpec"][key] for key in ("Env", "Mounts", "Configs", "CapabilityDrop")]
    for entries in [*lists, template["Networks"], template["Placement"]["Constraints"], spec["EndpointSpec"]["Ports"]]:
        entries.reverse()

    assert normalise(spec, real().network_names()) == normalise(real().services["demo_web"]["Spec"], real().network_names())


def test_a_rate_of_failures_survives_the_engine_s_short_float() -> None:
    assert normalise({"UpdateConfig": {"MaxFailureRatio": 0.10000000149011612}})["update"]["max_failure_percent"] == 10


def test_sizes_and_times_that_are_no_whole_units_stay_apart() -> None:
    one, other = (
        {"TaskTemplate": {"ContainerSpec": {"StopGracePeriod": time}, "Resources": {"Limits": {"MemoryBytes": size}}}}
        for time, size in ((10**9, 2**20), (10**9 + 1, 2**20 + 1))
    )

    assert changes(normalise(one), normalise(other)) == ["memory_mb", "stop_seconds"]


def test_what_is_shown_has_no_empty_fields() -> None:
    assert all(value not in (None, "", [], {}) for value in shown(normalise(real().services["demo_edge"]["Spec"])).values())


@settings(deadline=None)
@given(st.lists(st.sampled_from(["NET_RAW", "CHOWN", "KILL"]), unique=True), st.sampled_from(["CapabilityAdd", "CapabilityDrop"]), st.randoms())
def test_a_capability_may_be_spelt_in_any_way(names: list[str], key: str, chance: Random) -> None:
    spelt = [chance.choice([name, name.lower(), f"CAP_{name}", f"cap_{name.lower()}"]) for name in names]
    chance.shuffle(spelt)

    assert normalise({"TaskTemplate": {"ContainerSpec": {key: spelt}}}) == normalise({"TaskTemplate": {"ContainerSpec": {key: names}}})


@pytest.mark.parametrize(
    "name", ["PASSWORD", "DB_PASS", "MYSQL_ROOT_PASSWORD", "API_TOKEN", "SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "apiKey", "api-key", "PGPASSWORD"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["PASSIVE_PORTS", "TOKENIZER", "DB_PASSWORD_FILE", "COMPASS", "KEYBOARD", "SECRETARY", "LISTEN"])
def test_names_of_settings(name: str) -> None:
    assert not is_secret_name(name)
