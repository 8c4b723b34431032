# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mailctl: the accounts, the queue and the state of the mail host. Exit codes: 0 done; 1 refused or failed, with the reason; 2 wrong arguments."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import Found, Plan, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import derive
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_change import Changer
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_server import Server
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_store import Store

from . import edits, views
from .arguments import parse
from .importing import Import
from .passwords import asked
from .restoring import restore
from .settings import SETTINGS, Settings, load

EDITS: Mapping[str, edits.Edit] = {
    "add": edits.add,
    "name": edits.name,
    "quota": edits.quota,
    "forward": edits.forward,
    "enable": edits.enable,
    "disable": edits.disable,
    "remove": edits.remove,
    "alias add": edits.alias_add,
    "alias set": edits.alias_set,
    "alias remove": edits.alias_remove,
    "group set": edits.group_set,
    "group remove": edits.group_remove,
    "domain set": edits.domain_set,
    "domain remove": edits.domain_remove,
}


class Tool:
    """One call of the command."""

    def __init__(self, settings: Settings, given: Namespace) -> None:
        self.settings = settings
        self.given = given
        self.store = Store(settings.directory)
        # The certificate that whatever runs here has read.
        self.noted = Path(settings.state) / "certificate"
        self.server = Server(settings.stack)
        given.subaddress, given.relays = settings.subaddress, settings.relays
        given.now = datetime.now(timezone.utc).isoformat(timespec="seconds")

    def run(self) -> None:
        action = self.given.action
        if action in EDITS:
            self.edit(EDITS[action])
        elif action == "password":
            self.password()
        elif action == "tidy":
            self.tidy()
        elif action == "reload":
            self.reload()
        elif action == "log":
            argv = views.log_command(self.server, self.given)
            os.execvp(argv[0], argv)
        elif action in ("restore-mailbox", "restore-mail"):
            self.known(self.given.into or self.given.address)
            restore(self.settings, self.server, self.given, _say)
        elif action == "import":
            self.known(self.given.address)
            Import(self.server, self.given, self.settings.state, _say).run()
        else:
            _say(self.view(action))

    def tidy(self) -> None:
        self.told(Changer(self.settings.directory, self.store, self.server).tidy())
        if self.given.running:
            self.store.save_copies()
            if self.certificate() != files.read_text(str(self.noted)):
                self.reload()

    def reload(self) -> None:
        current = self.certificate()
        told = self.server.reload()
        files.write_text(str(self.noted), current, 0o600)
        _say(f"{', '.join(told)}: the certificate is read again" if told else "nothing that has a certificate runs here")

    def certificate(self) -> str:
        """Which certificate is the current one; empty without one."""
        link = Path(self.settings.directory) / "tls" / "current"
        return str(link.readlink()) if link.is_symlink() else ""

    def view(self, action: str) -> str:
        if action == "queue":
            return views.show_queue(self.server, self.given)
        if action == "status":
            return views.status(self.settings, self.server, self.given)
        if action == "dkim show":
            return views.dkim(self.settings, self.given)
        return (views.show_list if action == "list" else views.show_one)(self.store.read(), self.given)

    def edit(self, edit: edits.Edit) -> None:
        given = self.given
        edits.edited(self.store.read().rows, edit, given)  # refused before anybody is asked for a password
        value = asked(given, given.address) if given.action == "add" else None
        passwords = {given.address.lower(): value} if value is not None else {}

        for line in edits.unknown(self.store.read().rows, edits.edited(self.store.read().rows, edit, given)):
            _say(line)

        def make(found: Found) -> Plan:
            return plan(found, derive(edits.edited(found.rows, edit, given)), passwords, removed_mail=getattr(given, "removed_mail", "archive"))

        self.change(make, passwords)
        if given.action == "disable":
            script = views.sieve_script(self.settings.directory, given.address.lower())
            for target in views.redirects(script):
                _say(f"its own Sieve script still sends mail on to {target}. To stop that move it away: {script}")

    def password(self) -> None:
        address = self.known(self.given.address)
        value = asked(self.given, address) or ""
        self.change(lambda found: plan(found, derive(found.rows), (address,), (address,)), {address: value})

    def change(self, make: Callable[[Found], Plan], passwords: Mapping[str, str]) -> None:
        planned, archives = Changer(self.settings.directory, self.store, self.server).change(make, passwords)
        _say("done" if planned.changed else "nothing to change")
        self.told(archives)

    def told(self, archives: Sequence[str]) -> None:
        for path in archives:
            _say(f"mail kept in {path}")

    def known(self, text: str) -> str:
        address = text.lower()
        if (address,) not in self.store.read().rows["mailboxes"]:
            raise ResourceError(f"{text}: found no such mailbox. See: mailctl list")
        return address


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(argv: Optional[Sequence[str]] = None, settings: str = SETTINGS) -> int:
    given = parse(argv)
    try:
        Tool(load(settings), given).run()
    except (ResourceError, OSError) as error:
        sys.stderr.write(f"mailctl: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("mailctl: stopped\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
