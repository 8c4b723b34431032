# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mail system as what other nouns describe: images, workloads, and what the backup has to save of it. No I/O."""

from __future__ import annotations

from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_dovecot, mail_postfix, mail_rspamd, mail_web
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail

# An image is built after its base, so in this order; web's parts lean on the others at their start and come last.
PARTS = (mail_dovecot, mail_postfix, mail_rspamd, mail_web)

# What is in mail.directory and cannot be had again. Archives of removed mailboxes are there to be fetched, as long as the disk has room.
# The CA belongs to them: with another one every mail program would have to be told anew.
SAVED = ("mail", "home", "accounts", "passwords", "copies", "dkim", "tls", "ca", "archive")


def images(mail: Mail, root: str) -> list[dict[str, Any]]:
    """Entries of platform_container_images. root: the directory of build contexts, on the machine that runs Ansible."""
    return [image for part in PARTS for image in part.images(mail, root)]


def workloads(mail: Mail) -> list[dict[str, Any]]:
    """Entries of platform_workloads."""
    return [workload for part in PARTS for workload in part.workloads(mail)]


def backup(mail: Mail) -> list[dict[str, Any]]:
    """Entries of platform_backup.services.

    A message is one file that gets its name when it is whole, and SQLite's files are written in transactions: nothing has to stand still for long.
    """
    box: dict[str, Any] = {"name": "mail", "workload": "dovecot", "paths": [f"{mail.directory}/{name}" for name in SAVED], "quiesce": "pause"}
    return [box, *mail_web.backup(mail)]


def skipped_volumes(mail: Mail) -> list[str]:
    """Volumes that hold nothing for longer than a request, and the queue: what waited then has long been delivered, and would be sent once more."""
    return [f"{mail.stack}_{name}" for name in ("dovecot_incoming", "roundcube_temp", "nginx_temp", "queue")]
