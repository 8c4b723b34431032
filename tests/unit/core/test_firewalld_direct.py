# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rule of ours in firewalld's direct rules, beside those of others."""

from __future__ import annotations

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewalld_direct import with_rule, without_rule

RULE = ("-m", "mark", "--mark", "0x1000/0x1000", "-j", "ACCEPT")
OTHERS = """<direct>
  <!-- mine since 2019 -->
  <chain ipv="ipv4" table="filter" chain="mine" />
  <rule ipv="ipv4" table="filter" chain="mine" priority="0">-j LOG</rule>
</direct>
"""


@pytest.mark.parametrize("text", [None, "", OTHERS])
def test_the_rule_comes_once_and_goes_without_a_trace(text: str) -> None:
    added = with_rule(text, "DOCKER-USER", RULE)
    assert '<chain ipv="ipv4" table="filter" chain="DOCKER-USER" />' in added
    assert '<rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="0">-m mark --mark 0x1000/0x1000 -j ACCEPT</rule>' in added
    assert with_rule(added, "DOCKER-USER", RULE) == added
    removed = without_rule(added, "DOCKER-USER", RULE)
    if text:
        assert removed is not None
        assert "DOCKER-USER" not in removed
        assert "<!-- mine since 2019 -->" in removed
        assert '<rule ipv="ipv4" table="filter" chain="mine" priority="0">-j LOG</rule>' in removed
    else:
        assert removed is None


def test_somebody_elses_rule_keeps_the_chain() -> None:
    theirs = (
        '<direct><chain ipv="ipv4" table="filter" chain="DOCKER-USER"/><rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="1">-j DROP</rule></direct>'
    )
    removed = without_rule(with_rule(theirs, "DOCKER-USER", RULE), "DOCKER-USER", RULE)
    assert removed is not None
    assert removed.count("<chain ") == 1
    assert "-j DROP" in removed


def test_nothing_of_ours_leaves_the_text_as_it_is() -> None:
    assert without_rule(OTHERS, "DOCKER-USER", RULE) == OTHERS
    assert without_rule(None, "DOCKER-USER", RULE) is None


def test_what_is_no_xml_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match=r"this is no XML.*Repair it"):
        with_rule("<direct>", "DOCKER-USER", RULE)
