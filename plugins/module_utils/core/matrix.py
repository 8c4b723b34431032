# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The measured matrix against the declared one, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET

OPEN = "open"
# Results of a connection that did not come about because nobody let it: an answer said no, or there was none.
CLOSED = ("refused", "timeout")

# source -> destination -> protocol -> open, refused, timeout, or "error: WHY" when it could not be measured
Matrix = Mapping[str, Mapping[str, Mapping[str, str]]]
Expected = Mapping[tuple[str, str], bool]


def as_declared(results: Mapping[str, str], allowed: bool) -> bool:
    """Whether every protocol's result is what the declaration says."""
    return all(result == OPEN if allowed else result in CLOSED for result in results.values())


def count(expected: Expected, matrix: Matrix) -> dict[str, int]:
    """pairs_ok, pairs_total, internet_ok, internet_total over what was measured."""
    numbers = {"pairs_ok": 0, "pairs_total": 0, "internet_ok": 0, "internet_total": 0}
    for source, row in matrix.items():
        for destination, results in row.items():
            kind = "internet" if destination == INTERNET else "pairs"
            numbers[f"{kind}_total"] += 1
            numbers[f"{kind}_ok"] += as_declared(results, expected[source, destination])
    return numbers


def differences(expected: Expected, matrix: Matrix) -> list[str]:
    """A sentence for each source and destination that are not as declared."""
    return [
        _sentence(source, destination, results, expected[source, destination])
        for source, row in matrix.items()
        for destination, results in row.items()
        if not as_declared(results, expected[source, destination])
    ]


def _sentence(source: str, destination: str, results: Mapping[str, str], allowed: bool) -> str:
    wrong = ", ".join(f"{protocol} {result}" for protocol, result in results.items() if not as_declared({protocol: result}, allowed))
    if destination == INTERNET:
        declared = f"platform_segments[{source}].internet is {'true' if allowed else 'false'}"
    else:
        declared = f"platform_segments[{source}].reaches {'names' if allowed else 'does not name'} {destination}"
    return f"{source} -> {destination}: {wrong}; declared {'open' if allowed else 'closed'} ({declared})"


def as_table(expected: Expected, matrix: Matrix) -> str:
    """The matrix for a person: sources down, destinations across; ``!`` marks what is not as declared."""
    sources = list(matrix)
    columns = [*sources, *([INTERNET] if any(INTERNET in row for row in matrix.values()) else [])]
    cells = [["from \\ to", *columns]]
    for source in sources:
        cells.append([source, *(_cell(expected, matrix, source, column) for column in columns)])
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n" for row in cells)


def _cell(expected: Expected, matrix: Matrix, source: str, column: str) -> str:
    if column not in matrix[source]:
        return "-"
    results = matrix[source][column]
    words = list(dict.fromkeys(results.values()))
    if all(word in CLOSED for word in words):
        text = CLOSED[0] if CLOSED[0] in words else CLOSED[1]
    elif len(words) == 1:
        text = words[0]
    else:
        text = ",".join(f"{protocol}:{result}" for protocol, result in results.items())
    return text if as_declared(results, expected[source, column]) else f"{text}!"


def summary(numbers: Mapping[str, int], faults: Sequence[Any]) -> str:
    """One line, such as ``pairs 20/20, internet 5/5``."""
    line = f"pairs {numbers['pairs_ok']}/{numbers['pairs_total']}, internet {numbers['internet_ok']}/{numbers['internet_total']}"
    return f"{line}, {len(faults)} difference{'' if len(faults) == 1 else 's'}" if faults else line
