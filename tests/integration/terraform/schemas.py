# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schemas of the providers, as far as the export writes them, and what the providers' SDK plans from them.

dmacvicar/libvirt: all arguments of 0.8.3 (libvirt/resource_libvirt_{network,pool,volume,domain}.go). hashicorp/aws: those that the export uses
(registry documentation of version 6), so a misspelt argument is an error, and a missing one is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from tests.integration.terraform.wire import encode


@dataclass(frozen=True)
class Attribute:
    """kind: in Terraform's JSON form. force: a change replaces the resource."""

    kind: Any = "string"
    required: bool = False
    optional: bool = True
    computed: bool = False
    default: Any = None
    force: bool = False


@dataclass(frozen=True)
class Nested:
    """A block inside a resource. Optional and computed blocks keep what the provider read when the configuration has none."""

    fields: Mapping[str, Field]
    as_set: bool = False
    limit: int = 0
    computed: bool = False
    force: bool = False


Field = Union[Attribute, Nested]

NAME = Attribute(required=True, optional=False, force=True)
TEXT, FLAG, NUMBER, LIST = Attribute(), Attribute("bool"), Attribute("number"), Attribute(["list", "string"])
FORCED = Attribute(force=True)
READ = Attribute(computed=True)
XSLT = Nested({"xslt": FORCED}, limit=1, force=True)


def _default(value: Any, kind: str = "string", force: bool = False) -> Attribute:
    return Attribute(kind, default=value, force=force)


