# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each line of the tool changes, in rows: from those found to those wanted. Nothing is read or written here."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_mail_address as addresses
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import MIB, Rows, add_targets, copied, put, put_mailbox, put_targets
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

Edit = Callable[[Rows, Namespace], None]


def edited(found: Rows, edit: Edit, given: Namespace) -> Rows:
    rows = copied(found)
    edit(rows, given)
    known = _ways(found)
    for start, targets in _ways(rows).items():
        for target in set(targets) - set(known.get(start, ())):
            _refuse_circle(_ways(rows), start, target)
    return rows


def unknown(found: Rows, wanted: Rows) -> list[str]:
    """New targets of our own domains that nobody has, each in words."""
    known, caught = _ways(found), {key[0] for key, row in wanted["domains"].items() if row[3]}
    ways = _ways(wanted)
    lines = []
    for start, targets in sorted(ways.items()):
        for target in targets:
            domain = target.rpartition("@")[2]
            ours = (domain,) in wanted["domains"] and domain not in caught
            if ours and target not in known.get(start, ()) and (target,) not in wanted["mailboxes"] and target not in ways:
                lines.append(f"{start} leads to {target}, which nobody has: what is sent there comes back")
    return lines


def _ways(rows: Rows) -> dict[str, list[str]]:
    """Where mail goes on to, by address; @domain: what the domain catches."""
    ways: dict[str, list[str]] = {}
    for address, target, _kind in rows["aliases"].values():
        ways.setdefault(address, []).append(target)
    for name, _active, _relay, catch_all in rows["domains"].values():
        if catch_all:
            ways[f"@{name}"] = [catch_all]
    return ways


def _refuse_circle(ways: Mapping[str, Sequence[str]], start: str, target: str) -> None:
    ahead, seen = [target], {target}
    while ahead:
        node = ahead.pop()
        if node == start:
            raise ResourceError(f"{start}: mail to {target} would come back to it, and go round. See: mailctl list --mailboxes --aliases --groups")
        following = set(ways.get(node, ())) - seen
        seen |= following
        ahead += following


def add(rows: Rows, given: Namespace) -> None:
    address = _own(rows, given.address, given.subaddress, login=True)
    if (address,) in rows["mailboxes"]:
        raise ResourceError(f"{address}: is a mailbox already. To change it: mailctl password, name, quota, forward, disable, enable")
    _refuse_taken(rows, address, "a mailbox")
    _refuse_negative(given.quota)
    put_mailbox(rows, address, given.name, given.quota, True, True)


def name(rows: Rows, given: Namespace) -> None:
    key, row = _mailbox(rows, given.address)
    rows["mailboxes"][key] = (*row[:3], given.name, *row[4:])


def quota(rows: Rows, given: Namespace) -> None:
    key, row = _mailbox(rows, given.address)
    _refuse_negative(given.megabytes)
    rows["mailboxes"][key] = (*row[:4], given.megabytes * MIB, *row[5:])


def forward(rows: Rows, given: Namespace) -> None:
    key, row = _mailbox(rows, given.address)
    targets = _targets(given.targets, key[0])
    if given.no_copy and not targets:
        raise ResourceError(f"{key[0]}: nowhere to forward to, and no copy: its mail would be lost. Name a target, or leave --no-copy out")
    put_targets(rows, key[0], targets, "forward")
    rows["mailboxes"][key] = (*row[:6], int(not given.no_copy))


def enable(rows: Rows, given: Namespace) -> None:
    key, row = _mailbox(rows, given.address)
    rows["mailboxes"][key] = (*row[:5], 1, *row[6:])
    rows["holds"].pop(key, None)


def disable(rows: Rows, given: Namespace) -> None:
    key, row = _mailbox(rows, given.address)
    rows["mailboxes"][key] = (*row[:5], 0, *row[6:])
    if not given.no_hold:
        put(rows, "holds", key[0], given.now, given.reason)


def remove(rows: Rows, given: Namespace) -> None:
    key, _row = _mailbox(rows, given.address)
    del rows["mailboxes"][key]
    rows["holds"].pop(key, None)
    put_targets(rows, key[0], (), "forward")
    _refuse_named(rows, key[0], given.anyway)


def alias_add(rows: Rows, given: Namespace) -> None:
    address = _alias(rows, given)
    add_targets(rows, address, _targets(given.targets, address), "alias")


def alias_set(rows: Rows, given: Namespace) -> None:
    address = _alias(rows, given)
    for kind in ("alias", "role"):
        put_targets(rows, address, (), kind)
    add_targets(rows, address, _targets(given.targets, address), "role" if given.role else "alias")


def alias_remove(rows: Rows, given: Namespace) -> None:
    address = given.address.lower()
    gone = [key for key, row in rows["aliases"].items() if key[0] == address and row[2] in ("alias", "role") and (not given.targets or key[1] in given.targets)]
    if not gone:
        raise ResourceError(f"{address}: found no such alias. See: mailctl list --aliases")
    for key in gone:
        del rows["aliases"][key]
    if not any(key[0] == address for key in rows["aliases"]):
        _refuse_named(rows, address, given.anyway)


