# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a Swarm runs exactly the declared workloads: what is and what shall be in, an ordered plan out. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_commands import create_line, remove_line, update_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import (
    PLATFORM_LABEL,
    STACK_LABEL,
    Declared,
    Object,
    StoredObject,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_normalise import changes, normalise, shown
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_ports import Ports, check_free, in_the_way

CREATE, UPDATE, REMOVE = "create", "update", "remove"
NETWORK, SECRET, CONFIG, SERVICE = "network", "secret", "config", "service"

# Changes of these leave a service's tasks alone; any other replaces them, in the way that its update says.
_QUIET = frozenset({"labels", "replicas", "update", "rollback"})


@dataclass(frozen=True)
class Found:
    """What the engine has, as its API returns it, by name."""

    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        services: Iterable[Mapping[str, Any]],
        networks: Iterable[Mapping[str, Any]],
        secrets: Iterable[Mapping[str, Any]],
        configs: Iterable[Mapping[str, Any]],
    ) -> Found:
        """From the answers to GET /services, /networks, /secrets and /configs."""
        # A network of the Swarm hides one of this node alone that has the same name.
        ranked = sorted(networks, key=lambda item: item.get("Scope") == "swarm")
        return cls(
            services={item["Spec"]["Name"]: item for item in services},
            networks={item["Name"]: item for item in ranked},
            secrets={item["Spec"]["Name"]: item for item in secrets},
            configs={item["Spec"]["Name"]: item for item in configs},
        )

    def network_names(self) -> dict[str, str]:
        """Name by id, for normalise."""
        return {item["Id"]: name for name, item in self.networks.items()}

    def stored_secrets(self) -> list[StoredObject]:
        """For Objects.found."""
        return [StoredObject(name, item["ID"], item["Spec"].get("Labels") or {}) for name, item in self.secrets.items()]


@dataclass(frozen=True)
class Step:
    """One call of the API.

    verb:     CREATE, UPDATE or REMOVE; kind: NETWORK, SECRET, CONFIG or SERVICE
    id:       of what is updated or removed; version: of the service that is updated
    spec:     of a network the body; of a service the ServiceSpec, whose secrets, configs and networks stand there by name
    deadline: seconds within which the rollout has to come to its end
    """

    verb: str
    kind: str
    name: str
    id: Optional[str] = None
    version: Optional[int] = None
    spec: Optional[dict[str, Any]] = field(default=None, repr=False)
    deadline: int = 0


@dataclass(frozen=True)
class Plan:
    """before, after: for a person and a diff; commands: shell lines, in the order of the steps

    restarts: full names of the services whose running tasks are replaced
    """

    before: dict[str, Any]
    after: dict[str, Any]
    commands: list[str]
    steps: tuple[Step, ...]
    restarts: tuple[str, ...] = ()


def plan(declared: Declared, found: Found, state: str) -> Plan:
    """The whole run for ``state``.

    merged:     the declared services as declared; every other service stays
    overridden: beyond that, every other service of this platform gone
    deleted:    the declared services gone, or all of this platform's when none is declared

    In each, secrets, configs and networks of this platform that no service uses any more go last, when every rollout is done.
    ResourceError when a name that is needed belongs to somebody else.
    """
    _check_owners(declared, found)
    ours = {name: item for name, item in found.services.items() if _is_ours(item["Spec"].get("Labels"), declared.platform)}
    if state == "deleted":
        gone = [name for name in ours if name in declared.services or not declared.services]
        wanted: Mapping[str, dict[str, Any]] = {}
    else:
        gone = [name for name in ours if state == "overridden" and name not in declared.services]
        wanted = declared.services
    return _Planner(declared, found, wanted, sorted(gone)).plan()


