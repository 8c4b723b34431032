# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values of the model: text in, typed value or ``None`` out; each fault is recorded."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults, Table, as_number
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import INTERFACE_NAME_MAX, AddressRange, PortRange

# RFC 1918, section 3. IPv4Network.is_private is wider: loopback, link-local, documentation and reserved ranges count there too.
PRIVATE = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))
WIDEST_PREFIX, NARROWEST_PREFIX = 16, 29

# Names become names of libvirt networks, nftables chains, security groups and DNS labels: the letters that all of them take.
_NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
NAME_MAX = 32
# Places of the reachability matrix and sources of published ports that are no segments, and words of the kernel's interface tree.
_RESERVED_NAMES = frozenset({"internet", "tailnet", "host", "all", "default", "any"})

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# What Docker and libvirt name their own bridges (docker network create: "br-" and 12 digits of the id), and lo/all/default of the kernel.
_FOREIGN_BRIDGE = re.compile(r"br-[0-9a-f]{12}|docker0|docker_gwbridge|virbr\d*|lo|all|default")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")

SSH_DEFAULT = 22
FIRST_UNPRIVILEGED = 1024
LAST_PORT = 65535


def name(faults: Faults, path: str, text: Optional[str], noun: str) -> Optional[str]:
    if text is None:
        return None
    if len(text) > NAME_MAX or not _NAME.fullmatch(text):
        cure = f"Use 1 to {NAME_MAX} of a-z, 0-9 and '-', the first a letter, the last no '-'"
        faults.add("name", path, text, f"is no name for a {noun}", cure)
        return None
    if text in _RESERVED_NAMES:
        faults.add("name", path, text, f"is a word with a meaning of its own, no name for a {noun}", "Choose another name")
        return None
    return text


def domain(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    if text is None:
        return None
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        cure = "Write labels of a-z, 0-9 and '-' joined by single dots, none at the ends, such as 'lab.local'"
        faults.add("domain", path, text, "is no DNS domain (RFC 1123)", cure)
        return None
    return text


def host_name(faults: Faults, path: str, text: Optional[str], dotted: bool = False) -> Optional[str]:
    """A host name of one label; with ``dotted`` a fully qualified one too."""
    if text is None:
        return None
    found = text.split(".") if dotted else [text]
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in found):
        cure = f"Write {text.lower()!r}" if _LABEL.fullmatch(text.lower()) else "Use 1 to 63 of a-z, 0-9 and '-', no '-' at the ends"
        if "." in text and not dotted:
            cure = f"Write {text.split('.')[0]!r}: the platform's domain is added, other names go into aliases"
        faults.add("dns-name", path, text, "is no host name (RFC 1123, in small letters)", cure)
        return None
    if text.replace(".", "").isdecimal():
        faults.add("dns-name", path, text, "a name of digits alone is read as an address", "Put a letter into it")
        return None
    return text


def bridge(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    if text is None:
        return None
    if len(text) > INTERFACE_NAME_MAX:
        reason = f"has {len(text)} characters, Linux takes {INTERFACE_NAME_MAX} for an interface"
        faults.add("bridge-long", path, text, reason, f"Set bridge to a name of at most {INTERFACE_NAME_MAX} characters")
        return None
    if not _BRIDGE.fullmatch(text):
        faults.add("bridge-name", path, text, "is no name for a bridge", "Use letters, digits, '-' and '_', the first a letter")
        return None
    if _FOREIGN_BRIDGE.fullmatch(text):
        reason = "is a name that Docker, libvirt or the kernel gives to an interface of its own"
        faults.add("bridge-reserved", path, text, reason, "Set bridge to another name, such as 'br-lab0'")
        return None
    return text


def mac(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    """In small letters with colons."""
    if text is None:
        return None
    address = text.lower()
    if not _MAC.fullmatch(address):
        digits = re.sub(r"[^0-9a-f]", "", address)
        cure = "Write six pairs of hexadecimal digits, such as '52:54:00:12:34:56'"
        if len(digits) == 12:
            cure = f"Write '{':'.join(digits[place : place + 2] for place in range(0, 12, 2))}'"
        faults.add("mac", path, text, "is no MAC address", cure)
        return None
    # IEEE 802: the lowest bit of the first octet marks a group address, which no interface may own.
    if int(address[:2], 16) & 1 or address == "00:00:00:00:00:00":
        reason = "is a multicast, broadcast or zero address, which no interface may own"
        faults.add("mac-multicast", path, text, reason, "Use one whose first pair is even, such as '52:54:00:12:34:56'")
        return None
    return address


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text.partition("/")[0])
    except AddressValueError:
        return False
    return True


def address(faults: Faults, path: str, text: Optional[str]) -> Optional[IPv4Address]:
    if text is None:
        return None
    try:
        return IPv4Address(text)
    except AddressValueError:
        pass
    if _is_ipv6(text):
        faults.add("ipv6", path, text, "is an IPv6 address, segments are IPv4", "Write an IPv4 address of the segment's cidr")
    else:
        cure = (
            f"Write {text.split('/')[0]!r}, without the prefix"
            if "/" in text
            else "Write four numbers from 0 to 255, without leading zeros, such as '10.0.0.1'"
        )
        faults.add("address", path, text, "is no IPv4 address", cure)
    return None


def network(faults: Faults, path: str, text: Optional[str]) -> Optional[IPv4Network]:
    """An IPv4 network in CIDR form. One with host bits is recorded and returned without them, so that what hangs on it is judged too."""
    if text is None:
        return None
    host, slash, prefix = text.partition("/")
    try:
        if not slash or not prefix.isdecimal():
            raise NetmaskValueError(prefix)
        found = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError):
        if _is_ipv6(text):
            cure = "Write an IPv4 range, such as '10.0.0.0/24'"
            try:
                IPv6Network(text, strict=False)
            except ValueError:
                cure += "; this one is malformed even as IPv6"
            faults.add("ipv6", path, text, "is an IPv6 range, the platform's ranges are IPv4", cure)
        else:
            cure = "Write the network's first address and a prefix length, such as '10.0.0.0/24'"
            faults.add("cidr", path, text, "is no IPv4 range in CIDR form", cure)
        return None
    if str(found.network_address) != host:
        faults.add("cidr-host-bits", path, text, f"has bits set after its prefix of {found.prefixlen}", f"Write {str(found)!r}")
    return found


