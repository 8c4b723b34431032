# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the host beside its guests: the nouns that may be left out, each read with what it may refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_backup import check_nights, read_backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_docker import read_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail import read_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_monitoring import read_monitoring
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_security import read_security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_workloads import read_container_images, read_secrets, read_workloads
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_services import Services
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Workload

SERVICE_KEYS = (
    "platform_secrets",
    "platform_docker",
    "platform_container_images",
    "platform_workloads",
    "platform_security",
    "platform_backup",
    "platform_monitoring",
    "platform_mail",
)


def read_services(faults: Faults, table: Table, context: Context) -> Services:
    """The nouns of SERVICE_KEYS. A noun without a value, or with null, is not built."""

    def given(key: str, read: Callable[[Faults, Any, Context], Any], other: Any = None) -> Any:
        raw = table.value.get(key)
        return other if raw is None else read(faults, raw, context)

    secrets = given("platform_secrets", read_secrets, [])
    docker = given("platform_docker", read_docker)
    context = replace(context, secrets=tuple(secret.name for secret in secrets), docker=docker)
    images = given("platform_container_images", read_container_images, [])
    context = replace(context, images=tuple(image.name for image in images))
    workloads = given("platform_workloads", read_workloads, [])
    context = replace(context, workloads=tuple(workload.name for workload in workloads), published=_published(workloads))
    with_mail = table.value.get("platform_mail") is not None
    security = given("platform_security", partial(read_security, mail=with_mail))
    _check_users(faults, docker, security)
    backup = given("platform_backup", read_backup)
    if backup is not None and security is not None and not any(item.path.startswith("platform_security.updates") for item in faults.items):
        check_nights(faults, backup, security.updates)
    mail = given("platform_mail", read_mail)
    _check_saved(faults, backup, mail)
    return Services(
        secrets=tuple(secrets),
        docker=docker,
        images=tuple(images),
        workloads=(*workloads, *_mail_workloads(faults, mail, context)),
        security=security,
        backup=backup,
        monitoring=given("platform_monitoring", read_monitoring),
        mail=mail,
    )


def _mail_workloads(faults: Faults, mail: Optional[Mail], context: Context) -> list[Workload]:
    """Those that the mail system is made of, under the same rules as any other; names are taken once."""
    if mail is None:
        return []
    entries = mail_platform.workloads(mail)
    taken = [entry["name"] for entry in entries if entry["name"] in context.workloads]
    for name in taken:
        faults.add("mail-workload", f"platform_workloads[{name}].name", name, "is the name of a part of platform_mail", "Give the workload another name")
    images = tuple(image["name"] for image in mail_platform.images(mail, "/"))
    secrets = tuple(dict.fromkeys(use if isinstance(use, str) else use["name"] for entry in entries for use in entry.get("secrets", ())))
    if not any(item.path.startswith("platform_secrets") for item in faults.items):
        for name in secrets:
            if name not in context.secrets:
                reason = "is used by a part of platform_mail, and is no name in platform_secrets"
                faults.add("secret-unknown", f"platform_secrets.{name}", None, reason, "Add it, with a long random value; docs/mail.md shows how")
    return [] if taken else read_workloads(faults, entries, replace(context, images=images, secrets=secrets))


def _check_saved(faults: Faults, backup: Optional[Backup], mail: Optional[Mail]) -> None:
    """The mail system is saved by services of its own: none is named as they are, and nothing of it is saved twice."""
    if backup is None or mail is None:
        return
    own = [entry["name"] for entry in mail_platform.backup(mail)]
    for service in backup.services:
        path = f"platform_backup.services[{service.name}]"
        if service.name in own:
            faults.add("backup-mail", f"{path}.name", service.name, "is the name of a part of platform_mail, which is saved by itself", "Give it another name")
        _check_paths(faults, path, service.paths, mail)
    _check_paths(faults, "platform_backup", backup.paths, mail)


def _check_paths(faults: Faults, owner: str, paths: Sequence[str], mail: Mail) -> None:
    for index, path in enumerate(paths):
        if f"{path}/".startswith(f"{mail.directory}/") or f"{mail.directory}/".startswith(f"{path}/"):
            reason = f"and platform_mail.directory ({mail.directory}) lie in one another, and that is saved by itself: it would be twice"
            faults.add("backup-mail", f"{owner}.paths[{index}]", path, reason, "Remove it, or name directories beside it")


def _published(workloads: Sequence[Workload]) -> dict[int, str]:
    """TCP ports of the host and where each is set."""
    return {
        port.published: f"platform_workloads[{workload.name}].ports[{index}]"
        for workload in workloads
        if workload.target == "swarm"
        for index, port in enumerate(workload.ports)
        if port.protocol == "tcp"
    }


def _check_users(faults: Faults, docker: Optional[Docker], security: Optional[Security]) -> None:
    """Who may use the engine is root on the host: nobody whose account and keys stand nowhere."""
    if docker is None or security is None or any(finding.path.startswith("platform_security.accounts") for finding in faults.items):
        return
    names = [account.name for account in security.accounts]
    for index, user in enumerate(docker.users):
        if user not in names:
            cure = f"Declare it there, or remove it here. {meant(user, names, 'accounts')}"
            faults.add("docker-user-account", f"platform_docker.users[{index}]", user, "is none of platform_security.accounts", cure)
