# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to guests and files for named points, and the shell lines that do the same. No I/O."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from typing import Optional, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.points import KEY, NAMESPACE, Point, write_points
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import shell_line

_NOW = "@NOW@"


@dataclass(frozen=True)
class Freeze:
    """Holds writing in the guest, by its agent."""

    guest: str


@dataclass(frozen=True)
class Thaw:
    guest: str


@dataclass(frozen=True)
class AbortJob:
    """Ends a merge that a killed run left; the guest keeps writing to the file that it had."""

    guest: str
    target: str


@dataclass(frozen=True)
class Snapshot:
    """Gives disks of a running guest overlays, all in one moment. disks: target and path of the new file; others: targets that are left out."""

    guest: str
    disks: tuple[tuple[str, str], ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlay:
    """Makes a qcow2 file that reads from ``backing`` what was not written to itself."""

    path: str
    backing: str


@dataclass(frozen=True)
class Repoint:
    """Has the kept definition name other files. paths: old and new."""

    guest: str
    paths: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Record:
    """Writes the guest's metadata. A point without a time is given that of the run."""

    guest: str
    points: tuple[Point, ...]
    resume: Optional[str]
    live: bool


@dataclass(frozen=True)
class Keep:
    """Keeps the definition as a file in the backup directory."""

    guest: str
    xml: str


@dataclass(frozen=True)
class Stop:
    """At once: what the guest has not written to its disks is thrown away with its present state."""

    guest: str


@dataclass(frozen=True)
class Start:
    guest: str
    paused: bool = False


@dataclass(frozen=True)
class BlockCommit:
    """Merges the running guest's file ``top`` down into ``base``. active: the guest writes to top, and to base afterwards."""

    guest: str
    target: str
    top: str
    base: str
    active: bool


@dataclass(frozen=True)
class Commit:
    """Merges a file that no running guest has into the one under it."""

    path: str


@dataclass(frozen=True)
class Rebase:
    """Names another file, of the same content, as the one under ``path``."""

    path: str
    backing: str


@dataclass(frozen=True)
class Delete:
    path: str


Operation = Union[Freeze, Thaw, AbortJob, Snapshot, Overlay, Repoint, Record, Keep, Stop, Start, BlockCommit, Commit, Rebase, Delete]


def argv(operation: Operation) -> list[str]:
    """The command of qemu-img for an operation on files."""
    if isinstance(operation, Overlay):
        return ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", operation.backing, operation.path]
    if isinstance(operation, Commit):
        # -d: what is left in the file is needed until nothing names it any more.
        return ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", operation.path]
    if isinstance(operation, Rebase):
        return ["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", operation.backing, operation.path]
    raise TypeError(f"no command of qemu-img for {operation!r}")


def snapshot_xml(operation: Snapshot) -> str:
    """libvirt.org/formatsnapshot.html"""
    disks = ET.Element("disks")
    for target, path in operation.disks:
        disk = ET.SubElement(disks, "disk", {"name": target, "snapshot": "external", "type": "file"})
        ET.SubElement(disk, "driver", {"type": "qcow2"})
        ET.SubElement(disk, "source", {"file": path})
    for target in operation.others:
        ET.SubElement(disks, "disk", {"name": target, "snapshot": "no"})
    root = ET.Element("domainsnapshot")
    root.append(disks)
    return ET.tostring(root, encoding="unicode")


def shell(operation: Operation, uri: str, backup_dir: str) -> str:
    """The line for a shell that does ``operation`` by hand."""
    if isinstance(operation, Delete):
        return shell_line(["rm", "--", operation.path])
    if isinstance(operation, (Overlay, Commit, Rebase)):
        line = shell_line(argv(operation))
        return f"(umask 077 && {line})" if isinstance(operation, Overlay) else line
    virsh = ["virsh", "-c", uri]
    if isinstance(operation, Record):
        return _record_line(operation, virsh)
    if isinstance(operation, Keep):
        dump = shell_line([*virsh, "dumpxml", "--inactive", "--security-info", operation.guest])
        target = f"{shlex.quote(f'{backup_dir}/{operation.guest}')}-$(date -u +%Y%m%dT%H%M%SZ).xml"
        return f"install -d -m 0700 {shlex.quote(backup_dir)} && (umask 077 && {dump} > {target})"
    if isinstance(operation, Repoint):
        dump = shell_line([*virsh, "dumpxml", "--inactive", "--security-info", operation.guest])
        script = [part for old, new in operation.paths for part in ("-e", f"s#'{old}'#'{new}'#")]
        return f"{dump} | {shell_line(['sed', *script])} | {shell_line([*virsh, 'define', '/dev/stdin'])}"
    return shell_line([*virsh, *_virsh_words(operation)])


def _virsh_words(operation: Operation) -> list[str]:
    if isinstance(operation, Snapshot):
        disks = [f"{target},snapshot=external,driver=qcow2,file={path}" for target, path in operation.disks]
        specs = [part for disk in (*disks, *(f"{target},snapshot=no" for target in operation.others)) for part in ("--diskspec", disk)]
        return ["snapshot-create-as", operation.guest, "--no-metadata", "--disk-only", "--atomic", *specs]
    if isinstance(operation, BlockCommit):
        ending = ["--active", "--pivot"] if operation.active else ["--wait"]
        return ["blockcommit", operation.guest, operation.target, "--top", operation.top, "--base", operation.base, *ending]
    if isinstance(operation, AbortJob):
        return ["blockjob", operation.guest, operation.target, "--abort"]
    if isinstance(operation, Start):
        return ["start", operation.guest, *(["--paused"] if operation.paused else [])]
    words = {Freeze: "domfsfreeze", Thaw: "domfsthaw", Stop: "destroy"}
    if isinstance(operation, (Freeze, Thaw, Stop)):
        return [words[type(operation)], operation.guest]
    raise TypeError(f"no command of virsh for {operation!r}")


def _record_line(operation: Record, virsh: list[str]) -> str:
    xml = write_points([point if point.taken else replace(point, taken=_NOW) for point in operation.points], operation.resume)
    change = ["--remove"] if xml is None else ["--key", KEY, "--set", xml]
    line = shell_line([*virsh, "metadata", operation.guest, "--uri", NAMESPACE, *change, "--config", *(["--live"] if operation.live else [])])
    return line.replace(_NOW, "'\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"'")
