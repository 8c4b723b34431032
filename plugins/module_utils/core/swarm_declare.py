# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads as what the Docker Engine API (1.41) is told: service specs, networks, secrets and configs. No I/O.

Services resolve each other by DNS (endpoint mode ``dnsrr``: a name for the addresses of all tasks) and publish ports on the node itself
(``host`` mode): that keeps the address of the client, and needs no IP_VS in the kernel. Inside a network a workload goes by its own name.

Secrets are named ``<stack>_<name>_v<number>``: a change of value makes the next number, so that the old object serves until the rollout is done.
The name tells nothing of the value (see workload_digest.secret_check), and a run that only looks names the same object as one that makes it.
Configs are no secrets: ``<stack>_<name>_<digest of the content>``.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import FileUse, Health, Update, Volume, Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.workload_digest import digest, secret_check

PLATFORM_LABEL = "com.hybridlab.platform"
WORKLOAD_LABEL = "com.hybridlab.workload"
OBJECT_LABEL = "com.hybridlab.object"
CHECK_LABEL = "com.hybridlab.digest"
# What `docker stack ps` and `docker stack services` look for.
STACK_LABEL = "com.docker.stack.namespace"
STACK_IMAGE_LABEL = "com.docker.stack.image"

SECOND = 1_000_000_000
MEBIBYTE = 1024 * 1024
RESTART_DELAY_SECONDS = 5

# Each use of a secret or a config, and the full name of the object.
_Mounted = Sequence[tuple[FileUse, str]]


@dataclass(frozen=True)
class StoredObject:
    """A secret or a config that the Swarm has."""

    name: str
    id: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Objects:
    """What workloads refer to, and is kept elsewhere.

    values: of secrets, by their name in platform_secrets
    files:  contents of the files that configs name, by path
    key:    of this host, for secret_check; None where there is none yet: no stored secret is known again then
    found:  the secrets that the Swarm has
    """

    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    key: Optional[bytes] = field(default=None, repr=False)
    found: Sequence[StoredObject] = ()


@dataclass(frozen=True)
class Object:
    """A secret or a config to be stored. source: its name in the model."""

    name: str
    source: str
    labels: Mapping[str, str]
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Declared:
    """All by full name.

    services:  ServiceSpec; networks, secrets and configs stand in it by name (with_ids adds the ids that the API wants)
    networks:  body of POST /networks/create
    deadlines: seconds within which a rollout of the service has to come to its end
    """

    platform: str
    services: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    networks: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)
    configs: Mapping[str, Object] = field(default_factory=dict)
    deadlines: Mapping[str, int] = field(default_factory=dict)


def full_name(stack: str, name: str) -> str:
    """Of a service, a network or a volume, as ``docker stack deploy`` would name it."""
    return f"{stack}_{name}"


def declare(workloads: Sequence[Workload], platform: str, images: Mapping[str, str], objects: Objects) -> Declared:
    """What the Swarm has to have for the workloads whose target it is.

    platform: platform_name, which all that is ours is labelled with
    images:   name in platform_container_images -> reference that the engine knows

    ResourceError when an image, a value or a file that a workload names is not given.
    """
    ours = of_swarm(workloads)
    secrets = {(workload.stack, use.name): _secret(workload, use, platform, objects) for workload in ours for use in workload.secrets}
    configs = {(workload.name, use.name): _config(workload, use, platform, objects) for workload in ours for use in workload.configs}
    services = {}
    for workload in ours:
        mounted_secrets = [(use, secrets[workload.stack, use.name].name) for use in workload.secrets]
        mounted_configs = [(use, configs[workload.name, use.name].name) for use in workload.configs]
        image = _image(workload, images)
        services[full_name(workload.stack, workload.name)] = _service(workload, platform, image, mounted_secrets, mounted_configs)
    networks = {full_name(workload.stack, name): _network(workload.stack, name, platform) for workload in ours for name in workload.networks}
    return Declared(
        platform=platform,
        services=services,
        networks=networks,
        secrets={item.name: item for item in secrets.values()},
        configs={item.name: item for item in configs.values()},
        deadlines={full_name(workload.stack, workload.name): workload.update.deadline_seconds for workload in ours},
    )


