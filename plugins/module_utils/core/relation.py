# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may open connections to whom: the plain relation, against which every compiler is held."""

from __future__ import annotations

from typing import Protocol, TypeVar

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform

# Stands in the place of a segment's name for every address outside the platform.
INTERNET = "internet"

Compiled = TypeVar("Compiled")


def expected_matrix(platform: Platform) -> dict[tuple[str, str], bool]:
    """(source, destination) -> whether connections may be opened, in the order of the segments.

    Sources are all segments; destinations are all other segments, then INTERNET. Traffic inside a segment
    passes no router and is no part of the matrix.
    """
    names = [segment.name for segment in platform.segments]
    matrix = {}
    for segment in platform.segments:
        reached = set(segment.reaches)
        matrix.update({(segment.name, name): name in reached for name in names if name != segment.name})
        matrix[segment.name, INTERNET] = segment.internet
    return matrix


def allowed_pairs(platform: Platform) -> list[tuple[str, str]]:
    """The (source, destination) pairs of the matrix that are allowed."""
    return [pair for pair, allowed in expected_matrix(platform).items() if allowed]


class ReachCompiler(Protocol[Compiled]):
    """Turns a platform into the rules of one target, and tells from those rules alone what they let through."""

    def compile(self, platform: Platform) -> Compiled:
        """The target's rules."""

    def allows(self, compiled: Compiled, src: str, dst: str) -> bool:
        """Whether the rules let ``src`` open connections to ``dst`` (a segment's name or INTERNET)."""


def disagreements(compiler: ReachCompiler[Compiled], platform: Platform) -> list[tuple[str, str]]:
    """Pairs for which the compiled rules say something else than the plain relation."""
    compiled = compiler.compile(platform)
    return [(src, dst) for (src, dst), allowed in expected_matrix(platform).items() if compiler.allows(compiled, src, dst) != allowed]
