# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests may take of a host: a policy as data, and whether a set of guests keeps to it. No I/O.

Uses the standard library alone: libvirt's hook on the managed host carries this very file, and has no collection beside it.
Counts are guests and vCPUs; memory is in KiB (as libvirt and /proc/meminfo give it) unless a name says otherwise.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Optional

RUNNING = "running"
STARTING = "to be started"
FOREIGN = "running, not ours"

KINDS = ("guests", "vcpus", "memory")
WIDTH = 100
_KIB_PER_MIB = 1024
_TITLES = {"guests": "guests", "vcpus": "vCPUs", "memory": "memory MiB"}
_NAME_WIDTH = 32

# The namespace of our mark in a definition's metadata.
_OURS = "{urn:hybridlab:platform:1}"

# libvirt.org/formatdomain.html, "Memory Allocation": what the attribute unit may be, in bytes; KiB without it.
_UNITS = {"b": 1, "bytes": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS.update({"k": 2**10, "KiB": 2**10, "M": 2**20, "MiB": 2**20, "G": 2**30, "GiB": 2**30, "T": 2**40, "TiB": 2**40})


class PolicyError(ValueError):
    """The policy is not one; the message names the key, what was found and the cure."""


@dataclass(frozen=True)
class Policy:
    """What guests may take together. A value that is None does not limit; of several limits of a kind the lowest wins.

    guests:            guests that run at once
    vcpus:             vCPUs of the running guests
    vcpus_per_core:    vCPUs for each core that is not reserved (2 is an overcommit of 1:2); a core counts once however many threads it has
    memory_mb:         MiB of the running guests
    memory_percent:    of the host's memory, 0 to 100
    reserve_cores:     cores that are the host's own
    reserve_memory_mb: MiB that are the host's own; 0 does not limit
    """

    guests: Optional[int] = None
    vcpus: Optional[int] = None
    vcpus_per_core: Optional[float] = None
    memory_mb: Optional[int] = None
    memory_percent: Optional[int] = None
    reserve_cores: int = 0
    reserve_memory_mb: int = 0


@dataclass(frozen=True)
class Means:
    """What the host has: physical cores, memory in KiB (MemTotal of /proc/meminfo)."""

    cores: int
    memory_kib: int


@dataclass(frozen=True)
class Claim:
    """What one guest may take without asking anybody: its maximum of vCPUs and of memory. by: RUNNING, STARTING or FOREIGN."""

    name: str
    vcpus: int
    memory_kib: int
    by: str = RUNNING


@dataclass(frozen=True)
class Limit:
    """name: one of KINDS; value: guests, vCPUs or KiB; source: the key of the policy that sets it, and how it comes to this value."""

    name: str
    value: int
    source: str


@dataclass(frozen=True)
class Excess:
    """A limit that is exceeded. used: by running guests; asked: by those to be started; both in the limit's unit."""

    limit: Limit
    used: int
    asked: int

    @property
    def over(self) -> int:
        return self.used + self.asked - self.limit.value

    @property
    def text(self) -> str:
        return f"{_TITLES[self.limit.name].split()[0]}: {_amount(self.limit.name, self.over)} over the limit ({self.limit.source})"


@dataclass(frozen=True)
class Verdict:
    """ok exactly when no limit is exceeded. table: the three rows, and below them the claims; lines of at most WIDTH columns."""

    ok: bool
    table: str
    excesses: tuple[Excess, ...]


def read_policy(data: Mapping[str, Any], path: str = "platform_capacity") -> Policy:
    """The policy in ``data`` (keys as in Policy; None as if left out). PolicyError for anything else; ``path`` names it in the message."""
    if not isinstance(data, Mapping):
        raise PolicyError(f"{path}: found {data!r}. Give a mapping of limits.")
    known = [entry.name for entry in fields(Policy)]
    for key, value in data.items():
        if key not in known:
            raise PolicyError(f"{path}.{key}: there is no such limit. Known are {', '.join(known)}.")
        if value is not None:
            _check(f"{path}.{key}", key, value)
    return Policy(**{key: value for key, value in data.items() if value is not None})


def _check(path: str, key: str, value: Any) -> None:
    kinds = (int, float) if key == "vcpus_per_core" else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < float("inf"):
        raise PolicyError(f"{path}: found {value!r}. Give {'a number' if float in kinds else 'a whole number'} of 0 or more.")
    if key == "memory_percent" and value > 100:
        raise PolicyError(f"{path}: found {value!r}. Give a percentage from 0 to 100.")


def read_means(cpuinfo: str, meminfo: str) -> Means:
    """From the texts of /proc/cpuinfo and /proc/meminfo. Where no cores are named (ARM, some guests), each thread counts as one."""
    cores, threads = set(), 0
    for block in cpuinfo.split("\n\n"):
        values = {key.strip(): value.strip() for key, _colon, value in (line.partition(":") for line in block.splitlines())}
        if "processor" in values:
            threads += 1
            if "core id" in values:
                cores.add((values.get("physical id", "0"), values["core id"]))
    memory = next(int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemTotal:"))
    return Means(len(cores) or threads, memory)


def read_claim(xml: str, by: Optional[str] = None) -> Claim:
    """What the guest of a definition may take: its largest number of vCPUs, and the largest memory that it may get by balloon or by hot-plug.

    xml: ``<domain>``, or ``<domstatus>`` as libvirt keeps it of a running guest in /run/libvirt/qemu
    by:  when left out, RUNNING for a guest with our mark and FOREIGN for any other

    Raises ValueError that says what the definition lacks; elements that are unknown here do no harm.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise ValueError(f"no XML: {error}") from None
    domain = root if root.tag == "domain" else root.find("domain")
    name = None if domain is None else domain.findtext("name")
    if domain is None or not name:
        raise ValueError("no <domain> with a <name>")
    memory = max((_kib(element) for tag in ("memory", "maxMemory") for element in domain.iterfind(tag)), default=0)
    if by is None:
        by = RUNNING if any(element.tag.startswith(_OURS) for element in domain.iterfind("metadata/*")) else FOREIGN
    return Claim(name, int(domain.findtext("vcpu") or 1), memory, by)


def _kib(element: ET.Element) -> int:
    unit = element.get("unit", "KiB")
    if unit not in _UNITS:
        raise ValueError(f"<{element.tag}> in the unknown unit {unit!r}")
    return -(-int(element.text or 0) * _UNITS[unit] // 2**10)


def limits(policy: Policy, means: Means) -> list[Limit]:
    """Every limit that the policy sets on a host with these means; of each kind the lowest first."""
    found = []
    if policy.guests is not None:
        found.append(Limit("guests", policy.guests, "guests"))
    if policy.vcpus is not None:
        found.append(Limit("vcpus", policy.vcpus, "vcpus"))
    if policy.vcpus_per_core is not None:
        value = int(policy.vcpus_per_core * max(0, means.cores - policy.reserve_cores))
        found.append(Limit("vcpus", value, f"vcpus_per_core: {policy.vcpus_per_core:g} x ({means.cores} cores - {policy.reserve_cores})"))
    if policy.memory_mb is not None:
        found.append(Limit("memory", policy.memory_mb * _KIB_PER_MIB, "memory_mb"))
    if policy.memory_percent is not None:
        value = means.memory_kib * policy.memory_percent // 100
        found.append(Limit("memory", value, f"memory_percent: {policy.memory_percent} % of {means.memory_kib // _KIB_PER_MIB}"))
    if policy.reserve_memory_mb:
        value = max(0, means.memory_kib - policy.reserve_memory_mb * _KIB_PER_MIB)
        found.append(Limit("memory", value, f"reserve.memory_mb: {means.memory_kib // _KIB_PER_MIB} - {policy.reserve_memory_mb}"))
    return sorted(found, key=lambda limit: (KINDS.index(limit.name), limit.value))


def lowest(policy: Policy, means: Means) -> dict[str, Limit]:
    """The limit that counts of each kind that is limited at all, by KINDS."""
    found: dict[str, Limit] = {}
    for limit in limits(policy, means):
        found.setdefault(limit.name, limit)
    return found


def judge(policy: Policy, means: Means, claims: Iterable[Claim]) -> Verdict:
    """Whether all ``claims`` together keep to the policy. Give every running guest, ours or not, and those that are to be started."""
    every = tuple(claims)
    binding = lowest(policy, means)
    used = totals([claim for claim in every if claim.by != STARTING])
    asked = totals([claim for claim in every if claim.by == STARTING])
    excesses = tuple(Excess(binding[kind], used[kind], asked[kind]) for kind in KINDS if kind in binding and used[kind] + asked[kind] > binding[kind].value)
    lines = [_row("", "limit", "used", "asked", "over", "limit set by")]
    lines += [_limit_row(kind, binding.get(kind), used[kind], asked[kind]) for kind in KINDS]
    lines += _claim_rows(every)
    return Verdict(not excesses, "\n".join(_fit(line) for line in lines), excesses)


def refusal(verdict: Verdict) -> str:
    """The message for a person whose guests are refused: what is exceeded, the table, the cure."""
    return (
        f"The guests would take more than the host may give. {'; '.join(excess.text for excess in verdict.excesses)}.\n{verdict.table}\n"
        "Stop a guest, ask for less, or raise the limit (platform_capacity, platform_host.reserve)."
    )


def totals(claims: Sequence[Claim]) -> dict[str, int]:
    """What the claims take together, by KINDS; memory in KiB."""
    return {"guests": len(claims), "vcpus": sum(claim.vcpus for claim in claims), "memory": sum(claim.memory_kib for claim in claims)}


def _limit_row(kind: str, limit: Optional[Limit], used: int, asked: int) -> str:
    if limit is None:
        return _row(_TITLES[kind], "none", _up(kind, used), _up(kind, asked), "-", "-")
    over = used + asked - limit.value
    value = limit.value // _KIB_PER_MIB if kind == "memory" else limit.value
    return _row(_TITLES[kind], value, _up(kind, used), _up(kind, asked), _amount(kind, over) if over > 0 else "-", limit.source)


def _row(title: str, limit: Any, used: Any, asked: Any, over: str, source: str) -> str:
    return f"{title:<10} {limit:>8} {used:>8} {asked:>8} {over:>12}  {source}".rstrip()


def _claim_rows(claims: Sequence[Claim]) -> list[str]:
    if not claims:
        return ["no guests"]
    width = min(_NAME_WIDTH, max(len("guest"), *(len(claim.name) for claim in claims)))
    rows = [f"{'guest':<{width}} {'vCPUs':>5} {'MiB':>7}  by"]
    for claim in claims:
        name = claim.name if len(claim.name) <= width else claim.name[: width - 3] + "..."
        rows.append(f"{name:<{width}} {claim.vcpus:>5} {_up('memory', claim.memory_kib):>7}  {claim.by}")
    return rows


def _up(kind: str, value: int) -> int:
    """Memory rounded up to MiB while limits are rounded down: an excess of one KiB can be seen in the row."""
    return -(-value // _KIB_PER_MIB) if kind == "memory" else value


def _amount(kind: str, value: int) -> str:
    if kind != "memory":
        return str(value)
    return f"{value} KiB" if value % _KIB_PER_MIB else f"{value // _KIB_PER_MIB} MiB"


def _fit(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
