# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planner for libvirt networks: what is, what shall be, and the operations between. No I/O.

What virNetworkUpdate can change in a running network is changed there, in the running and the kept definition at once.
Everything else needs the network stopped and started: that is called disruptive, and is the caller's to allow.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import (
    dns_element,
    host_element,
    managed_ip_index,
    one_line,
    range_element,
    write_network,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import (
    Declared,
    Definition,
    DhcpHost,
    DnsHost,
    Guest,
    Observed,
    Tap,
    check_apart,
    declare,
    describe,
    describe_observed,
    users,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import (
    Attach,
    Autostart,
    Backup,
    Define,
    Destroy,
    Operation,
    Plan,
    Start,
    Step,
    Undefine,
    Update,
)

# Fields of a running network's bridge and dnsmasq that libvirt sets at start only (virNetworkUpdate refuses their sections).
_RESTART_FIELDS = ("bridge", "address", "prefix", "domain", "mtu")
# Linux gives it to a bridge that is told nothing else (ETH_DATA_LEN).
_MTU_DEFAULT = 1500


def plan_networks(
    state: str,
    config: Sequence[Mapping[str, Any]],
    observed: Sequence[Observed],
    guests: Sequence[Guest] = (),
    adopt: bool = False,
    decommission: Sequence[str] = (),
) -> Plan:
    """The whole run for ``state`` merged, overridden or deleted. ResourceError when it must not be begun."""
    found = {network.name: network for network in observed}
    named = unique(config, "name", "config")
    for name in named:
        if name in found and not found[name].owned and not adopt:
            raise ResourceError(
                f"config[{name}]: libvirt has a network {name!r} that this collection did not make; nothing was changed. "
                "Choose another name, or set adopt: true to take it over as it is declared here."
            )
    if state == "deleted":
        gone = [found[name] for name in named if name in found] if named else [network for network in observed if network.owned]
        declared: list[Declared] = []
    else:
        gone = [network for network in observed if state == "overridden" and network.owned and network.name not in named]
        declared = [declare(entry, found.get(name), state == "merged", f"config[{name}]") for name, entry in named.items()]
        check_apart(declared)
    steps = [_retire(name, found, named, guests) for name in dict.fromkeys(decommission)]
    steps += [_remove(network, guests) for network in gone]
    steps += [plan_network(wanted, found.get(wanted.definition.name), guests) for wanted in declared]
    touched = {step.name for step in steps}
    steps += [_untouched(network) for network in observed if network.owned and network.name not in touched]
    return Plan(tuple(steps))


def plan_network(wanted: Declared, found: Optional[Observed], guests: Sequence[Guest] = ()) -> Step:
    """The step that brings one network from ``found`` to ``wanted``; without operations when nothing is to be done."""
    definition, name = wanted.definition, wanted.definition.name
    after = describe(definition, wanted.autostart, wanted.active)
    if found is None:
        operations: list[Operation] = [Define(name, write_network(definition))]
        operations += [Start(name)] if wanted.active else []
        operations += [Autostart(name, True)] if wanted.autostart else []
        return Step(name, tuple(operations), wanted, after=after)
    redefine: list[Operation] = [Backup(name, found.xml), Define(name, write_network(definition, found.xml))]
    kept_is_right = found.owned and found.persistent == definition
    disruptive: list[str] = []
    operations = []
    # What an earlier stop of the network, or a run that was cut short, has left without a bridge.
    plugs = attachments(definition, guests) if wanted.active else []
    if found.live is not None and wanted.active:
        disruptive = restart_reasons(found.live, definition)
        updates = [] if disruptive else live_updates(found.live, definition, managed_ip_index(found.xml))
        if disruptive:
            operations += [redefine[0], Destroy(name), redefine[1], Start(name)]
            plugs = attachments(definition, guests, found.live.bridge)
            disruptive = _with_guests(disruptive, users(guests, name, found.live.bridge, running=True))
        elif updates and found.owned and found.persistent == found.live:
            operations += [Update(name, *update, config=True) for update in updates]
        else:
            # The two definitions differ: the kept one is written whole, the running one is brought after it.
            operations += [] if kept_is_right else redefine
            operations += [Update(name, *update, config=False) for update in updates]
    elif found.live is not None:
        running = users(guests, name, found.live.bridge, running=True)
        disruptive = _with_guests(["it is to be stopped while guests use it"], running) if running else []
        # A transient network is gone once it is stopped, so it is always written then.
        operations += [Destroy(name)] if kept_is_right else [redefine[0], Destroy(name), redefine[1]]
    else:
        operations += [] if kept_is_right else redefine
        operations += [Start(name)] if wanted.active else []
    operations += plugs
    if found.autostart != wanted.autostart:
        operations.append(Autostart(name, wanted.autostart))
    return Step(name, tuple(operations), wanted, tuple(disruptive), describe_observed(found), after)


def attachments(definition: Definition, guests: Sequence[Guest], stopped: Optional[str] = None) -> list[Attach]:
    """The taps to plug into the network's bridge: those that are in none, and all when its old bridge ``stopped`` goes away."""

    def belongs(tap: Tap) -> bool:
        # An interface in a libvirt network names a bridge too, but that of the time when the guest started.
        return tap.network == definition.name if tap.network else tap.bridge == (stopped or definition.bridge)

    return [
        Attach(definition.name, guest.name, tap.device, str(definition.bridge), None if tap.mtu else definition.mtu or _MTU_DEFAULT, tap.isolated)
        for guest in guests
        for tap in guest.taps
        if belongs(tap) and (stopped or tap.unplugged)
    ]


def restart_reasons(live: Definition, wanted: Definition) -> list[str]:
    """Why a running network has to be stopped and started to become ``wanted``; empty when it has not."""
    pairs = [(field, getattr(live, field), getattr(wanted, field)) for field in _RESTART_FIELDS]
    reasons = [f"{field} is {now}, wanted {then}" for field, now, then in pairs if now != then]
    reasons += live.deviations
    # libvirt deletes a DNS host by its address, and refuses when several match (virNetworkDefUpdateDNSHost).
    addresses = [entry.address for entry in live.dns]
    reasons += [f"DNS address {entry.address} stands there twice" for entry in live.dns if entry not in wanted.dns and addresses.count(entry.address) > 1]
    return list(dict.fromkeys(reasons))


def live_updates(live: Definition, wanted: Definition, parent_index: int = -1) -> list[tuple[str, str, str]]:
    """(command, section, xml) of virNetworkUpdate, in an order in which no intermediate state is refused.

    What goes away goes first, so that neither an address nor a name is ever claimed twice. A DHCP host is modified in place
    only when its new values match no other entry: libvirt modifies the first entry that shares any of MAC, name or address.
    """
    stale = [entry for entry in live.hosts if entry not in wanted.hosts]
    fresh = [entry for entry in wanted.hosts if entry not in live.hosts]
    modified = [entry for entry in fresh if _modifiable(entry, live.hosts)]
    replaced = [entry.mac for entry in modified]
    return [
        *(("delete", "dns-host", one_line(_dns_key(entry))) for entry in live.dns if entry not in wanted.dns),
        *(("delete", "ip-dhcp-host", one_line(host_element(entry))) for entry in stale if entry.mac is None or entry.mac not in replaced),
        *(("delete", "ip-dhcp-range", one_line(range_element(entry))) for entry in live.dhcp if entry not in wanted.dhcp),
        *(("add-last", "ip-dhcp-range", one_line(range_element(entry))) for entry in wanted.dhcp if entry not in live.dhcp),
        *(("modify", "ip-dhcp-host", one_line(host_element(entry))) for entry in modified),
        *(("add-last", "ip-dhcp-host", one_line(host_element(entry))) for entry in fresh if entry not in modified),
        *(("add-last", "dns-host", one_line(dns_element(entry))) for entry in wanted.dns if entry not in live.dns),
    ]


def _modifiable(entry: DhcpHost, live: Sequence[DhcpHost]) -> bool:
    same = [other for other in live if other.mac == entry.mac]
    alike = [other for other in live if other.mac == entry.mac or other.address == entry.address or (entry.name and other.name == entry.name)]
    return entry.mac is not None and len(same) == 1 and alike == same


def _dns_key(entry: DnsHost) -> ET.Element:
    # Deleted by its address alone: with names, libvirt also counts every other entry that has one of them.
    return dns_element(DnsHost(entry.address, ()))


def _untouched(network: Observed) -> Step:
    return Step(network.name, before=describe_observed(network), after=describe_observed(network))


def _remove(network: Observed, guests: Sequence[Guest]) -> Step:
    using = users(guests, network.name, network.definition.bridge)
    operations: list[Operation] = [Backup(network.name, network.xml)]
    operations += [Destroy(network.name)] if network.active else []
    operations += [Undefine(network.name)] if network.persistent is not None else []
    disruptive = [f"it is to be removed, and the guests {', '.join(using)} have interfaces in it"] if using else []
    return Step(network.name, tuple(operations), disruptive=tuple(disruptive), before=describe_observed(network))


def _retire(name: str, found: Mapping[str, Observed], named: Mapping[str, Any], guests: Sequence[Guest]) -> Step:
    """Stops somebody else's network and keeps its definition; there is nothing to do when it does not exist."""
    if name in named:
        raise ResourceError(f"decommission: found {name!r}, which config names too; nothing was changed. Take it out of one of the two.")
    network = found.get(name)
    if network is None:
        return Step(name)
    if network.owned:
        raise ResourceError(f"decommission: found {name!r}, which this collection made; nothing was changed. Remove it by state: deleted or overridden.")
    operations: list[Operation] = [Destroy(name)] if network.active else []
    operations += [Autostart(name, False)] if network.autostart else []
    using = users(guests, name, network.definition.bridge)
    if operations and using:
        raise ResourceError(
            f"decommission: network {name!r} is used by the guests {', '.join(using)}; nothing was changed. "
            f"Move their interfaces to another network or undefine them, or take {name!r} out of `decommission` "
            "(the role's segments_decommission), then run again.",
            guests=using,
        )
    if not operations:
        # A network of somebody else that rests already is no part of what is reported.
        return Step(name)
    before = {"name": name, "autostart": network.autostart, "active": network.active}
    after = {"name": name, "autostart": False, "active": False} if network.persistent is not None else None
    return Step(name, tuple(operations), before=before, after=after)


def _with_guests(reasons: Sequence[str], running: Sequence[str]) -> list[str]:
    if not running:
        return list(reasons)
    return [f"{reason} (cuts off the running guests {', '.join(running)})" for reason in reasons]
