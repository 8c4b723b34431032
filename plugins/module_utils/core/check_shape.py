# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading raw inventory values by exact type: every fault is recorded, nothing is guessed or converted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import Finding

# Keys whose values are never shown, whatever is wrong with them.
_SECRET = re.compile(r"pass|secret|token|private|credential")
HIDDEN = "a value that is not shown"


class Faults:
    """Findings in the order in which they were made."""

    def __init__(self) -> None:
        self.items: list[Finding] = []

    def add(self, rule: str, path: str, found: Any, reason: str, cure: str) -> None:
        self.items.append(Finding(path, found, reason, cure, rule))


def plain(value: Any) -> Any:
    """A copy made of exact built-in types; Ansible hands over subclasses that carry tags or template lazily."""
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value


def nearest(word: str, known: Iterable[str]) -> Optional[str]:
    """The known word that ``word`` was probably meant to be."""
    words = list(known)
    close = difflib.get_close_matches(str(word).lower().replace("-", "_"), words, n=1, cutoff=0.6)
    return close[0] if close else None


def meant(word: str, known: Iterable[str], noun: str) -> str:
    """A cure for an unknown word: the nearest known one, or all of them."""
    words = list(known)
    guess = nearest(word, words)
    if guess is not None:
        return f"Did you mean {guess!r}?"
    return f"Known {noun}: {', '.join(words)}" if words else f"There are no {noun} to name"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"


def as_text(faults: Faults, path: str, value: Any) -> Optional[str]:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (bool, int, float)):
        faults.add("type", path, value, f"must be text, YAML read {_kind(value)}", "Put the value in quotes")
    elif isinstance(value, str):
        faults.add("type", path, value, "must be text, this is empty", "Give a value or remove the key")
    else:
        faults.add("type", path, value, f"must be text, this is {_kind(value)}", "Give one value in text form, or remove the key")
    return None


def as_number(faults: Faults, path: str, value: Any, least: Optional[int] = 0) -> Optional[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        if least is None or value >= least:
            return value
        faults.add("negative", path, value, f"must be {least} or more", "Give the true size, or remove the key")
        return None
    cure = f"Write {value}, without quotes" if isinstance(value, str) and value.isdecimal() else "Write a whole number, without quotes"
    faults.add("type", path, value, f"must be a whole number, this is {_kind(value)}", cure)
    return None


def as_flag(faults: Faults, path: str, value: Any, default: bool) -> bool:
    if isinstance(value, bool):
        return value
    faults.add("type", path, value, f"must be true or false, this is {_kind(value)}", "Write true or false, without quotes")
    return default


def as_rows(faults: Faults, path: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    cure = f"Write [{value}]" if isinstance(value, (str, int)) and not isinstance(value, bool) else "Write a list, [] for none, or remove the key"
    faults.add("type", path, value, f"must be a list, this is {_kind(value)}", cure)
    return []


class Table:
    """One mapping of the model. Unknown and missing keys are recorded when it is made."""

    def __init__(self, faults: Faults, path: str, value: Mapping[str, Any], known: Sequence[str], required: Sequence[str] = ()) -> None:
        self.faults = faults
        self.path = path
        self.value = value
        for key in value:
            if key not in known:
                found = HIDDEN if _SECRET.search(str(key).lower()) else value[key]
                faults.add("unknown-key", self.at(str(key)), found, "there is no such key", meant(str(key), known, "keys"))
        for key in required:
            if key not in value:
                faults.add("missing", self.at(key), None, "must be set", f"Add {key!r}")

    @classmethod
    def read(cls, faults: Faults, path: str, value: Any, known: Sequence[str], required: Sequence[str] = ()) -> Optional[Table]:
        if isinstance(value, Mapping):
            return cls(faults, path, value, known, required)
        faults.add("type", path, value, f"must be a mapping, this is {_kind(value)}", f"Write a mapping with the keys {', '.join(known)}")
        return None

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def text(self, key: str) -> Optional[str]:
        return as_text(self.faults, self.at(key), self.value[key]) if key in self.value else None

    def number(self, key: str, least: int = 0) -> Optional[int]:
        return as_number(self.faults, self.at(key), self.value[key], least) if key in self.value else None

    def flag(self, key: str, default: bool) -> bool:
        return as_flag(self.faults, self.at(key), self.value[key], default) if key in self.value else default

    def choice(self, key: str, choices: Sequence[str]) -> Optional[str]:
        found = self.text(key)
        if found is None or found in choices:
            return found
        self.faults.add("choice", self.at(key), found, "is none of the choices", meant(found, choices, "choices"))
        return None

    def rows(self, key: str) -> list[Any]:
        return as_rows(self.faults, self.at(key), self.value[key]) if key in self.value else []

    def words(self, key: str) -> list[str]:
        """A list of texts; wrong entries are recorded and left out."""
        found = [as_text(self.faults, f"{self.at(key)}[{index}]", item) for index, item in enumerate(self.rows(key))]
        return [word for word in found if word is not None]


def labels(path: str, rows: Sequence[Any]) -> list[str]:
    """Variable path of each row: by its name where that is unique text, else by its index."""
    names = [row.get("name") if isinstance(row, Mapping) else None for row in rows]
    return [f"{path}[{name}]" if isinstance(name, str) and name.strip() and names.count(name) == 1 else f"{path}[{index}]" for index, name in enumerate(names)]
