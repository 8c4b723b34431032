# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's network XML, read and written (libvirt.org/formatnetwork.html), and what a domain's XML says of its links.

Writing starts from the XML that libvirt keeps, where there is one: what we do not manage (UUID, the bridge's MAC
address, further ``<ip>`` elements, port groups, DNS records of other kinds) stays as it is.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import AddressRange
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Definition, DhcpHost, DnsHost, Guest, Tap

NAMESPACE = "urn:hybridlab:platform:1"
_OWNER = f"{{{NAMESPACE}}}platform"
ET.register_namespace("hybridlab", NAMESPACE)
ET.register_namespace("dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0")


def is_owned(xml: str) -> bool:
    """Whether a definition carries our metadata."""
    return ET.fromstring(xml).find(f"metadata/{_OWNER}") is not None


def owned_bridge(xml: str) -> Optional[str]:
    """Name of the bridge of a network of ours, from its definition or from libvirt's status file of the running one; None for others."""
    root = ET.fromstring(xml)
    network = root if root.tag == "network" else root.find("network")
    if network is None or network.find(f"metadata/{_OWNER}") is None:
        return None
    bridge = network.find("bridge")
    return None if bridge is None else bridge.get("name")


def read_network(xml: str) -> Definition:
    """The managed part of a network's XML, normalised."""
    root = ET.fromstring(xml)
    bridge, domain, mtu, ip = root.find("bridge"), root.find("domain"), root.find("mtu"), _managed_ip(root)
    return Definition(
        name=root.findtext("name", ""),
        bridge=None if bridge is None else bridge.get("name"),
        address=None if ip is None else IPv4Address(ip.get("address", "")),
        prefix=None if ip is None else _prefix(ip),
        domain=None if domain is None else (domain.get("name") or "").lower() or None,
        dhcp=tuple(_read_range(entry) for entry in _within(ip, "dhcp/range")),
        hosts=tuple(_read_host(entry) for entry in _within(ip, "dhcp/host") if _is_ipv4(entry.get("ip"))),
        dns=tuple(_read_dns(entry) for entry in root.iterfind("dns/host") if _is_ipv4(entry.get("ip"))),
        mtu=None if mtu is None else int(mtu.get("size", "0")),
        deviations=tuple(_deviations(root, domain, bridge)),
    ).sorted()


def write_network(wanted: Definition, base: Optional[str] = None) -> str:
    """XML of ``wanted``, marked as ours; edits ``base`` (XML of the network as kept) where given."""
    root = ET.Element("network") if base is None else ET.fromstring(base)
    root.attrib.pop("connections", None)  # a count that libvirt reports of a running network
    _child(root, "name").text = wanted.name
    _child(_child(root, "metadata"), _OWNER)
    forward = _child(root, "forward")
    if forward.get("mode") != "open":
        forward.attrib.clear()
        forward[:] = []
        forward.set("mode", "open")
    _child(root, "bridge").attrib.update(name=str(wanted.bridge), stp="on", delay="0")
    _optional(root, "mtu", None if wanted.mtu is None else {"size": str(wanted.mtu)})
    _optional(root, "domain", None if wanted.domain is None else {"name": wanted.domain, "localOnly": "yes"})
    if wanted.dns or root.find("dns") is not None:
        _sync(_child(root, "dns"), "host", wanted.dns, _read_dns, dns_element, lambda entry: _is_ipv4(entry.get("ip")))
        _drop_empty(root, "dns")
    ip = _managed_ip(root)
    if ip is None:
        ip = ET.SubElement(root, "ip")
    ip.attrib.pop("netmask", None)
    ip.attrib.update(address=str(wanted.address), prefix=str(wanted.prefix))
    if wanted.dhcp or wanted.hosts or ip.find("dhcp") is not None:
        dhcp = _child(ip, "dhcp")
        _sync(dhcp, "range", wanted.dhcp, _read_range, range_element, lambda entry: True)
        _sync(dhcp, "host", wanted.hosts, _read_host, host_element, lambda entry: _is_ipv4(entry.get("ip")))
        _drop_empty(ip, "dhcp")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def managed_ip_index(xml: str) -> int:
    """What virNetworkUpdate takes as parentIndex for the managed ``<ip>``: -1 (libvirt finds it) unless there are several."""
    addresses = ET.fromstring(xml).findall("ip")
    if len(addresses) < 2:
        return -1
    return next((index for index, entry in enumerate(addresses) if _is_ipv4(entry.get("address"))), -1)


def read_guest(name: str, running: bool, documents: Sequence[str]) -> Guest:
    """What a domain uses, from its running and kept XML together; the running one comes first."""
    roots = [ET.fromstring(xml) for xml in documents]

    def values(path: str, attribute: str) -> frozenset[str]:
        return frozenset(value for root in roots for entry in root.iterfind(path) for value in [entry.get(attribute)] if value)

    return Guest(
        name=name,
        running=running,
        networks=values("devices/interface/source", "network"),
        bridges=values("devices/interface/source", "bridge"),
        pools=values("devices/disk/source", "pool"),
        files=values("devices/disk/source", "file"),
        taps=tuple(_read_taps(roots[0])) if running else (),
    )


