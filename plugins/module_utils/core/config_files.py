# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many small files of a host, planned at once: whole texts, single values in other people's files, and modes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import here_document, shell_line


@dataclass(frozen=True)
class Entry:
    """content: the whole text. values: keys of a file of somebody else. Neither: only the mode of what is there, file or directory.

    mode:      octal digits; None leaves that of an existing file, and is 0644 for a new one
    separator: between a key and its value when a line is written
    validate:  command that judges the text before it is in its place; %s stands for its file
    """

    path: str
    mode: Optional[str] = None
    content: Optional[str] = None
    values: Mapping[str, str] = field(default_factory=dict)
    separator: str = " "
    validate: str = ""

    @property
    def textual(self) -> bool:
        return self.content is not None or bool(self.values)


@dataclass(frozen=True)
class Place:
    """What is at a path: text of a file (None for none, or a directory), mode as octal digits (None for nothing at all)."""

    text: Optional[str] = None
    mode: Optional[str] = None


@dataclass(frozen=True)
class Change:
    """text: None when only the mode changes."""

    entry: Entry
    text: Optional[str]
    mode: str


@dataclass(frozen=True)
class Plan:
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    changes: list[Change]
    commands: list[str]


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


def plan(entries: Sequence[Entry], found: Mapping[str, Place]) -> Plan:
    """What becomes of the files."""
    before, after, changes, lines = [], [], [], []
    for entry in entries:
        place = found[entry.path]
        if not entry.textual and place.mode is None:
            continue
        mode = entry.mode or place.mode or "0644"
        text = _text(entry, place.text) if entry.textual else None
        before.append(_describe(entry, place.text, place.mode))
        after.append(_describe(entry, text, mode))
        written = text is not None and text != place.text
        if written or mode != place.mode:
            changes.append(Change(entry, text if written else None, mode))
            lines += _commands(entry, text if written else None, mode)
    return Plan(before, after, changes, lines)


def _text(entry: Entry, found: Optional[str]) -> str:
    return entry.content if entry.content is not None else set_values(found or "", entry.values, entry.separator)


def _describe(entry: Entry, text: Optional[str], mode: Optional[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"path": entry.path, "mode": mode}
    if entry.content is not None:
        answer["text"] = None if text is None else text.splitlines()
    elif entry.values:
        lines = (text or "").splitlines()
        patterns = [re.compile(rf"\s*{re.escape(key)}(?:\s*=|\s|\Z)") for key in entry.values]
        answer["lines"] = [line for line in lines if any(pattern.match(line) for pattern in patterns)]
    return answer


def _commands(entry: Entry, text: Optional[str], mode: str) -> list[str]:
    if text is None:
        return [shell_line(["chmod", mode, entry.path])]
    return [here_document(["install", "-D", "-m", mode, "/dev/stdin", entry.path], text)]
