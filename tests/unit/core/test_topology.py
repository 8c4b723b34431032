# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures: well-formed, complete, without overlapping text, and the same for the same model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.topology import mermaid, svg
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.strategies import platforms
from hypothesis import given, settings

ROOT = Path(__file__).resolve().parents[3]
SVG = "{http://www.w3.org/2000/svg}"
# DejaVu Sans' widest ordinary advances, regular and bold, as a share of the size.
ADVANCE = {"normal": 0.62, "bold": 0.70}

Area = tuple[float, float, float, float]


def texts(root: ElementTree.Element) -> list[tuple[str, Area]]:
    """Each text with the area it covers: left, top, right, bottom."""
    found = []
    for element in root.iter(f"{SVG}text"):
        text, size = element.text or "", float(element.attrib["font-size"])
        width = len(text) * size * ADVANCE[element.get("font-weight", "normal")]
        left = float(element.attrib["x"]) - (width / 2 if element.attrib["text-anchor"] == "middle" else 0)
        bottom = float(element.attrib["y"])
        found.append((text, (left, bottom - size * 0.8, left + width, bottom + size * 0.2)))
    return found


def overlap(one: Area, two: Area) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


@given(platforms())
@settings(max_examples=40, deadline=None)
def test_no_text_overlaps_or_leaves_the_picture(platform: Platform) -> None:
    root = ElementTree.fromstring(svg(platform))
    _left, _top, width, height = map(float, root.attrib["viewBox"].split())
    found = texts(root)

    for place, (text, area) in enumerate(found):
        assert area[0] >= 0 and area[1] >= 0 and area[2] <= width and area[3] <= height, text
        assert [other for other, other_area in found[place + 1 :] if overlap(area, other_area)] == [], text


@given(platforms())
@settings(max_examples=40, deadline=None)
def test_an_arrow_for_each_direction(platform: Platform) -> None:
    root = ElementTree.fromstring(svg(platform))
    arrows = [path for path in root.iter(f"{SVG}path") if "marker-end" in path.attrib]
    forwards = sum(segment.ssh_ports is not None for segment in platform.segments)
    declared = sum(len(segment.reaches) + segment.internet for segment in platform.segments)

    assert len(arrows) == declared + forwards
    assert mermaid(platform).count(" --> ") == declared


def test_picture_tells_the_segments_facts() -> None:
    drawn = [text for text, _area in texts(ElementTree.fromstring(svg(parse_platform(lab_model()))))]

    for fact in ("management", "10.0.0.0/24", "10.0.0.1 on br-management", "10.0.0.10 - 10.0.0.50", "2201 - 2210", "SSH 2201-2210", "none, static addresses"):
        assert fact in drawn


def test_pictures_are_the_same_for_the_same_model() -> None:
    assert svg(parse_platform(lab_model())) == svg(parse_platform(lab_model()))
    assert mermaid(parse_platform(lab_model())) == mermaid(parse_platform(lab_model()))


def test_mermaid_of_two_segments() -> None:
    platform = parse_platform(
        {
            "platform_name": "small",
            "platform_domain": "x",
            "platform_segments": [{"name": "one", "cidr": "10.0.0.0/24", "reaches": ["two"]}, {"name": "two", "cidr": "10.1.0.0/24", "internet": False}],
        }
    )

    lines = mermaid(platform).splitlines()
    assert lines[0] == "flowchart LR"
    assert [line.strip() for line in lines if "-->" in line] == ["s0 --> s1", "s0 --> internet"]
    assert lines[-1] == "  linkStyle 0,1 stroke:#0072B2"


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tools.topology", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_pictures_in_docs_are_fresh() -> None:
    checked = run_tool("-i", str(ROOT / "inventories" / "lab"), "--check")
    assert checked.returncode == 0, checked.stderr


def test_tool_refuses_a_faulty_model(tmp_path: Path) -> None:
    variables = tmp_path / "group_vars" / "all"
    variables.mkdir(parents=True)
    (variables / "segments.yml").write_text("platform_name: x\nplatform_domain: x\nplatform_segments: []\n", encoding="utf-8")

    refused = run_tool("-i", str(tmp_path))

    assert refused.returncode == 1
    assert "platform_segments: found []" in refused.stderr


def test_sandbox_is_drawn_without_a_host() -> None:
    documented = (ROOT / "docs" / "topology.svg").read_text(encoding="utf-8")

    drawn = run_tool("-i", str(ROOT / "inventories" / "sandbox"))

    assert drawn.returncode == 0, drawn.stderr
    assert "sandbox" in (ROOT / ".cache" / "topology" / "sandbox" / "topology.svg").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "topology.svg").read_text(encoding="utf-8") == documented
