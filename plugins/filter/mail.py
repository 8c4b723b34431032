# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that turn ``platform_mail`` into what other parts take. Each is documented in a file of its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_dns as core
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import plain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import certificate_names
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_mail import parse_mail
from ansible_collections.hybridlab.platform.plugins.plugin_utils import secret_values

Rows = Sequence[Mapping[str, Any]]

# The build contexts of the collection.
CONTEXTS = Path(__file__).resolve().parents[2] / "images"


def mail_dns(
    mail: Mapping[str, Any],
    dkim: Optional[Mapping[str, Mapping[str, str]]] = None,
    addresses: Optional[Mapping[str, str]] = None,
    tlsa: Optional[str] = None,
) -> dict[str, Any]:
    found = _read(mail)
    sheet = core.records(found, plain(dkim or {}), plain(addresses or {}), None if tlsa is None else str(tlsa))
    zones = core.zones(found, sheet)
    return {
        "records": core.as_data(sheet),
        "zones": {name: core.zone_text(name, records) for name, records in zones.items()},
        "certificate_names": certificate_names(found),
    }


def mail_settings(mail: Mapping[str, Any]) -> dict[str, Any]:
    complete: dict[str, Any] = plain(asdict(_read(mail)))
    return complete


def with_mail_workloads(workloads: Optional[Rows], mail: Optional[Mapping[str, Any]] = None) -> list[dict[str, Any]]:
    return [*plain(workloads or []), *(mail_platform.workloads(_read(mail)) if mail else [])]


def with_mail_images(images: Optional[Rows], mail: Optional[Mapping[str, Any]] = None) -> list[dict[str, Any]]:
    return [*plain(images or []), *(mail_platform.images(_read(mail), str(CONTEXTS)) if mail else [])]


def with_mail_backup(backup: Mapping[str, Any], mail: Optional[Mapping[str, Any]] = None) -> dict[str, Any]:
    own = plain(backup)
    if not mail:
        return dict(own)
    found = _read(mail)
    return {
        **own,
        "services": [*(own.get("services") or []), *mail_platform.backup(found)],
        "skip_volumes": [*(own.get("skip_volumes") or []), *mail_platform.skipped_volumes(found)],
    }


def mail_secrets(secrets: Optional[Mapping[str, Any]], mail: Mapping[str, Any]) -> dict[str, Any]:
    found = _read(mail)
    first = {box.address: box.password for domain in found.domains for box in domain.mailboxes if box.password is not None}
    key = found.tls.key
    values = secret_values.values(secrets or {}, {*first.values(), *([] if key is None else [key])})
    chain = found.tls.certificate
    return {
        "passwords": json.dumps({address: values[name].decode().rstrip("\n") for address, name in first.items()}),
        "certificate": None if chain is None else secret_values.content("platform_mail.tls.certificate", chain).decode(),
        "private_key": None if key is None else values[key].decode(),
    }


def _read(mail: Mapping[str, Any]) -> Mail:
    try:
        return parse_mail(plain(mail))
    except ModelError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "mail_dns": mail_dns,
            "mail_secrets": mail_secrets,
            "mail_settings": mail_settings,
            "with_mail_backup": with_mail_backup,
            "with_mail_images": with_mail_images,
            "with_mail_workloads": with_mail_workloads,
        }
