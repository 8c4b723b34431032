# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import capacity
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import (
    FOREIGN,
    KINDS,
    RUNNING,
    STARTING,
    WIDTH,
    Claim,
    Means,
    Policy,
    PolicyError,
    judge,
    limits,
    lowest,
    read_claim,
    read_means,
    read_policy,
    refusal,
)
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024
# Six cores and 32 GiB, of which the firmware kept a part.
HOST = Means(6, 32_768_001)
WHOLE = {
    "guests": 8,
    "vcpus": 8,
    "vcpus_per_core": 2,
    "memory_mb": 24576,
    "memory_percent": 70,
    "reserve_cores": 2,
    "reserve_memory_mb": 8192,
}
POLICY = read_policy(WHOLE)


def claims(count: int, vcpus: int = 1, memory_kib: int = 64 * MIB, by: str = RUNNING) -> list[Claim]:
    return [Claim(f"g{index}", vcpus, memory_kib, by) for index in range(count)]


def test_every_limit_of_the_policy_is_listed_and_the_lowest_counts() -> None:
    assert {(limit.name, limit.value) for limit in limits(POLICY, HOST)} == {
        ("guests", 8),
        ("vcpus", 8),
        ("memory", 24576 * MIB),
        ("memory", 22_937_600),
        ("memory", 32_768_001 - 8192 * MIB),
    }
    assert len(limits(POLICY, HOST)) == 6
    assert lowest(POLICY, HOST)["memory"].source == "memory_percent: 70 % of 32000"


@pytest.mark.parametrize(
    ("cores", "per_core", "allowed"),
    [(6, 2, 8), (4, 1.5, 3), (3, 0.5, 0), (2, 2, 0), (1, 2, 0)],
)
def test_vcpus_for_each_core_that_is_not_reserved(cores: int, per_core: float, allowed: int) -> None:
    found = lowest(Policy(vcpus_per_core=per_core, reserve_cores=2), Means(cores, 10**6))
    assert found["vcpus"].value == allowed
    assert found["vcpus"].source == f"vcpus_per_core: {per_core} x ({cores} cores - 2)"


def test_the_eighth_guest_fits_and_the_ninth_does_not() -> None:
    policy = Policy(guests=8)
    assert judge(policy, HOST, [*claims(7), Claim("web", 1, MIB, STARTING)]).ok
    refused = judge(policy, HOST, [*claims(8), Claim("web", 1, MIB, STARTING)])
    assert not refused.ok
    assert [(excess.limit.name, excess.used, excess.asked, excess.over) for excess in refused.excesses] == [("guests", 8, 1, 1)]


def test_the_ninth_vcpu_does_not_fit() -> None:
    policy = Policy(vcpus=8)
    assert judge(policy, HOST, [*claims(2, vcpus=3), Claim("web", 2, MIB, STARTING)]).ok
    refused = judge(policy, HOST, [*claims(2, vcpus=3), Claim("web", 3, MIB, STARTING)])
    assert [excess.text for excess in refused.excesses] == ["vCPUs: 1 over the limit (vcpus)"]


def test_one_kib_over_the_percentage_is_refused_and_seen() -> None:
    policy = Policy(memory_percent=70)
    limit = HOST.memory_kib * 70 // 100
    assert judge(policy, HOST, [Claim("web", 1, limit, STARTING)]).ok
    refused = judge(policy, HOST, [Claim("web", 1, limit + 1, STARTING)])
    assert not refused.ok
    row = next(line for line in refused.table.splitlines() if line.startswith("memory"))
    assert row.split()[2:7] == ["22400", "0", "22401", "1", "KiB"]


def test_guests_of_others_count_like_ours() -> None:
    refused = judge(Policy(guests=1), HOST, [*claims(1, by=FOREIGN), Claim("web", 1, MIB, STARTING)])
    assert (refused.ok, refused.excesses[0].used) == (False, 1)
    assert "g0        1      64  running, not ours" in refused.table


def test_the_table() -> None:
    verdict = judge(POLICY, HOST, [*claims(8), Claim("web", 1, 512 * MIB, STARTING)])
    assert verdict.table.splitlines() == [
        "              limit     used    asked         over  limit set by",
        "guests            8        8        1            1  guests",
        "vCPUs             8        8        1            1  vcpus",
        "memory MiB    22400      512      512            -  memory_percent: 70 % of 32000",
        "guest vCPUs     MiB  by",
        *[f"g{index}        1      64  running" for index in range(8)],
        "web       1     512  to be started",
    ]
    assert refusal(verdict).splitlines()[0] == (
        "The guests would take more than the host may give. guests: 1 over the limit (guests); vCPUs: 1 over the limit (vcpus)."
    )


def test_nothing_limits_without_a_policy() -> None:
    verdict = judge(Policy(), Means(1, MIB), claims(50, vcpus=99, by=STARTING))
    assert verdict.ok
    assert "guests         none        0       50            -  -" in verdict.table


WHOLES = st.integers(0, 40)
POLICIES = st.builds(
    Policy,
    guests=st.none() | WHOLES,
    vcpus=st.none() | WHOLES,
    vcpus_per_core=st.none() | st.floats(0, 8),
    memory_mb=st.none() | WHOLES,
    memory_percent=st.none() | st.integers(0, 100),
    reserve_cores=st.integers(0, 8),
    reserve_memory_mb=WHOLES,
)
MEANS = st.builds(Means, cores=st.integers(1, 16), memory_kib=st.integers(1, 64 * MIB))
CLAIM = st.builds(
    Claim, name=st.text(min_size=1), vcpus=st.integers(1, 8), memory_kib=st.integers(0, 20 * MIB), by=st.sampled_from([RUNNING, STARTING, FOREIGN])
)


