# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One workload: its values, read and checked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mounts import (
    Owner,
    Targets,
    read_configs,
    read_secret_uses,
    read_tmpfs,
    read_volumes,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_ports import Known, check_room, read_ports
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, as_text, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Health, Update, Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.workload_names import is_secret_name

WORKLOAD_KEYS = (
    *("name", "target", "stack", "image", "command", "args", "environment", "user", "workdir", "hostname"),
    *("replicas", "cpus", "memory_mb", "reserve_cpus", "reserve_memory_mb"),
    *("read_only", "cap_drop", "cap_add", "init", "tmpfs", "volumes", "secrets", "configs"),
    *("networks", "ports", "health", "stop_seconds", "update", "placement", "labels", "log"),
)
HEALTH_KEYS = ("command", "interval_seconds", "timeout_seconds", "retries", "start_seconds")
UPDATE_KEYS = ("order", "parallelism", "delay_seconds", "monitor_seconds", "max_failure_percent", "on_failure", "deadline_seconds")
TARGETS = ("swarm", "ecs")
LOGS = ("engine", "journal")
ORDERS = ("stop-first", "start-first")
ON_FAILURE = ("rollback", "pause")

# Docker refuses less ("Minimum memory limit allowed is 6MB").
LEAST_MEMORY_MB = 6
# swarmkit, manager/controlapi/service.go: at least 0.001.
LEAST_CPUS = 0.001
# A service is named <stack>_<name>: swarmkit, manager/controlapi/service.go, 63 characters; of an object 64, with what tells its versions apart.
SERVICE_NAME_MAX = 63
OBJECT_NAME_MAX = 64 - len("_") - 12

