# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a host has exactly the declared table: plain text in, a plan out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_rules import PASS_MARK
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import Ruleset, render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import here_document, shell_line

# Only root loads it, and it tells an intruder what is where.
FILE_MODE = 0o600

# Docker jumps here first from FORWARD, and keeps what it finds in it.
DOCKER_CHAIN = "DOCKER-USER"
DOCKER_RULE = ("-m", "mark", "--mark", f"0x{PASS_MARK:x}/0x{PASS_MARK:x}", "-j", "ACCEPT")

_HEAD = re.compile(r"\t(?P<head>\S.*?) \{$")
_HOOK = re.compile(r"(type \S+ hook .*?); policy \w+;")


@dataclass(frozen=True)
class Listing:
    """A table as ``nft -s list table`` prints it.

    blocks: head such as ``chain forward`` or ``counter pair_a_b`` -> its lines
    flags:  lines of the table itself, such as ``flags dormant``
    """

    blocks: Mapping[str, tuple[str, ...]]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class DockerUser:
    """What was found of DOCKER-USER: whether the chain is there, and our rule in it."""

    chain: bool = False
    rule: bool = False


@dataclass(frozen=True)
class Found:
    """The host. ``None``: there is no such thing; of ``docker``: it is not to be managed.

    canonical: the declared table as this host's nft prints it; None where the declared table is not known or there is no nft
    """

    live: Optional[Listing] = None
    canonical: Optional[Listing] = None
    file_text: Optional[str] = None
    file_mode: Optional[int] = None
    docker: Optional[DockerUser] = None


@dataclass(frozen=True)
class Plan:
    """before, after: dicts for a person and a diff

    load:   text for ``nft -f -``, None when the table is right
    write:  text for the file, None when it is right
    docker: argument lists for iptables
    """

    before: dict[str, Any]
    after: dict[str, Any]
    commands: list[str] = field(default_factory=list)
    load: Optional[str] = None
    write: Optional[str] = None
    remove_file: bool = False
    docker: list[tuple[str, ...]] = field(default_factory=list)


def parse_listing(text: str) -> Listing:
    """Takes the text of ``nft -s list table`` apart."""
    blocks: dict[str, tuple[str, ...]] = {}
    flags: list[str] = []
    head: Optional[str] = None
    lines: list[str] = []
    for line in text.splitlines():
        start = _HEAD.match(line)
        if head is not None and line == "\t}":
            blocks[head] = tuple(lines)
            head = None
        elif head is not None:
            lines.append(line[2:])
        elif start is not None:
            head, lines = start["head"], []
        elif line.startswith("\t"):
            flags.append(line.strip())
    return Listing(blocks, tuple(flags))


def plan_merged(ruleset: Ruleset, found: Found, path: str) -> Plan:
    """Makes the table, the file and Docker's chain as declared."""
    text = render(ruleset)
    load, commands = None, []
    write = None if (found.file_text, found.file_mode) == (text, FILE_MODE) else text
    if write is not None:
        commands.append(here_document(["install", "-D", "-m", f"{FILE_MODE:04o}", "/dev/stdin", path], text))
    if found.live is None or found.live != found.canonical:
        removals = _removals(ruleset, found)
        load = "".join(f"{line}\n" for line in removals) + text
        if removals:
            commands.append(here_document(["nft", "-f", "-"], "\n".join([*removals, f'include "{path}"'])))
        else:
            commands.append(shell_line(["nft", "-f", path]))
    docker = _docker_additions(found.docker)
    commands += [shell_line(["iptables", *arguments]) for arguments in docker]
    return Plan(describe(ruleset, found, path, text), _wanted(ruleset, found, path), commands, load=load, write=write, docker=docker)


