# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import (
    ResourceError,
    here_document,
    result,
    shell_line,
    to_yaml,
    unique,
)
from hypothesis import given
from hypothesis import strategies as st

# Surrogates alone are no text that a file can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    TEXT,
    st.sampled_from(
        ["yes", "No", "null", "1", "0x10", "1:30", "~", "- a", "a: b", "10.0.0.1", "10.0.0.0/24", "1.2.3", "52:54:00:00:00:10", "1e3", "", " ", "=", "<<"]
    ),
    st.integers(-(2**31), 2**31),
    st.booleans(),
    st.none(),
)
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)), max_leaves=20)


@given(VALUES)
def test_yaml_reads_back_as_the_same_value(value: Any) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


def test_yaml_is_what_a_person_would_write() -> None:
    value = [{"name": "public", "mtu": None, "active": True, "dhcp": [{"first": "10.0.1.100", "last": "10.0.1.200"}], "dns": []}]
    assert to_yaml(value) == (
        "- name: public\n"
        "  mtu: null\n"
        "  active: true\n"
        "  dhcp:\n"
        "    - first: 10.0.1.100\n"
        "      last: 10.0.1.200\n"
        "  dns: []\n"
    )  # fmt: skip


@pytest.mark.parametrize("text", ["plain", "with\nEOF\ninside\n", "$HOME `id` 'quotes' \"double\"\n", ""])
def test_here_document_hands_the_text_over_literally(text: str) -> None:
    done = subprocess.run(["bash", "-c", here_document(["cat", "/dev/stdin"], text)], capture_output=True, text=True, check=True)
    assert done.stdout == (text if text.endswith("\n") else text + "\n")


def test_shell_line_quotes() -> None:
    assert shell_line(["virsh", "net-update", "a b", "<host/>"]) == "virsh net-update 'a b' '<host/>'"


def test_unique_keeps_order_and_refuses_a_second() -> None:
    assert list(unique([{"name": "b"}, {"name": "a"}], "name", "config")) == ["b", "a"]
    with pytest.raises(ResourceError, match=r"config\[1\]\.name: found 'a'"):
        unique([{"name": "a"}, {"name": "a"}], "name", "config")


def test_result_has_a_diff_only_when_asked() -> None:
    plain = result([], [{"name": "a"}], ["true"])
    assert plain == {"changed": True, "before": [], "after": [{"name": "a"}], "commands": ["true"]}
    full = result([], [], [], diff=True, header="networks")
    assert full["changed"] is False
    assert full["diff"] == {"before": "[]\n", "after": "[]\n", "before_header": "networks (before)", "after_header": "networks (after)"}


def test_error_carries_facts() -> None:
    error = ResourceError("no", disruptive=[{"name": "public"}])
    assert (str(error), error.facts) == ("no", {"disruptive": [{"name": "public"}]})
