# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as Terraform configuration for the provider dmacvicar/libvirt 0.8, with an import block for each thing that is there. No I/O.

``terraform plan`` of it has to say: N to import, 0 to add, 0 to change. Where the provider does not read back what it is able to write (rules below
name the functions of libvirt/resource_libvirt_*.go of the provider), the attribute is written and listed in ``lifecycle { ignore_changes }``.
What it cannot write at all is a comment beside the resource, and a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.hcl import Attribute, Block, Comment, Expression, Item, Names, attributes, write

PROVIDER = "dmacvicar/libvirt"
# 0.9 is a rewrite with other attributes.
PROVIDER_VERSION = "~> 0.8.3"
# Import blocks came with 1.5 (developer.hashicorp.com/terraform/language/import).
TERRAFORM_VERSION = ">= 1.5.0"

HEADER = "Written by `make export-terraform` from the running libvirt. Run it again in place of editing, or take the files over and edit them."
# getNetModeFromResource, resourceLibvirtNetworkCreate.
_NETWORK_MODES = ("nat", "route", "open", "bridge")
# resourceLibvirtPoolCreate.
_POOL_KINDS = ("dir", "logical")
# As the images' module names base volumes: image-<name>-<first 12 of the checksum>.<format>.
_BASE_IMAGE = re.compile(r"image-(?P<name>.+)-[0-9a-f]{12}\.[a-z0-9]+\Z")


@dataclass(frozen=True)
class Note:
    """What an export leaves out, and where: an address of a resource such as libvirt_domain.web, or a thing in words."""

    where: str
    text: str


@dataclass(frozen=True)
class Resource:
    """A resource with its import block's id and what is not expressed in it."""

    kind: str
    identifier: str
    import_id: str
    body: tuple[Item, ...]
    left_out: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"{self.kind}.{self.identifier}"

    @property
    def items(self) -> list[Item]:
        text = "Not expressed here:\n" + "\n".join(f"- {entry}" for entry in self.left_out)
        return [*([Comment(text)] if self.left_out else []), Block("resource", (self.kind, self.identifier), self.body)]

    @property
    def import_block(self) -> Block:
        return Block("import", body=(Attribute("to", Expression(self.address)), Attribute("id", self.import_id)))


@dataclass(frozen=True)
class Export:
    """Files by their path in the export, notes for the run's output, and the number of import blocks."""

    files: dict[str, str]
    notes: tuple[Note, ...] = ()
    imports: int = 0


@dataclass
class Selection:
    """What is exported, and what it refers to.

    networks, pools, volumes, domains: facts of what is exported (core/export_facts)
    addresses: address of the resource of a network or pool by ("network", name), ("pool", name), of a volume by ("volume", path)
    known:     facts of everything on the host by the same keys, exported or not
    """

    networks: list[dict[str, Any]]
    pools: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    domains: list[dict[str, Any]]
    known: dict[tuple[str, str], dict[str, Any]]
    addresses: dict[tuple[str, str], str] = field(default_factory=dict)

    def reference(self, kind: str, name: str, attribute: str, literal: Optional[str] = None) -> Any:
        """An expression where the thing is exported, else its literal value."""
        address = self.addresses.get((kind, name))
        if address is not None:
            return Expression(f"{address}.{attribute}")
        return self.known[(kind, name)][attribute] if literal is None else literal

    def volume_of(self, disk: Mapping[str, Any]) -> Optional[dict[str, Any]]:
        """The volume that a disk stands for, when libvirt knows it as one."""
        if disk["kind"] == "volume":
            named = (volume for volume in self.known.values() if volume.get("pool") == disk["pool"] and volume["name"] == disk["source"])
            return next(named, None)
        return self.known.get(("volume", str(disk["source"])))


def select(facts: Mapping[str, Any], everything: bool = False) -> Selection:
    """What this collection made (or ``everything``): networks, pools, guests, and the volumes that these guests and base images are made of."""
    known = {("network", network["name"]): network for network in facts["networks"]}
    known.update({("pool", pool["name"]): pool for pool in facts["pools"]})
    known.update({("volume", volume["path"]): volume for volume in facts["volumes"]})
    found = Selection(
        networks=[network for network in facts["networks"] if everything or network["owned"]],
        pools=[pool for pool in facts["pools"] if everything or pool["owned"]],
        volumes=[],
        domains=[domain for domain in facts["domains"] if everything or domain["owned"]],
        known=known,
    )
    pools = {pool["name"] for pool in found.pools}
    used = _used_volumes(found)
    found.volumes = [
        volume
        for volume in facts["volumes"]
        if everything or volume["path"] in used or (volume["pool"] in pools and _BASE_IMAGE.match(volume["name"]) is not None)
    ]
    return found