@given(POLICIES, MEANS, st.lists(CLAIM), CLAIM)
def test_a_further_guest_never_makes_room(policy: Policy, means: Means, taken: list[Claim], more: Claim) -> None:
    if not judge(policy, means, taken).ok:
        assert not judge(policy, means, [*taken, more]).ok


@given(POLICIES, MEANS, st.lists(CLAIM))
def test_refused_exactly_when_a_limit_is_exceeded(policy: Policy, means: Means, taken: list[Claim]) -> None:
    sums = {"guests": len(taken), "vcpus": sum(claim.vcpus for claim in taken), "memory": sum(claim.memory_kib for claim in taken)}
    assert judge(policy, means, taken).ok == all(sums[limit.name] <= limit.value for limit in limits(policy, means))


@given(POLICIES, MEANS, st.lists(CLAIM), st.sampled_from(["guests", "vcpus", "memory_mb"]), WHOLES)
def test_a_lower_limit_never_lets_more_through(policy: Policy, means: Means, taken: list[Claim], key: str, value: int) -> None:
    found = getattr(policy, key)
    lower = replace(policy, **{key: value if found is None else min(found, value)})
    if judge(lower, means, taken).ok:
        assert judge(policy, means, taken).ok
    for kind in KINDS:
        if kind in lowest(policy, means):
            assert lowest(lower, means)[kind].value <= lowest(policy, means)[kind].value


@given(POLICIES, MEANS, st.lists(CLAIM, max_size=12))
def test_the_table_fits_the_screen(policy: Policy, means: Means, taken: list[Claim]) -> None:
    assert max(len(line) for line in judge(policy, means, taken).table.split("\n")) <= WIDTH


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"guest": 8}, "platform_capacity.guest: there is no such limit. Known are guests,"),
        ({"guests": "8"}, "platform_capacity.guests: found '8'. Give a whole number of 0 or more."),
        ({"guests": True}, "platform_capacity.guests: found True. Give a whole number of 0 or more."),
        ({"vcpus": -1}, "platform_capacity.vcpus: found -1. Give a whole number of 0 or more."),
        ({"vcpus_per_core": "two"}, "platform_capacity.vcpus_per_core: found 'two'. Give a number of 0 or more."),
        ({"vcpus_per_core": float("nan")}, "platform_capacity.vcpus_per_core: found nan. Give a number of 0 or more."),
        ({"memory_mb": 1.5}, "platform_capacity.memory_mb: found 1.5. Give a whole number of 0 or more."),
        ({"memory_percent": 101}, "platform_capacity.memory_percent: found 101. Give a percentage from 0 to 100."),
        ([8], "platform_capacity: found [8]. Give a mapping of limits."),
    ],
)
def test_a_policy_that_is_none(data: Any, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(data)
    assert str(caught.value).startswith(message)


def test_a_limit_that_is_null_is_none() -> None:
    assert read_policy({"guests": None, "reserve_cores": None}) == Policy()


def test_means_of_a_host_with_threads() -> None:
    cpuinfo = "".join(f"processor\t: {n}\nphysical id\t: 0\ncore id\t\t: {n % 6}\n\n" for n in range(12))
    assert read_means(cpuinfo, "MemTotal:       32768001 kB\nMemFree: 1 kB\n") == HOST
    assert read_means("processor\t: 0\nBogoMIPS: 1\n\nprocessor\t: 1\n", "MemTotal: 5 kB\n") == Means(2, 5)


DOMAIN = "<domain><name>web</name>{}<devices><unheard-of><of/></unheard-of></devices></domain>"


@pytest.mark.parametrize(
    ("body", "vcpus", "memory_kib"),
    [
        ("<memory unit='KiB'>524288</memory><currentMemory>1024</currentMemory><vcpu current='1'>4</vcpu>", 4, 524288),
        ("<memory>100</memory><vcpu>2</vcpu>", 2, 100),
        ("<memory unit='GiB'>1</memory><maxMemory slots='4' unit='GiB'>2</maxMemory>", 1, 2 * 2**20),
        ("<memory unit='bytes'>1025</memory><vcpu> 3 </vcpu>", 3, 2),
        ("", 1, 0),
    ],
)
def test_a_guest_counts_with_its_largest(body: str, vcpus: int, memory_kib: int) -> None:
    assert read_claim(DOMAIN.format(body), STARTING) == Claim("web", vcpus, memory_kib, STARTING)


def test_whose_guest_it_is() -> None:
    mark = "<metadata><h:platform xmlns:h='urn:hybridlab:platform:1' name='lab'/></metadata>"
    assert read_claim(DOMAIN.format(mark)).by == RUNNING
    assert read_claim(DOMAIN.format("<metadata><x:y xmlns:x='urn:other'/></metadata>")).by == FOREIGN
    assert read_claim("<!-- kept by libvirt --><domstatus state='running'>" + DOMAIN.format(mark) + "</domstatus>") == Claim("web", 1, 0, RUNNING)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<domain>", "no XML"),
        ("<network><name>web</name></network>", "no <domain> with a <name>"),
        ("<domain><vcpu>1</vcpu></domain>", "no <domain> with a <name>"),
        (DOMAIN.format("<memory unit='furlong'>1</memory>"), "<memory> in the unknown unit 'furlong'"),
        (DOMAIN.format("<memory>much</memory>"), "much"),
    ],
)
def test_a_definition_that_does_not_tell(xml: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_claim(xml)


def test_it_needs_nothing_but_python(tmp_path: Path) -> None:
    (tmp_path / "capacity.py").write_text(Path(str(capacity.__file__)).read_text(encoding="utf-8"), encoding="utf-8")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import capacity"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
