# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a guest is now: a lease that it took since its start, or its own answer to ARP on the bridge of its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import read_network
from ansible_collections.hybridlab.platform.plugins.module_utils.core.waits import is_new_lease, lease_seconds
from ansible_collections.hybridlab.platform.plugins.module_utils.host.reach import ArpLook

try:
    import libvirt
except ImportError:
    libvirt = None


@dataclass(frozen=True)
class Found:
    """An address, and what proves in words that the guest has it now."""

    address: str
    proof: str


class AddressLook:
    """Looks for one interface's address, without blocking.

    expected: the address that it should take; None for one that is leased from the range
    since:    epoch seconds; only a lease from then on is proof
    missing:  after a look that found nothing: where it looked, in words
    provable: whether ARP can be asked, so that an address which nobody answers for is a wrong or silent one
    """

    def __init__(self, conn: Any, network: str, mac: str, expected: Optional[str], since: float) -> None:
        self.network = network
        self.mac = mac.lower()
        self.expected = expected
        self.since = since
        self.missing: tuple[str, ...] = ()
        self._conn = conn
        self._arp: Optional[ArpLook] = None
        self._arp_trouble = ""

    @property
    def provable(self) -> bool:
        return self._arp is not None

    def look(self) -> Optional[Found]:
        """What proves an address now; None when nothing does. libvirtError."""
        net = self._conn.networkLookupByName(self.network)
        xml = net.XMLDesc(0)
        leases = _leases(net, self.mac)
        for lease in leases:
            if is_new_lease(lease["expirytime"], lease_seconds(xml, self.mac), self.since):
                return Found(lease["ipaddr"], "lease")
        candidates = list(dict.fromkeys(([self.expected] if self.expected else []) + [lease["ipaddr"] for lease in leases]))
        old = f" (an old one for {leases[0]['ipaddr']} is no proof)" if leases else ""
        lease_missing = f"no new DHCP lease for {self.mac} in network {self.network}{old}"
        if not candidates:
            self.missing = (lease_missing,)
            return None
        answered = self._ask(net.bridgeName(), xml, candidates)
        if answered is None:
            self.missing = (lease_missing, *self._unanswered(candidates))
            return None
        return Found(answered, "address")

    def close(self) -> None:
        if self._arp is not None:
            self._arp.close()

    def _ask(self, bridge: str, xml: str, candidates: list[str]) -> Optional[str]:
        """The candidate that the guest's interface answers for."""
        if self._arp is None and not self._arp_trouble:
            self._open(bridge, xml)
        if self._arp is None:
            return None
        try:
            self._arp.look()
            for address in candidates:
                if self.mac in self._arp.answers.get(address, ()):
                    return address
                self._arp.ask(address)
        except OSError as error:
            self._arp_trouble = str(error)
            self._arp.close()
            self._arp = None
        return None

    def _open(self, bridge: str, xml: str) -> None:
        host = read_network(xml).address
        if urlsplit(self._conn.getURI()).hostname:
            self._arp_trouble = "the guests are on another host"
        elif host is None:
            self._arp_trouble = f"this host has no address on {bridge}"
        else:
            try:
                self._arp = ArpLook(bridge, host)
            except OSError as error:
                self._arp_trouble = f"{bridge}: {error}"

    def _unanswered(self, candidates: list[str]) -> tuple[str, ...]:
        if self._arp is None:
            return (f"ARP could not be asked ({self._arp_trouble})",)
        others = {address: sorted(self._arp.answers.get(address, ())) for address in candidates}
        return tuple(
            f"{address} is answered for by {', '.join(macs)}, which is not this guest" if macs else f"nobody answers to ARP at {address}"
            for address, macs in others.items()
        )


def _leases(net: Any, mac: str) -> list[dict[str, Any]]:
    """IPv4 leases of that MAC; none where the driver keeps none."""
    try:
        found = net.DHCPLeases(mac)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return []
        raise
    return [lease for lease in found if lease["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4]
