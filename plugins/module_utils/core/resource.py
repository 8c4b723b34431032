# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every resource module has in common: refusals, the text of a diff, shell lines, the result.

Needs no YAML library: a managed host has none of its own before something installs it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

# Strings that YAML 1.1 and 1.2 both read back as the same string when they stand without quotes.
_PLAIN = re.compile(r"(?:[A-Za-z_/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*|[0-9]+(?:\.[0-9]+){3}(?:/[0-9]+)?)\Z")
# What JSON lets stand as it is and YAML does not (YAML 1.2, 5.1 Character Set), and what YAML 1.1 takes for a line's end.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NOT_STRINGS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


class ResourceError(Exception):
    """Something that cannot or must not be done, in one message for a person.

    facts: further values that the module returns beside the message.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


def to_yaml(value: Any) -> str:
    """``value`` (dicts, lists, scalars) as block YAML with a closing newline; keys keep their order."""
    return "".join(line + "\n" for line in _lines(value))


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        lines = []
        for key, item in value.items():
            nested = _nested(item)
            lines += [f"{_scalar(str(key))}:", *("  " + line for line in nested)] if nested else [f"{_scalar(str(key))}: {_scalar(item)}"]
        return lines
    if isinstance(value, (list, tuple)) and value:
        lines = []
        for item in value:
            first, *rest = _lines(item)
            lines += ["- " + first, *("  " + line for line in rest)]
        return lines
    return [_scalar(value)]


def _nested(value: Any) -> list[str]:
    return _lines(value) if isinstance(value, (Mapping, list, tuple)) and value else []


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _NOT_STRINGS:
        return value
    # JSON's strings, numbers, true, false, null, [] and {} are YAML.
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shell_line(argv: Iterable[str]) -> str:
    """One command line, quoted for a POSIX shell."""
    return shlex.join(argv)


def here_document(argv: Iterable[str], text: str) -> str:
    """``argv`` reading ``text`` from its standard input; ``text`` is taken literally by the shell."""
    body = text if text.endswith("\n") else text + "\n"
    mark = "EOF"
    while mark in body.splitlines():
        mark += "_"
    return f"{shell_line(argv)} <<'{mark}'\n{body}{mark}"


def unique(items: Sequence[Mapping[str, Any]], key: str, path: str) -> dict[str, Mapping[str, Any]]:
    """``items`` by their ``key``, in order. ResourceError when two carry the same; ``path`` names the list in the message."""
    found: dict[str, Mapping[str, Any]] = {}
    for index, item in enumerate(items):
        value = item[key]
        if value in found:
            raise ResourceError(f"{path}[{index}].{key}: found {value!r}, which an earlier entry of {path} has too. Name each only once.")
        found[value] = item
    return found


def result(
    before: Any,
    after: Any,
    commands: Sequence[str],
    diff: bool = False,
    header: Optional[str] = None,
    changed: Optional[bool] = None,
) -> dict[str, Any]:
    """The keys that every resource module returns.

    changed: when not given, whether there are commands.
    diff:    whether the caller was asked for one (``module._diff``); ``header`` names the two sides in it.
    """
    answer: dict[str, Any] = {
        "changed": bool(commands) if changed is None else changed,
        "before": before,
        "after": after,
        "commands": list(commands),
    }
    if diff:
        answer["diff"] = {"before": to_yaml(before), "after": to_yaml(after)}
        if header:
            answer["diff"].update(before_header=f"{header} (before)", after_header=f"{header} (after)")
    return answer
