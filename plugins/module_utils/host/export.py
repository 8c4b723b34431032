# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything that an export needs from libvirt; changes nothing."""

from __future__ import annotations

from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.export_facts import (
    domain_facts,
    machine_aliases,
    network_facts,
    pool_facts,
    volume_facts,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import owner_uuid
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import errors

# virDomainState of libvirt-domain.h; what is not here is stopped (shutoff, crashed).
_STATES = {1: "running", 2: "running", 3: "suspended", 4: "running", 7: "suspended"}


def observe_everything(conn: Any) -> dict[str, Any]:
    """Networks, pools, the volumes of running pools, domains (as core/export_facts), and the host's aliases of machine types; lists by name."""
    with errors():
        pools = [_pool(pool) for pool in conn.listAllStoragePools()]
        return {
            "networks": _sorted(_network(net) for net in conn.listAllNetworks()),
            "pools": _sorted(pools),
            "volumes": _sorted(volume for pool in conn.listAllStoragePools() if pool.isActive() for volume in _volumes(pool)),
            "domains": _sorted(_domain(domain) for domain in conn.listAllDomains() if domain.isPersistent()),
            "machines": machine_aliases(conn.getCapabilities()),
        }


def _sorted(entries: Any) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: (entry["name"], entry.get("path") or ""))


def _network(net: Any) -> dict[str, Any]:
    return {**network_facts(net.XMLDesc(0)), "active": bool(net.isActive()), "autostart": bool(net.isPersistent() and net.autostart())}


def _pool(pool: Any) -> dict[str, Any]:
    facts = pool_facts(pool.XMLDesc(0))
    state = {"active": bool(pool.isActive()), "autostart": bool(pool.isPersistent() and pool.autostart())}
    return {**facts, **state, "owned": facts["uuid"] == owner_uuid(facts["name"])}


def _volumes(pool: Any) -> list[dict[str, Any]]:
    return [{**volume_facts(volume.XMLDesc(0)), "pool": pool.name()} for volume in pool.listAllVolumes()]


def _domain(domain: Any) -> dict[str, Any]:
    # As the Terraform provider reads it: the running definition where there is one.
    return {**domain_facts(domain.XMLDesc(0)), "state": _STATES.get(domain.state()[0], "stopped"), "autostart": bool(domain.autostart())}
