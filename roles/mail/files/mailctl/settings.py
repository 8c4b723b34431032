# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role has written down for the tool."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

SETTINGS = "/etc/hybridlab/mail.json"
BACKUP = "/etc/hybridlab/backup.json"


@dataclass(frozen=True)
class Settings:
    """directory: platform_mail.directory; stack: of the workloads; hostname: of the mail host;
    relays: next hops of the model's relays;
    subaddress: the character before a detail; antivirus: whether mail is scanned for viruses; state: directory for what the tool notes down."""

    directory: str
    stack: str = "mail"
    hostname: str = ""
    subaddress: Optional[str] = "+"
    antivirus: bool = True
    relays: tuple[str, ...] = ()
    state: str = "/var/lib/hybridlab/mail"


def load(path: str = SETTINGS) -> Settings:
    """ResourceError where the role has not been here yet."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResourceError(f"{path}: there is no such file. Run playbooks/mail.yml first") from error
    return Settings(**{**raw, "relays": tuple(raw.get("relays", ()))})


def backup_target(path: str = BACKUP) -> str:
    """Where the backup's generations lie. ResourceError without a backup."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResourceError(f"{path}: there is no such file, so there is no backup. Name the generation's whole path, or run playbooks/backup.yml") from error
    return str(raw["target"])
