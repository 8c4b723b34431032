# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes HCL, Terraform's language, in the form that ``terraform fmt`` leaves alone. No I/O.

The form follows hclwrite's formatter (hashicorp/hcl, hclwrite/format.go): two spaces for each open bracket, and the equals signs of
neighbouring lines aligned, where a line is a whole attribute; a comment, a blank line, a block or a value over several lines ends the neighbourhood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# A subset of HCL's identifiers (Unicode's ID_Start, ID_Continue and '-').
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_INDENT = "  "
_LINE = 120
# HCL's escapes (hclsyntax/spec.md, "Template Literals"); it lacks some of JSON's.
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class Expression:
    """Written as it stands: a reference such as ``libvirt_pool.fast.id``, or a call."""

    text: str


@dataclass(frozen=True)
class Attribute:
    """``name = value``. value: str, bool, int, float, None, list, dict or Expression."""

    name: str
    value: Any


@dataclass(frozen=True)
class Comment:
    """Lines with ``#`` before them. Text of any origin is safe: it cannot leave its line."""

    text: str


@dataclass(frozen=True)
class Block:
    """``kind "label" ... { body }``."""

    kind: str
    labels: tuple[str, ...] = ()
    body: tuple[Item, ...] = ()


Item = Union[Attribute, Comment, Block]


class Names:
    """Identifiers for names of any form, each given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, name: str) -> str:
        """An identifier that resembles ``name``; ``_2`` and so on is added to one that is taken."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
        plain = plain if _IDENTIFIER.match(plain) else f"_{plain}"
        wanted, count = plain, 1
        while wanted in self._taken:
            count += 1
            wanted = f"{plain}_{count}"
        self._taken.add(wanted)
        return wanted


def attributes(values: Mapping[str, Any]) -> tuple[Attribute, ...]:
    """Attributes for the values that are not None."""
    return tuple(Attribute(name, value) for name, value in values.items() if value is not None)


def write(items: Iterable[Item], header: str = "") -> str:
    """A file, after a comment of its own. ResourceError when an attribute or block has a name, or a value a type, that HCL does not know."""
    top = [*_body([Comment(header)], 0), ""] if header else []
    return "".join(f"{line}\n" for line in [*top, *_body(list(items), 0)])


def quote(text: str) -> str:
    """A quoted template that means exactly ``text``: no interpolation, no directive."""
    return '"' + "".join(_ESCAPES.get(character) or _escaped(character) for character in text).replace("${", "$${").replace("%{", "%%{") + '"'


def _escaped(character: str) -> str:
    return character if character >= " " and character != "\x7f" else f"\\u{ord(character):04x}"


def _body(items: Sequence[Item], depth: int) -> list[str]:
    lines: list[str] = []
    chain: list[tuple[str, str]] = []
    previous: Any = None
    for item in items:
        value = _value(item.value, depth) if isinstance(item, Attribute) else []
        if len(value) != 1:
            lines += _align(chain, depth)
            chain = []
        if previous is not None and _apart(previous, item):
            lines += [*_align(chain, depth), ""]
            chain = []
        if isinstance(item, Attribute):
            name = _identifier(item.name)
            if len(value) == 1:
                chain.append((name, value[0]))
            else:
                lines += [f"{_INDENT * depth}{name} = {value[0]}", *value[1:]]
        elif isinstance(item, Comment):
            lines += [f"{_INDENT * depth}# {line}".rstrip() for line in _wrap(item.text, _LINE - 2 * depth - 2)]
        else:
            lines += _block(item, depth)
        previous = item
    return [*lines, *_align(chain, depth)]


def _apart(one: Item, other: Item) -> bool:
    """Whether a blank line stands between the two: round blocks, except between a comment and the block that it speaks of."""
    return isinstance(one, Block) or (isinstance(other, Block) and not isinstance(one, Comment))


def _block(block: Block, depth: int) -> list[str]:
    head = " ".join([_identifier(block.kind), *(quote(label) for label in block.labels)])
    if not block.body:
        return [f"{_INDENT * depth}{head} {{}}"]
    return [f"{_INDENT * depth}{head} {{", *_body(block.body, depth + 1), f"{_INDENT * depth}}}"]


def _align(chain: Sequence[tuple[str, str]], depth: int) -> list[str]:
    width = max((len(name) for name, _value_text in chain), default=0)
    return [f"{_INDENT * depth}{name.ljust(width)} = {value}" for name, value in chain]


def _value(value: Any, depth: int) -> list[str]:
    """Lines of a value; the first has no indent, it follows the equals sign."""
    if isinstance(value, Expression):
        return [value.text]
    if value is None or isinstance(value, (bool, int, float)):
        return [json.dumps(value)]
    if isinstance(value, str):
        return [quote(value)]
    if isinstance(value, (list, tuple)):
        return _list([_value(item, depth + 1) for item in value], depth)
    if isinstance(value, Mapping):
        return _object(value, depth)
    raise ResourceError(f"cannot write a value of type {type(value).__name__} as HCL: {value!r}")


def _list(items: Sequence[Sequence[str]], depth: int) -> list[str]:
    short = "[" + ", ".join(item[0] for item in items) + "]"
    if all(len(item) == 1 for item in items) and len(short) <= _LINE - 40:
        return [short]
    inner = _INDENT * (depth + 1)
    lines = ["["]
    for item in items:
        lines += [inner + item[0], *item[1:]]
        lines[-1] += ","
    return [*lines, f"{_INDENT * depth}]"]


def _object(value: Mapping[str, Any], depth: int) -> list[str]:
    if not value:
        return ["{}"]
    lines: list[str] = []
    chain: list[tuple[str, str]] = []
    for key, item in value.items():
        name = key if _IDENTIFIER.match(key) else quote(key)
        rendered = _value(item, depth + 1)
        if len(rendered) == 1:
            chain.append((name, rendered[0]))
            continue
        lines += [*_align(chain, depth + 1), f"{_INDENT * (depth + 1)}{name} = {rendered[0]}", *rendered[1:]]
        chain = []
    return ["{", *lines, *_align(chain, depth + 1), f"{_INDENT * depth}}}"]


def _identifier(name: str) -> str:
    if not _IDENTIFIER.match(name):
        raise ResourceError(f"{name!r} is no HCL identifier: these have letters, digits, '_' and '-', and start with no digit")
    return name


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters where words allow it. Characters that could end a comment are shown as escapes."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in word)
            if line and len(line) + 1 + len(shown) > width:
                lines.append(line)
                line = shown
            else:
                line = f"{line} {shown}" if line else shown
        lines.append(line)
    return lines
