# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell lines that do by hand what a plan does through the API. Values of secrets and contents of configs never stand in them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import CHECK_LABEL, MEBIBYTE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_normalise import changes

_PLAIN_FLAGS = {"user": "--user", "workdir": "--workdir", "hostname": "--hostname", "replicas": "--replicas", "endpoint": "--endpoint-mode"}
_NUMBER_FLAGS = {"cpus": "--limit-cpu", "reserve_cpus": "--reserve-cpu"}
_SIZE_FLAGS = {"memory_mb": "--limit-memory", "reserve_memory_mb": "--reserve-memory"}
_BOOLEAN_FLAGS = {"read_only": "--read-only", "init": "--init"}
_ROLLOUT_KEYS = {"parallelism": "parallelism", "delay_seconds": "delay", "on_failure": "failure-action", "monitor_seconds": "monitor", "order": "order"}


def create_line(kind: str, name: str, labels: Mapping[str, str], source: Optional[str] = None, normal: Optional[Mapping[str, Any]] = None) -> str:
    """source: of a secret or config, its name in the model; normal: of a service, its canonical form."""
    if normal is not None:
        tail = [normal["image"], *normal["args"]]
        return shell_line(["docker", "service", "create", "--detach", "--no-resolve-image", "--name", name, *_create_flags(normal), *tail])
    # By its check a secret is known again: it is of use only together with the host's key.
    marks = [f"--label={key}={value}" for key, value in sorted(labels.items()) if key != CHECK_LABEL]
    if kind == "network":
        return shell_line(["docker", "network", "create", "--driver", "overlay", *marks, name])
    return f"{shell_line(['docker', kind, 'create', *marks, name, '-'])}  # reads {source} from its standard input"


def remove_line(kind: str, name: str) -> str:
    return shell_line(["docker", kind, "rm", name])


