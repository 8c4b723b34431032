# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where mail goes on to: every address of our own domains leads to somebody, and none leads back to itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail_domains import Draft
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import ROLES

Targets = Mapping[str, Sequence[tuple[str, str]]]


class Routes:
    """All addresses of the platform. A node is an address, or ``@domain`` for what a domain catches."""

    def __init__(self, drafts: Sequence[Draft], admins: Sequence[tuple[str, str]], subaddress: Optional[str]) -> None:
        """admins: (path, address)"""
        self.domains = {draft.domain.name for draft in drafts}
        self.paths = {address: path for draft in drafts for address, path in draft.paths.items()}
        self.targets: dict[str, Sequence[tuple[str, str]]] = {address: targets for draft in drafts for address, targets in draft.targets.items()}
        self._subaddress = subaddress
        for draft in drafts:
            for role in ROLES:
                # The admins get it where nobody is named.
                self.targets.setdefault(f"{role}@{draft.domain.name}", admins)

    def own(self, address: str) -> bool:
        return address.rpartition("@")[2] in self.domains

    def node(self, address: str) -> Optional[str]:
        """What takes mail for ``address``; None where nothing of ours does."""
        local, _at, domain = address.rpartition("@")
        plain = local.partition(self._subaddress)[0] if self._subaddress else local
        for found in (address, f"{plain}@{domain}"):
            if found in self.paths or found in self.targets:
                return found
        return f"@{domain}" if f"@{domain}" in self.targets else None

    def step(self, node: str, address: str) -> Optional[str]:
        """Where mail for ``address`` goes that comes from ``node``: what a domain catches goes to an address that somebody named."""
        found = self.node(address)
        return None if found is not None and node.startswith("@") and found.startswith("@") else found


def check_routes(faults: Faults, drafts: Sequence[Draft], routes: Routes) -> None:
    """Targets that do not exist, circles, and groups that nobody may write to."""
    for draft in drafts:
        for group in draft.domain.groups:
            if group.senders == "members" and group.members and not any(routes.own(member) for member in group.members):
                reason = "has no member of this platform, and who is not of it cannot log in: nobody could write to the group"
                faults.add("mail-group-senders", f"{draft.paths[group.address]}.senders", group.senders, reason, "Write anyone, or add a member")
    _check_closed(faults, drafts, routes)
    for node, targets in routes.targets.items():
        for path, address in targets:
            if routes.own(address) and routes.step(node, address) is None:
                known = [other for other in routes.paths if other != node and other.rpartition("@")[2] == address.rpartition("@")[2]]
                faults.add("mail-target-unknown", path, address, "is no address of its domain, which is ours", meant(address, known, "addresses"))
            elif node.startswith("@") and not routes.own(address):
                reason = "is outside of this platform, and whatever is sent to made-up addresses would be sent on in our name"
                faults.add("mail-catch-all", path, address, reason, "Name an address of this platform")
    for circle in _circles(routes):
        # The first step that somebody wrote down: what the admins get by default stands nowhere.
        path = next(path for node, path, _next in circle if node in routes.paths or node.startswith("@"))
        steps = " -> ".join([*(_shown(node) for node, _path, _next in circle), _shown(circle[0][0])])
        faults.add("mail-loop", path, circle[0][2], f"leads back to where it came from: {steps}", "Take one of these steps out")


def _check_closed(faults: Faults, drafts: Sequence[Draft], routes: Routes) -> None:
    """Who may write is asked of the address that a mail is sent to: what leads on from there to a closed group opens it."""
    closed = {group.address for draft in drafts for group in draft.domain.groups if group.senders == "members"}
    for node, targets in routes.targets.items():
        for path, address in targets:
            if node not in closed and routes.own(address) and routes.step(node, address) in closed:
                reason = f"is a group that its members alone may write to, and by {_shown(node)} anybody could"
                faults.add("mail-group-open", path, address, reason, "Take it out, name its members, or write senders: anyone for the group")


def _shown(node: str) -> str:
    return f"catch_all of {node[1:]}" if node.startswith("@") else node


def _circles(routes: Routes) -> Iterator[list[tuple[str, str, str]]]:
    """Each circle that a walk through all nodes closes, as steps (node, path of the target, the target). Without recursion: lists can be long."""
    done: set[str] = set()
    for start in routes.targets:
        if start in done:
            continue
        steps: list[tuple[str, str, str]] = []
        waiting: list[tuple[str, Iterator[tuple[str, str]]]] = [(start, iter(routes.targets[start]))]
        on_way = {start: 0}
        while waiting:
            node, targets = waiting[-1]
            del steps[len(waiting) - 1 :]
            target = next(targets, None)
            if target is None:
                waiting.pop()
                done.add(node)
                del on_way[node]
                continue
            path, address = target
            following = routes.step(node, address)
            if following is None:
                continue
            steps.append((node, path, address))
            if following in on_way:
                yield steps[on_way[following] :]
            elif following not in done and following in routes.targets:
                on_way[following] = len(waiting)
                waiting.append((following, iter(routes.targets[following])))
