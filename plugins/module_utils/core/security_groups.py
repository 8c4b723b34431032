# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security groups of a VPC from the relation between segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.relation import INTERNET

EVERYWHERE = "0.0.0.0/0"


@dataclass(frozen=True)
class GroupRule:
    """Traffic of all protocols with one peer: another group, or a range of addresses."""

    group: Optional[str] = None
    cidr: Optional[str] = None


@dataclass(frozen=True)
class SecurityGroup:
    """The group of one segment. Groups are stateful: replies pass without a rule.

    ingress: peers that may open connections to members
    egress:  peers to which members may open connections
    """

    name: str
    description: str
    ingress: tuple[GroupRule, ...]
    egress: tuple[GroupRule, ...]


def compile_security_groups(platform: Platform) -> list[SecurityGroup]:
    """One group for each segment.

    Segments are named by reference, so a group's rules do not change with addresses. Members of a group reach
    each other, as guests on one bridge do. A group without Internet may only open connections to the groups it reaches.
    """
    sources: dict[str, list[str]] = {segment.name: [segment.name] for segment in platform.segments}
    for segment in platform.segments:
        for target in segment.reaches:
            sources[target].append(segment.name)
    return [_group(platform, segment, sources[segment.name]) for segment in platform.segments]


def _group(platform: Platform, segment: Segment, sources: Sequence[str]) -> SecurityGroup:
    if segment.internet:
        egress: tuple[GroupRule, ...] = (GroupRule(cidr=EVERYWHERE),)
    else:
        egress = tuple(GroupRule(group=name) for name in (segment.name, *segment.reaches))
    return SecurityGroup(
        name=segment.name,
        description=f"Segment {segment.name} of platform {platform.name}",
        ingress=tuple(GroupRule(group=name) for name in sources),
        egress=egress,
    )


def allows(groups: Sequence[SecurityGroup], src: str, dst: str) -> bool:
    """Whether members of ``src`` may open connections to ``dst``: the source lets them out and the destination lets them in."""
    by_name = {group.name: group for group in groups}
    leaves = any(rule.cidr == EVERYWHERE or rule.group == dst for rule in by_name[src].egress)
    return leaves and (dst == INTERNET or any(rule.group == src for rule in by_name[dst].ingress))


class SecurityGroupCompiler:
    """``relation.ReachCompiler`` for security groups."""

    def compile(self, platform: Platform) -> list[SecurityGroup]:
        return compile_security_groups(platform)

    def allows(self, compiled: list[SecurityGroup], src: str, dst: str) -> bool:
        return allows(compiled, src, dst)
