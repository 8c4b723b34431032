# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the mail accounts with all that belongs to it: hashes before it, ended sessions and archives after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import Found, Plan
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_declared import DeclaredPasswords
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_files import put_away
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_server import Server
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_store import Store


class Changer:
    """What changes the accounts below ``root``."""

    def __init__(self, root: str, store: Store, server: Server) -> None:
        self.root = root
        self.store = store
        self.server = server

    def change(self, make: Callable[[Found], Plan], passwords: Mapping[str, str], record: Optional[DeclaredPasswords] = None) -> tuple[Plan, list[str]]:
        """Do what ``make`` plans. Returns the plan and the archives that were made.

        passwords: by address, in clear or hashed; those of plan.new_passwords are needed
        """
        archives = self.tidy()  # first: an address that comes back must not lose its new mail to its old removal
        now = datetime.now(timezone.utc)
        stored_at = now.isoformat()
        planned = self.store.change(make, lambda plan: self.server.hashes({address: passwords[address] for address in plan.new_passwords}), stored_at)
        if record is not None and planned.new_passwords:
            record.remember({address: passwords[address] for address in planned.new_passwords}, stored_at)
        for address in planned.shut:
            if not self.server.end_sessions(address):
                break
        return planned, [*archives, *self.tidy()]

    def tidy(self) -> list[str]:
        """Put away the files of removed mailboxes. Returns the archives."""
        archives = []
        for (address,), (_address, how) in sorted(self.store.read().rows["removals"].items()):
            made = put_away(self.root, address, how, datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ"))
            self.store.finish_removal(address)
            archives += [made] if made else []
        return archives
