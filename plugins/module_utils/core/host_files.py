# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories of ours on a host: what is declared against what is there. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import here_document, shell_line

HIDDEN = "(content that is not shown)\n"


@dataclass(frozen=True)
class File:
    """mode: permission bits. secret: its content is shown nowhere. validate: a command that must accept it; %s is a file with the content."""

    path: str
    content: str = field(repr=False)
    mode: int = 0o644
    secret: bool = False
    validate: tuple[str, ...] = ()


@dataclass(frozen=True)
class Directory:
    """exclusive: what is in it and not declared is removed, directories too."""

    path: str
    mode: int = 0o755
    exclusive: bool = False


@dataclass(frozen=True)
class Found:
    """What is at a path: its permission bits, its content where it is a file."""

    mode: int
    content: Optional[str] = field(default=None, repr=False)


@dataclass(frozen=True)
class Step:
    """verb: mkdir, chmod, write or remove."""

    verb: str
    path: str
    mode: int = 0
    file: Optional[File] = None


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
    steps = []
    for directory in directories:
        there = found.get(directory.path)
        if there is None:
            steps.append(Step("mkdir", directory.path, directory.mode))
        elif there.mode != directory.mode:
            steps.append(Step("chmod", directory.path, directory.mode))
    for file in files:
        there = found.get(file.path)
        if there is None or there.content != file.content:
            steps.append(Step("write", file.path, file.mode, file))
        elif there.mode != file.mode:
            steps.append(Step("chmod", file.path, file.mode))
    steps += [Step("remove", path) for path in strays]
    before = [_row(path, found.get(path), files) for path in [*_paths(files, directories), *strays]]
    wanted = {**{item.path: Found(item.mode) for item in directories}, **{file.path: Found(file.mode, file.content) for file in files}}
    after = [_row(path, wanted[path], files) for path in _paths(files, directories)]
    # A secret's row holds no digest: whether it differs is all that is told.
    for step in steps:
        if step.file is not None and step.file.secret:
            next(row for row in before if row["path"] == step.path)["content"] = "other" if step.path in found else "absent"
    return Plan(before, after, steps, [_command(step) for step in steps], [diff for step in steps for diff in _diff(step, found.get(step.path))])


def plan_removal(files: Sequence[File], directories: Sequence[Directory], found: Mapping[str, Found], strays: Sequence[str] = ()) -> Plan:
    """Takes away what was declared; of directories only the exclusive ones, which hold nothing of others."""
    gone = [file.path for file in files if file.path in found]
    gone += [item.path for item in reversed(directories) if item.exclusive and item.path in found]
    steps = [Step("remove", path) for path in [*strays, *gone]]
    before = [_row(path, found[path], files) for path in [*strays, *gone]]
    return Plan(before, [], steps, [_command(step) for step in steps], [])


def _paths(files: Sequence[File], directories: Sequence[Directory]) -> list[str]:
    return [item.path for item in directories] + [file.path for file in files]


def _row(path: str, there: Optional[Found], files: Sequence[File]) -> dict[str, Any]:
    if there is None:
        return {"path": path, "state": "absent"}
    row: dict[str, Any] = {"path": path, "mode": f"{there.mode:04o}"}
    if there.content is not None:
        secret = any(file.secret for file in files if file.path == path)
        row["content"] = "as declared" if secret else hashlib.sha256(there.content.encode()).hexdigest()[:12]
    return row


def _command(step: Step) -> str:
    if step.verb == "mkdir":
        return shell_line(["install", "-d", "-m", f"{step.mode:04o}", step.path])
    if step.verb == "chmod":
        return shell_line(["chmod", f"{step.mode:04o}", step.path])
    if step.verb == "remove":
        return shell_line(["rm", "-rf", "--", step.path])
    argv = ["install", "-D", "-m", f"{step.mode:04o}", "/dev/stdin", step.path]
    return here_document(argv, HIDDEN if step.file is None or step.file.secret else step.file.content)


def _diff(step: Step, there: Optional[Found]) -> list[dict[str, str]]:
    if step.verb == "write" and step.file is not None:
        old = "" if there is None or there.content is None else HIDDEN if step.file.secret else there.content
        new = HIDDEN.replace("not shown", "not shown, another one") if step.file.secret else step.file.content
        return [{"before_header": step.path, "after_header": step.path, "before": old, "after": new}]
    old = "" if there is None else f"{there.mode:04o}\n"
    new = "" if step.verb == "remove" else f"{step.mode:04o}\n"
    return [{"before_header": step.path, "after_header": step.path, "before": old, "after": new}]


def is_inside(path: str, folder: str) -> bool:
    """Whether ``path`` stands below ``folder``."""
    return PurePosixPath(folder) in PurePosixPath(path).parents
