# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a libvirt host as they are, whoever made them."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain import ObservedDomain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import read_domain, read_taps
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import errors

try:
    import libvirt
except ImportError:
    libvirt = None

# virDomainState (libvirt-domain.h). Without a state is a running one whose driver keeps none; blocked is one that waits for a device.
_POWER = {0: "running", 1: "running", 2: "running", 3: "suspended", 4: "shutdown", 5: "stopped", 6: "crashed", 7: "pmsuspended"}


def observe_domains(conn: Any) -> list[ObservedDomain]:
    """All guests, by name. power: a word of domain.POWER, or shutdown (on its way), crashed, pmsuspended (it put itself to sleep)."""
    with errors():
        found = (_observe(domain) for domain in conn.listAllDomains())
        return sorted((domain for domain in found if domain is not None), key=lambda domain: domain.name)


def observe_domain(conn: Any, name: str) -> Optional[ObservedDomain]:
    """The guest of that name, or None."""
    with errors():
        return next((_observe(domain) for domain in conn.listAllDomains() if domain.name() == name), None)


def _observe(domain: Any) -> Optional[ObservedDomain]:
    """None for one that is gone since it was listed: a transient guest that stopped, or one that somebody removes just now."""
    try:
        active, persistent = bool(domain.isActive()), bool(domain.isPersistent())
        live_xml = domain.XMLDesc(0) if active else None
        # With its secrets: this is what a redefinition starts from, and what a backup must bring back.
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        state, _reason = domain.state()
        autostart = persistent and bool(domain.autostart())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    definition, unmanaged = read_domain(xml)
    return ObservedDomain(
        name=definition.name,
        uuid=definition.uuid,
        power=_POWER.get(state, "running" if active else "stopped"),
        autostart=autostart,
        kept=definition if persistent else None,
        live=None if live_xml is None else read_domain(live_xml)[0],
        xml=xml,
        live_xml=live_xml,
        unmanaged=unmanaged,
        taps={} if live_xml is None else read_taps(live_xml),
    )
