# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in DNS against what the sheet says. Equal means equal in effect: order, spaces, capital letters and pieces of texts do not count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_dns import Record

Answers = Mapping[tuple[str, str], Sequence[str]]

_PIECES = re.compile(r'"((?:[^"\\]|\\.)*)"')
# Tags of DMARC about the reports alone.
_REPORTING = ("ruf", "fo", "rf", "ri")
_ESCAPE = re.compile(r"\\(\d{3}|.)")


@dataclass(frozen=True)
class Difference:
    """kind: ``missing`` (nothing of its sort is there), ``different`` (something else is), ``doubled`` (more than the one that may be there).

    wanted: None for what is there too much; found: what DNS says
    """

    name: str
    type: str
    kind: str
    wanted: Optional[str]
    found: tuple[str, ...]
    cure: str


def compare(records: Iterable[Record], answers: Answers) -> list[Difference]:
    """answers: {(name, type): values} as dig +short or a resolver's library writes them; an absent key is an answer without records.

    A CNAME may be kept as addresses instead: where the mail host's own stand there, it leads to the same place.
    """
    sheet = list(records)
    told = {(_name(name), kind.upper()): [_canonical(kind.upper(), value) for value in values] for (name, kind), values in answers.items()}
    wanted: dict[tuple[str, str, str], list[Record]] = {}
    for record in sheet:
        wanted.setdefault((record.name, record.type, _sort(record.type, _canonical(record.type, record.value))), []).append(record)
    differences = [_judge(group, told, sheet, sort) for (_owner, _kind, sort), group in wanted.items()]
    return [difference for difference in differences if difference is not None]


def _judge(group: Sequence[Record], told: Mapping[tuple[str, str], Sequence[str]], sheet: Sequence[Record], sort: str) -> Optional[Difference]:
    """What is wrong with the records of one name, type and sort, of which all those in DNS must be these."""
    name, kind = group[0].name, group[0].type
    found = [value for value in told.get((name, kind), ()) if _sort(kind, value) == sort]
    wanted = {_canonical(kind, record.value) for record in group}
    if len(found) == len(wanted) and (set(found) == wanted or (sort == "v=spf1" and _names_more(found[0], next(iter(wanted))))):
        return None
    if kind == "CNAME" and not found and _leads_there(group[0], told, sheet):
        return None
    text = ", ".join(record.value for record in group)
    if not found:
        return Difference(name, kind, "missing", text, (), f"Add {name}. {kind} {text}")
    if wanted <= set(found):
        rest = ", ".join(sorted(set(found) - wanted)) or "the others like it"
        return Difference(name, kind, "doubled", text, tuple(found), f"Keep {text} alone, and remove {rest}")
    return Difference(name, kind, "different", text, tuple(found), f"Replace {', '.join(found)} by {text}")


def _names_more(found: str, wanted: str) -> bool:
    """Whether an SPF record says the same with further senders: those may be services that the model does not know."""
    have, need = found.split(), wanted.split()
    return have[-1] == need[-1] and set(need) <= set(have)


def _leads_there(record: Record, told: Mapping[tuple[str, str], Sequence[str]], sheet: Sequence[Record]) -> bool:
    for kind in ("A", "AAAA"):
        own = {_canonical(kind, other.value) for other in sheet if (other.name, other.type) == (_name(record.value), kind)}
        if not own:
            own = set(told.get((_name(record.value), kind), ()))
        there = set(told.get((record.name, kind), ()))
        if there and there <= own:
            return True
    return False


def _name(text: str) -> str:
    return text.rstrip(".").lower()


def _text(value: str) -> str:
    """The text of a TXT: pieces in quotes are one text, and escapes what they stand for."""
    pieces = _PIECES.findall(value)
    if not pieces or not value.lstrip().startswith('"'):
        return value
    return "".join(_ESCAPE.sub(lambda match: chr(int(match[1])) if match[1].isdecimal() and len(match[1]) == 3 else match[1], piece) for piece in pieces)


def _canonical(kind: str, value: str) -> str:
    """One spelling for what means the same."""
    if kind == "TXT":
        return _canonical_text(_text(value))
    if kind in ("A", "AAAA"):
        try:
            return str(ip_address(value.strip()))
        except ValueError:
            return value
    if kind == "MX":
        # With one server the preference says nothing.
        return _name(value.split()[-1]) if value.split() else value
    if kind == "TLSA":
        words = value.lower().split()
        return " ".join([*words[:3], "".join(words[3:])])
    return " ".join(_name(word) for word in value.split())


def _canonical_text(text: str) -> str:
    """Of tags (DKIM, DMARC, MTA-STS, TLS-RPT) what has an effect on mail; of SPF what stands up to ``all``. In an order of its own."""
    if text.lower().startswith("v=spf1"):
        first, *terms = (term.removeprefix("+") for term in text.lower().split())
        # A term after all counts for nothing, and one twice for no more.
        end = next((place for place, term in enumerate(terms) if term.endswith("all")), len(terms))
        return " ".join([first, *sorted(set(terms[:end])), *terms[end : end + 1]])
    tags = [[part.strip() for part in tag.split("=", 1)] for tag in text.split(";") if tag.strip()]
    if not tags or len(tags[0]) != 2 or tags[0][0].lower() != "v":
        return text
    # Where reports go is the owner's to say; that they go somewhere is not.
    pairs = [(tag[0].lower(), "" if tag[0].lower() == "rua" else "".join("".join(tag[1:]).split())) for tag in tags]
    return "; ".join(f"{key}={value}" for key, value in [pairs[0], *sorted(pair for pair in pairs[1:] if pair[0] not in _REPORTING)])


def _sort(kind: str, value: str) -> str:
    """What of the records of one name and type belongs together: of texts those of one purpose, since others may stand beside them."""
    if kind != "TXT":
        return ""
    return value.split(";")[0].split(" ")[0].lower()