def _read_taps(root: ET.Element) -> Iterator[Tap]:
    for entry in root.iterfind("devices/interface"):
        source, target, mtu, port = (entry.find(tag) for tag in ("source", "target", "mtu", "port"))
        device = None if target is None else target.get("dev")
        if source is None or not device or entry.get("type") not in ("network", "bridge"):
            continue
        yield Tap(
            device=device,
            network=source.get("network"),
            bridge=source.get("bridge"),
            mtu=None if mtu is None else int(mtu.get("size", "0")),
            isolated=port is not None and port.get("isolated") == "yes",
        )


def range_element(entry: AddressRange) -> ET.Element:
    return ET.Element("range", {"start": str(entry.first), "end": str(entry.last)})


def host_element(entry: DhcpHost) -> ET.Element:
    attributes = {"mac": entry.mac, "name": entry.name, "ip": str(entry.address)}
    return ET.Element("host", {key: value for key, value in attributes.items() if value is not None})


def dns_element(entry: DnsHost) -> ET.Element:
    element = ET.Element("host", {"ip": str(entry.address)})
    for name in entry.names:
        ET.SubElement(element, "hostname").text = name
    return element


def one_line(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


def _read_range(entry: ET.Element) -> AddressRange:
    return AddressRange(IPv4Address(entry.get("start", "")), IPv4Address(entry.get("end", "")))


def _read_host(entry: ET.Element) -> DhcpHost:
    mac, name = entry.get("mac"), entry.get("name")
    return DhcpHost(IPv4Address(entry.get("ip", "")), mac.lower() if mac else None, name.lower() if name else None)


def _read_dns(entry: ET.Element) -> DnsHost:
    return DnsHost(IPv4Address(entry.get("ip", "")), tuple((name.text or "").strip().lower() for name in entry.iterfind("hostname")))


def _deviations(root: ET.Element, domain: Optional[ET.Element], bridge: Optional[ET.Element]) -> list[str]:
    forward = root.find("forward")
    mode = "none (isolated)" if forward is None else forward.get("mode", "nat")
    found = []
    if mode != "open":
        found.append(f"forward mode is {mode}, not open")
    if domain is not None and domain.get("localOnly") != "yes":
        found.append("names of the domain are asked elsewhere too (no localOnly)")
    # libvirt's defaults where the attributes are absent: stp on, delay 0.
    if bridge is not None and (bridge.get("stp", "on") != "on" or bridge.get("delay", "0") != "0"):
        found.append("the bridge's spanning tree or delay is not on/0")
    return found


def _managed_ip(root: ET.Element) -> Optional[ET.Element]:
    return next((entry for entry in root.iterfind("ip") if _is_ipv4(entry.get("address"))), None)


def _within(parent: Optional[ET.Element], path: str) -> list[ET.Element]:
    return [] if parent is None else parent.findall(path)


def _is_ipv4(text: Optional[str]) -> bool:
    try:
        IPv4Address(text or "")
    except ValueError:
        return False
    return True


def _prefix(ip: ET.Element) -> int:
    address = ip.get("address", "")
    given = ip.get("prefix")
    if given is not None:
        return int(given)
    netmask = ip.get("netmask")
    if netmask is not None:
        return IPv4Network(f"{address}/{netmask}", strict=False).prefixlen
    # libvirt falls back to the class of the address (virSocketAddrGetIPPrefix).
    first = int(address.split(".")[0])
    return 8 if first < 128 else 16 if first < 192 else 24


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def _optional(root: ET.Element, tag: str, attributes: Optional[dict[str, str]]) -> None:
    if attributes is not None:
        _child(root, tag).attrib.update(attributes)
    else:
        found = root.find(tag)
        if found is not None:
            root.remove(found)


def _sync(
    parent: ET.Element,
    tag: str,
    wanted: Sequence[Any],
    read: Callable[[ET.Element], Any],
    write: Callable[[Any], ET.Element],
    managed: Callable[[ET.Element], bool],
) -> None:
    """Makes the managed ``tag`` children of ``parent`` say ``wanted``; those that say it already keep what else they carry."""
    missing = list(wanted)
    for entry in parent.findall(tag):
        if not managed(entry):
            continue
        value = read(entry)
        if value in missing:
            missing.remove(value)
        else:
            parent.remove(entry)
    parent.extend([write(value) for value in missing])


def _drop_empty(parent: ET.Element, tag: str) -> None:
    found = parent.find(tag)
    if found is not None and not len(found) and not found.attrib:
        parent.remove(found)