def plan_deleted(table: str, found: Found, path: str) -> Plan:
    """Takes all of it away. Chain DOCKER-USER itself is Docker's and stays."""
    commands, load = [], None
    if found.live is not None:
        load = f"delete table inet {table}\n"
        commands.append(shell_line(["nft", "delete", "table", "inet", table]))
    if found.file_text is not None:
        commands.append(shell_line(["rm", path]))
    docker: list[tuple[str, ...]] = [("-w", "-D", DOCKER_CHAIN, *DOCKER_RULE)] if found.docker is not None and found.docker.rule else []
    commands += [shell_line(["iptables", *arguments]) for arguments in docker]
    after: dict[str, Any] = {"table": table, "chains": None, "objects": None, "file": None}
    if found.docker is not None:
        after["docker_user"] = False
    before = describe(Ruleset(table, (), ()), found, path, None)
    return Plan(before, after, commands, load=load, remove_file=found.file_text is not None, docker=docker)


def describe(ruleset: Ruleset, found: Found, path: str, text: Optional[str]) -> dict[str, Any]:
    """The host as found. A line that means the same as a declared one is shown as that one, however this host's nft prints it.

    text: what the file should hold, when that is known
    """
    answer: dict[str, Any] = {"table": ruleset.table, "chains": None, "objects": None, "file": None}
    if found.live is not None:
        same = _same_lines(ruleset, found.canonical)
        declared = [f"chain {chain.name}" for chain in ruleset.chains]
        heads = [head for head in declared if head in found.live.blocks] + sorted(head for head in found.live.blocks if head not in declared)
        chains = [head for head in heads if head.startswith("chain ")]
        answer["chains"] = {head[len("chain ") :]: [same.get(line, line) for line in found.live.blocks[head]] for head in chains}
        answer["objects"] = sorted(head for head in found.live.blocks if not head.startswith("chain ")) + list(found.live.flags)
    if found.file_text is not None:
        answer["file"] = {"path": path, "mode": f"{found.file_mode or 0:04o}"}
        if text is not None:
            answer["file"]["as_declared"] = found.file_text == text
    if found.docker is not None:
        answer["docker_user"] = found.docker.rule
    return answer


def _wanted(ruleset: Ruleset, found: Found, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "table": ruleset.table,
        "chains": {chain.name: chain.lines() for chain in ruleset.chains},
        "objects": sorted(f"counter {name}" for name in ruleset.counters),
        "file": {"path": path, "mode": f"{FILE_MODE:04o}", "as_declared": True},
    }
    if found.docker is not None:
        answer["docker_user"] = True
    return answer


def _same_lines(ruleset: Ruleset, canonical: Optional[Listing]) -> dict[str, str]:
    same: dict[str, str] = {}
    for chain in ruleset.chains if canonical is not None else ():
        printed = canonical.blocks.get(f"chain {chain.name}", ()) if canonical is not None else ()
        if len(printed) == len(chain.lines()):
            same.update(zip(printed, chain.lines()))
    return same


def _removals(ruleset: Ruleset, found: Found) -> list[str]:
    """What has to go from the live table, in the same transaction: strangers, and chains of ours hooked in another way."""
    if found.live is None:
        return []
    wanted = {f"chain {chain.name}": _hook(chain.lines()) for chain in ruleset.chains}
    wanted.update({f"counter {name}": "" for name in ruleset.counters})
    gone = [head for head, lines in found.live.blocks.items() if head not in wanted or _hook(lines) != wanted[head]]
    # Elements of a map may lead to chains, so maps go first.
    gone.sort(key=lambda head: head.startswith("chain "))
    if not gone:
        return []
    return [f"flush table inet {ruleset.table}", *(_delete(ruleset.table, head) for head in gone)]


def _delete(table: str, head: str) -> str:
    kind, name = head.rsplit(" ", 1)
    return f"delete {kind} inet {table} {name}"


def _hook(lines: Sequence[str]) -> str:
    match = _HOOK.match(lines[0]) if lines else None
    return match[1] if match else ""


def _docker_additions(docker: Optional[DockerUser]) -> list[tuple[str, ...]]:
    if docker is None or docker.rule:
        return []
    made: list[tuple[str, ...]] = [] if docker.chain else [("-w", "-N", DOCKER_CHAIN)]
    return [*made, ("-w", "-I", DOCKER_CHAIN, "1", *DOCKER_RULE)]
