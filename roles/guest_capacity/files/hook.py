# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's hook that keeps guests within the host's means, whoever starts them.

libvirt calls it as ``<hook> <guest> <operation> <sub-operation> <extra>`` with the guest's XML on standard input
(libvirt.org/hooks.html). At ``prepare begin``, which comes before each start, restore and incoming migration, an exit code
other than 0 refuses the start; libvirt puts what stands on standard error into the error that the caller sees.

libvirt waits for the hook, so asking libvirt here would never end. What runs is read from libvirt's own status files.
What is being started, and has no status file yet, is known from a note that is kept from ``prepare`` to ``started``.
Whatever cannot be read refuses the start: a limit that nobody checks is none.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

# Longer than any start takes. A note that is older belongs to one of which libvirt has never told us the end.
NOTE_SECONDS = 900

# libvirt cuts an error after this many bytes (VIR_ERROR_MAX_LENGTH of its virerror.c, less the closing NUL). Before our text it names
# the hook, its environment and its arguments, in about as many bytes as the second, without PATH and the guest's name.
ERROR_BYTES = 1023
FRAME_BYTES = 190


@dataclass(frozen=True)
class Places:
    """Where everything is.

    library: directory of capacity.py
    policy:  the limits, as JSON with the keys of capacity.Policy
    off:     while this file is there, nothing is refused
    notes:   directory of the notes about guests that are being started
    status:  directory of libvirt's status files
    proc:    the kernel's
    """

    library: Path = Path("/usr/local/libexec/hybridlab")
    policy: Path = Path("/etc/hybridlab/capacity.json")
    off: Path = Path("/run/hybridlab/capacity.off")
    notes: Path = Path("/run/hybridlab/starting")
    status: Path = Path("/run/libvirt/qemu")
    proc: Path = Path("/proc")


class Refused(Exception):
    """Why the guest may not start, for a person."""


def main(arguments: Sequence[str], xml: str, places: Places) -> int:
    """The exit code; what a person should read is on standard error."""
    guest, operation = arguments[0], arguments[1]
    try:
        if operation == "prepare":
            if not places.off.exists():
                admit(guest, xml, places)
        elif operation in ("started", "stopped", "release"):
            forget(guest, places)
    except Refused as refusal:
        sys.stderr.write(_message(guest, str(refusal), places))
        return 1
    except Exception as error:
        if operation != "prepare":
            # What has happened cannot be refused; the note ends by itself.
            return 0
        sys.stderr.write(_message(guest, f"The means of the host could not be checked: {type(error).__name__}: {error}", places))
        return 1
    return 0


def _message(guest: str, text: str, places: Places) -> str:
    """``text`` and the way out of it, shortened from the end of ``text`` by whole lines so that libvirt does not cut the way out."""
    cure = f"To start it nevertheless: touch {places.off}\n"
    room = ERROR_BYTES - FRAME_BYTES - len(os.environ.get("PATH", "")) - len(f"{guest}{cure}".encode())
    lines = text.splitlines()
    left = len(lines)
    while left > 1 and len("\n".join(lines[:left]).encode()) > room - (len("\n... and 10000 more\n") if left < len(lines) else 0):
        left -= 1
    more = [f"... and {len(lines) - left} more"] if left < len(lines) else []
    return "\n".join(["", *lines[:left], *more, cure])


def admit(guest: str, xml: str, places: Places) -> None:
    """Refused when the guest does not fit beside those that run and those that are being started; else leaves a note about it."""
    capacity = _capacity(places)
    policy = _policy(capacity, places)
    with _lock(places):
        asked = capacity.read_claim(xml, capacity.STARTING)
        running = {claim.name: claim for claim in _running(capacity, places)}
        starting = {claim.name: claim for claim in _starting(capacity, places)}
        others = {**starting, **running}
        others.pop(guest, None)
        verdict = capacity.judge(policy, _means(capacity, places), [asked, *others.values()])
        if not verdict.ok:
            raise Refused("\n".join([f"{guest} does not fit into what the host may give to guests:", verdict.table]))
        _write_note(asked, places)


def forget(guest: str, places: Places) -> None:
    """The guest runs and has a status file, or its start has failed, or it has ended."""
    if places.notes.is_dir():
        with _lock(places):
            _note(guest, places).unlink(missing_ok=True)


def _capacity(places: Places) -> Any:
    sys.path.insert(0, str(places.library))
    try:
        return importlib.import_module("capacity")
    finally:
        sys.path.remove(str(places.library))


def _policy(capacity: Any, places: Places) -> Any:
    try:
        return capacity.read_policy(json.loads(places.policy.read_text(encoding="utf-8")), str(places.policy))
    except OSError as error:
        reason = f"{places.policy}: {error.strerror}"
    except capacity.PolicyError as error:
        reason = str(error)
    except ValueError as error:
        reason = f"{places.policy}: no JSON: {error}"
    raise Refused(f"{reason}\nNo guest is started without the limits: write them again (role guest_capacity does).")


def _means(capacity: Any, places: Places) -> Any:
    return capacity.read_means(*((places.proc / name).read_text(encoding="utf-8") for name in ("cpuinfo", "meminfo")))


def _running(capacity: Any, places: Places) -> Iterator[Any]:
    for path in sorted(places.status.glob("*.xml")):
        try:
            yield capacity.read_claim(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue  # it has just ended
        except ValueError as error:
            raise Refused(f"{path}: {error}\nIt is unknown what that guest takes. Restart libvirt's daemon, which writes the file again.") from None


def _starting(capacity: Any, places: Places) -> Iterator[Any]:
    for path in sorted(places.notes.glob("*.json")):
        note = _read_note(path)
        if note is None or not _is_fresh(note, places):
            path.unlink(missing_ok=True)
        else:
            yield capacity.Claim(note["name"], note["vcpus"], note["memory_kib"], capacity.STARTING)


def _is_fresh(note: Mapping[str, Any], places: Places) -> bool:
    began = _start_time(note["daemon"], places)
    return 0 <= time.time() - note["time"] < NOTE_SECONDS and began is not None and began == note["daemon_since"]


def _read_note(path: Path) -> Optional[dict[str, Any]]:
    """None for one that was not written to its end: its start ended with the daemon that ran the hook."""
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return note


def _write_note(claim: Any, places: Places) -> None:
    daemon = os.getppid()
    note = {
        "name": claim.name,
        "vcpus": claim.vcpus,
        "memory_kib": claim.memory_kib,
        "time": time.time(),
        "daemon": daemon,
        "daemon_since": _start_time(daemon, places),
    }
    path = _note(claim.name, places)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(note), encoding="utf-8")
    scratch.replace(path)


def _note(guest: str, places: Places) -> Path:
    # A guest's name may be longer than a file's, and start with a dot.
    return places.notes / f"{hashlib.sha256(guest.encode()).hexdigest()}.json"


def _start_time(pid: int, places: Places) -> Optional[str]:
    """When the process began, in ticks since the boot (proc(5), field 22 of stat); None when there is no such process."""
    try:
        stat = (places.proc / str(pid) / "stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # The command's name is in parentheses and may hold anything.
    return stat.rpartition(")")[2].split()[19]


@contextmanager
def _lock(places: Places) -> Iterator[None]:
    """One judgement at a time: libvirt starts several guests at once."""
    places.notes.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (places.notes / "lock").open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    # capacity.py stands in a directory that only the package manager and we may fill.
    sys.dont_write_bytecode = True
    # A user's own libvirt calls the same hook; its guests are not among those of the host's.
    sys.exit(main(sys.argv[1:], sys.stdin.read(), Places()) if os.geteuid() == 0 else 0)