LIBVIRT: dict[str, dict[str, Field]] = {
    "libvirt_network": {
        "name": NAME,
        "domain": FORCED,
        "mode": _default("nat", force=True),
        "bridge": Attribute(computed=True, force=True),
        "mtu": NUMBER,
        "addresses": Attribute(["list", "string"], force=True),
        "autostart": Attribute("bool", computed=True),
        "dns": Nested(
            {
                "enabled": FLAG,
                "local_only": FLAG,
                "forwarders": Nested({"address": FORCED, "domain": FORCED}, force=True),
                "srvs": Nested(dict.fromkeys(("service", "protocol", "domain", "target", "port", "weight", "priority"), FORCED), force=True),
                "hosts": Nested({"ip": TEXT, "hostname": TEXT}, as_set=True),
            },
            limit=1,
            computed=True,
        ),
        "dhcp": Nested({"enabled": Attribute("bool", computed=True)}, limit=1, computed=True, force=True),
        "routes": Nested({"cidr": NAME, "gateway": NAME}, force=True),
        "dnsmasq_options": Nested({"options": Nested({"option_name": TEXT, "option_value": TEXT})}, limit=1),
        "xml": XSLT,
    },
    "libvirt_pool": {
        "name": NAME,
        "type": NAME,
        "capacity": Attribute("number", computed=True, force=True),
        "allocation": Attribute("number", computed=True, force=True),
        "available": Attribute("number", computed=True, force=True),
        "source": Nested({"name": FORCED, "device": Nested({"path": FORCED}, force=True)}, limit=1, force=True),
        "target": Nested({"path": READ}, limit=1, computed=True),
        "path": FORCED,
        "xml": XSLT,
    },
    "libvirt_volume": {
        "name": NAME,
        "pool": _default("default", force=True),
        "source": FORCED,
        "size": Attribute("number", computed=True, force=True),
        "format": Attribute(computed=True, force=True),
        "base_volume_id": FORCED,
        "base_volume_pool": FORCED,
        "base_volume_name": FORCED,
        "xml": XSLT,
    },
    "libvirt_domain": {
        "name": NAME,
        "description": FORCED,
        "metadata": TEXT,
        "vcpu": _default(1, "number", force=True),
        "memory": _default(512, "number", force=True),
        "firmware": FORCED,
        "type": _default("kvm", force=True),
        "nvram": Nested({"file": READ, "template": READ}, limit=1, computed=True, force=True),
        "running": _default(True, "bool"),
        "cloudinit": TEXT,
        "coreos_ignition": _default("", force=True),
        "fw_cfg_name": _default("opt/com.coreos/config", force=True),
        "filesystem": Nested({"accessmode": _default("mapped"), "source": NAME, "target": NAME, "readonly": _default(True, "bool")}, force=True),
        "disk": Nested(
            {
                "volume_id": TEXT,
                "url": TEXT,
                "file": TEXT,
                "scsi": _default(False, "bool", force=True),
                "wwn": READ,
                "block_device": TEXT,
            },
            force=True,
        ),
        "network_interface": Nested(
            {
                "network_id": READ,
                "network_name": READ,
                "bridge": TEXT,
                "vepa": TEXT,
                "macvtap": TEXT,
                "passthrough": TEXT,
                "hostname": READ,
                "mac": READ,
                "wait_for_lease": FLAG,
                "addresses": Attribute(["list", "string"], computed=True),
            }
        ),
        "graphics": Nested(
            {
                "type": _default("spice", force=True),
                "autoport": _default(True, "bool", force=True),
                "listen_type": _default("none", force=True),
                "listen_address": _default("127.0.0.1", force=True),
                "websocket": NUMBER,
            },
            limit=1,
            force=True,
        ),
        "video": Nested({"type": _default("cirrus")}, limit=1),
        "console": Nested(
            {
                "type": NAME,
                "source_path": FORCED,
                "source_host": _default("127.0.0.1", force=True),
                "source_service": _default("0", force=True),
                "target_port": NAME,
                "target_type": FORCED,
            },
            force=True,
        ),
        "cpu": Nested({"mode": READ}, limit=1, computed=True, force=True),
        "autostart": Attribute("bool", computed=True),
        "machine": READ,
        "arch": READ,
        "boot_device": Nested({"dev": LIST}),
        "emulator": READ,
        "kernel": TEXT,
        "initrd": TEXT,
        "cmdline": Attribute(["list", ["map", "string"]], force=True),
        "qemu_agent": _default(False, "bool"),
        "tpm": Nested(
            {
                "model": FORCED,
                "backend_type": _default("emulator", force=True),
                "backend_device_path": FORCED,
                "backend_encryption_secret": FORCED,
                "backend_version": FORCED,
                "backend_persistent_state": Attribute("bool", force=True),
            },
            limit=1,
        ),
        "xml": XSLT,
    },
}

_FILTER = Nested({"name": NAME, "values": Attribute(["set", "string"], required=True, optional=False)}, as_set=True)
_TAGS = Attribute(["map", "string"])
_ROOT_DISK: dict[str, Field] = {"volume_type": READ, "volume_size": Attribute("number", computed=True), "encrypted": Attribute("bool", computed=True)}

AWS: dict[str, dict[str, Field]] = {
    "aws_instance": {
        "ami": READ,
        "instance_type": READ,
        "subnet_id": READ,
        "vpc_security_group_ids": Attribute(["set", "string"], computed=True),
        "user_data": TEXT,
        "monitoring": FLAG,
        "root_block_device": Nested(_ROOT_DISK, limit=1),
        "metadata_options": Nested({"http_tokens": READ, "http_endpoint": READ}, limit=1),
        "availability_zone": READ,
        "private_ip": READ,
        "tags": _TAGS,
    },
    "aws_ebs_volume": {
        "availability_zone": NAME,
        "size": Attribute("number", computed=True),
        "type": READ,
        "encrypted": Attribute("bool", computed=True),
        "tags": _TAGS,
    },
    "aws_volume_attachment": {"device_name": NAME, "volume_id": NAME, "instance_id": NAME, "stop_instance_before_detaching": FLAG},
}
AWS_DATA: dict[str, dict[str, Field]] = {
    "aws_ami": {"most_recent": FLAG, "owners": LIST, "filter": _FILTER},
    "aws_vpc": {"tags": Attribute(["map", "string"], computed=True), "filter": _FILTER},
    "aws_subnets": {"filter": _FILTER, "ids": Attribute(["list", "string"], optional=False, computed=True)},
    "aws_security_group": {"vpc_id": READ, "tags": Attribute(["map", "string"], computed=True), "filter": _FILTER},
    "aws_availability_zones": {"state": TEXT, "filter": _FILTER, "names": Attribute(["list", "string"], optional=False, computed=True)},
}