class _Planner:
    def __init__(self, declared: Declared, found: Found, wanted: Mapping[str, dict[str, Any]], gone: Sequence[str]) -> None:
        self.declared = declared
        self.found = found
        self.wanted = wanted
        self.gone = gone
        self.names = found.network_names()
        self.steps: list[Step] = []
        self.commands: list[str] = []
        self.restarts: list[str] = []

    def plan(self) -> Plan:
        if self.wanted:
            self._objects()
        now = {name: _ports(normalise(item["Spec"])) for name, item in self.found.services.items()}
        then = {name: _ports(normalise(spec)) for name, spec in self.wanted.items()}
        check_free({name: ports for name, ports in now.items() if name not in self.gone and name not in then}, then)
        early = in_the_way(self.gone, now, then)
        for name in early:
            self._remove(SERVICE, name, self.found.services[name]["ID"])
        for name, spec in self.wanted.items():
            self._service(name, spec)
        for name in self.gone:
            if name not in early:
                self._remove(SERVICE, name, self.found.services[name]["ID"])
        removed = self._leftovers()
        return Plan(self._before(), self._after(removed), self.commands, tuple(self.steps), tuple(self.restarts))

    def _do(self, step: Step, command: str) -> None:
        self.steps.append(step)
        self.commands.append(command)

    def _remove(self, kind: str, name: str, identity: str) -> None:
        self._do(Step(REMOVE, kind, name, identity), remove_line(kind, name))

    def _objects(self) -> None:
        for name, body in self.declared.networks.items():
            if name not in self.found.networks:
                self._do(Step(CREATE, NETWORK, name, spec=body), create_line(NETWORK, name, body["Labels"]))
        for kind, wanted, stored in self._kinds():
            for name, item in wanted.items():
                if name not in stored:
                    self._do(Step(CREATE, kind, name), create_line(kind, name, item.labels, item.source))

    def _kinds(self) -> tuple[tuple[str, Mapping[str, Object], Mapping[str, Mapping[str, Any]]], ...]:
        return (SECRET, self.declared.secrets, self.found.secrets), (CONFIG, self.declared.configs, self.found.configs)

    def _service(self, name: str, spec: dict[str, Any]) -> None:
        normal, deadline = normalise(spec), self.declared.deadlines.get(name, 0)
        if name not in self.found.services:
            self._do(Step(CREATE, SERVICE, name, spec=spec, deadline=deadline), create_line(SERVICE, name, {}, normal=normal))
            return
        item = self.found.services[name]
        now = normalise(item["Spec"], self.names)
        different = changes(now, normal)
        if not different:
            return
        if now["replicas"] is None:
            # The engine refuses to turn a global service or a job into a replicated one.
            self._remove(SERVICE, name, item["ID"])
            self._do(Step(CREATE, SERVICE, name, spec=spec, deadline=deadline), create_line(SERVICE, name, {}, normal=normal))
        else:
            self._do(Step(UPDATE, SERVICE, name, item["ID"], item["Version"]["Index"], spec, deadline), update_line(now, normal))
        if not _QUIET.issuperset(different):
            self.restarts.append(name)

    def _leftovers(self) -> dict[str, set[str]]:
        """Steps for what of ours no service uses any more, also what a run that was cut short has left; their names by kind."""
        removed: dict[str, set[str]] = {}
        used = self._used()
        for kind, stored in _objects_of(self.found).items():
            removed[kind] = {name for name in self._ours(stored) if STACK_LABEL in _labels_of(stored[name]) and name not in used[kind]}
            for name in sorted(removed[kind]):
                self._remove(kind, name, stored[name].get("ID") or stored[name]["Id"])
        return removed

    def _used(self) -> dict[str, set[str]]:
        """What services refer to after the run, by kind."""
        used: dict[str, set[str]] = {SECRET: set(), CONFIG: set(), NETWORK: set()}
        staying = [normalise(item["Spec"], self.names) for name, item in self.found.services.items() if name not in self.gone and name not in self.wanted]
        for normal in [*staying, *(normalise(spec) for spec in self.wanted.values())]:
            used[SECRET].update(item["object"] for item in normal["secrets"])
            used[CONFIG].update(item["object"] for item in normal["configs"])
            used[NETWORK].update(item["name"] for item in normal["networks"])
        return used

    def _before(self) -> dict[str, Any]:
        services = [shown(normalise(self.found.services[name]["Spec"], self.names)) for name in self._scope() if name in self.found.services]
        objects = {kind: sorted(self._ours(stored)) for kind, stored in _objects_of(self.found).items()}
        return _state(services, objects)

    def _after(self, removed: Mapping[str, set[str]]) -> dict[str, Any]:
        services = []
        for name in self._scope():
            if name in self.wanted:
                services.append(shown(normalise(self.wanted[name])))
            elif name not in self.gone:
                services.append(shown(normalise(self.found.services[name]["Spec"], self.names)))
        made = {kind: {step.name for step in self.steps if step.verb == CREATE and step.kind == kind} for kind in (NETWORK, SECRET, CONFIG)}
        objects = {kind: sorted((self._ours(stored) | made[kind]) - removed[kind]) for kind, stored in _objects_of(self.found).items()}
        return _state(services, objects)

    def _scope(self) -> list[str]:
        """Services that are reported: the declared ones, and all others of this platform."""
        ours = self._ours(self.found.services)
        return sorted(ours | set(self.wanted))

    def _ours(self, stored: Mapping[str, Mapping[str, Any]]) -> set[str]:
        return {name for name, item in stored.items() if _is_ours(_labels_of(item), self.declared.platform)}


def _objects_of(found: Found) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    return {SECRET: found.secrets, CONFIG: found.configs, NETWORK: found.networks}


def _ports(normal: Mapping[str, Any]) -> Ports:
    return frozenset((port["published"], port["protocol"]) for port in normal["ports"])


def _state(services: list[dict[str, Any]], objects: Mapping[str, list[str]]) -> dict[str, Any]:
    return {"workloads": services, "networks": objects[NETWORK], "secrets": objects[SECRET], "configs": objects[CONFIG]}


def _labels_of(item: Mapping[str, Any]) -> Mapping[str, str]:
    holder: Mapping[str, Any] = item.get("Spec", item)
    return holder.get("Labels") or {}


def _is_ours(labels: Optional[Mapping[str, str]], platform: str) -> bool:
    return (labels or {}).get(PLATFORM_LABEL) == platform


def _check_owners(declared: Declared, found: Found) -> None:
    kinds: Sequence[tuple[str, Iterable[str], Mapping[str, Mapping[str, Any]]]] = (
        (SERVICE, declared.services, found.services),
        (NETWORK, declared.networks, found.networks),
        (SECRET, declared.secrets, found.secrets),
        (CONFIG, declared.configs, found.configs),
    )
    for kind, names, stored in kinds:
        for name in names:
            if name in stored and not _is_ours(_labels_of(stored[name]), declared.platform):
                raise ResourceError(
                    f"found a {kind} {name!r} that this platform did not make (it has no label {PLATFORM_LABEL}={declared.platform}); nothing was changed. "
                    f"Give the workload another name or stack, or remove that {kind}: docker {kind} rm {name}"
                )
