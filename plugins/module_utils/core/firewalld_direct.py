# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""firewalld's permanent direct rules (firewalld.direct(5)): one chain and one rule of ours among those of others.

firewalld empties iptables when it starts and at a complete reload. What stands in its direct rules it puts back itself.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import shell_line


def with_rule(text: Optional[str], chain: str, rule: Sequence[str]) -> str:
    """The file's text with ``rule`` in the IPv4 filter chain ``chain``; unchanged when it is there. None stands for no file.

    ValueError when the text is no XML.
    """
    root = _parse(text)
    if _find_rule(root, chain, rule) is not None:
        return text or ""
    if _find_chain(root, chain) is None:
        ET.SubElement(root, "chain", {"ipv": "ipv4", "table": "filter", "chain": chain})
    ET.SubElement(root, "rule", {"ipv": "ipv4", "table": "filter", "chain": chain, "priority": "0"}).text = " ".join(rule)
    return _write(root)


def without_rule(text: Optional[str], chain: str, rule: Sequence[str]) -> Optional[str]:
    """The file's text without ``rule``, and without ``chain`` when no other rule is left in it. None when nothing is left at all."""
    root = _parse(text)
    found = _find_rule(root, chain, rule)
    if found is None:
        return text
    root.remove(found)
    declared = _find_chain(root, chain)
    if declared is not None and not [other for other in root if other.tag in ("rule", "passthrough") and other.get("chain") == chain]:
        root.remove(declared)
    return _write(root) if len(root) else None


def commands(chain: str, rule: Sequence[str], adding: bool) -> list[str]:
    """The shell lines that put the rule there, or take it away."""
    verbs = ("add-chain", "add-rule") if adding else ("remove-rule",)
    lines = []
    for verb in verbs:
        priority = ["0", *rule] if verb.endswith("rule") else []
        lines.append(shell_line(["firewall-cmd", "--permanent", "--direct", f"--{verb}", "ipv4", "filter", chain, *priority]))
    return lines


def _parse(text: Optional[str]) -> ET.Element:
    if not text:
        return ET.Element("direct")
    try:
        # The comments of whoever wrote the file stay.
        return ET.fromstring(text, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))
    except ET.ParseError as error:
        raise ValueError(f"this is no XML ({error}). Nothing was changed. Repair it, or move it away") from error


def _find_chain(root: ET.Element, chain: str) -> Optional[ET.Element]:
    return root.find(f"chain[@ipv='ipv4'][@table='filter'][@chain='{chain}']")


def _find_rule(root: ET.Element, chain: str, rule: Sequence[str]) -> Optional[ET.Element]:
    candidates = root.findall(f"rule[@ipv='ipv4'][@table='filter'][@chain='{chain}']")
    return next((found for found in candidates if (found.text or "").split() == list(rule)), None)


def _write(root: ET.Element) -> str:
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
