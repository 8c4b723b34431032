# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of ``mailctl`` that lead from one set of rows to another. Passwords are asked for at the prompt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import MIB, Row, Rows
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import shell_line


def commands(found: Rows, wanted: Rows, passwords: Iterable[str], removed_mail: str) -> list[str]:
    """What a person would type. Domains come first and go last, addresses that become something else are freed first."""
    lines = [_domain(row, found["domains"].get((row[0],))) for row in _new(found, wanted, "domains")]
    taken = {key[0] for table in ("mailboxes", "groups", "aliases") for key in wanted[table]}
    removals = _removals(found, wanted, removed_mail)
    lines += [[*line, "--anyway"] for address, line in removals if address in taken]
    lines += _mailboxes(found, wanted)
    lines += _aliases(found, wanted)
    lines += [["password", address] for address in passwords]
    lines += [line for address, line in removals if address not in taken]
    lines += [["domain", "remove", name] for (name,) in _gone(found, wanted, "domains")]
    return [shell_line(["mailctl", *line]) for line in lines]


def _domain(row: Row, old: Optional[Row]) -> list[str]:
    """What the domain had and has no more is said; what is not named stays."""
    name, _active, relay, catch_all = row
    direct = "--direct" if old is not None and old[2] else ""
    nobody = "--no-catch-all" if old is not None and old[3] else ""
    return ["domain", "set", name, *_option("--relay", relay, direct), *_option("--catch-all", catch_all, nobody)]


def _removals(found: Rows, wanted: Rows, removed_mail: str) -> list[tuple[str, list[str]]]:
    """What goes, each before what it leads to: nothing that is left may lead nowhere."""
    kept = _targets(wanted, "alias").keys() | _targets(wanted, "role").keys()
    aliases = [address for kind in ("alias", "role") for address in sorted(_targets(found, kind)) if address not in kept]
    lines = {address: ["alias", "remove", address] for address in aliases}
    lines.update({address: ["group", "remove", address] for (address,) in _gone(found, wanted, "groups")})
    lines.update({address: ["remove", address, f"--{removed_mail}"] for (address,) in _gone(found, wanted, "mailboxes")})
    leading = dict.fromkeys(lines, 0)
    targets: dict[str, list[str]] = {}
    for address, target, _kind in found["aliases"].values():
        if address in lines and target in lines and address != target:
            targets.setdefault(address, []).append(target)
            leading[target] += 1
    ready, ordered = [address for address in lines if not leading[address]], []
    while ready:
        ordered.append(ready.pop(0))
        for target in targets.get(ordered[-1], []):
            leading[target] -= 1
            if not leading[target]:
                ready.append(target)
    # What leads to itself in a circle, which the model's check refuses, comes in any order.
    return [(address, lines[address]) for address in (*ordered, *(set(lines) - set(ordered)))]


def _mailboxes(found: Rows, wanted: Rows) -> list[list[str]]:
    lines = []
    had, has = _targets(found, "forward"), _targets(wanted, "forward")
    for row in _new(found, wanted, "mailboxes"):
        address, _domain, _local, name, quota, active, _keep = row
        old = found["mailboxes"].get((address,))
        if old is None:
            lines.append(["add", address, "--no-password", *_option("--name", name), *(["--quota", str(quota // MIB)] if quota else [])])
        if old is not None and old[3] != name:
            lines.append(["name", address, name])
        if old is not None and old[4] != quota:
            lines.append(["quota", address, str(quota // MIB)])
        if bool(old[5] if old else 1) != bool(active):
            lines.append(["enable", address] if active else ["disable", address, "--no-hold"])
    for address, row in ((key[0], row) for key, row in sorted(wanted["mailboxes"].items())):
        old = found["mailboxes"].get((address,))
        if had.get(address) != has.get(address) or (old[6] if old else 1) != row[6]:
            lines.append(["forward", address, *has.get(address, []), *([] if row[6] else ["--no-copy"])])
    return lines


def _aliases(found: Rows, wanted: Rows) -> list[list[str]]:
    lines = []
    for kind in ("alias", "role"):
        had, has = _targets(found, kind), _targets(wanted, kind)
        for address in sorted(has):
            if had.get(address) != has[address]:
                lines.append(["alias", "set", address, *has[address], *(["--role"] if kind == "role" else [])])
    had, has = _targets(found, "group"), _targets(wanted, "group")
    for (address,), row in sorted(wanted["groups"].items()):
        if had.get(address) != has.get(address) or found["groups"].get((address,)) != row:
            lines.append(["group", "set", address, *has.get(address, []), "--senders", row[1]])
    return lines


def _targets(rows: Rows, kind: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for address, target, of in sorted(rows["aliases"].values()):
        if of == kind:
            found.setdefault(address, []).append(target)
    return found


def _new(found: Rows, wanted: Rows, table: str) -> list[Row]:
    return [row for key, row in sorted(wanted[table].items()) if found[table].get(key) != row]


def _gone(found: Rows, wanted: Rows, table: str) -> list[Row]:
    return sorted(key for key in found[table] if key not in wanted[table])


def _option(name: str, value: Optional[str], without: str = "") -> list[str]:
    """without: what says that there is none any more"""
    return [name, value] if value else [without] if without else []