def group_set(rows: Rows, given: Namespace) -> None:
    address = _own(rows, given.address, given.subaddress, login=False)
    if (address,) not in rows["groups"]:
        _refuse_taken(rows, address, "a group")
    put(rows, "groups", address, given.senders)
    put_targets(rows, address, _targets(given.members, address), "group")


def group_remove(rows: Rows, given: Namespace) -> None:
    address = given.address.lower()
    if rows["groups"].pop((address,), None) is None:
        raise ResourceError(f"{address}: found no such group. See: mailctl list --groups")
    put_targets(rows, address, (), "group")
    _refuse_named(rows, address, given.anyway)


def domain_set(rows: Rows, given: Namespace) -> None:
    found = _checked(lambda faults: addresses.mail_domain(faults, "domain", given.domain))
    _name, _active, relay, catch_all = rows["domains"].get((found,), (found, 1, None, None))
    if given.relay and given.relay not in given.relays:
        raise ResourceError(f"{given.relay}: is no relay of platform_mail, so there is no login for it. There are: {', '.join(given.relays) or 'none'}")
    if given.relay or given.direct:
        relay = given.relay
    if given.catch_all or given.no_catch_all:
        catch_all = _targets([given.catch_all], "")[0] if given.catch_all else None
    put(rows, "domains", found, 1, relay, catch_all)


def domain_remove(rows: Rows, given: Namespace) -> None:
    domain = given.domain.lower()
    if (domain,) not in rows["domains"]:
        raise ResourceError(f"{domain}: found no such domain. See: mailctl list --domains")
    used = sorted({key[0] for table in ("mailboxes", "aliases", "groups") for key in rows[table] if key[0].endswith(f"@{domain}")})
    if used:
        raise ResourceError(f"{domain}: still has {len(used)} addresses, such as {used[0]}. Remove those first")
    del rows["domains"][(domain,)]


def _alias(rows: Rows, given: Namespace) -> str:
    address = _own(rows, given.address, given.subaddress, login=False)
    if (address,) in rows["mailboxes"] or (address,) in rows["groups"]:
        raise ResourceError(f"{address}: is a {'mailbox' if (address,) in rows['mailboxes'] else 'group'}. For a mailbox use: mailctl forward")
    return address


def _mailbox(rows: Rows, address: str) -> tuple[tuple[str], tuple[object, ...]]:
    key = (address.lower(),)
    if key not in rows["mailboxes"]:
        raise ResourceError(f"{address}: found no such mailbox. See: mailctl list")
    return key, rows["mailboxes"][key]


def _own(rows: Rows, text: str, subaddress: Optional[str], login: bool) -> str:
    """An address that this host may give out."""
    whole = _checked(lambda faults: addresses.address(faults, "address", text, None))
    local, domain = whole.rsplit("@", 1)
    _checked(lambda faults: addresses.own_local(faults, "address", local, subaddress, login))
    if (domain,) not in rows["domains"]:
        known = ", ".join(key[0] for key in sorted(rows["domains"])) or "none"
        raise ResourceError(f"{whole}: {domain} is no domain of this host, which has: {known}")
    return whole


def _targets(texts: Iterable[str], of: str) -> list[str]:
    targets = [_checked(partial(_target, text)) for text in texts]
    if of in targets:
        raise ResourceError(f"{of}: would lead to itself. To keep a mailbox's own copy leave --no-copy out")
    return targets


def _target(text: str, faults: Faults) -> Optional[str]:
    return addresses.address(faults, "target", text, None)


def _checked(read: Callable[[Faults], Optional[str]]) -> str:
    faults = Faults()
    found = read(faults)
    if found is None:
        raise ResourceError("; ".join(str(item) for item in faults.items))
    return found


def _refuse_negative(megabytes: int) -> None:
    if megabytes < 0:
        raise ResourceError(f"a quota of {megabytes} MiB: must be 0 (no limit) or more")


def _refuse_taken(rows: Rows, address: str, wanted: str) -> None:
    for table, what in (("mailboxes", "a mailbox"), ("groups", "a group"), ("aliases", "an alias")):
        if any(key[0] == address for key in rows[table]):
            raise ResourceError(f"{address}: is {what} already, and cannot be {wanted} too. Remove that first")


def _refuse_named(rows: Rows, address: str, anyway: bool) -> None:
    """What leads to an address that is gone would bounce."""
    if anyway or any((address,) in rows[table] for table in ("mailboxes", "groups")):
        return
    naming = sorted({key[0] for key in rows["aliases"] if key[1] == address and key[0] != address})
    naming += sorted(f"@{key[0]} (catch-all)" for key, row in rows["domains"].items() if row[3] == address)
    if naming:
        raise ResourceError(f"{address}: mail to {', '.join(naming[:10])} goes there, and would come back. Change those first, or say --anyway")
