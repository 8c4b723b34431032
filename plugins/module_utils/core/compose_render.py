# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared workloads as Compose files for ``docker stack deploy``, one for each stack. No I/O.

Made from the same specs that the engine is told, so that both say the same. Secrets and configs are named as the engine has them
(``external``): their values never stand in the file. From where a port may be reached is no word of Compose; the firewall has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import to_yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import MEBIBYTE, OBJECT_LABEL, STACK_IMAGE_LABEL, STACK_LABEL, Declared
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_normalise import normalise

# The first with cap_drop, init, rollback_config and external names that `docker stack deploy` takes.
VERSION = "3.8"
_ROLLOUT = {"parallelism": "parallelism", "on_failure": "failure_action", "order": "order"}
# `docker stack deploy` sets them by itself.
_STACK_LABELS = (STACK_LABEL, STACK_IMAGE_LABEL)


def compose(declared: Declared) -> dict[str, str]:
    """Text of the Compose file of each stack, by its name."""
    stacks: dict[str, dict[str, dict[str, Any]]] = {}
    for spec in declared.services.values():
        normal = normalise(spec)
        stacks.setdefault(normal["labels"][STACK_LABEL], {})[normal["name"]] = normal
    return {stack: to_yaml(_escaped(_file(stack, services, declared))) for stack, services in stacks.items()}


def _file(stack: str, services: Mapping[str, Mapping[str, Any]], declared: Declared) -> dict[str, Any]:
    aliases = {item.name: item.labels[OBJECT_LABEL] for item in [*declared.secrets.values(), *declared.configs.values()]}
    used = {kind: sorted({item["object"] for normal in services.values() for item in normal[kind]}) for kind in ("secrets", "configs")}
    networks = sorted({item["name"] for normal in services.values() for item in normal["networks"]})
    volumes = {mount["source"]: mount["labels"] for normal in services.values() for mount in normal["mounts"] if mount["type"] == "volume"}
    parts = {
        "networks": {_short(stack, name): {"driver": "overlay", "labels": _own(declared.networks[name]["Labels"])} for name in networks},
        "volumes": {_short(stack, name): {"labels": _own(labels)} for name, labels in sorted(volumes.items())},
        **{kind: {_key(name, aliases[name], used[kind], aliases): {"external": True, "name": name} for name in used[kind]} for kind in used},
    }
    keys = {name: key for kind in used for key, name in ((_key(name, aliases[name], used[kind], aliases), name) for name in used[kind])}
    return {
        "version": VERSION,
        "services": {_short(stack, name): _service(stack, normal, keys) for name, normal in services.items()},
        **{key: part for key, part in parts.items() if part},
    }


def _key(name: str, alias: str, names: list[str], aliases: Mapping[str, str]) -> str:
    """Name of an object inside the file: that of the model, unless two objects of the stack have it."""
    return alias if [aliases[other] for other in names].count(alias) == 1 else name


def _short(stack: str, name: str) -> str:
    return name[len(stack) + 1 :]


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in sorted(labels.items()) if key not in _STACK_LABELS}


def _service(stack: str, normal: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    health = normal["health"]
    found = {
        "image": normal["image"],
        "entrypoint": normal["command"],
        "command": normal["args"],
        "environment": normal["environment"],
        "user": normal["user"],
        "working_dir": normal["workdir"],
        "hostname": normal["hostname"],
        "read_only": normal["read_only"],
        "init": normal["init"],
        "cap_add": normal["cap_add"],
        "cap_drop": normal["cap_drop"],
        "volumes": [_mount(stack, mount) for mount in normal["mounts"]],
        **{
            kind: [
                {"source": keys[item["object"]], "target": item["target"], "uid": item["uid"], "gid": item["gid"], "mode": int(item["mode"], 8)}
                for item in normal[kind]
            ]
            for kind in ("secrets", "configs")
        },
        # In each it goes by its name, as in every stack.
        "networks": [_short(stack, item["name"]) for item in normal["networks"]],
        "ports": normal["ports"],
        "logging": normal["log"],
        "healthcheck": None if health is None else _health(health),
        "stop_grace_period": _seconds(normal["stop_seconds"]),
        "deploy": _deploy(normal),
        "labels": _own(normal["container_labels"]),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}


def _mount(stack: str, mount: Mapping[str, Any]) -> dict[str, Any]:
    found = {"type": mount["type"], "target": mount["target"]}
    if mount["type"] == "tmpfs":
        return {**found, "tmpfs": {"size": int(mount["size_mb"] * MEBIBYTE)}}
    source = _short(stack, mount["source"]) if mount["type"] == "volume" else mount["source"]
    return {**found, "source": source, "read_only": mount["read_only"]}


def _health(health: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "test": health["test"],
        "interval": _seconds(health["interval_seconds"]),
        "timeout": _seconds(health["timeout_seconds"]),
        "retries": health["retries"],
        "start_period": _seconds(health["start_seconds"]),
    }


def _deploy(normal: Mapping[str, Any]) -> dict[str, Any]:
    resources = {"limits": _resources(normal, ""), "reservations": _resources(normal, "reserve_")}
    return {
        "endpoint_mode": normal["endpoint"],
        "replicas": normal["replicas"],
        **({"resources": {key: value for key, value in resources.items() if value}} if any(resources.values()) else {}),
        "update_config": _rollout(normal["update"]),
        "rollback_config": _rollout(normal["rollback"]),
        "restart_policy": {"condition": normal["restart"]["condition"], "delay": _seconds(normal["restart"]["delay_seconds"])},
        **({"placement": {"constraints": normal["placement"]}} if normal["placement"] else {}),
        "labels": _own(normal["labels"]),
    }


def _resources(normal: Mapping[str, Any], prefix: str) -> dict[str, str]:
    cpus, memory = normal[f"{prefix}cpus"], normal[f"{prefix}memory_mb"]
    return {**({} if cpus is None else {"cpus": str(cpus)}), **({} if memory is None else {"memory": f"{int(memory * MEBIBYTE)}b"})}


def _rollout(update: Mapping[str, Any]) -> dict[str, Any]:
    found = {word: update[key] for key, word in _ROLLOUT.items()}
    times = {"delay": _seconds(update["delay_seconds"]), "monitor": _seconds(update["monitor_seconds"])}
    return {**found, **times, "max_failure_ratio": update["max_failure_percent"] / 100}


def _seconds(number: float) -> str:
    return f"{number}s"


def _escaped(value: Any) -> Any:
    """Compose puts variables of its caller in place of ``$NAME``: a dollar sign is written twice."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, (list, tuple)) else value
