# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Swarm service in one canonical form, whether it was declared or read from the engine (API 1.41). No I/O.

What the engine fills in, orders or writes in another unit is the same here; what the model does not know of but somebody set stands
under ``other``, so that nothing set by hand goes unseen. Sizes in MiB, times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import MEBIBYTE, SECOND, capability
from ansible_collections.hybridlab.platform.plugins.module_utils.core.workload_names import is_secret_name

_NANO = 1_000_000_000
# The engine's own value where a spec says nothing (swarmkit, api/defaults/service.go).
_RESTART = {"condition": "any", "delay_seconds": 5, "max_attempts": 0, "window_seconds": 0}
_UPDATE = {"parallelism": 1, "delay_seconds": 0, "on_failure": "pause", "monitor_seconds": 5, "max_failure_percent": 0, "order": "stop-first"}
_STOP_SECONDS = 10
# Written by the engine into what it returns, and without effect.
_FILLED_IN = {"Isolation": "default", "Runtime": "container"}


class _Reader:
    """Takes known fields out of a spec; what is left is ``other``."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.left: dict[str, Any] = deepcopy(dict(spec))

    def take(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path, removed; ``default`` where there is none, or null."""
        *steps, last = path.split(".")
        node: Any = self.left
        for step in steps:
            node = node.get(step)
            if not isinstance(node, dict):
                return default
        value = node.pop(last, None)
        return default if value is None else value


def normalise(spec: Mapping[str, Any], networks: Optional[Mapping[str, str]] = None) -> dict[str, Any]:
    """The canonical form of a ServiceSpec.

    networks: id -> name of the engine's networks; a declared spec names them already
    """
    reader = _Reader(spec)
    container = "TaskTemplate.ContainerSpec"
    found = {
        "name": reader.take("Name"),
        "labels": dict(reader.take("Labels", {})),
        "image": reader.take(f"{container}.Image"),
        "command": reader.take(f"{container}.Command", []),
        "args": reader.take(f"{container}.Args", []),
        "environment": _environment(reader.take(f"{container}.Env", [])),
        "user": reader.take(f"{container}.User", ""),
        "workdir": reader.take(f"{container}.Dir", ""),
        "hostname": reader.take(f"{container}.Hostname", ""),
        "container_labels": dict(reader.take(f"{container}.Labels", {})),
        "replicas": reader.take("Mode.Replicated.Replicas"),
        "cpus": _exact(reader.take("TaskTemplate.Resources.Limits.NanoCPUs", 0), _NANO) or None,
        "memory_mb": _exact(reader.take("TaskTemplate.Resources.Limits.MemoryBytes", 0), MEBIBYTE) or None,
        "reserve_cpus": _exact(reader.take("TaskTemplate.Resources.Reservations.NanoCPUs", 0), _NANO) or None,
        "reserve_memory_mb": _exact(reader.take("TaskTemplate.Resources.Reservations.MemoryBytes", 0), MEBIBYTE) or None,
        "read_only": reader.take(f"{container}.ReadOnly", False),
        "cap_drop": sorted(capability(name) for name in reader.take(f"{container}.CapabilityDrop", [])),
        "cap_add": sorted(capability(name) for name in reader.take(f"{container}.CapabilityAdd", [])),
        # Without a value the daemon's own default holds, which is another thing than false.
        "init": reader.take(f"{container}.Init"),
        "mounts": sorted((_mount(mount) for mount in reader.take(f"{container}.Mounts", [])), key=lambda mount: str(mount["target"])),
        "secrets": _files(reader.take(f"{container}.Secrets", []), "Secret"),
        "configs": _files(reader.take(f"{container}.Configs", []), "Config"),
        "networks": _networks(reader.take("TaskTemplate.Networks", []), networks or {}),
        "ports": _ports(reader.take("EndpointSpec.Ports", [])),
        "endpoint": reader.take("EndpointSpec.Mode", "vip"),
        "health": _health(reader.take(f"{container}.Healthcheck")),
        "stop_seconds": _exact(reader.take(f"{container}.StopGracePeriod", _STOP_SECONDS * SECOND), SECOND),
        "update": _update(reader.take("UpdateConfig")),
        "rollback": _update(reader.take("RollbackConfig")),
        "restart": _restart(reader.take("TaskTemplate.RestartPolicy")),
        "log": _log(reader.take("TaskTemplate.LogDriver")),
        "placement": sorted("".join(rule.split()) for rule in reader.take("TaskTemplate.Placement.Constraints", [])),
    }
    # How often somebody asked for a restart, and what the engine's client notes of the image's architectures: no settings.
    reader.take("TaskTemplate.ForceUpdate")
    reader.take("TaskTemplate.Placement.Platforms")
    found["other"] = _set(reader.left) or {}
    return found