def image_of(name: str) -> Optional[str]:
    """Name of the image whose base volume has this file name; None for another volume."""
    found = _BASE_IMAGE.match(name)
    return None if found is None else found["name"]


def _used_volumes(found: Selection) -> set[str]:
    """Paths of the selected guests' volumes and of all that these are overlays on."""
    used: set[str] = set()
    for domain in found.domains:
        for disk in domain["disks"]:
            volume = found.volume_of(disk)
            while volume is not None and volume["path"] not in used:
                used.add(volume["path"])
                volume = found.known.get(("volume", volume["backing"] or ""))
    return used


def networks(found: Selection, names: Names, notes: list[Note]) -> list[Resource]:
    """A resource for each network that the provider can read."""
    resources = []
    for network in found.networks:
        mode = network["mode"]
        if (mode is not None and mode not in _NETWORK_MODES) or network["bridge"] is None:
            reason = f"the provider has no networks with forward mode {mode} and bridge {network['bridge']}"
            notes.append(Note(f"network {network['name']}", f"not exported: {reason}"))
            continue
        resource = _network(network, names.give(network["name"]))
        found.addresses[("network", network["name"])] = resource.address
        resources.append(resource)
    return resources


def _network(network: Mapping[str, Any], identifier: str) -> Resource:
    ignored = []
    # Read leaves `mode` empty for a network without <forward>, and takes a netmask for /0 (resourceLibvirtNetworkRead).
    if network["mode"] is None:
        ignored.append("mode")
    if any(not address["prefix"] for address in network["addresses"]):
        ignored.append("addresses")
    body: list[Item] = list(
        attributes(
            {
                "name": network["name"],
                "mode": network["mode"] or "none",
                "bridge": network["bridge"],
                "domain": network["domain"],
                "mtu": network["mtu"],
                "addresses": [address["cidr"] for address in network["addresses"]] or None,
                "autostart": network["autostart"],
            }
        )
    )
    if network["domain"] or network["dns"]:
        body.append(_dns_block(network))
        # Without enable= in the XML names are answered; Read knows only the attribute (resourceLibvirtNetworkRead).
        if (network["dns"] or {}).get("enabled") is None:
            ignored.append("dns[0].enabled")
    # A network without <dhcp> is read as one that says nothing, and would be created with DHCP (getIPsFromResource).
    body.append(Block("dhcp", body=(Attribute("enabled", network["dhcp"] is not None),)))
    if network["dhcp"] is None:
        ignored.append("dhcp")
    body += [Block("routes", body=attributes(route)) for route in network["routes"]]
    body.append(_lifecycle(ignored))
    return Resource("libvirt_network", identifier, network["uuid"], tuple(body), tuple(_left_out_of_network(network)))


def _dns_block(network: Mapping[str, Any]) -> Block:
    dns = network["dns"] or {"enabled": None, "hosts": [], "forwarders": []}
    body: list[Item] = [Attribute("enabled", dns["enabled"] is not False), Attribute("local_only", network["local_only"])]
    body += [Block("forwarders", body=attributes(entry)) for entry in dns["forwarders"]]
    body += [Block("hosts", body=(Attribute("hostname", name), Attribute("ip", entry["address"]))) for entry in dns["hosts"] for name in entry["names"]]
    return Block("dns", body=tuple(body))


def _left_out_of_network(network: Mapping[str, Any]) -> list[str]:
    left = list(network["other"])
    if network["dhcp"] is not None:
        left += [f"dynamic range {text}; a new network would lease all of its addresses" for text in network["dhcp"]["ranges"]]
        left += [f"address {host['address']} reserved for {host['name'] or ''} {host['mac']}".replace("  ", " ") for host in network["dhcp"]["hosts"]]
    if network["owned"]:
        left.append("the metadata that marks it as made by hybridlab.platform")
    if not network["active"]:
        left.append("it is not running")
    return left


