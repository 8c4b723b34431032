# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tree holds, one entry for each file: written beside a generation, and compared with whatever was made from it.

The file is JSON lines (names that are no UTF-8 stand in it as lone surrogates): a header, the entries by path, and a last line with their number
and the SHA-256 of all lines before it, so that a manifest that was cut off is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .errors import BackupError
from .gaps import Gap, from_json
from .journal import write_whole

NAME = "manifest.jsonl"
# In a generation that is being made: the boot of the host during which it was begun.
BOOT = ".boot"
VERSION = 1

_KINDS = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "link"), (stat.S_ISFIFO, "fifo"), (stat.S_ISSOCK, "socket"))
_CHUNK = 1 << 20
_SECOND = 10**9
# Belongs to the place where a file lies, not to the file; it is not copied.
_PLACE_ATTRIBUTES = frozenset({"security.selinux"})


class Entry(NamedTuple):
    """One file (a tuple, for there may be millions).

    mtime:      nanoseconds; whole seconds for all but plain files, whose fractions alone rsync carries
    sum:        SHA-256 of a file's content
    link:       where a symbolic link leads
    same:       path of the first name, for the further ones of a file that has several
    device:     numbers of a device
    attributes: SHA-256 of extended attributes and ACLs, None without any
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    mtime: int = 0
    sum: Optional[str] = None
    link: Optional[str] = None
    same: Optional[str] = None
    device: Optional[str] = None
    attributes: Optional[str] = None

    def brief(self) -> dict[str, Any]:
        return {key: value for key, value in self._asdict().items() if value is not None}


@dataclass(frozen=True)
class Manifest:
    header: Mapping[str, Any]
    entries: Mapping[str, Entry]

    @property
    def gaps(self) -> list[Gap]:
        """What the generation lacks."""
        return from_json(self.header.get("gaps", ()))

    @property
    def files(self) -> int:
        return sum(1 for entry in self.entries.values() if entry.kind == "file")

    @property
    def size(self) -> int:
        """Bytes of all files, those with several names once."""
        return sum(entry.size for entry in self.entries.values() if entry.kind == "file" and entry.same is None)

    def below(self, prefix: str) -> dict[str, Entry]:
        """Entries of one directory, with paths relative to it; the directory itself is ``.``."""
        found = {}
        for path, entry in self.entries.items():
            if path == prefix:
                found["."] = entry
            elif path.startswith(prefix + "/"):
                found[path[len(prefix) + 1 :]] = entry
        return found


def scan(root: Path, known: Optional[Mapping[str, Entry]] = None, before: Optional[Path] = None) -> dict[str, Entry]:
    """Every file below ``root`` by its path; ``root`` itself, which may be a single file, is ``.``.

    known, before: entries and directory of the generation before: a file that is a hard link to one of it has the sum that was found then
    """
    found: dict[str, Entry] = {}
    first: dict[tuple[int, int], str] = {}
    start = len(str(root)) + 1
    for path in _walk(root):
        name = path[start:] or "."
        status = os.lstat(path)
        kind = next((word for test, word in _KINDS if test(status.st_mode)), "device")
        same = None
        if kind == "file" and status.st_nlink > 1:
            same = first.setdefault((status.st_dev, status.st_ino), name)
            same = None if same == name else same
        content = None
        if kind == "file":
            content = found[same].sum if same else _known_sum(name, status, known, before) or file_sum(path)
        found[name] = Entry(
            path=name,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size if kind == "file" else 0,
            mtime=status.st_mtime_ns if kind == "file" else status.st_mtime_ns // _SECOND * _SECOND,
            sum=content,
            link=os.readlink(path) if kind == "link" else None,  # noqa: PTH115 - a Path would tidy it up
            same=same,
            device=f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if kind == "device" else None,
            attributes=_attributes(path),
        )
    return found


def scan_generation(root: Path, known: Optional[Mapping[str, Entry]] = None, before: Optional[Path] = None) -> dict[str, Entry]:
    """``scan`` without the files of the tool itself, and without the directory that holds them: its time is that of the last of them."""
    found = scan(root, known, before)
    return {path: entry for path, entry in found.items() if path not in (".", NAME, BOOT)}


def _walk(root: Path) -> Iterator[str]:
    yield str(root)
    if root.is_symlink() or not root.is_dir():
        return
    for directory, directories, files in os.walk(str(root), onerror=_stop):
        directories.sort()
        for name in sorted([*directories, *files]):
            yield str(Path(directory, name))


def _stop(error: OSError) -> None:
    raise error


def _known_sum(name: str, status: os.stat_result, known: Optional[Mapping[str, Entry]], before: Optional[Path]) -> Optional[str]:
    entry = (known or {}).get(name)
    if entry is None or before is None or status.st_nlink < 2:
        return None
    try:
        old = os.lstat(before / name)
    except OSError:
        return None
    return entry.sum if (old.st_dev, old.st_ino) == (status.st_dev, status.st_ino) else None


def file_sum(path: object) -> str:
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:  # noqa: PTH123 - a name that is no UTF-8 is a str with surrogates
        while True:
            chunk = stream.read(_CHUNK)
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)


def _attributes(path: str) -> Optional[str]:
    names = sorted(name for name in os.listxattr(path, follow_symlinks=False) if name not in _PLACE_ATTRIBUTES)
    if not names:
        return None
    digest = hashlib.sha256()
    for name in names:
        value = os.getxattr(path, name, follow_symlinks=False)
        digest.update(f"{len(name)} {len(value)} ".encode() + os.fsencode(name) + value)
    return digest.hexdigest()


def write(path: Path, header: Mapping[str, Any], entries: Mapping[str, Entry]) -> None:
    lines = [json.dumps({"version": VERSION, **header}), *(json.dumps(entry.brief()) for _name, entry in sorted(entries.items()))]
    text = "".join(line + "\n" for line in lines)
    write_whole(path, text + json.dumps({"entries": len(entries), "sha256": hashlib.sha256(text.encode("ascii")).hexdigest()}) + "\n")


def read_header(path: Path) -> dict[str, Any]:
    """The first line alone, which is enough for a list. OSError or ValueError where it can't be read."""
    with path.open(encoding="ascii") as stream:
        header = json.loads(stream.readline())
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its first line is no header")
    return header


