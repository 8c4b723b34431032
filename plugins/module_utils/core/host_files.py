# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many small files of a host, planned at once: whole texts, single values in other people's files, modes, and directories. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import here_document, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.units import UNIT_DIR

HIDDEN = "(content that is not shown)\n"


@dataclass(frozen=True)
class File:
    """content: the whole text. values: keys of a file of somebody else. Neither: only the mode of what is there, file or directory.

    mode:      permission bits; None keeps those of what is there, and is 0644 for a new file
    separator: between a key and its value in a line that is written
    secret:    its content is shown nowhere
    validate:  a command that must accept the new text; %s is a file with it
    """

    path: str
    content: Optional[str] = field(default=None, repr=False)
    mode: Optional[int] = None
    values: Mapping[str, str] = field(default_factory=dict)
    separator: str = " "
    secret: bool = False
    validate: tuple[str, ...] = ()

    @property
    def textual(self) -> bool:
        return self.content is not None or bool(self.values)

    def text(self, found: Optional[Found]) -> Optional[str]:
        """What it shall hold."""
        there = None if found is None else found.content
        if self.content is not None:
            return self.content
        return set_values(there or "", self.values, self.separator) if self.values else there


@dataclass(frozen=True)
class Directory:
    """mode: as a file's, 0755 for a new one. exclusive: what is in it and not declared is removed, directories too.

    owner: user and group in numbers, for whom the host need not have a name; None leaves alone whose it is
    """

    path: str
    mode: Optional[int] = None
    exclusive: bool = False
    owner: Optional[tuple[int, int]] = None


@dataclass(frozen=True)
class Found:
    """What is at a path: its permission bits, its content where it is a file, its owner where it is a directory."""

    mode: int
    content: Optional[str] = field(default=None, repr=False)
    owner: Optional[tuple[int, int]] = None


@dataclass(frozen=True)
class Step:
    """verb: mkdir, chown, chmod, write, remove or daemon-reload. text: of what is written."""

    verb: str
    path: str = ""
    mode: int = 0
    file: Optional[File] = None
    text: str = field(default="", repr=False)
    owner: Optional[tuple[int, int]] = None


@dataclass(frozen=True)
class Plan:
    """before, after: a row for each path; commands: for a person; diffs: text of each file that changes."""

    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    steps: list[Step]
    commands: list[str]
    diffs: list[dict[str, str]]


def plan(files: Sequence[File], directories: Sequence[Directory], found: Mapping[str, Found], strays: Sequence[str] = ()) -> Plan:
    """What makes the host as declared.

    found:  what stands at the declared paths and at ``strays``; what is not in it does not exist
    strays: paths in exclusive directories that are not declared
    """
    wanted: dict[str, Found] = {}
    steps = []
    for directory in directories:
        there = found.get(directory.path)
        mode = _mode(directory.mode, there, 0o755)
        wanted[directory.path] = Found(mode, owner=directory.owner)
        if there is None:
            steps.append(Step("mkdir", directory.path, mode, owner=directory.owner))
            continue
        if directory.owner is None:
            found = {**found, directory.path: replace(there, owner=None)}  # nobody's business
        elif there.owner != directory.owner:
            steps.append(Step("chown", directory.path, mode, owner=directory.owner))
        if there.mode != mode:
            steps.append(Step("chmod", directory.path, mode))
    for file in files:
        there = found.get(file.path)
        if there is None and not file.textual:
            continue  # what somebody else's package would bring
        text, mode = file.text(there), _mode(file.mode, there, 0o644)
        wanted[file.path] = Found(mode, text)
        if text is not None and (there is None or there.content != text):
            steps.append(Step("write", file.path, mode, file, text))
        elif there is not None and there.mode != mode:
            steps.append(Step("chmod", file.path, mode))
    steps += [Step("remove", path) for path in strays]
    before = [_row(path, found.get(path), files) for path in [*wanted, *strays]]
    after = [_row(path, there, files) for path, there in wanted.items()]
    # A secret's row holds no digest: whether it differs is all that is told.
    for step in steps:
        if step.file is not None and step.file.secret:
            next(row for row in before if row["path"] == step.path)["content"] = "other" if step.path in found else "absent"
    return _planned(before, after, steps, [diff for step in steps for diff in _diff(step, found.get(step.path))])


