# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain relation, and the compilers that are held against it."""

from __future__ import annotations

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET, ReachCompiler, allowed_pairs, disagreements, expected_matrix
from ansible_collections.hybridlab.platform.plugins.module_utils.core.security_groups import (
    GroupRule,
    SecurityGroup,
    SecurityGroupCompiler,
    allows,
    compile_security_groups,
)
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import platforms
from hypothesis import given

SECURITY_GROUPS: ReachCompiler[list[SecurityGroup]] = SecurityGroupCompiler()


def small(**reaches: dict[str, object]) -> Platform:
    segments = [{"name": name, "cidr": f"10.{index}.0.0/24", **values} for index, (name, values) in enumerate(reaches.items())]
    return parse_platform({"platform_name": "small", "platform_domain": "x", "platform_segments": segments})


def test_the_labs_matrix() -> None:
    matrix = expected_matrix(parse_platform(lab_model()))

    assert len(matrix) == 5 * 4 + 5
    assert [pair for pair, allowed in matrix.items() if allowed and pair[1] != INTERNET] == [
        ("management", "public"),
        ("management", "private"),
        ("management", "database"),
        ("management", "container"),
        ("public", "private"),
        ("public", "database"),
        ("public", "container"),
        ("private", "database"),
        ("private", "container"),
    ]
    assert all(matrix[segment, INTERNET] for segment in ("management", "public", "private", "database", "container"))


def test_relation_has_a_direction() -> None:
    platform = small(one={"reaches": ["two"], "internet": False}, two={})

    assert expected_matrix(platform) == {("one", "two"): True, ("one", INTERNET): False, ("two", "one"): False, ("two", INTERNET): True}
    assert allowed_pairs(platform) == [("one", "two"), ("two", INTERNET)]


@given(platforms())
def test_matrix_has_every_ordered_pair_once(platform: Platform) -> None:
    count = len(platform.segments)
    matrix = expected_matrix(platform)

    assert len(matrix) == count * (count - 1) + count
    assert sum(matrix.values()) == sum(len(segment.reaches) + segment.internet for segment in platform.segments)


@given(platforms())
def test_security_groups_agree_with_the_relation(platform: Platform) -> None:
    assert disagreements(SECURITY_GROUPS, platform) == []


def test_disagreement_is_seen() -> None:
    class Open(SecurityGroupCompiler):
        def allows(self, compiled: list[SecurityGroup], src: str, dst: str) -> bool:
            return True

    assert disagreements(Open(), small(one={"reaches": ["two"], "internet": False}, two={})) == [("one", INTERNET), ("two", "one")]


def test_security_groups_name_groups_and_let_only_the_declared_out() -> None:
    one, two = compile_security_groups(small(one={"reaches": ["two"], "internet": False}, two={}))

    assert one.ingress == (GroupRule(group="one"),)
    assert one.egress == (GroupRule(group="one"), GroupRule(group="two"))
    assert two.ingress == (GroupRule(group="two"), GroupRule(group="one"))
    assert two.egress == (GroupRule(cidr="0.0.0.0/0"),)


def test_both_ends_must_agree() -> None:
    let_out = SecurityGroup("a", "", ingress=(), egress=(GroupRule(group="b"),))
    closed = SecurityGroup("b", "", ingress=(), egress=())
    open_to_a = SecurityGroup("b", "", ingress=(GroupRule(group="a"),), egress=())

    assert not allows([let_out, closed], "a", "b")
    assert allows([let_out, open_to_a], "a", "b")
    assert not allows([SecurityGroup("a", "", (), ()), open_to_a], "a", "b")


@given(platforms())
def test_number_of_rules_grows_with_the_declared_pairs(platform: Platform) -> None:
    groups = compile_security_groups(platform)
    declared = sum(len(segment.reaches) for segment in platform.segments)

    assert sum(len(group.ingress) for group in groups) == declared + len(groups)
    assert sum(len(group.egress) for group in groups) <= declared + len(groups)
    assert all(rule.cidr is None for group in groups for rule in group.ingress)