def update_line(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """``docker service update`` with a flag for each canonical field that differs."""
    flags: list[str] = []
    for key in changes(found, wanted):
        flags += _update_flags(key, found[key], wanted[key])
    line = shell_line(["docker", "service", "update", "--detach", "--no-resolve-image", *flags, wanted["name"]])
    # The client has no flags for all that the API can set.
    rest = sorted([*_paths(found["other"]), *(["TaskTemplate.LogDriver"] if found["log"] and not wanted["log"] else [])])
    return f"{line}  # and through the API, back to nothing: {', '.join(rest)}" if rest else line


def _paths(other: Any, path: str = "") -> list[str]:
    """Dotted paths of what is set in ``other``."""
    if not isinstance(other, Mapping):
        return [path]
    return [leaf for key, item in other.items() for leaf in _paths(item, f"{path}.{key}" if path else key)]


def _create_flags(normal: Mapping[str, Any]) -> list[str]:
    flags: list[str] = []
    for key, value in normal.items():
        flags += _both_flags(key, value) if value not in (None, "", [], {}) else []
    flags += [f"--label={key}={value}" for key, value in sorted(normal["labels"].items())]
    flags += [f"--container-label={key}={value}" for key, value in sorted(normal["container_labels"].items())]
    flags += [f"--env={key}={value}" for key, value in normal["environment"].items()]
    flags += [f"--cap-add={name}" for name in normal["cap_add"]] + [f"--cap-drop={name}" for name in normal["cap_drop"]]
    flags += [f"--mount={_mount(mount)}" for mount in normal["mounts"]]
    for kind in ("secret", "config"):
        flags += [f"--{kind}={_file(item)}" for item in normal[f"{kind}s"]]
    flags += [f"--network={_network(item)}" for item in normal["networks"]]
    flags += [f"--publish={_port(item)}" for item in normal["ports"]]
    flags += [f"--constraint={rule}" for rule in normal["placement"]]
    return flags + ([f"--entrypoint={shlex.join(normal['command'])}"] if normal["command"] else [])


def _both_flags(key: str, value: Any) -> list[str]:
    """Flags that creating and updating a service have in common."""
    if key in _PLAIN_FLAGS:
        return [f"{_PLAIN_FLAGS[key]}={value}"]
    if key in _NUMBER_FLAGS:
        return [f"{_NUMBER_FLAGS[key]}={value or 0}"]
    if key in _SIZE_FLAGS:
        return [f"{_SIZE_FLAGS[key]}={int((value or 0) * MEBIBYTE)}"]
    if key in _BOOLEAN_FLAGS:
        return [f"{_BOOLEAN_FLAGS[key]}={'true' if value else 'false'}"]
    if key == "stop_seconds":
        return [f"--stop-grace-period={value}s"]
    if key in ("update", "rollback"):
        return _rollout(key, value)
    if key == "restart":
        return [f"--restart-condition={value['condition']}", f"--restart-delay={value['delay_seconds']}s", f"--restart-max-attempts={value['max_attempts']}"]
    if key == "log":
        return [] if value is None else [f"--log-driver={value['driver']}", *(f"--log-opt={name}={option}" for name, option in value["options"].items())]
    return _health(value) if key == "health" else []


def _rollout(key: str, value: Mapping[str, Any]) -> list[str]:
    flags = [f"--{key}-{flag}={value[name]}{'s' if name.endswith('_seconds') else ''}" for name, flag in _ROLLOUT_KEYS.items()]
    return [*flags, f"--{key}-max-failure-ratio={value['max_failure_percent'] / 100}"]


def _health(health: Optional[Mapping[str, Any]], now: Optional[Mapping[str, Any]] = None) -> list[str]:
    """now: the check that is there; what it has in common is left out."""
    if health is None:
        return ["--no-healthcheck"]
    # The client can only have a shell run it.
    flags = {"test": f"--health-cmd={shlex.join(health['test'][1:])}", "retries": f"--health-retries={health['retries']}"}
    for key, flag in (("interval_seconds", "interval"), ("timeout_seconds", "timeout"), ("start_seconds", "start-period")):
        flags[key] = f"--health-{flag}={health[key]}s"
    return [flag for key, flag in flags.items() if now is None or now[key] != health[key]]


def _update_flags(key: str, now: Any, then: Any) -> list[str]:
    if key in ("labels", "container_labels", "environment"):
        flag = {"labels": "label", "container_labels": "container-label", "environment": "env"}[key]
        gone = [f"--{flag}-rm={name}" for name in now if name not in then]
        return gone + [f"--{flag}-add={name}={value}" for name, value in then.items() if now.get(name) != value or name not in now]
    if key in ("cap_add", "cap_drop"):
        # RESET takes away what stood there: the client adds to it otherwise.
        flag = f"--{key.replace('_', '-')}"
        return [f"{flag}=RESET", *(f"{flag}={name}" for name in then)]
    if key in ("image", "args", "command"):
        return {"image": [f"--image={then}"], "args": [f"--args={shlex.join(then or [])}"], "command": [f"--entrypoint={shlex.join(then or [])}"]}[key]
    if key == "health":
        return _health(then, now)
    pairs = _LISTS.get(key)
    if pairs is None:
        return _both_flags(key, then)
    flag, removed, added = pairs
    # The client adds before it removes, and a mount takes the place of another one on the same path.
    kept = {removed(item) for item in then} if key == "mounts" else set()
    gone = [f"--{flag}-rm={removed(item)}" for item in now if item not in then and removed(item) not in kept]
    return gone + [f"--{flag}-add={added(item)}" for item in then if item not in now]


def _mount(mount: Mapping[str, Any]) -> str:
    parts = [f"type={mount['type']}"]
    parts += [f"source={mount['source']}"] if "source" in mount else []
    parts += [f"target={mount['target']}"]
    parts += ["readonly"] if mount.get("read_only") else []
    parts += [f"tmpfs-size={int(mount['size_mb'] * MEBIBYTE)}"] if "size_mb" in mount else []
    return ",".join([*parts, *(f"volume-label={key}={value}" for key, value in sorted(mount.get("labels", {}).items()))])


def _file(item: Mapping[str, Any]) -> str:
    return f"source={item['object']},target={item['target']},mode={item['mode']},uid={item['uid']},gid={item['gid']}"


def _network(item: Mapping[str, Any]) -> str:
    return ",".join([f"name={item['name']}", *(f"alias={alias}" for alias in item["aliases"])])


def _port(port: Mapping[str, Any]) -> str:
    return f"published={port['published']},target={port['target']},protocol={port['protocol']},mode={port['mode']}"


# Field -> flag, what names an entry that goes, what describes one that comes.
_LISTS: Mapping[str, Any] = {
    "mounts": ("mount", lambda item: item["target"], _mount),
    "secrets": ("secret", lambda item: item["object"], _file),
    "configs": ("config", lambda item: item["object"], _file),
    "networks": ("network", lambda item: item["name"], _network),
    # The client looks for the same target, protocol and mode.
    "ports": ("publish", _port, _port),
    "placement": ("constraint", str, str),
}
