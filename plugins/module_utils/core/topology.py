# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The topology picture: Mermaid and SVG from the model, the same text for the same model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Segment

# After Okabe and Ito, told apart with any colour vision; the light ones darkened to read as text on white.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#B0467F", "#8A6D00", "#2A8FBD", "#5E3C99", "#4D4D4D", "#B22222", "#556B2F", "#7B4B2A", "#00695C",
)  # fmt: skip
_INK, _MUTED, _LINE, _PAPER, _HOST, _BOX = "#1F2933", "#52606D", "#9AA5B1", "#FFFFFF", "#F3F6F9", "#FFFFFF"
_FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
_TEXT, _SMALL, _TITLE = 13, 12, 16
# Widest average advance of these faces, as a share of the font size: room is reserved for it, so that no text overlaps.
_ADVANCE, _ADVANCE_BOLD = 0.62, 0.70

_PAD, _GAP, _LANE = 24, 26, 22
_BOX_HEAD, _ROW = 34, 20
_NARROWEST_GAP = 112


def facts(segment: Segment) -> list[tuple[str, str]]:
    """What the picture tells of a segment: (label, value) rows."""
    rows = [
        ("range", str(segment.cidr)),
        ("gateway", f"{segment.gateway} on {segment.bridge}"),
        ("DHCP", ", ".join(f"{leased.first} - {leased.last}" for leased in segment.dhcp) or "none, static addresses"),
        ("SSH", f"{segment.ssh_ports.first} - {segment.ssh_ports.last}" if segment.ssh_ports else "no forwarded ports"),
    ]
    if segment.hosts:
        rows.append(("hosts", f"{len(segment.hosts)} with a fixed address"))
    return rows


def mermaid(platform: Platform) -> str:
    """A Mermaid flowchart. An arrow is a direction in which connections may be opened."""
    lines = ["flowchart LR", '  internet(["Internet"])', f'  subgraph host["{platform.name}: KVM host, {platform.domain}"]', "    direction TB"]
    for index, segment in enumerate(platform.segments):
        text = "<br/>".join([f"<b>{segment.name}</b>", *(f"{label}: {value}" for label, value in facts(segment))])
        lines.append(f'    s{index}["{text}"]')
    lines.append("  end")
    number = {segment.name: index for index, segment in enumerate(platform.segments)}
    styles = []
    links = 0
    for segment in platform.segments:
        targets = [f"s{number[name]}" for name in segment.reaches] + (["internet"] if segment.internet else [])
        for target in targets:
            lines.append(f"  s{number[segment.name]} --> {target}")
        if targets:
            styles.append(f"  linkStyle {','.join(str(links + place) for place in range(len(targets)))} stroke:{_colour(number[segment.name])}")
        links += len(targets)
    return "\n".join(lines + styles) + "\n"


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _width(text: str, size: int, bold: bool = False) -> int:
    return int(len(text) * size * (_ADVANCE_BOLD if bold else _ADVANCE)) + 1


@dataclass(frozen=True)
class _Box:
    """A segment's place, and the heights at which arrows meet its right side."""

    segment: Segment
    colour: str
    x: int
    y: int
    width: int
    height: int
    ports: dict[str, int]