def declare_names(workloads: Sequence[Workload], platform: str) -> Declared:
    """The services alone, by name and without a spec: enough to remove them."""
    return Declared(platform, services={full_name(workload.stack, workload.name): {} for workload in of_swarm(workloads)})


def of_swarm(workloads: Sequence[Workload]) -> list[Workload]:
    return [workload for workload in workloads if workload.target == "swarm"]


def with_ids(spec: Mapping[str, Any], secrets: Mapping[str, str], configs: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a declared spec as POST /services/create takes it. secrets, configs: ids by full name."""
    sent = deepcopy(dict(spec))
    container = sent["TaskTemplate"]["ContainerSpec"]
    for item in container.get("Secrets", ()):
        item["SecretID"] = secrets[item["SecretName"]]
    for item in container.get("Configs", ()):
        item["ConfigID"] = configs[item["ConfigName"]]
    return sent


def _image(workload: Workload, images: Mapping[str, str]) -> str:
    if workload.image not in images:
        raise ResourceError(f"platform_workloads[{workload.name}].image: found {workload.image!r}, and no reference is given for it. Give one in images.")
    return images[workload.image]


def _labels(platform: str, stack: str, **more: str) -> dict[str, str]:
    return {PLATFORM_LABEL: platform, STACK_LABEL: stack, **more}


def _secret(workload: Workload, use: FileUse, platform: str, objects: Objects) -> Object:
    if use.name not in objects.values:
        raise ResourceError(f"platform_workloads[{workload.name}].secrets: found {use.name!r}, and no value is given for it. Add it to platform_secrets.")
    value = objects.values[use.name]
    labels = _labels(platform, workload.stack, **{OBJECT_LABEL: use.name})
    if objects.key is not None:
        labels[CHECK_LABEL] = secret_check(objects.key, use.name, value)
    return Object(secret_name(workload.stack, use.name, labels, objects.found), use.name, labels, value)


def secret_name(stack: str, name: str, labels: Mapping[str, str], found: Sequence[StoredObject]) -> str:
    """Of the stored secret with the same labels, the newest one; else with the next number that is free."""
    prefix = f"{full_name(stack, name)}_v"
    numbered = {int(item.name[len(prefix) :]): item for item in found if item.name.startswith(prefix) and item.name[len(prefix) :].isdecimal()}
    check = labels.get(CHECK_LABEL)
    same = [
        number
        for number, item in numbered.items()
        if check is not None and item.labels.get(PLATFORM_LABEL) == labels[PLATFORM_LABEL] and hmac.compare_digest(item.labels.get(CHECK_LABEL, ""), check)
    ]
    return f"{prefix}{max(same) if same else max(numbered, default=0) + 1}"


def _config(workload: Workload, use: FileUse, platform: str, objects: Objects) -> Object:
    if use.content is not None:
        data = use.content.encode()
    elif use.file in objects.files:
        data = objects.files[use.file or ""]
    else:
        raise ResourceError(f"platform_workloads[{workload.name}].configs[{use.name}].file: found {use.file!r}, and its content is not given")
    labels = _labels(platform, workload.stack, **{OBJECT_LABEL: use.name})
    return Object(f"{full_name(workload.stack, use.name)}_{digest(data)}", use.name, labels, data)


def _network(stack: str, name: str, platform: str) -> dict[str, Any]:
    return {"Name": full_name(stack, name), "Driver": "overlay", "Labels": _labels(platform, stack), "CheckDuplicate": True}


def _service(workload: Workload, platform: str, image: str, secrets: _Mounted, configs: _Mounted) -> dict[str, Any]:
    ours = _labels(platform, workload.stack, **{WORKLOAD_LABEL: workload.name, STACK_IMAGE_LABEL: image})
    update = _update(workload.update)
    return {
        "Name": full_name(workload.stack, workload.name),
        "Labels": {**workload.labels, **ours},
        "TaskTemplate": {
            "ContainerSpec": _container(workload, image, platform, secrets, configs),
            "Resources": {
                "Limits": _resources(workload.cpus, workload.memory_mb),
                "Reservations": _resources(workload.reserve_cpus, workload.reserve_memory_mb),
            },
            "RestartPolicy": {"Condition": "any", "Delay": RESTART_DELAY_SECONDS * SECOND, "MaxAttempts": 0},
            "Placement": {"Constraints": list(workload.placement)},
            "Networks": [{"Target": full_name(workload.stack, name), "Aliases": [workload.name]} for name in workload.networks],
            "ForceUpdate": 0,
            **_log(workload),
        },
        "Mode": {"Replicated": {"Replicas": workload.replicas}},
        "UpdateConfig": update,
        # A way back that stops at a fault would leave half of each version.
        "RollbackConfig": {**update, "FailureAction": "continue"},
        "EndpointSpec": {
            "Mode": "dnsrr",
            "Ports": [
                {"Protocol": port.protocol, "TargetPort": port.target, "PublishedPort": port.published, "PublishMode": "host"} for port in workload.ports
            ],
        },
    }


def _log(workload: Workload) -> dict[str, Any]:
    """journald(8) keeps the line under the tag as SYSLOG_IDENTIFIER; the container's own name would change with each task."""
    if workload.log != "journal":
        return {}
    return {"LogDriver": {"Name": "journald", "Options": {"tag": full_name(workload.stack, workload.name)}}}


def _container(workload: Workload, image: str, platform: str, secrets: _Mounted, configs: _Mounted) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "Image": image,
        "Labels": {STACK_LABEL: workload.stack},
        "Env": sorted(f"{key}={value}" for key, value in workload.environment.items()),
        "ReadOnly": workload.read_only,
        "Init": workload.init,
        "CapabilityAdd": [capability(name) for name in workload.cap_add],
        "CapabilityDrop": [capability(name) for name in workload.cap_drop],
        "Mounts": [*(_volume(workload.stack, platform, volume) for volume in workload.volumes), *_tmpfs(workload)],
        "Secrets": [{"File": _file(use), "SecretName": name} for use, name in secrets],
        "Configs": [{"File": _file(use), "ConfigName": name} for use, name in configs],
        "StopGracePeriod": workload.stop_seconds * SECOND,
    }
    given = {"User": workload.user, "Dir": workload.workdir, "Hostname": workload.hostname}
    spec.update({key: value for key, value in given.items() if value is not None})
    lists = {"Command": workload.command, "Args": workload.args}
    spec.update({key: list(value) for key, value in lists.items() if value is not None})
    if workload.health is not None:
        spec["Healthcheck"] = _health(workload.health)
    return spec


