# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail from another IMAP server, by Dovecot's own import, some hundred messages at a time. Each such part comes whole or not at all, and what came is
written down: the same line again goes on after it. Nothing that is here is touched.

Dovecot's synchronisation (doveadm sync -1) would not do: measured, with mail of its own in the folder it fetched messages again at each run, and it
deleted here what was deleted there.

The password goes to the container by standard input, into a file of its memory that only root can read, and is gone with the command.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_server import Server

# Seconds that one part, and that a list of all messages may take.
PART_SECONDS, LIST_SECONDS = 3600.0, 900.0
PART = 500
# What comes by standard input is the configuration; the rest of the line is the command that reads it.
SCRIPT = 'umask 077; conf=$(mktemp /dev/shm/import.XXXXXX) || exit 1; trap "rm -f $conf" EXIT; cat >"$conf" && doveadm -c "$conf" "$@"'
PORTS = {"imaps": 993, "starttls": 143, "no": 143}


class Import:
    """One mailbox of another server into one of this. state: directory for what has come; text: settings that reach the other server."""

    def __init__(self, server: Server, given: Namespace, state: str, say: Callable[[str], None]) -> None:
        if given.tls == "no" and not given.insecure:
            raise ResourceError("--tls no: password and mail would cross the net for everybody to read. Take imaps or starttls, or say --insecure too")
        self.server = server
        self.given = given
        self.say = say
        self.text = configuration(given, _password(given))
        name = hashlib.sha256("\n".join((given.address, given.host, given.user)).encode("utf-8")).hexdigest()[:16]
        self.path = f"{state}/import-{name}.json"
        self.done: dict[str, dict[str, Any]] = json.loads(files.read_text(self.path) or "{}")

    def run(self) -> None:
        """Bring every folder over. ResourceError naming the folders that did not come, after all were tried."""
        folders = self._folders()
        self.say(f"{self.given.host} has {sum(count for count, _validity in folders.values())} messages in {len(folders)} folders")
        failed = []
        for number, (name, (_count, validity)) in enumerate(folders.items(), 1):
            try:
                self._folder(f"{number}/{len(folders)} {name}", name, validity)
            except ResourceError as error:
                self.say(f"{number}/{len(folders)} {name}: {error}")
                failed.append(name)
        if failed:
            cure = "Run the same line again: it goes on after what has come"
            raise ResourceError(f"{len(failed)} of {len(folders)} folders did not come whole: {', '.join(failed)}. {cure}")

    def _folder(self, line: str, name: str, validity: str) -> None:
        done = self.done.setdefault(name, {"validity": validity, "last": 0, "begun": None})
        if done["validity"] != validity:
            raise ResourceError(
                f"the other server has numbered its messages anew, so nobody can tell which have come. To fetch all of them again remove {self.path}"
            )
        uids = [uid for uid in self._uids(name, f"{done['last'] + 1}:*") if uid > done["last"]]
        if done["begun"] and self._has_come(name, [uid for uid in uids if uid <= done["begun"]]):
            self._note(done, last=done["begun"], begun=None)
            uids = [uid for uid in uids if uid > done["last"]]
        for start in range(0, len(uids), PART):
            part = uids[start : start + PART]
            self.say(f"{line}: {start} of {len(uids)} ...")
            self._note(done, begun=part[-1])
            self._doveadm(["import", "-u", self.given.address, "imapc:", "", "mailbox", name, "uid", f"{part[0]}:{part[-1]}"], PART_SECONDS)
            self._note(done, last=part[-1], begun=None)
        self.say(f"{line}: {len(uids)} new messages")

    def _has_come(self, name: str, uids: Sequence[int]) -> bool:
        """Whether a part whose end was never written down is here: by the first of its messages that has a Message-ID."""
        for uid in uids:
            shown = self._doveadm(
                ["-o", "mail_location=imapc:", "-f", "tab", "fetch", "-u", self.given.address, "hdr.message-id", "mailbox", name, "uid", str(uid)]
            )
            ids = [row for row in shown.splitlines()[1:] if row.strip()]
            if ids:
                search = ["doveadm", "search", "-u", self.given.address, "mailbox", name, "header", "Message-ID", ids[0].strip()]
                return bool(self.server.execute("dovecot", search, seconds=LIST_SECONDS).strip())
        return False

    def _note(self, done: dict[str, Any], **values: Any) -> None:
        done.update(values)
        files.write_text(self.path, json.dumps(self.done, indent=1), 0o600)

    def _folders(self) -> dict[str, tuple[int, str]]:
        """Folders of the other server, INBOX first: how many messages, and its UIDVALIDITY."""
        out = self._doveadm(["-o", "mail_location=imapc:", "-f", "tab", "mailbox", "status", "-u", self.given.address, "messages uidvalidity", "*"])
        found = {}
        for row in out.splitlines()[1:]:
            name, count, validity = row.rsplit("\t", 2)
            if name not in self.given.skip and (not self.given.folder or name in self.given.folder):
                found[name] = (int(count), validity)
        if not found:
            raise ResourceError(f"{self.given.host}: found no folder to bring over")
        return {name: found[name] for name in sorted(found, key=lambda name: (name != "INBOX", name))}

    def _uids(self, name: str, span: str) -> list[int]:
        out = self._doveadm(["-o", "mail_location=imapc:", "search", "-u", self.given.address, "mailbox", name, "uid", span])
        return sorted(int(row.split()[1]) for row in out.splitlines() if row.strip())

    def _doveadm(self, argv: Sequence[str], seconds: float = LIST_SECONDS) -> str:
        return self.server.execute("dovecot", ["sh", "-c", SCRIPT, "sh", *argv], self.text, seconds)


def configuration(given: Namespace, password: str) -> str:
    """Settings of Dovecot for a command that reads the other server, dovecot.conf(5)."""
    settings = {
        "imapc_host": given.host,
        "imapc_port": str(given.port or PORTS[given.tls]),
        "imapc_user": given.user,
        "imapc_password": password,
        "imapc_ssl": given.tls,
        "imapc_ssl_verify": "no" if given.insecure else "yes",
        "imapc_features": "rfc822.size fetch-headers",
        "ssl_client_ca_file": given.ca,
        "mail_prefetch_count": "20",
    }
    return "!include /etc/dovecot/dovecot.conf\n" + "".join(f"{key} = {_quoted(value)}\n" for key, value in settings.items())


def _quoted(value: str) -> str:
    if any(ord(letter) < 32 for letter in value):
        raise ResourceError("found a control character in the name of the server or user, or in the password")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _password(given: Namespace) -> str:
    if given.password_file:
        lines = Path(given.password_file).read_text(encoding="utf-8").splitlines()
    elif sys.stdin.isatty():
        lines = [getpass.getpass(f"Password of {given.user} at {given.host}: ")]
    else:
        lines = [sys.stdin.readline().rstrip("\r\n")]
    if not lines or not lines[0]:
        raise ResourceError("found no password of the other server. Give it at the prompt, on standard input, or as --password-file")
    return lines[0]
