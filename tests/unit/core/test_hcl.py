# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import hcl2
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.hcl import Attribute, Block, Comment, Expression, Names, attributes, quote, write
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def test_the_form_that_fmt_leaves() -> None:
    text = write(
        [
            Comment("About the thing.\nTwo lines."),
            Block(
                "resource",
                ("kind", "name"),
                (
                    *attributes({"a": 1, "longer": True, "left_out": None}),
                    Attribute("list", ["x", Expression("var.y")]),
                    Attribute("object", {"k": "v", "long-key": [], "a b": {}}),
                    Attribute("after", 1.5),
                    Block("empty"),
                    Comment("Inside."),
                    Attribute("last", None),
                ),
            ),
            Block("import"),
        ],
        "Header.",
    )
    assert text == (
        "# Header.\n"
        "\n"
        "# About the thing.\n"
        "# Two lines.\n"
        'resource "kind" "name" {\n'
        "  a      = 1\n"
        "  longer = true\n"
        '  list   = ["x", var.y]\n'
        "  object = {\n"
        '    k        = "v"\n'
        "    long-key = []\n"
        '    "a b"    = {}\n'
        "  }\n"
        "  after = 1.5\n"
        "\n"
        "  empty {}\n"
        "\n"
        "  # Inside.\n"
        "  last = null\n"
        "}\n"
        "\n"
        "import {}\n"
    )


def test_escapes_are_those_of_hcl() -> None:
    assert quote('a"b\\c\n\t\x08\x0c${d}%{e}$$') == '"a\\"b\\\\c\\n\\t\\u0008\\u000c$${d}%%{e}$$"'


def test_long_lists_and_nested_values() -> None:
    text = write([Attribute("a", [f"{number:020}" for number in range(5)]), Attribute("b", [{"k": 1}, [1]])])
    assert text.startswith('a = [\n  "00000000000000000000",\n')
    assert text.endswith("b = [\n  {\n    k = 1\n  },\n  [1],\n]\n")


@settings(deadline=None)
@given(TEXT)
def test_a_text_means_itself(value: str) -> None:
    """What a parser of somebody else reads back, with the escapes of templates undone."""
    (found,) = hcl2.loads(f"a = {quote(value)}\n").values()
    assert _unquote(str(found)) == value


def _unquote(text: str) -> str:
    return str(json.loads(text)).replace("$${", "${").replace("%%{", "%{")


@given(TEXT)
def test_a_comment_stays_one(value: str) -> None:
    for line in write([Comment(value)]).splitlines():
        assert line.startswith("#")


@given(st.lists(TEXT, max_size=6))
def test_names_are_identifiers_and_unique(wanted: list[str]) -> None:
    names = Names()
    given_names = [names.give(name) for name in wanted]
    assert len(set(given_names)) == len(wanted)
    # Each is accepted as the name of an attribute.
    write([Attribute(name, 1) for name in given_names])


@pytest.mark.parametrize("item", [Attribute("a b", 1), Attribute("1a", 1), Attribute("a", object()), Block('x" {}')])
def test_what_is_no_hcl_is_refused(item: Any) -> None:
    with pytest.raises(ResourceError):
        write([item])
