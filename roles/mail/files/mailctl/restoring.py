# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail back from a generation of the backup, into the running server: as new messages, so that no mail that is there is touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_server import Server

from .settings import Settings, backup_target

# The user of all mailboxes in the containers, and where they see platform_mail.directory/mail.
VMAIL = 5000
IN_CONTAINER = "/srv/mail/mail"
# No domain is called like this.
STAGE = ".restore"
HOURS = 12 * 3600.0


def restore(settings: Settings, server: Server, given: Namespace, say: Callable[[str], None]) -> None:
    """Copy the mailbox of the generation to where Dovecot sees it, and have it imported. ResourceError where there is nothing to restore."""
    generation = _generation(given.generation)
    source = _source(generation, settings.directory, given.address)
    into = given.into or given.address
    query = _query(given)
    server.running("dovecot")
    stage = Path(settings.directory) / "mail" / STAGE
    # A colon, which a generation has in its name, would end the path in a mail_location.
    copy = stage / "mailbox"
    folder = "" if given.in_place else (given.folder or f"Restored {generation.name}")
    say(f"{given.address} of {source}, into {into}, {'in place' if given.in_place else f'below the folder {folder!r}'}")
    with _alone(Path(settings.state) / "restore.lock"):
        try:
            _copy(source, copy, stage)
            before = _count(server, into)
            server.execute("dovecot", ["doveadm", "import", "-u", into, f"maildir:{IN_CONTAINER}/{STAGE}/{copy.name}", folder, *query], seconds=HOURS)
            made = _count(server, into) - before
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    if made == 0:
        raise ResourceError("not one message was restored: none of the generation fits the question. See: mailctl restore-mail --help")
    say(f"{made} messages are back")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One restore at a time: the place that Dovecot reads from is one."""
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResourceError("another restore is at work. Run this line again when that has ended") from error
        yield


def generations() -> list[Path]:
    """Newest last."""
    target = Path(backup_target())
    return sorted(path for path in target.iterdir() if (path / "manifest.jsonl").is_file() and not path.name.endswith(".partial"))


def _generation(name: str) -> Path:
    if "/" in name:
        return Path(name)
    known = generations()
    found = known[-1:] if name == "latest" else [path for path in known if path.name == name]
    if not found:
        raise ResourceError(f"{name}: found no such generation in {backup_target()}. There are: {', '.join(path.name for path in known) or 'none'}")
    return found[0]


def _source(generation: Path, directory: str, address: str) -> Path:
    local, _at, domain = address.rpartition("@")
    if not local or "/" in address or local.startswith("."):
        raise ResourceError(f"{address}: is no mailbox's address")
    source = generation / "files" / directory.strip("/") / "mail" / domain / local
    if not source.is_dir():
        raise ResourceError(f"{source}: there is no such directory: the generation has no mail of {address}. Others: hybridlab-backup list")
    return source


def _query(given: Namespace) -> list[str]:
    """A search of doveadm-search-query(7)."""
    asked = {"header Message-ID": given.message_id, "subject": given.subject, "from": given.sender, "since": given.since, "before": given.before}
    words = [[*key.split(), value] for key, value in asked.items() if value]
    return [word for part in words for word in part] or ["ALL"]


def _copy(source: Path, copy: Path, stage: Path) -> None:
    """The generation itself is never handed out: Dovecot writes indexes beside the mail."""
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700, parents=True)
    done = subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(copy)], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise ResourceError(f"cp of {source} failed: {done.stderr.strip()[-500:]}. See: df {stage}")
    for path in (stage, *stage.rglob("*")):
        os.lchown(path, VMAIL, VMAIL)


def _count(server: Server, address: str) -> int:
    out = server.execute("dovecot", ["doveadm", "-f", "tab", "mailbox", "status", "-u", address, "-t", "messages", "*"], seconds=600)
    return int(out.split()[-1])
