# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a validation for a person: as text, and as one page of HTML that needs nothing else. No I/O."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("area", "check", "expected", "found", "ok")
# A cell of the text form that is longer is cut; JSON and HTML have it whole.
CELL = 44

_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:2em;color:#222}table{border-collapse:collapse}th,td{border:1px solid #ccc;padding:.3em .6em;"
    "text-align:left;vertical-align:top}th{background:#eee}tr.failed{background:#fde0e0}td.ok{font-weight:bold}code{white-space:pre-wrap}"
)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """``validation ok: 61/61 checks``, or how many failed and in which areas."""
    failed = [row for row in rows if not row["ok"]]
    if not failed:
        return f"validation ok: {len(rows)}/{len(rows)} checks"
    areas = sorted({row["area"] for row in failed})
    return f"validation FAILED: {len(failed)} of {len(rows)} checks, in {', '.join(areas)}"


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """An aligned table with a closing line that says how many checks passed."""
    cells = [COLUMNS, *(tuple(_cell(row, column) for column in COLUMNS) for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", summary(rows)])


def as_html(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    body = "\n".join(_html_row(row) for row in rows)
    name = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{name}</h1>\n<p>{html.escape(summary(rows))}</p>\n<table>\n<tr>{head}</tr>\n{body}\n</table></body></html>\n"
    )


def _html_row(row: Mapping[str, Any]) -> str:
    cells = "".join(f"<td><code>{html.escape(str(row[column]))}</code></td>" for column in COLUMNS[:-1])
    kind, word = ("passed", "ok") if row["ok"] else ("failed", "FAILED")
    return f'<tr class="{kind}">{cells}<td class="ok">{word}</td></tr>'


def _cell(row: Mapping[str, Any], column: str) -> str:
    if column == "ok":
        return "ok" if row["ok"] else "FAILED"
    text = " ".join(str(row[column]).split())
    return text if len(text) <= CELL else text[: CELL - 3] + "..."
