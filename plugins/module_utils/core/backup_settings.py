# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings file of the backup tool, its timer and its unit, from the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_backup import read_backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup, BackupService, Dump, Feed
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import full_name

# Kept with each generation to be looked up; site.yml makes them, and a restore leaves them alone.
CONFIGURATION = ("/etc/docker", "/etc/hybridlab")


def parse_backup(raw: Mapping[str, Any], docker: Optional[Docker], workloads: Sequence[Workload]) -> Backup:
    """``platform_backup`` without the rest of the model. Raises ModelError with all findings."""
    faults = Faults()
    backup = read_backup(faults, raw, Context(docker=docker, workloads=tuple(workload.name for workload in workloads)))
    if faults.items or backup is None:
        raise ModelError(faults.items)
    return backup


def settings(backup: Backup, docker: Optional[Docker], workloads: Sequence[Workload]) -> dict[str, Any]:
    """/etc/hybridlab/backup.json, as roles/backup/files/hybridlab_backup/settings.py reads it."""
    known = {workload.name: workload for workload in workloads}
    return {
        "target": backup.target,
        "mount": backup.mount,
        "keep": backup.keep,
        "max_age_days": backup.max_age_days,
        "reserve_bytes": backup.reserve_gb << 30,
        "reserve_percent": backup.reserve_percent,
        "docker": docker is not None,
        "images": backup.images,
        "paths": list(backup.paths),
        "configuration": list(CONFIGURATION),
        "skip": list(backup.skip_volumes),
        "services": [_service(service, known.get(service.workload or ""), backup.skip_volumes) for service in backup.services],
    }


def _service(service: BackupService, workload: Optional[Workload], skipped: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": service.name, "quiesce": service.quiesce, "stop_seconds": service.stop_seconds, "paths": list(service.paths)}
    volumes = service.volumes
    if workload is not None:
        row["swarm"] = full_name(workload.stack, workload.name)
        if volumes is None:
            named = [volume.source for volume in workload.volumes if not volume.source.startswith("/")]
            volumes = tuple(name for name in (full_name(workload.stack, source) for source in named) if name not in skipped)
    if service.container is not None:
        row["container"] = service.container
    dumped = () if service.dump is None else service.dump.volumes
    row["volumes"] = [volume for volume in volumes or () if volume not in dumped]
    row["dumped"] = list(dumped)
    if service.dump is not None:
        row["dump"] = _hook(service.dump)
    if service.restore is not None:
        row["restore"] = {**_hook(service.restore), "ready": list(service.restore.ready)}
    return row


def _hook(hook: Union[Dump, Feed]) -> dict[str, Any]:
    return {"command": list(hook.command), "seconds": hook.timeout_seconds}


def mount_unit(mount: str) -> str:
    """Name of the systemd unit of a mount point (systemd.unit(5), STRING ESCAPING FOR INCLUSION IN UNIT NAMES)."""
    text = re.sub(r"[^A-Za-z0-9:_./]", lambda letter: "".join(f"\\x{byte:02x}" for byte in letter.group().encode()), mount.strip("/"))
    return text.replace("/", "-") + ".mount"