class _Drawing:
    """An SVG under construction; numbers are pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.root = ElementTree.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {width} {height}",
                "width": str(width),
                "height": str(height),
                "role": "img",
                "font-family": _FONT,
                "font-size": str(_TEXT),
            },
        )
        self.add("title").text = title
        self.defs = self.add("defs")

    def add(self, tag: str, **attributes: object) -> ElementTree.Element:
        return ElementTree.SubElement(self.root, tag, {key.replace("_", "-"): str(value) for key, value in attributes.items()})

    def text(self, x: int, y: int, text: str, size: int = _TEXT, fill: str = _INK, bold: bool = False, anchor: str = "start") -> None:
        style = {"font_weight": "bold"} if bold else {}
        self.add("text", x=x, y=y, fill=fill, font_size=size, text_anchor=anchor, **style).text = text

    def box(self, x: int, y: int, width: int, height: int, fill: str, stroke: str, radius: int = 8) -> None:
        self.add("rect", x=x, y=y, width=width, height=height, rx=radius, fill=fill, stroke=stroke, stroke_width=1.5)

    def arrow_head(self, colour: str) -> str:
        """The id of the arrow head of that colour."""
        name = f"head-{colour[1:]}"
        marker = {"id": name, "viewBox": "0 0 10 10", "refX": "9", "refY": "5", "markerWidth": "7", "markerHeight": "7", "orient": "auto"}
        head = ElementTree.SubElement(self.defs, "marker", marker)
        ElementTree.SubElement(head, "path", {"d": "M 0 0.5 L 10 5 L 0 9.5 z", "fill": colour})
        return f"url(#{name})"

    def path(self, d: str, colour: str, head: str = "") -> None:
        attributes = {"marker_end": head} if head else {}
        self.add("path", d=d, fill="none", stroke=colour, stroke_width=2, stroke_linejoin="round", **attributes)

    def dot(self, x: int, y: int, colour: str) -> None:
        self.add("circle", cx=x, cy=y, r=4, fill=colour)

    def render(self) -> str:
        ElementTree.indent(self.root)
        return ElementTree.tostring(self.root, encoding="unicode") + "\n"


def svg(platform: Platform) -> str:
    """An SVG with a ground of its own, so that it reads on light and dark pages.

    Segments stand below each other. On their right each source has a lane of its colour, from which arrows lead into
    the segments that it reaches; on their left are the ways from and to the Internet.
    """
    label_column = max(_width(label, _SMALL) for segment in platform.segments for label, _value in facts(segment)) + 12
    box_width = 2 * 16 + max(
        max(label_column + _width(value, _SMALL) for segment in platform.segments for _label, value in facts(segment)),
        max(_width(segment.name, _TITLE, bold=True) for segment in platform.segments),
    )
    forwards = [f"SSH {segment.ssh_ports}" for segment in platform.segments if segment.ssh_ports]
    gap = max([_NARROWEST_GAP, *(_width(text, _SMALL) for text in forwards)]) + 40
    internet_width = _width("Internet", _TITLE, bold=True) + 32
    sources = [segment for segment in platform.segments if segment.reaches]
    lanes_width = 30 + _LANE * len(sources)

    host_x = _PAD + internet_width + gap
    box_x = host_x + 20
    boxes = _place(platform, box_x, _PAD + 64, box_width)
    bottom = boxes[-1].y + boxes[-1].height
    host_title = f"{platform.name}: KVM host, domain {platform.domain}"
    host_width = max(20 + box_width + lanes_width + 10, _width(host_title, _TITLE, bold=True) + 40)
    legend = _legend()
    legend_y = bottom + 20 + _GAP + 8
    width = max(host_x + host_width, _PAD + max(_width(line, _SMALL) for line in legend)) + _PAD
    height = legend_y + _ROW * len(legend) + _PAD - 10

    drawing = _Drawing(width, height, f"Segments of the platform {platform.name} and the directions in which connections may be opened")
    drawing.box(1, 1, width - 2, height - 2, _PAPER, _LINE, radius=12)
    drawing.box(host_x, _PAD, host_width, bottom + 20 - _PAD, _HOST, _LINE, radius=10)
    drawing.text(host_x + 20, _PAD + 32, host_title, _TITLE, bold=True)
    internet_y = boxes[0].y
    drawing.box(_PAD, internet_y, internet_width, bottom - internet_y, _HOST, _LINE, radius=10)
    drawing.text(_PAD + internet_width // 2, (internet_y + bottom) // 2 + 6, "Internet", _TITLE, bold=True, anchor="middle")
    heads = {colour: drawing.arrow_head(colour) for colour in dict.fromkeys([_MUTED, *(box.colour for box in boxes)])}
    for box in boxes:
        _draw_box(drawing, box, label_column)
        _draw_outside(drawing, box, _PAD + internet_width, heads)
    _draw_lanes(drawing, boxes, box_x + box_width + 30, heads)
    for index, line in enumerate(legend):
        drawing.text(_PAD, legend_y + _ROW * index, line, _SMALL, _MUTED)
    return drawing.render()


def _legend() -> list[str]:
    return [
        "Solid arrows: connections may be opened in that direction, and replies always pass.",
        "What no arrow shows is refused. Grey: ports of the host that are forwarded to guests.",
    ]


def _place(platform: Platform, x: int, y: int, width: int) -> list[_Box]:
    sources = {segment.name: [other.name for other in platform.segments if segment.name in other.reaches] for segment in platform.segments}
    boxes = []
    for index, segment in enumerate(platform.segments):
        # One arrow a row at least 14 pixels apart: a box grows with the number of segments that reach it.
        arrows = [*sources[segment.name], *([segment.name] if segment.reaches else [])]
        height = max(_BOX_HEAD + _ROW * len(facts(segment)) + 8, 14 * (len(arrows) + 1))
        step = height / (len(arrows) + 1)
        ports = {name: y + round(step * (place + 1)) for place, name in enumerate(arrows)}
        boxes.append(_Box(segment, _colour(index), x, y, width, height, ports))
        y += height + _GAP
    return boxes


def _draw_box(drawing: _Drawing, box: _Box, label_column: int) -> None:
    drawing.box(box.x, box.y, box.width, box.height, _BOX, box.colour)
    drawing.text(box.x + 16, box.y + 24, box.segment.name, _TITLE, box.colour, bold=True)
    for index, (label, value) in enumerate(facts(box.segment)):
        y = box.y + _BOX_HEAD + 14 + _ROW * index
        drawing.text(box.x + 16, y, label, _SMALL, _MUTED)
        drawing.text(box.x + 16 + label_column, y, value, _SMALL)


def _draw_outside(drawing: _Drawing, box: _Box, internet_x: int, heads: dict[str, str]) -> None:
    middle = (internet_x + box.x - 20) // 2
    if box.segment.internet:
        y = box.y + box.height // 3
        drawing.path(f"M {box.x} {y} H {internet_x + 3}", box.colour, heads[box.colour])
        drawing.dot(box.x, y, box.colour)
    if box.segment.ssh_ports:
        y = box.y + 2 * box.height // 3 + 6
        drawing.path(f"M {internet_x} {y} H {box.x - 3}", _MUTED, heads[_MUTED])
        drawing.text(middle, y - 6, f"SSH {box.segment.ssh_ports}", _SMALL, _MUTED, anchor="middle")


def _draw_lanes(drawing: _Drawing, boxes: Sequence[_Box], x: int, heads: dict[str, str]) -> None:
    """The first source gets the outermost lane: its arrows then cross the fewest others."""
    by_name = {box.segment.name: box for box in boxes}
    sources = [box for box in boxes if box.segment.reaches]
    for place, box in enumerate(reversed(sources)):
        lane = x + _LANE * place
        edge = box.x + box.width
        start = box.ports[box.segment.name]
        drawing.path(f"M {edge} {start} H {lane}", box.colour)
        ends = [by_name[name].ports[box.segment.name] for name in box.segment.reaches]
        drawing.path(f"M {lane} {min([start, *ends])} V {max([start, *ends])}", box.colour)
        for end in ends:
            drawing.path(f"M {lane} {end} H {edge + 3}", box.colour, heads[box.colour])
        drawing.dot(edge, start, box.colour)
