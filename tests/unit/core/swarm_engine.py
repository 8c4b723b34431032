# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Swarm in memory: takes the steps of a plan, and answers as the Engine API (1.41) does, ids and filled-in fields included.

What the real engine fills in was read from one: swarm_services.json, which test_swarm_normalise.py holds against this.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import (
    FileUse,
    Health,
    Port,
    Tmpfs,
    Update,
    Volume,
    Workload,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import Declared, Objects, declare, with_ids
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_plan import CREATE, REMOVE, UPDATE, Found, Plan, Step, plan

PLATFORM = "lab"
KEY = b"k" * 32
IMAGES = {"web": "hybridlab/web:0123456789ab", "edge": "hybridlab/edge:ba9876543210"}
VALUES = {"token": b"first value", "other": b"second value"}
FILES = {"files/motd": b"Welcome.\n", "files/other": b"Go away.\n"}

# Every field of the model set to something that is not its default.
FULL = Workload(
    name="web",
    image="web",
    stack="demo",
    command=("/usr/local/bin/web", "--listen"),
    args=("8000", "a b"),
    environment={"LISTEN": "8000", "GREETING": "it's = fine"},
    user="1000:1000",
    workdir="/srv",
    hostname="web-1",
    replicas=2,
    cpus=0.5,
    memory_mb=64,
    reserve_cpus=0.1,
    reserve_memory_mb=16,
    read_only=False,
    cap_drop=("NET_RAW", "CHOWN"),
    cap_add=("NET_BIND_SERVICE",),
    init=False,
    tmpfs=(Tmpfs("/tmp", 8),),
    volumes=(Volume("data", "/data"), Volume("/srv/site", "/site", True)),
    secrets=(FileUse("token", "/run/secrets/token", 0o440, "1000", "1000"),),
    configs=(FileUse("site", "/etc/site", 0o444, content="The first site.\n"), FileUse("motd", "/etc/motd", 0o444, file="files/motd")),
    networks=("backend", "default"),
    ports=(Port(8080, 80, ("internet",)), Port(8053, 53, ("host",), "udp")),
    health=Health(("/usr/local/bin/web", "--health"), 5, 3, 2, 7),
    stop_seconds=20,
    update=Update("start-first", 2, 1, 4, 25, "pause", 60),
    placement=("node.role == manager", "node.labels.disk==ssd"),
    labels={"org.example.team": "web"},
    log="journal",
)
SMALL = Workload("edge", "edge", "demo")


class Engine:
    """networks, secrets, configs, services: by name, as the API returns them."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, dict[str, Any]]] = {"network": {}, "secret": {}, "config": {}, "service": {}}
        self.values: dict[str, bytes] = {}
        self._numbers = itertools.count(1)

    def found(self) -> Found:
        kinds = deepcopy(self.kinds)
        return Found.read(*(list(kinds[kind].values()) for kind in ("service", "network", "secret", "config")))

    def declare(
        self, *workloads: Workload, values: Optional[Mapping[str, bytes]] = None, key: Optional[bytes] = KEY, images: Optional[Mapping[str, str]] = None
    ) -> Declared:
        objects = Objects(VALUES if values is None else values, FILES, key, self.found().stored_secrets())
        return declare(workloads, PLATFORM, IMAGES if images is None else images, objects)

    def plan(self, *workloads: Workload, state: str = "merged", **given: Any) -> Plan:
        return plan(self.declare(*workloads, **given), self.found(), state)

    def run(self, *workloads: Workload, state: str = "merged", steps: Optional[int] = None, **given: Any) -> Plan:
        """Plans and applies; with ``steps`` the run is killed after so many of them."""
        declared = self.declare(*workloads, **given)
        wanted = plan(declared, self.found(), state)
        for step in wanted.steps[:steps]:
            self.apply(step, declared)
        return wanted

    def apply(self, step: Step, declared: Declared) -> None:
        kind = self.kinds[step.kind]
        if (step.verb, step.kind) == (CREATE, "service"):
            self._refuse_taken_ports(step)
        if step.verb == REMOVE:
            assert kind[step.name].get("ID", kind[step.name].get("Id")) == step.id
            self._refuse_in_use(step)
            del kind[step.name]
        elif step.kind == "network":
            assert step.spec is not None
            kind[step.name] = {"Name": step.name, "Id": self._id(), "Scope": "swarm", **step.spec}
        elif step.kind == "service":
            self._service(step, kind)
        else:
            item = (declared.secrets if step.kind == "secret" else declared.configs)[step.name]
            assert step.name not in kind
            assert item.data
            kind[step.name] = {"ID": self._id(), "Spec": {"Name": step.name, "Labels": dict(item.labels)}}
            self.values[step.name] = item.data

    def _service(self, step: Step, kind: dict[str, dict[str, Any]]) -> None:
        assert step.spec is not None
        ids = {name: {item: value["ID"] for item, value in self.kinds[name].items()} for name in ("secret", "config")}
        spec = self.returned(with_ids(step.spec, ids["secret"], ids["config"]))
        if step.verb == UPDATE:
            assert (kind[step.name]["ID"], kind[step.name]["Version"]["Index"]) == (step.id, step.version)
            assert "Replicated" in kind[step.name]["Spec"]["Mode"], "the engine refuses to change the mode"
        else:
            assert step.verb == CREATE
            assert step.name not in kind
        identity = kind[step.name]["ID"] if step.verb == UPDATE else self._id()
        kind[step.name] = {"ID": identity, "Version": {"Index": next(self._numbers)}, "Spec": spec}

    def returned(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A spec as the engine gives it back."""
        kept: dict[str, Any] = _without_empty(spec)
        template = kept["TaskTemplate"]
        template["ContainerSpec"]["Isolation"] = "default"
        template["Runtime"] = "container"
        template.setdefault("ForceUpdate", 0)
        for network in template.get("Networks", ()):
            network["Target"] = self.kinds["network"][network["Target"]]["Id"]
        return kept

    def _refuse_taken_ports(self, step: Step) -> None:
        """The task of a new service would wait for its port without an end."""
        assert step.spec is not None
        wanted = [(port["PublishedPort"], port["Protocol"]) for port in step.spec["EndpointSpec"]["Ports"]]
        for name, item in self.kinds["service"].items():
            for port in item["Spec"].get("EndpointSpec", {}).get("Ports", ()):
                assert (port["PublishedPort"], port["Protocol"]) not in wanted, f"{step.name} would wait for a port of {name}"

    def _refuse_in_use(self, step: Step) -> None:
        for name, item in self.kinds["service"].items():
            template = item["Spec"]["TaskTemplate"]
            used = [entry["Target"] for entry in template.get("Networks", ())]
            used += [entry[f"{kind}ID"] for kind in ("Secret", "Config") for entry in template["ContainerSpec"].get(f"{kind}s", ())]
            assert step.id not in used, f"{step.kind} {step.name} is in use by {name}"

    def _id(self) -> str:
        return f"id{next(self._numbers):023d}"


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items() if item not in ([], {}, "", None)}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def kinds(wanted: Plan) -> list[tuple[str, str, str]]:
    """(verb, kind, name) of each step."""
    return [(step.verb, step.kind, step.name) for step in wanted.steps]


def built(*workloads: Workload) -> Engine:
    """An engine that has them already."""
    engine = Engine()
    engine.run(*workloads)
    return engine


def first(items: Sequence[Any], **changes: Any) -> tuple[Any, ...]:
    """The items, the first one changed."""
    return (replace(items[0], **changes), *items[1:])