@dataclass(frozen=True)
class Provider:
    """What ``terraform`` is told of a provider."""

    config: Mapping[str, Field]
    resources: Mapping[str, Mapping[str, Field]]
    data: Mapping[str, Mapping[str, Field]] = field(default_factory=dict)

    def message(self) -> bytes:
        """GetProviderSchema.Response."""
        schemas = [(2, name, fields) for name, fields in self.resources.items()] + [(3, name, fields) for name, fields in self.data.items()]
        entries = [(number, encode([(1, name), (2, encode([(2, _block(with_id(fields)))]))])) for number, name, fields in schemas]
        return encode([(1, encode([(2, _block(self.config))])), *entries])


PROVIDERS = {
    "libvirt": Provider({"uri": NAME}, LIBVIRT),
    "aws": Provider({"region": TEXT, "default_tags": Nested({"tags": _TAGS}, limit=1)}, AWS, AWS_DATA),
}


def with_id(fields: Mapping[str, Field]) -> dict[str, Field]:
    """The SDK adds ``id`` to everything."""
    return {"id": READ, **fields}


def empty(fields: Mapping[str, Field]) -> dict[str, Any]:
    """A state in which nothing is set."""
    return {name: [] if isinstance(entry, Nested) else None for name, entry in fields.items()}


def plan(fields: Mapping[str, Field], config: Mapping[str, Any], prior: Mapping[str, Any]) -> dict[str, Any]:
    """What SDK version 2 plans: the configuration, else what was read for computed attributes, else the default (helper/schema, schemaMap.Diff).

    An attribute that is not configured and has a zero value keeps it (normalizeNullValues).
    """
    return {name: _planned(entry, config.get(name), prior.get(name)) for name, entry in fields.items()}


def replaced(fields: Mapping[str, Field], planned: Mapping[str, Any], prior: Mapping[str, Any]) -> list[str]:
    """Names of the attributes whose change needs a new resource."""
    return [name for name, entry in fields.items() if entry.force and planned[name] != prior[name]]


def _planned(entry: Field, config: Any, prior: Any) -> Any:
    if isinstance(entry, Attribute):
        if config is not None:
            return config
        # The SDK compares as text, where nothing is the same as "".
        if entry.computed or (not prior and entry.default in (None, "")):
            return prior
        return entry.default
    if not config:
        return prior if entry.computed else []
    before = prior or []
    blocks = [plan(entry.fields, block, before[index] if index < len(before) else empty(entry.fields)) for index, block in enumerate(config)]
    if entry.as_set and sorted(map(_key, blocks)) == sorted(map(_key, before)):
        return before
    return blocks


def _key(block: Any) -> str:
    return json.dumps(block, sort_keys=True)


def _block(fields: Mapping[str, Field]) -> bytes:
    parts: list[tuple[int, bytes]] = []
    for name, entry in fields.items():
        if isinstance(entry, Attribute):
            flags = [(4, int(entry.required)), (5, int(entry.optional)), (6, int(entry.computed))]
            parts.append((2, encode([(1, name), (2, json.dumps(entry.kind)), *flags])))
        else:
            # NestingMode: LIST is 2, SET is 3.
            parts.append((3, encode([(1, name), (2, _block(entry.fields)), (3, 3 if entry.as_set else 2), (5, entry.limit)])))
    return encode(parts)