def capability(name: str) -> str:
    """As the engine's own client writes it: ``ALL``, or ``CAP_`` and the name."""
    upper = name.upper()
    return upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"


def _resources(cpus: Optional[float], memory_mb: Optional[int]) -> dict[str, int]:
    found = {}
    if cpus is not None:
        found["NanoCPUs"] = round(cpus * 1_000_000_000)
    if memory_mb is not None:
        found["MemoryBytes"] = memory_mb * MEBIBYTE
    return found


def _volume(stack: str, platform: str, volume: Volume) -> dict[str, Any]:
    if volume.source.startswith("/"):
        return {"Type": "bind", "Source": volume.source, "Target": volume.target, "ReadOnly": volume.read_only}
    return {
        "Type": "volume",
        "Source": full_name(stack, volume.source),
        "Target": volume.target,
        "ReadOnly": volume.read_only,
        "VolumeOptions": {"Labels": _labels(platform, stack)},
    }


def _tmpfs(workload: Workload) -> list[dict[str, Any]]:
    return [{"Type": "tmpfs", "Target": item.target, "TmpfsOptions": {"SizeBytes": item.size_mb * MEBIBYTE}} for item in workload.tmpfs]


def _file(use: FileUse) -> dict[str, Any]:
    return {"Name": use.target, "UID": use.uid, "GID": use.gid, "Mode": use.mode}


def _health(health: Health) -> dict[str, Any]:
    return {
        "Test": ["CMD", *health.command],
        "Interval": health.interval_seconds * SECOND,
        "Timeout": health.timeout_seconds * SECOND,
        "Retries": health.retries,
        "StartPeriod": health.start_seconds * SECOND,
    }


def _update(update: Update) -> dict[str, Any]:
    return {
        "Parallelism": update.parallelism,
        "Delay": update.delay_seconds * SECOND,
        "FailureAction": update.on_failure,
        "Monitor": update.monitor_seconds * SECOND,
        "MaxFailureRatio": update.max_failure_percent / 100,
        "Order": update.order,
    }
