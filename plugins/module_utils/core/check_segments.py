# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between segments."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_segment import SegmentDraft
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, meant


def check_segments(faults: Faults, drafts: Sequence[SegmentDraft], domain: Optional[str]) -> Doubles:
    """What the segments and their hosts use up is returned, so that guests are judged against it."""
    doubles = _check_doubled(faults, drafts, domain)
    _check_reaches(faults, drafts)
    _check_ssh_ports(faults, drafts)
    return doubles


class Seen:
    """Remembers where a value was first set; records each later place."""

    def __init__(self, faults: Faults, rule: str, cure: str) -> None:
        self.faults = faults
        self.rule = rule
        self.cure = cure
        self.places: dict[Hashable, str] = {}

    def add(self, path: str, found: Any, key: Optional[Hashable] = None, cure: Optional[str] = None) -> bool:
        """Whether nobody had it before."""
        if found is None:
            return True
        first = self.places.setdefault(found if key is None else key, path)
        if first != path:
            self.faults.add(self.rule, path, found if isinstance(found, int) else str(found), f"is taken already by {first}", cure or self.cure)
        return first == path


class Doubles:
    """What belongs to one host or guest alone, in the whole platform."""

    def __init__(self, faults: Faults, domain: Optional[str]) -> None:
        self.addresses = Seen(faults, "address-twice", "Give each host an address of its own")
        self.macs = Seen(faults, "mac-twice", "Give each interface a MAC address of its own")
        self.ports = Seen(faults, "ssh-port-twice", "Forward a port of the host to one guest only")
        self._names = Seen(faults, "dns-name-twice", "Names and aliases are known in all segments: use each once")
        self._suffix = f".{domain}" if domain else ""

    def add_name(self, path: str, name: Optional[str]) -> None:
        """``web.lab.local`` and ``web`` are one name in the domain ``lab.local``."""
        if name is not None:
            short = name[: -len(self._suffix)] if self._suffix and name.endswith(self._suffix) else name
            self._names.add(path, name, key=short)


def _check_doubled(faults: Faults, drafts: Sequence[SegmentDraft], domain: Optional[str]) -> Doubles:
    names = Seen(faults, "name-twice", "Give each segment a name of its own")
    bridges = Seen(faults, "bridge-twice", "Give each segment a bridge of its own")
    doubles = Doubles(faults, domain)
    for draft in drafts:
        names.add(f"{draft.path}.name", draft.name)
        bridges.add(f"{draft.path}.bridge", draft.bridge)
        for host in draft.hosts:
            doubles.addresses.add(f"{host.path}.address", host.address)
            doubles.add_name(f"{host.path}.name", host.name)
            for index, alias in enumerate(host.aliases):
                doubles.add_name(f"{host.path}.aliases[{index}]", alias)
            doubles.macs.add(f"{host.path}.mac", host.mac)
            doubles.ports.add(f"{host.path}.ssh_port", host.ssh_port)
    return doubles


def _check_reaches(faults: Faults, drafts: Sequence[SegmentDraft]) -> None:
    names = list(dict.fromkeys(draft.name for draft in drafts if draft.name is not None))
    for draft in drafts:
        for index, target in enumerate(draft.reaches):
            path = f"{draft.path}.reaches[{index}]"
            if target == draft.name:
                reason = "is the segment itself; traffic inside a segment never passes the firewall"
                faults.add("reaches-self", path, target, reason, "Remove it")
            elif target not in names:
                others = [name for name in names if name != draft.name]
                cure = "Set 'internet: true' instead" if target == "internet" else meant(target, others, "segments")
                faults.add("reaches-unknown", path, target, "is no segment of this platform", cure)
            elif target in draft.reaches[:index]:
                faults.add("reaches-twice", path, target, "is named twice", "Remove one of them")


def _check_ssh_ports(faults: Faults, drafts: Iterable[SegmentDraft]) -> None:
    ranges = sorted(((draft.ssh_ports, draft.path) for draft in drafts if draft.ssh_ports is not None), key=lambda item: (item[0].first, item[0].last))
    for (one, before), (two, after) in zip(ranges, ranges[1:]):
        if two.first <= one.last:
            faults.add("ssh-ports-overlap", f"{after}.ssh_ports", str(two), f"overlaps {before}.ssh_ports ({one})", f"Start it after {one.last}")
