# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hybridlab-backup``: verbs, exit codes, what a person reads."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from calendar import timegm
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, Optional

from . import manifest
from .engine import Docker
from .errors import DIFFERENT, FAILED, BackupError, Ended, Incomplete, Locked, Refused, UsageError
from .gaps import concerned
from .generations import Generations, gaps_of
from .holding import RUN, Holder
from .journal import Log, Status, human, stamp, table
from .restoring import Restorer, shown
from .saving import Saver
from .settings import SETTINGS, Settings, load

CODES = """exit codes:
  0  done, or all is well
  1  begun and failed, or a generation was made that lacks something; for status: the last good backup is too old
  2  wrong arguments or settings
  3  refused before anything was changed: no disk, no room, something would be lost
  4  another run holds the lock
  5  done, and what is there differs from the manifest
"""


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="hybridlab-backup", epilog=CODES, formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("--settings", type=Path, default=SETTINGS, help="(default: %(default)s)")
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("run", help="make a generation now")
    verbs.add_parser("list", help="the generations on the disk")
    verbs.add_parser("status", help="the last run, and whether the last good one is recent enough")
    verify = verbs.add_parser("verify", help="read a generation and compare it with its manifest")
    verify.add_argument("generation", nargs="?", default="latest", help="its name in list (default: %(default)s)")
    gone = verbs.add_parser("remove", help="remove a generation from the disk")
    gone.add_argument("generation", metavar="NAME", help="its name in list")
    gone.add_argument("--force", action="store_true", help="also the last good one")
    restore = verbs.add_parser("restore", help="bring a generation back")
    restore.add_argument("--generation", default="latest", help="its name in list (default: %(default)s, the newest that has all that is asked for)")
    what = restore.add_mutually_exclusive_group(required=True)
    what.add_argument("--service", action="append", metavar="NAME", help="a service of platform_backup (repeatable)")
    what.add_argument("--all", action="store_true", help="all services, all other volumes and paths, images")
    restore.add_argument("--to", type=Path, metavar="DIR", help="into an empty directory; the host's services are left alone")
    restore.add_argument("--force", action="store_true", help="replace what volumes and directories hold now")
    restore.add_argument("--check", action="store_true", help="only show what would be done")
    release = verbs.add_parser("release", help="let containers go that a killed run or restore left paused or stopped")
    release.add_argument("--after-run", action="store_true", help="what the unit does when its run has ended, however it ended")
    return root