def plan_removal(files: Sequence[File], directories: Sequence[Directory], found: Mapping[str, Found], strays: Sequence[str] = ()) -> Plan:
    """Takes away what was declared: files with whole texts, and of directories only the exclusive ones, which hold nothing of others."""
    gone = [file.path for file in files if file.content is not None and file.path in found]
    gone += [item.path for item in reversed(directories) if item.exclusive and item.path in found]
    steps = [Step("remove", path) for path in [*strays, *gone]]
    before = [_row(path, found[path], files) for path in [*strays, *gone]]
    return _planned(before, [], steps, [])


def set_values(text: str, values: Mapping[str, str], separator: str) -> str:
    """``text`` with each key once: its first line that is no comment gets the value, further ones go, a missing one comes last."""
    lines = text.splitlines()
    for key, value in values.items():
        wanted = f"{key}{separator}{value}"
        pattern = re.compile(rf"\s*{re.escape(key)}(?:\s*=|\s|\Z)")
        places = [index for index, line in enumerate(lines) if pattern.match(line)]
        if not places:
            lines.append(wanted)
            continue
        if _words(lines[places[0]], separator) != _words(wanted, separator):
            lines[places[0]] = wanted
        for index in reversed(places[1:]):
            del lines[index]
    return "".join(line + "\n" for line in lines)


def _words(line: str, separator: str) -> list[str]:
    """The same for lines that differ in blanks alone."""
    mark = separator.strip()
    return (line.replace(mark, f" {mark} ") if mark else line).split()


def _mode(declared: Optional[int], there: Optional[Found], new: int) -> int:
    if declared is not None:
        return declared
    return new if there is None else there.mode


def _planned(before: list[dict[str, Any]], after: list[dict[str, Any]], steps: list[Step], diffs: list[dict[str, str]]) -> Plan:
    """With systemd told of its files, so that whoever restarts a unit next restarts it with them."""
    if any(step.verb in ("write", "remove") and is_inside(step.path, UNIT_DIR) for step in steps):
        steps = [*steps, Step("daemon-reload")]
    return Plan(before, after, steps, [_command(step) for step in steps], diffs)


def _row(path: str, there: Optional[Found], files: Sequence[File]) -> dict[str, Any]:
    if there is None:
        return {"path": path, "state": "absent"}
    row: dict[str, Any] = {"path": path, "mode": f"{there.mode:04o}"}
    if there.owner is not None:
        row["owner"] = _ids(there.owner)
    if there.content is not None:
        secret = any(file.secret for file in files if file.path == path)
        row["content"] = "as declared" if secret else hashlib.sha256(there.content.encode()).hexdigest()[:12]
    return row


def _command(step: Step) -> str:
    if step.verb == "daemon-reload":
        return "systemctl daemon-reload"
    if step.verb == "mkdir":
        owner = [] if step.owner is None else ["-o", str(step.owner[0]), "-g", str(step.owner[1])]
        return shell_line(["install", "-d", "-m", f"{step.mode:04o}", *owner, step.path])
    if step.verb == "chown" and step.owner is not None:
        return shell_line(["chown", _ids(step.owner), step.path])
    if step.verb == "chmod":
        return shell_line(["chmod", f"{step.mode:04o}", step.path])
    if step.verb == "remove":
        return shell_line(["rm", "-rf", "--", step.path])
    argv = ["install", "-D", "-m", f"{step.mode:04o}", "/dev/stdin", step.path]
    return here_document(argv, HIDDEN if step.file is None or step.file.secret else step.text)


def _diff(step: Step, there: Optional[Found]) -> list[dict[str, str]]:
    if step.verb == "write" and step.file is not None:
        old = "" if there is None or there.content is None else HIDDEN if step.file.secret else there.content
        new = HIDDEN.replace("not shown", "not shown, another one") if step.file.secret else step.text
        return [{"before_header": step.path, "after_header": step.path, "before": old, "after": new}]
    old = "" if there is None else _attributes(there.mode, there.owner)
    new = "" if step.verb == "remove" else _attributes(step.mode, step.owner)
    return [{"before_header": step.path, "after_header": step.path, "before": old, "after": new}]


def _ids(owner: tuple[int, int]) -> str:
    return f"{owner[0]}:{owner[1]}"


def _attributes(mode: int, owner: Optional[tuple[int, int]]) -> str:
    return f"{mode:04o}\n" if owner is None else f"{mode:04o} {_ids(owner)}\n"


def is_inside(path: str, folder: str) -> bool:
    """Whether ``path`` stands below ``folder``."""
    return PurePosixPath(folder) in PurePosixPath(path).parents