def pools(found: Selection, names: Names, notes: list[Note]) -> list[Resource]:
    """A resource for each pool that the provider can make."""
    resources = []
    for pool in found.pools:
        if pool["kind"] not in _POOL_KINDS:
            notes.append(Note(f"pool {pool['name']}", f"not exported: the provider has pools of type {' and '.join(_POOL_KINDS)}, this is {pool['kind']}"))
            continue
        body: list[Item] = [*attributes({"name": pool["name"], "type": pool["kind"]})]
        if pool["source"]:
            body.append(Block("source", body=attributes({"name": pool["source"]})))
        body += [Block("target", body=attributes({"path": pool["path"]})), _lifecycle([])]
        left = ["" if pool["autostart"] else "it does not start with libvirt; the provider's pools always do", "" if pool["active"] else "it is not running"]
        left.append(f"mode {pool['mode']} of the directory" if pool["mode"] else "")
        resource = Resource("libvirt_pool", names.give(pool["name"]), pool["uuid"], tuple(body), tuple(text for text in left if text))
        found.addresses[("pool", pool["name"])] = resource.address
        resources.append(resource)
    return resources


def volumes(found: Selection, names: Names) -> list[Resource]:
    """A resource for each volume."""
    # All addresses first: an overlay may be listed before its base.
    identifiers = {volume["path"]: names.give(volume["name"]) for volume in found.volumes}
    found.addresses.update({("volume", path): f"libvirt_volume.{identifier}" for path, identifier in identifiers.items()})
    return [_volume(volume, found, identifiers[volume["path"]]) for volume in found.volumes]


def _volume(volume: Mapping[str, Any], found: Selection, identifier: str) -> Resource:
    values = {
        "name": volume["name"],
        "pool": found.reference("pool", volume["pool"], "name"),
        "format": volume["format"],
        "size": volume["capacity"],
    }
    ignored, left = [], []
    base = found.known.get(("volume", volume["backing"] or ""))
    if base is not None:
        values["base_volume_id"] = found.reference("volume", base["path"], "id", base["key"])
        # Written at creation, never read (resourceLibvirtVolumeRead).
        ignored.append("base_volume_id")
    elif volume["backing"]:
        left.append(f"it is an overlay on {volume['backing']}, which is a volume of no running pool")
    return Resource("libvirt_volume", identifier, volume["key"], (*attributes(values), _lifecycle(ignored)), tuple(left))


def _lifecycle(ignored: Sequence[str]) -> Block:
    body: list[Item] = [Attribute("prevent_destroy", True)]
    if ignored:
        body.append(Attribute("ignore_changes", [Expression(name) for name in ignored]))
    return Block("lifecycle", body=tuple(body))


def configuration(resources: Mapping[str, Sequence[Resource]], uri: str, notes: Sequence[Note]) -> Export:
    """The files. resources: by the file that they stand in, such as networks.tf. uri: of libvirt, as Terraform's machine reaches it."""
    files = {
        "versions.tf": [
            Block(
                "terraform",
                body=(
                    Attribute("required_version", TERRAFORM_VERSION),
                    Block("required_providers", body=(Attribute("libvirt", {"source": PROVIDER, "version": PROVIDER_VERSION}),)),
                ),
            )
        ],
        "variables.tf": [
            Block(
                "variable",
                ("libvirt_uri",),
                (
                    Attribute("description", "libvirt of the KVM host, as this machine reaches it"),
                    Attribute("type", Expression("string")),
                    Attribute("default", uri),
                ),
            )
        ],
        "main.tf": [Block("provider", ("libvirt",), (Attribute("uri", Expression("var.libvirt_uri")),))],
    }
    all_resources = [resource for group in resources.values() for resource in group]
    written = {name: write(items, HEADER) for name, items in files.items()}
    for name, group in resources.items():
        items: list[Item] = [item for resource in group for item in resource.items]
        written[name] = write(items or [Comment("There are none.")], HEADER)
    imports: list[Item] = [resource.import_block for resource in all_resources]
    written["imports.tf"] = write(imports or [Comment("There is nothing to import.")], HEADER)
    left = [Note(resource.address, text) for resource in all_resources for text in resource.left_out]
    return Export({f"lab/{name}": text for name, text in sorted(written.items())}, (*notes, *left), len(all_resources))