def shown(normal: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form for a person: empty fields left out, and values hidden of variables that are named like secrets."""
    kept = {key: value for key, value in normal.items() if value is not None and value != "" and value != [] and value != {}}
    if "environment" in kept:
        kept["environment"] = {key: HIDDEN if is_secret_name(key) else value for key, value in kept["environment"].items()}
    return kept


def changes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Names of the canonical fields in which two services differ."""
    return [key for key in wanted if found.get(key) != wanted[key]]


def _exact(value: float, unit: int) -> float:
    """Whole where it is; a divisor of a power of two or ten loses nothing that the engine can tell apart."""
    whole, rest = divmod(value, unit)
    return value / unit if rest else int(whole)


def _environment(entries: Sequence[str]) -> dict[str, Optional[str]]:
    """None: named without a value, which takes the variable away from what the image sets."""
    return {name: value if equals else None for name, equals, value in sorted(entry.partition("=") for entry in entries)}


def _mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    reader = _Reader(mount)
    kind = reader.take("Type", "volume")
    found = {
        "type": kind,
        "target": reader.take("Target"),
        "source": reader.take("Source", ""),
        "read_only": reader.take("ReadOnly", False),
        "size_mb": _exact(reader.take("TmpfsOptions.SizeBytes", 0), MEBIBYTE) or None,
        "labels": dict(reader.take("VolumeOptions.Labels", {})),
        "other": _set(reader.left),
    }
    return {key: value for key, value in found.items() if value not in (None, "", {}) or key == "target"}


def _files(uses: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Secrets and configs by name: an id tells the same, and is not known before the object is made."""
    found = []
    for use in uses:
        file = use.get("File") or {}
        mode = f"{file.get('Mode', 0o444):04o}"
        item = {"object": use.get(f"{kind}Name"), "target": file.get("Name"), "mode": mode, "uid": file.get("UID") or "0", "gid": file.get("GID") or "0"}
        found.append(item)
    return sorted(found, key=lambda item: str(item["target"]))


def _networks(attached: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    found = []
    for network in attached:
        reader = _Reader(network)
        target = reader.take("Target")
        item: dict[str, Any] = {"name": names.get(target, target), "aliases": sorted(set(reader.take("Aliases", [])))}
        other = _set(reader.left)
        found.append({**item, "other": other} if other else item)
    return sorted(found, key=lambda item: str(item["name"]))


def _ports(ports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [
        {
            "published": port.get("PublishedPort", 0),
            "target": port.get("TargetPort"),
            "protocol": port.get("Protocol") or "tcp",
            "mode": port.get("PublishMode") or "ingress",
        }
        for port in ports
    ]
    return sorted(found, key=lambda port: (port["published"], port["protocol"], str(port["target"])))


def _health(health: Optional[Mapping[str, Any]]) -> Optional[dict[str, Any]]:
    if not health:
        return None
    reader = _Reader(health)
    found = {
        "test": reader.take("Test", []),
        "interval_seconds": _exact(reader.take("Interval", 0), SECOND),
        "timeout_seconds": _exact(reader.take("Timeout", 0), SECOND),
        "retries": reader.take("Retries", 0),
        "start_seconds": _exact(reader.take("StartPeriod", 0), SECOND),
    }
    other = _set(reader.left)
    return {**found, "other": other} if other else found


def _update(update: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    if update is None:
        return dict(_UPDATE)
    return {
        "parallelism": update.get("Parallelism", 0),
        "delay_seconds": _exact(update.get("Delay") or 0, SECOND),
        "on_failure": update.get("FailureAction") or _UPDATE["on_failure"],
        "monitor_seconds": _exact(update.get("Monitor") or 0, SECOND),
        # The engine keeps it as a 32-bit float.
        "max_failure_percent": _exact(round((update.get("MaxFailureRatio") or 0) * 100, 4), 1),
        "order": update.get("Order") or _UPDATE["order"],
    }


def _log(driver: Optional[Mapping[str, Any]]) -> Optional[dict[str, Any]]:
    """None: as the engine does by default."""
    if not driver or not driver.get("Name"):
        return None
    return {"driver": driver["Name"], "options": dict(sorted((driver.get("Options") or {}).items()))}


def _restart(policy: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    if policy is None:
        return dict(_RESTART)
    return {
        "condition": policy.get("Condition") or _RESTART["condition"],
        "delay_seconds": _exact(policy["Delay"], SECOND) if "Delay" in policy else _RESTART["delay_seconds"],
        "max_attempts": policy.get("MaxAttempts") or 0,
        "window_seconds": _exact(policy.get("Window") or 0, SECOND),
    }


def _set(value: Any, key: str = "") -> Any:
    """What of ``value`` somebody has set: nothing of it that is empty, zero or filled in by the engine. None: nothing at all."""
    if isinstance(value, Mapping):
        found = {name: _set(item, name) for name, item in value.items()}
        return {name: item for name, item in found.items() if item is not None} or None
    if isinstance(value, (list, tuple)):
        return list(value) or None
    return None if not value or _FILLED_IN.get(key) == value else value
