# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what a plan of named points says, with a bound on the time of each step."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.points import KEY, NAMESPACE, Point, repoint, write_points
from ansible_collections.hybridlab.platform.plugins.module_utils.core.points_ops import (
    AbortJob,
    BlockCommit,
    Commit,
    Delete,
    Freeze,
    Keep,
    Operation,
    Overlay,
    Rebase,
    Record,
    Repoint,
    Snapshot,
    Start,
    Stop,
    Thaw,
    argv,
    snapshot_xml,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Backup
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guest_agent import AgentRefused, AgentSilent, fsfreeze, fsthaw
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import errors, keep_definition

try:
    import libvirt
except ImportError:
    libvirt = None

_POLL = 0.2  # seconds between two looks at a merge


@dataclass
class Applier:
    """One run.

    agent_seconds, merge_seconds: bounds for a freeze and for each merge
    backups: files that were written; notes: what went otherwise than planned, for warnings
    """

    conn: Any
    backup_dir: str
    agent_seconds: int
    merge_seconds: int
    backups: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _taken: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    _frozen: list[str] = field(default_factory=list)
    _crashed: set[str] = field(default_factory=set)

    def run(self, operations: Sequence[Operation]) -> None:
        """ResourceError says where it ended; the guests are thawed in any case."""
        try:
            for position, operation in enumerate(operations):
                try:
                    with errors():
                        self._apply(operation)
                except ResourceError as error:
                    where = f"step {position + 1} of {len(operations)}, {_words(operation)}"
                    raise ResourceError(f"{where}: {error}. Repair the cause and run again: the run goes on from here.", backups=self.backups) from None
        finally:
            for guest in list(self._frozen):
                self._thaw(guest)

    def _apply(self, operation: Operation) -> None:
        steps: dict[type[Any], Callable[[Any], None]] = {
            Freeze: self._freeze,
            Thaw: lambda thaw: self._thaw(thaw.guest),
            AbortJob: lambda job: self._domain(job.guest).blockJobAbort(job.target, 0),
            Snapshot: self._snapshot,
            Overlay: self._overlay,
            Commit: lambda merge: _qemu_img(merge, self.merge_seconds),
            Rebase: lambda rebase: _qemu_img(rebase, self.agent_seconds),
            BlockCommit: self._block_commit,
            Repoint: self._repoint,
            Record: self._record,
            Keep: lambda keep: self.backups.append(keep_definition(Backup(keep.guest, keep.xml), self.backup_dir)),
            Stop: self._stop,
            Start: self._start,
            Delete: lambda file: Path(file.path).unlink(missing_ok=True),
        }
        try:
            steps[type(operation)](operation)
        except OSError as error:
            raise ResourceError(f"{error.filename}: {error.strerror}") from None

    def _domain(self, guest: str) -> Any:
        return self.conn.lookupByName(guest)

    def _freeze(self, freeze: Freeze) -> None:
        domain = self._domain(freeze.guest)
        self._frozen.append(freeze.guest)
        try:
            fsfreeze(domain, timeout=self.agent_seconds)
        except (AgentSilent, AgentRefused) as error:
            self._crashed.add(freeze.guest)
            self.notes.append(f"guest {freeze.guest}: its file systems were not frozen, so its point is as after a power failure: {error}")
            self._thaw(freeze.guest)

    def _thaw(self, guest: str) -> None:
        try:
            fsthaw(self._domain(guest), timeout=self.agent_seconds)
        except (AgentSilent, AgentRefused) as error:
            # A guest that was never frozen has no need of it; of the other the reader must know.
            if guest not in self._crashed:
                self.notes.append(f"guest {guest}: not thawed, so it may stand still: {error} `virsh domfsthaw {guest}` thaws it, or a restart does.")
        if guest in self._frozen:
            self._frozen.remove(guest)

    def _snapshot(self, snapshot: Snapshot) -> None:
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        self._domain(snapshot.guest).snapshotCreateXML(snapshot_xml(snapshot), flags)

    def _overlay(self, overlay: Overlay) -> None:
        # The content is the guest's; libvirt gives the file to QEMU's user while the guest runs.
        os.close(os.open(overlay.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _qemu_img(overlay, self.agent_seconds)

    def _block_commit(self, merge: BlockCommit) -> None:
        domain = self._domain(merge.guest)
        flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if merge.active else 0
        domain.blockCommit(merge.target, merge.base, None if merge.active else merge.top, 0, flags)
        deadline = time.monotonic() + self.merge_seconds
        while not _is_ready(domain, merge):
            if time.monotonic() >= deadline:
                domain.blockJobAbort(merge.target, 0)
                raise ResourceError(f"the merge did not end within {self.merge_seconds} s (merge_seconds) and was ended; nothing is lost")
            time.sleep(_POLL)
        if merge.active:
            domain.blockJobAbort(merge.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        _wait_for_end(domain, merge, deadline)

    def _repoint(self, change: Repoint) -> None:
        xml = self._domain(change.guest).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        self.conn.defineXML(repoint(xml, change.paths))

    def _record(self, record: Record) -> None:
        points = [self._stamped(point, record.guest) for point in record.points]
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG | (libvirt.VIR_DOMAIN_AFFECT_LIVE if record.live else 0)
        xml = write_points(points, record.resume)
        self._domain(record.guest).setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, KEY, NAMESPACE, flags)

    def _stamped(self, point: Point, guest: str) -> Point:
        if point.taken:
            return point
        return replace(point, taken=self._taken, consistency="crash" if guest in self._crashed else point.consistency)

    def _stop(self, stop: Stop) -> None:
        domain = self._domain(stop.guest)
        if domain.isActive():
            domain.destroy()

    def _start(self, start: Start) -> None:
        self._domain(start.guest).createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if start.paused else 0)


def _is_ready(domain: Any, merge: BlockCommit) -> bool:
    """Whether the merge has ended, or, of the file that the guest writes to, has caught up with it."""
    info = domain.blockJobInfo(merge.target, 0)
    if not info:
        if merge.active:
            raise ResourceError("the merge ended before its time; the host's log of QEMU (/var/log/libvirt/qemu) says why")
        return True
    return bool(merge.active and info["end"] and info["cur"] == info["end"])


def _wait_for_end(domain: Any, merge: BlockCommit, deadline: float) -> None:
    while domain.blockJobInfo(merge.target, 0):
        if time.monotonic() >= deadline:
            raise ResourceError("the merge is done, but libvirt still shows it as under way")
        time.sleep(_POLL)


def _qemu_img(operation: Operation, seconds: int) -> None:
    line = argv(operation)
    try:
        subprocess.run(line, capture_output=True, text=True, check=True, timeout=seconds)
    except FileNotFoundError:
        raise ResourceError("qemu-img is missing on the managed host; install the package qemu-utils or qemu-img there (role kvm_host does)") from None
    except subprocess.TimeoutExpired:
        raise ResourceError(f"{shell_line(line)}: did not end within {seconds} s") from None
    except subprocess.CalledProcessError as error:
        raise ResourceError(f"{shell_line(line)}: {error.stderr.strip()}") from None


def _words(operation: Operation) -> str:
    fields = [str(getattr(operation, name)) for name in ("guest", "path", "target") if hasattr(operation, name)]
    return " ".join([type(operation).__name__.lower(), *fields])
