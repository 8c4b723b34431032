# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/hybridlab/monitoring.json as typed values. It holds the webhooks' URLs, which are secrets: only root may read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from .model import Limits

SETTINGS = "/etc/hybridlab/monitoring.json"
STATE = "/var/lib/hybridlab"

# warning, critical; for days left of a certificate less is worse.
THRESHOLDS = {
    "backup_age_days": (8, 8),
    "certificate_days": (30, 7),
    "container_memory_percent": (90, 98),
    "disk_percent": (80, 90),
    "docker_reclaimable_gb": (50, 200),
    "inodes_percent": (80, 90),
    "journal_errors": (20, 200),
    "journal_mb": (2048, 4096),
    "load_per_core": (2, 4),
    "logrotate_age_days": (2, 8),
    "mail_queue_minutes": (60, 1440),
    "memory_percent": (70, 90),
    "pool_percent": (80, 90),
    "security_updates": (1, 20),
    "selinux_denials": (1, 50),
    "signature_age_days": (3, 14),
    "ssh_failures": (30, 300),
    "update_age_days": (8, 15),
}
KINDS = ("discord", "generic")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SettingsError(Exception):
    """The settings can't be used; the message never holds a URL."""


@dataclass(frozen=True)
class Webhook:
    """url: a secret: whoever knows it may write as us."""

    name: str
    kind: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """platform, host: what a message says where it comes from
    expect:     parts of the platform that this host has, such as docker, swarm, libvirt, fail2ban, backup, updates, selinux; what it has not is not looked for
    units:      units that shall be active; tables: tables of nftables that shall be loaded; guests: that shall run; jails: of fail2ban
    packages:   apt or dnf
    thresholds: by name, all of THRESHOLDS
    """

    platform: str = "platform"
    host: str = "host"
    expect: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    jails: tuple[str, ...] = ()
    update_units: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    packages: str = "apt"
    logrotate_state: str = "/var/lib/logrotate/status"
    thresholds: Mapping[str, Limits] = field(default_factory=lambda: {name: Limits(*pair) for name, pair in THRESHOLDS.items()})
    webhooks: tuple[Webhook, ...] = ()
    mail_to: Optional[str] = None
    mail_from: Optional[str] = None
    state: str = STATE


def load(path: str = SETTINGS) -> Settings:
    """Raises SettingsError when the file is missing, no JSON, or wrong in a value."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist: run playbooks/monitoring.yml, which writes it") from None
    except PermissionError:
        raise SettingsError(f"{path} may be read by root only: run this as root") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} can't be read: {type(error).__name__}. Write it anew by playbooks/monitoring.yml") from None
    try:
        return parse(raw)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def parse(raw: Any) -> Settings:
    """Raises SettingsError that names the key."""
    if not isinstance(raw, Mapping):
        raise SettingsError("is no JSON object")
    known = Settings.__dataclass_fields__
    strange = sorted(set(raw) - set(known))
    if strange:
        raise SettingsError(f"{strange[0]}: there is no such key. Known: {', '.join(known)}")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key == "thresholds":
            values[key] = _thresholds(value)
        elif key == "webhooks":
            values[key] = _webhooks(value)
        elif isinstance(known[key].default, tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise SettingsError(f"{key}: must be a list of texts")
            values[key] = tuple(value)
        elif value is not None and not isinstance(value, str):
            raise SettingsError(f"{key}: must be a text")
        else:
            values[key] = value
    return Settings(**values)


def _thresholds(raw: Any) -> dict[str, Limits]:
    found = {name: Limits(*pair) for name, pair in THRESHOLDS.items()}
    if not isinstance(raw, Mapping):
        raise SettingsError("thresholds: must be an object")
    for name, pair in raw.items():
        if name not in found:
            raise SettingsError(f"thresholds.{name}: there is no such threshold. Known: {', '.join(THRESHOLDS)}")
        if not isinstance(pair, Mapping) or not all(isinstance(value, (int, float)) for value in pair.values()) or set(pair) - {"warning", "critical"}:
            raise SettingsError(f"thresholds.{name}: must be an object of the numbers warning and critical")
        found[name] = Limits(pair.get("warning", found[name].warning), pair.get("critical", found[name].critical))
    return found


def _webhooks(raw: Any) -> tuple[Webhook, ...]:
    if not isinstance(raw, list):
        raise SettingsError("webhooks: must be a list")
    found = []
    for index, row in enumerate(raw):
        if not isinstance(row, Mapping) or not all(isinstance(row.get(key), str) for key in ("name", "kind", "url")):
            raise SettingsError(f"webhooks[{index}]: must be an object of the texts name, kind and url")
        if row["kind"] not in KINDS:
            raise SettingsError(f"webhooks[{row['name']}].kind: found {row['kind']!r}. Write one of {', '.join(KINDS)}")
        found.append(Webhook(row["name"], row["kind"], url_of(row["name"], row["url"])))
    return tuple(found)


def url_of(name: str, url: str) -> str:
    """``url`` without white space around it. SettingsError, which does not hold it, when nothing can or must be sent to it."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or any(letter.isspace() or not letter.isprintable() or ord(letter) > 126 for letter in url):
        raise SettingsError(f"webhooks[{name}].url: the secret is no web address (its value is not shown). Give https://<server>/<path>")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        reason = "the secret would cross the network in clear text" if parts.scheme == "http" else "only https can be sent to"
        raise SettingsError(f"webhooks[{name}].url: {reason} (its value is not shown). Give an address that begins with https://")
    return url
