# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's ranges never meet the machine's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.sandbox import addresses
from tools.sandbox.errors import SandboxError

octets = st.integers(0, 255)
networks = st.builds(
    lambda a, b, c, width: f"{ipaddress.IPv4Network((f'{a}.{b}.{c}.0', width), strict=False)}",
    st.sampled_from([192, 198, 203, 10]),
    octets,
    octets,
    # Wider ones could take all from which is chosen: the next test.
    st.integers(17, 32),
)


def overlapping(cidr: str, taken: list[str]) -> list[str]:
    return [other for other in taken if ipaddress.IPv4Network(cidr).overlaps(ipaddress.IPv4Network(other))]


def test_the_first_documentation_range_is_the_uplink() -> None:
    assert addresses.choose_uplink("", ["10.0.0.0/8", "127.0.0.0/8"]) == "203.0.113.0/24"


def test_a_range_that_holds_an_address_in_use_is_passed_over() -> None:
    assert addresses.choose_uplink("", ["203.0.113.80/32", "192.0.2.0/24"]) == "198.51.100.0/24"


@given(st.lists(networks, max_size=12), st.from_regex("[0-9a-f]{6}", fullmatch=True))
def test_no_chosen_range_overlaps(taken: list[str], seed: str) -> None:
    uplink = addresses.choose_uplink("", taken)
    link, pool = addresses.choose_inner(seed, taken)
    assert [overlapping(cidr, taken) for cidr in (uplink, link, pool)] == [[], [], []]
    assert not overlapping(link, [pool, uplink])
    assert not overlapping(pool, [uplink])


def test_a_machine_that_reaches_everything_is_refused() -> None:
    with pytest.raises(SandboxError, match="routes to all of"):
        addresses.choose_inner("000000", ["198.16.0.0/14"])


def test_two_checkouts_start_at_different_links() -> None:
    assert addresses.choose_inner("72ed4e", []) != addresses.choose_inner("f2af6c", [])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("10.1.2.0/24", "reaches already"),
        ("10.1.2.3/24", "host bits set"),
        ("198.51.100.0/28", "too small"),
        ("uplink", "Expected 4 octets"),
    ],
)
def test_a_wanted_uplink_that_cannot_be_is_refused(wanted: str, message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        addresses.choose_uplink(wanted, ["10.0.0.0/8"])


def test_a_wanted_uplink_that_is_free_is_taken() -> None:
    assert addresses.choose_uplink("172.31.0.0/24", ["10.0.0.0/8"]) == "172.31.0.0/24"


def test_hosts_get_the_lowest_free_address_and_never_the_internet_s() -> None:
    used: list[str] = []
    for _attempt in range(9):
        used.append(addresses.next_host_address("203.0.113.0/24", used))
    assert used[0] == "203.0.113.2"
    assert used[-2:] == ["203.0.113.9", "203.0.113.11"]
    used.remove("203.0.113.4")
    assert addresses.next_host_address("203.0.113.0/24", used) == "203.0.113.4"


def test_a_full_uplink_names_the_cure() -> None:
    used: list[str] = []
    with pytest.raises(SandboxError, match="down --name"):
        for _attempt in range(40):
            used.append(addresses.next_host_address("198.18.0.0/27", used))
    assert len(used) == 28


def test_the_ends_of_a_link() -> None:
    assert addresses.ends("198.18.157.0/30") == ("198.18.157.1", "198.18.157.2")