# capabilities(7), as of Linux 6.
CAPABILITIES = frozenset(
    (
        *("AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH"),
        *("FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN"),
        *("NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT"),
        *("SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM"),
    )
)
_ALL = "ALL"
_USER = re.compile(r"(?:[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(?::(?:[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONSTRAINT = re.compile(r"(?:node\.(?:id|hostname|role|platform\.(?:os|arch)|labels\.[\w.-]+)|engine\.labels\.[\w.-]+)\s*(?:==|!=)\s*[\w.:/+*-]+")
_RESERVED_LABELS = ("com.docker.", "com.hybridlab.")
# First words of a test in the engine's own form, which the model does not use.
_TEST_WORDS = ("CMD", "CMD-SHELL", "NONE")


def read_workload(faults: Faults, path: str, raw: Any, known: Known) -> Optional[Workload]:
    """The workload, also one with faults of its own, as long as it has a name."""
    _check_privileged(faults, path, raw)
    table = Table.read(faults, path, raw, (*WORKLOAD_KEYS, "privileged"), ("name", "image"))
    if table is None:
        return None
    name = values.host_name(faults, table.at("name"), table.text("name"))
    stack = values.name(faults, table.at("stack"), table.text("stack"), "stack") or known.platform or ""
    user, owner = _read_user(faults, table)
    targets = Targets(faults)
    workload = Workload(
        name=name or "",
        image=_read_image(faults, table, known.images),
        stack=stack,
        target=table.choice("target", TARGETS) or TARGETS[0],
        command=_read_line(faults, table, "command"),
        args=_read_line(faults, table, "args"),
        environment=_read_environment(faults, table),
        user=user,
        workdir=values.directory(faults, table.at("workdir"), table.text("workdir"), "workdir"),
        hostname=values.host_name(faults, table.at("hostname"), table.text("hostname"), dotted=True),
        replicas=_number(table, "replicas", Workload.replicas, 0),
        **_read_resources(faults, table),
        read_only=table.flag("read_only", default=True),
        cap_drop=_read_capabilities(faults, table, "cap_drop", (_ALL,)),
        cap_add=_read_capabilities(faults, table, "cap_add", ()),
        init=table.flag("init", default=True),
        volumes=read_volumes(faults, table, targets, known.data_root),
        tmpfs=read_tmpfs(faults, table, targets),
        secrets=read_secret_uses(faults, table, targets, owner, known.secrets),
        configs=read_configs(faults, table, targets, owner),
        networks=_read_networks(faults, table),
        ports=read_ports(faults, table, known),
        health=_read_health(faults, table),
        stop_seconds=_number(table, "stop_seconds", Workload.stop_seconds, 1),
        update=_read_update(faults, table),
        placement=_read_placement(faults, table),
        labels=_read_labels(faults, table),
        log=table.choice("log", LOGS) or Workload.log,
    )
    if workload.target == "swarm":
        _check_names(faults, table, workload)
        if workload.ports:
            check_room(faults, table, workload.replicas, workload.update, known.nodes)
    return workload if name else None


def _number(table: Table, key: str, default: int, least: int) -> int:
    found = table.number(key, least=least)
    return default if found is None else found


def _check_privileged(faults: Faults, path: str, raw: Any) -> None:
    if isinstance(raw, Mapping) and "privileged" in raw:
        reason = "does not exist here: a privileged container is root on the host"
        faults.add(
            "privileged", f"{path}.privileged", raw["privileged"], reason, "Remove it, and name in cap_add what the program needs, such as NET_BIND_SERVICE"
        )


def _check_names(faults: Faults, table: Table, workload: Workload) -> None:
    full = f"{workload.stack}_{workload.name}"
    if len(full) > SERVICE_NAME_MAX:
        reason = f"makes the service {full!r}, and the engine takes {SERVICE_NAME_MAX} characters for that"
        faults.add("name-long", table.at("name"), workload.name, reason, "Shorten the name or the stack")
    for kind, uses in (("secrets", workload.secrets), ("configs", workload.configs)):
        for index, use in enumerate(uses):
            if len(f"{workload.stack}_{use.name}") > OBJECT_NAME_MAX:
                reason = f"makes an object '{workload.stack}_{use.name}_...', and the engine takes {OBJECT_NAME_MAX} characters before its version"
                faults.add("name-long", f"{table.at(kind)}[{index}]", use.name, reason, "Shorten the name or the stack")


def _read_image(faults: Faults, table: Table, known: Optional[Sequence[str]]) -> str:
    image = table.text("image")
    if image is not None and known is not None and image not in known:
        faults.add("image-unknown", table.at("image"), image, "is no name in platform_container_images", meant(image, known, "images"))
    return image or ""


def _read_line(faults: Faults, table: Table, key: str) -> Optional[tuple[str, ...]]:
    """A command line as a list, one word or more; an argument may be empty."""
    if key not in table.value:
        return None
    path, rows = table.at(key), table.rows(key)
    if table.value[key] == []:
        faults.add("command-empty", path, [], "has no words", "Remove the key to take the image's own")
    return tuple("" if word == "" else as_text(faults, f"{path}[{index}]", word) or "" for index, word in enumerate(rows))


def _read_environment(faults: Faults, table: Table) -> dict[str, str]:
    raw = table.value.get("environment", {})
    items = Table.read(faults, table.at("environment"), raw, tuple(raw) if isinstance(raw, Mapping) else ("<name of the variable>",))
    found: dict[str, str] = {}
    for key, value in items.value.items() if items is not None else ():
        path = f"{table.at('environment')}.{key}"
        if not isinstance(key, str) or not _VARIABLE_NAME.fullmatch(key):
            faults.add("environment-name", path, key, "is no name for a variable", "Use letters, digits and '_', the first no digit")
        elif is_secret_name(key):
            reason = "looks like a secret, and every program that may list containers can read their environment"
            cure = f"Put it into platform_secrets, name it in the workload's secrets, and let the program read the file (many images take {key}_FILE)"
            faults.add("environment-secret", path, HIDDEN, reason, cure)
        else:
            found[key] = "" if value == "" else as_text(faults, path, value) or ""
    return found


def _read_user(faults: Faults, table: Table) -> tuple[Optional[str], Owner]:
    user = table.text("user")
    if user is None:
        return None, Owner()
    if not _USER.fullmatch(user):
        faults.add(
            "user", table.at("user"), user, "is no user of a container", "Write '<user>' or '<user>:<group>', by name or in digits, in quotes: '1000:1000'"
        )
        return None, Owner()
    uid, _colon, gid = user.partition(":")
    return user, Owner(uid if uid.isdecimal() else "0", gid if gid.isdecimal() else "0", user)


def _read_resources(faults: Faults, table: Table) -> dict[str, Any]:
    found: dict[str, Any] = {key: _read_cpus(faults, table, key) for key in ("cpus", "reserve_cpus")}
    found.update({key: table.number(key, least=LEAST_MEMORY_MB) for key in ("memory_mb", "reserve_memory_mb")})
    for key in ("cpus", "memory_mb"):
        limit, reserved = found[key], found[f"reserve_{key}"]
        if limit is not None and reserved is not None and reserved > limit:
            faults.add(
                "reserve", table.at(f"reserve_{key}"), reserved, f"is more than the limit, {key}, which is {limit}", f"Write {limit} or less, or raise {key}"
            )
    return found


def _read_cpus(faults: Faults, table: Table, key: str) -> Optional[float]:
    if key not in table.value:
        return None
    value = table.value[key]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and LEAST_CPUS <= value < float("inf"):
        return value
    faults.add("cpus", table.at(key), value, "is no number of processors", f"Write a number without quotes, {LEAST_CPUS} or more, such as 0.5")
    return None


def _read_capabilities(faults: Faults, table: Table, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    if key not in table.value:
        return default
    found = []
    for index, word in enumerate(table.words(key)):
        path = f"{table.at(key)}[{index}]"
        name = word.upper()[len("CAP_") :] if word.upper().startswith("CAP_") else word.upper()
        if name == _ALL and key == "cap_add":
            faults.add(
                "cap-all", path, word, "is what a privileged container has: root on the host", "Name those that the program needs, such as NET_BIND_SERVICE"
            )
        elif name not in CAPABILITIES and name != _ALL:
            faults.add("capability", path, word, "is no capability of Linux (capabilities(7))", _meant(name))
        elif name in found:
            faults.add("capability-twice", path, word, "is named twice", "Remove one of them")
        else:
            found.append(name)
    return tuple(found)


def _meant(name: str) -> str:
    """The cure for an unknown capability."""
    close = difflib.get_close_matches(name, sorted(CAPABILITIES), n=1)
    return f"Did you mean {close[0]!r}?" if close else "Known capabilities: man 7 capabilities, without CAP_"


def _read_networks(faults: Faults, table: Table) -> tuple[str, ...]:
    if "networks" not in table.value:
        return Workload.networks
    if table.value["networks"] == []:
        reason = "has no network, and could neither be reached nor reach anything"
        faults.add("no-networks", table.at("networks"), [], reason, "Name one, or remove the key for the network 'default' of its stack")
    found: list[str] = []
    for index, word in enumerate(table.words("networks")):
        path = f"{table.at('networks')}[{index}]"
        if word in found:
            faults.add("network-twice", path, word, "is named twice", "Remove one of them")
        elif values.host_name(faults, path, word) is not None:
            found.append(word)
    return tuple(found)


def _read_health(faults: Faults, table: Table) -> Optional[Health]:
    if "health" not in table.value:
        return None
    item = Table.read(faults, table.at("health"), table.value["health"], HEALTH_KEYS, ("command",))
    if item is None:
        return None
    command = _read_line(faults, item, "command") or ()
    if command[:1] and command[0] in _TEST_WORDS:
        reason = "is a word of the engine's own; here the command stands alone, as a list of words"
        faults.add("health-command", f"{item.at('command')}[0]", command[0], reason, "Remove it; for a shell write [sh, -c, '...']")
    return Health(
        command,
        interval_seconds=_number(item, "interval_seconds", Health.interval_seconds, 1),
        timeout_seconds=_number(item, "timeout_seconds", Health.timeout_seconds, 1),
        retries=_number(item, "retries", Health.retries, 1),
        start_seconds=_number(item, "start_seconds", Health.start_seconds, 0),
    )


def _read_update(faults: Faults, table: Table) -> Update:
    item = Table.read(faults, table.at("update"), table.value.get("update", {}), UPDATE_KEYS)
    if item is None:
        return Update()
    update = Update(
        order=item.choice("order", ORDERS) or Update.order,
        parallelism=_number(item, "parallelism", Update.parallelism, 1),
        delay_seconds=_number(item, "delay_seconds", Update.delay_seconds, 0),
        monitor_seconds=_number(item, "monitor_seconds", Update.monitor_seconds, 1),
        max_failure_percent=_number(item, "max_failure_percent", Update.max_failure_percent, 0),
        on_failure=item.choice("on_failure", ON_FAILURE) or Update.on_failure,
        deadline_seconds=_number(item, "deadline_seconds", Update.deadline_seconds, 1),
    )
    if update.max_failure_percent > 100:
        faults.add("percent", item.at("max_failure_percent"), update.max_failure_percent, "is more than all tasks", "Write a percentage from 0 to 100")
    if update.deadline_seconds <= update.monitor_seconds:
        reason = f"ends before the first task has been watched for its {update.monitor_seconds} seconds (monitor_seconds)"
        faults.add("deadline", item.at("deadline_seconds"), update.deadline_seconds, reason, f"Write {update.monitor_seconds * 10} or more")
    return update


def _read_placement(faults: Faults, table: Table) -> tuple[str, ...]:
    found = table.words("placement")
    for index, rule in enumerate(found):
        if not _CONSTRAINT.fullmatch(rule):
            cure = "Write such as 'node.role == manager', 'node.hostname != web1' or 'node.labels.disk == ssd'"
            faults.add("placement", f"{table.at('placement')}[{index}]", rule, "is no rule that Swarm knows", cure)
    return tuple(found)


def _read_labels(faults: Faults, table: Table) -> dict[str, str]:
    raw = table.value.get("labels", {})
    items = Table.read(faults, table.at("labels"), raw, tuple(raw) if isinstance(raw, Mapping) else ("<name of the label>",))
    found: dict[str, str] = {}
    for key, value in items.value.items() if items is not None else ():
        path = f"{table.at('labels')}.{key}"
        if not isinstance(key, str) or key.startswith(_RESERVED_LABELS):
            reason = "is no text" if not isinstance(key, str) else "begins as the labels do that the engine or this collection sets"
            faults.add("label", path, key, reason, "Choose another name, such as 'org.example.team'")
        else:
            found[key] = "" if value == "" else as_text(faults, path, value) or ""
    return found