def segment_network(faults: Faults, path: str, text: Optional[str]) -> Optional[IPv4Network]:
    found = network(faults, path, text)
    if found is None:
        return None
    if not WIDEST_PREFIX <= found.prefixlen <= NARROWEST_PREFIX:
        reason = f"has {found.num_addresses} addresses, a segment has 8 (/29) to 65536 (/16)"
        faults.add("cidr-size", path, text, reason, f"Choose a prefix from /{WIDEST_PREFIX} to /{NARROWEST_PREFIX}, such as '{found.network_address}/24'")
        return None
    if not any(found.subnet_of(private) for private in PRIVATE):
        faults.add("cidr-private", path, text, "is not private (RFC 1918)", f"Choose a range inside {', '.join(map(str, PRIVATE))}")
    return found


def address_range(faults: Faults, path: str, value: Any) -> Optional[AddressRange]:
    """A mapping {first, last} or the text 'first-last'."""
    if isinstance(value, str):
        first_text, dash, last_text = value.partition("-")
        value = {"first": first_text.strip(), "last": last_text.strip()} if dash else value
    table = Table.read(faults, path, value, ("first", "last"), ("first", "last"))
    if table is None:
        return None
    first = address(faults, table.at("first"), table.text("first"))
    last = address(faults, table.at("last"), table.text("last"))
    if first is None or last is None:
        return None
    if first > last:
        faults.add("dhcp-reversed", path, f"{first}-{last}", "its first address comes after its last", f"Write {{first: {last}, last: {first}}}")
        return None
    return AddressRange(first, last)


def port(faults: Faults, path: str, value: Any, forwarded: bool) -> Optional[int]:
    """A TCP port for SSH; ``forwarded`` ones pass through the host to a guest."""
    found = as_number(faults, path, value, least=None)
    if found is None:
        return None
    if found == SSH_DEFAULT:
        faults.add("port-22", path, found, "SSH never answers on port 22 here", "Choose a port of the segment's own, such as 2201")
    elif not 1 <= found <= LAST_PORT:
        faults.add("port", path, found, f"is no TCP port, these are 1 to {LAST_PORT}", f"Choose a port from {FIRST_UNPRIVILEGED} to {LAST_PORT}")
    elif forwarded and found < FIRST_UNPRIVILEGED:
        reason = "is a privileged port, kept for the host's own services"
        faults.add("port-privileged", path, found, reason, f"Choose a port from {FIRST_UNPRIVILEGED} to {LAST_PORT}")
    else:
        return found
    return None


def port_range(faults: Faults, path: str, value: Any) -> Optional[PortRange]:
    table = Table.read(faults, path, value, ("first", "last"), ("first", "last"))
    if table is None or not {"first", "last"} <= set(table.value):
        return None
    first = port(faults, table.at("first"), table.value["first"], forwarded=True)
    last = port(faults, table.at("last"), table.value["last"], forwarded=True)
    if first is None or last is None:
        return None
    if first > last:
        faults.add("ports-reversed", path, f"{first}-{last}", "its first port comes after its last", f"Write {{first: {last}, last: {first}}}")
        return None
    return PortRange(first, last)


def directory(faults: Faults, path: str, text: Optional[str], rule: str) -> Optional[str]:
    if text is None:
        return None
    parts = text.split("/")
    clean = "/" + "/".join(part for part in parts if part not in ("", "."))
    if not text.startswith("/"):
        faults.add(rule, path, text, "is not absolute", f"Write the whole path, such as '/data/{text}'")
        return None
    if ".." in parts or clean != text:
        cure = "Write it without '..'" if ".." in parts else f"Write {clean!r}"
        faults.add(rule, path, text, "is not in its plain form", cure)
        return None
    return text