def read(path: Path) -> Manifest:
    """BackupError where it is missing, cut off, changed, or of a later version of the tool."""
    try:
        text = path.read_text(encoding="ascii")
        *lines, last = text.splitlines(keepends=True)
        end, header = json.loads(last), json.loads(lines[0])
        if end.get("sha256") != hashlib.sha256("".join(lines).encode("ascii")).hexdigest():
            raise ValueError("its lines do not have the sum that it ends with")
        if header["version"] != VERSION:
            raise ValueError(f"it has version {header['version']}, this tool reads {VERSION}")
        entries = (Entry(**json.loads(line)) for line in lines[1:])
        return Manifest(header, {entry.path: entry for entry in entries})
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BackupError(f"{path}: is no whole manifest ({error}). Use another generation (hybridlab-backup list)") from error


def compare(wanted: Mapping[str, Entry], found: Mapping[str, Entry]) -> list[tuple[str, str]]:
    """Path and difference of each entry that is missing, more, or not the same."""
    rows = [(path, "is missing") for path in sorted(wanted.keys() - found.keys())]
    rows += [(path, "is not in the manifest") for path in sorted(found.keys() - wanted.keys())]
    for path in sorted(wanted.keys() & found.keys()):
        words = _differences(wanted[path], found[path])
        if words:
            rows.append((path, words))
    return rows


def _differences(wanted: Entry, found: Entry) -> str:
    keys: Iterable[str] = ("kind", "mode", "uid", "gid", "size", "sum", "link", "device", "attributes")
    pairs = [(key, getattr(found, key), getattr(wanted, key)) for key in keys]
    words = [f"{key} {_shown(key, is_now)}, not {_shown(key, was)}" for key, is_now, was in pairs if is_now != was]
    if found.mtime != wanted.mtime:
        words.append("another time")
    if (found.same is None) != (wanted.same is None):
        words.append("is linked otherwise")
    return ", ".join(words)


def _shown(key: str, value: Any) -> str:
    if key == "mode":
        return f"{value:04o}"
    return "nothing" if value is None else str(value)[:16]