def main(argv: Optional[Sequence[str]] = None) -> int:
    arguments = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        if os.geteuid() != 0:
            raise Refused("only root can read and write files of every owner. Use: sudo hybridlab-backup ...")
        return int(globals()[f"_{arguments.verb}"](arguments, load(arguments.settings)))
    except BackupError as error:
        print(f"hybridlab-backup: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"hybridlab-backup: {error}", file=sys.stderr)
        return FAILED


def _end(number: int, _frame: Optional[FrameType]) -> NoReturn:
    raise Ended(f"ended by {signal.Signals(number).name}")


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """One run or restore at a time. The kernel lets the lock go with the process."""
    settings.place.lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(settings.place.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"{settings.place.lock}: another run or restore is at work. Wait for its end (journalctl -fu hybridlab-backup)") from None
        yield
    finally:
        os.close(handle)


def _docker(settings: Settings) -> Optional[Docker]:
    return Docker() if settings.docker else None


def _run(_arguments: argparse.Namespace, settings: Settings) -> int:
    with locked(settings):
        log = Log(settings.place.logs / f"backup-{stamp()}.log")
        status = Status(settings.place.state)
        status.begin()
        try:
            made = Saver(settings, _docker(settings), log).run()
            whole = {service.name: not concerned(made.gaps, [service.name]) for service in settings.services}
            lacking = "; ".join(str(gap) for gap in made.gaps)
            status.made(made.generation, made.size, made.files, whole, f"generation {made.generation.name} lacks {lacking}" if lacking else None)
        except (BackupError, OSError) as error:
            log.say(f"failed: {error}")
            status.fail(str(error))
            raise
        finally:
            log.close()
        if lacking:
            raise Incomplete(f"generation {made.generation.name} holds all but this: {lacking}")
    return 0


def _list(_arguments: argparse.Namespace, settings: Settings) -> int:
    rows = []
    for path in Generations(settings.target).whole():
        try:
            header = manifest.read_header(path / manifest.NAME)
            lacking = ", ".join(gap.name for gap in gaps_of(path) or ()) or "-"
            rows.append((path.name, header["host"], str(header["files"]), human(header["bytes"]), ", ".join(header["dumps"]) or "-", lacking))
        except (OSError, ValueError, KeyError):
            rows.append((path.name, "?", "?", "?", "?", "its manifest can't be read"))
    print(table(("generation", "host", "files", "size", "dumps", "lacks"), rows))
    return 0


def _remove(arguments: argparse.Namespace, settings: Settings) -> int:
    with locked(settings):
        known = Generations(settings.target)
        if arguments.generation not in [path.name for path in known.whole()]:
            raise UsageError(f"generation {arguments.generation!r}: there is no such one. See: hybridlab-backup list")
        path, good = known.find(arguments.generation), known.last_good()
        if path == (good or known.last()) and not arguments.force:
            raise Refused(f"generation {path.name}: is the last good one. Make another first (hybridlab-backup run), or add --force")
        known.discard(path)
        if path == good:
            before = known.last_good()
            Status(settings.place.state).forget(None if before is None else str(manifest.read_header(before / manifest.NAME)["finished"]))
    print(f"generation {path.name}: removed")
    return 0


def _status(_arguments: argparse.Namespace, settings: Settings) -> int:
    found = Status(settings.place.state).read()
    print(json.dumps(found, indent=1))
    last = found.get("last_good")
    if last is None:
        print("no run has succeeded on this host yet")
        return FAILED
    days = (time.time() - timegm(time.strptime(last, "%Y-%m-%dT%H:%M:%SZ"))) / 86400
    late = days > settings.max_age_days
    print(f"the last good one is {days:.1f} days old, {'more than the' if late else 'of'} {settings.max_age_days} that are allowed")
    return FAILED if late else 0


def _verify(arguments: argparse.Namespace, settings: Settings) -> int:
    path = Generations(settings.target).find(arguments.generation)
    wanted = manifest.read(path / manifest.NAME)
    rows = manifest.compare(wanted.entries, manifest.scan_generation(path))
    for name, words in rows:
        print(f"{name!r} {words}")
    print(f"generation {path.name}: {wanted.files} files, {human(wanted.size)}, {len(rows)} differences")
    return DIFFERENT if rows else 0


def _restore(arguments: argparse.Namespace, settings: Settings) -> int:
    services = None if arguments.all else [settings.service(name) for name in arguments.service]
    log = Log(None if arguments.check else settings.place.logs / f"restore-{stamp()}.log")
    restorer = Restorer(settings, _docker(settings), log, arguments.generation, services)
    if arguments.check:
        log.say(shown(restorer.planned(services)))
        return 0
    with locked(settings):
        rows = restorer.in_place(services, arguments.force) if arguments.to is None else restorer.to_directory(services, arguments.to)
    log.say(shown(rows))
    log.close()
    return DIFFERENT if any(row.differences for row in rows) else 0


def _release(arguments: argparse.Namespace, settings: Settings) -> int:
    log = Log(None)
    try:
        with locked(settings):
            docker = _docker(settings)
            holder = None if docker is None else Holder(docker, settings.place.state, RUN, log)
            note = None if holder is None else holder.note()
            if holder is not None and note is not None and (note.by == RUN or not arguments.after_run):
                holder.release()
            status = Status(settings.place.state)
            found = status.read()
            if arguments.after_run and found and found.get("finished") is None:
                status.fail("the run was ended before its end; the next one builds on what it copied")
    except Locked:
        # Who holds the lock now also holds its own containers, and lets them go.
        if not arguments.after_run:
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
