# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sketch of the lab's guests as EC2 instances: one Terraform module, and an environment each for dev, staging and production. No I/O.

The VPC, its subnets and its security groups are looked up by their tags: they are made elsewhere, from the same model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.hcl import Attribute, Block, Comment, Expression, Item, Names, attributes, quote, write
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform import HEADER, Export, Note, Selection, image_of, select
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform_aws_readme import readme

# S3's own locking came with 1.10 (developer.hashicorp.com/terraform/language/backend/s3, use_lockfile).
TERRAFORM_VERSION = ">= 1.10.0"
PROVIDER_VERSION = "~> 6.0"
# Environment -> number of availability zones.
ENVIRONMENTS = {"dev": 1, "staging": 1, "production": 2}
# Owner and name of the distributions' own images: wiki.debian.org/Cloud/AmazonEC2Image, rockylinux.org/download, documentation.ubuntu.com/aws.
_AMIS = {
    "debian-12": ("136693071363", "debian-12-amd64-*"),
    "debian-13": ("136693071363", "debian-13-amd64-*"),
    "rocky-9": ("792107900819", "Rocky-9-EC2-Base-9.*.x86_64*"),
    "ubuntu-22.04": ("099720109477", "ubuntu/images/hvm-ssd*/ubuntu-jammy-22.04-amd64-server-*"),
    "ubuntu-24.04": ("099720109477", "ubuntu/images/hvm-ssd*/ubuntu-noble-24.04-amd64-server-*"),
}
# (vCPUs, memory in MiB, type), smaller first; of equals the cheaper one first. docs.aws.amazon.com/ec2/latest/instancetypes: gp.html, co.html, mo.html.
INSTANCE_TYPES: tuple[tuple[int, int, str], ...] = (
    (2, 512, "t3.nano"),
    (2, 1024, "t3.micro"),
    (2, 2048, "t3.small"),
    (2, 4096, "t3.medium"),
    (2, 8192, "t3.large"),
    (2, 16384, "r6i.large"),
    (4, 8192, "c6i.xlarge"),
    (4, 16384, "t3.xlarge"),
    (4, 32768, "r6i.xlarge"),
    (8, 16384, "c6i.2xlarge"),
    (8, 32768, "t3.2xlarge"),
    (8, 65536, "r6i.2xlarge"),
    (16, 32768, "c6i.4xlarge"),
    (16, 65536, "m6i.4xlarge"),
    (16, 131072, "r6i.4xlarge"),
    (32, 65536, "c6i.8xlarge"),
    (32, 131072, "m6i.8xlarge"),
    (32, 262144, "r6i.8xlarge"),
    (64, 131072, "c6i.16xlarge"),
    (64, 262144, "m6i.16xlarge"),
    (64, 524288, "r6i.16xlarge"),
    (96, 393216, "m6i.24xlarge"),
    (128, 524288, "m6i.32xlarge"),
    (128, 1048576, "r6i.32xlarge"),
)
# Names for EBS volumes on Linux (docs.aws.amazon.com/ebs, device names): /dev/sd[f-p].
_DEVICES = "fghijklmnop"
_GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """A guest as far as EC2 knows one.

    image:   name of the lab's image of its first disk; None where that is no overlay on one of ours
    disks:   (name, GiB) in order; the first one boots
    segment: of the first interface; further: those of the others
    """

    name: str
    vcpus: int
    memory_mb: int
    image: Optional[str]
    disks: tuple[tuple[str, int], ...]
    segment: str
    further: tuple[str, ...] = ()

    @property
    def instance_type(self) -> str:
        return instance_type(self.vcpus, self.memory_mb)


def instance_type(vcpus: int, memory_mb: int) -> str:
    """The smallest EC2 type of the table with at least that much. ResourceError when there is none."""
    fitting = next((name for cpus, memory, name in INSTANCE_TYPES if cpus >= vcpus and memory >= memory_mb), None)
    if fitting is None:
        largest = INSTANCE_TYPES[-1]
        raise ResourceError(f"no EC2 type of the table has {vcpus} vCPUs and {memory_mb} MiB; the largest, {largest[2]}, has {largest[0]} and {largest[1]}")
    return fitting


def export_aws(facts: Mapping[str, Any], platform: str, everything: bool = False) -> Export:
    """The sketch for a platform of that name. facts as for terraform_domain.export_lab."""
    found = select(facts, everything)
    notes: list[Note] = []
    machines = [machine for machine in (_machine(domain, found, notes) for domain in found.domains) if machine is not None]
    files = {f"modules/guests/{name}": text for name, text in _module(machines).items()}
    for environment, zones in ENVIRONMENTS.items():
        files.update({f"environments/{environment}/{name}": text for name, text in _environment(environment, zones, platform, machines).items()})
    files["README.md"] = readme(platform, machines, ENVIRONMENTS)
    return Export({f"aws/{name}": text for name, text in sorted(files.items())}, tuple(notes))


def _machine(domain: Mapping[str, Any], found: Selection, notes: list[Note]) -> Optional[Machine]:
    where = f"aws: guest {domain['name']}"
    segments = [interface["source"] for interface in domain["interfaces"] if interface["kind"] == "network"]
    if not segments:
        notes.append(Note(where, "not exported: it has no interface in a libvirt network, so no segment"))
        return None
    disks: list[tuple[str, int]] = []
    image = None
    for disk in domain["disks"]:
        volume = found.volume_of(disk)
        # Seeds and discs: user data takes their place.
        if disk["readonly"] or disk["device"] != "disk":
            continue
        if volume is None:
            notes.append(Note(where, f"not exported: the size of its disk {disk['target']} ({disk['source']}) is not known"))
            return None
        image = image if disks else _image(volume, found)
        disks.append((_disk_name(domain["name"], volume["name"], disk["target"]), -(-volume["capacity"] // _GIB)))
    if len(segments) > 1:
        notes.append(Note(where, f"its interfaces in {', '.join(segments[1:])} are left out"))
    return Machine(domain["name"], domain["vcpus"], domain["memory_kib"] // 1024, image, tuple(disks), segments[0], tuple(segments[1:]))


def _image(volume: Mapping[str, Any], found: Selection) -> Optional[str]:
    """Name of the image at the end of the chain of overlays."""
    base: Optional[Mapping[str, Any]] = volume
    seen = set()
    while base is not None and base["backing"] and base["path"] not in seen:
        seen.add(base["path"])
        base = found.known.get(("volume", base["backing"]))
    return None if base is None else image_of(base["name"])


def _disk_name(guest: str, volume: str, target: str) -> str:
    """root of web-root.qcow2 and of web-root@point.qcow2; the guest's device where the volume has another kind of name."""
    stem = volume.rsplit(".", 1)[0].split("@")[0]
    return stem[len(guest) + 1 :] if stem.startswith(f"{guest}-") and len(stem) > len(guest) + 1 else target


def _module(machines: Sequence[Machine]) -> dict[str, str]:
    segments, images = Names(), Names()
    segment_ids = {name: segments.give(name) for name in sorted({machine.segment for machine in machines})}
    # A guest without an image of ours asks for one of its own.
    image_ids = {name: images.give(name) for name in sorted({machine.image or machine.name for machine in machines})}
    body: dict[str, list[Item]] = {
        "versions.tf": [_terraform()],
        "variables.tf": _variables(image_ids),
        "data.tf": _data(segment_ids, image_ids),
        "main.tf": _instances(machines, segment_ids, image_ids),
        "outputs.tf": _outputs(machines),
    }
    return {name: write(items or [Comment("There are no guests.")], HEADER) for name, items in body.items()}


def _terraform(backend: Optional[Block] = None) -> Block:
    required = Block("required_providers", body=(Attribute("aws", {"source": "hashicorp/aws", "version": PROVIDER_VERSION}),))
    return Block("terraform", body=(Attribute("required_version", TERRAFORM_VERSION), required, *([backend] if backend else [])))


def _variable(name: str, description: str, kind: str, default: Any = None) -> Block:
    body = [Attribute("description", description), Attribute("type", Expression(kind)), *([] if default is None else [Attribute("default", default)])]
    return Block("variable", (name,), tuple(body))


def _variables(image_ids: Mapping[str, str]) -> list[Item]:
    unknown = [(name, identifier) for name, identifier in image_ids.items() if name not in _AMIS]
    return [
        _variable("platform", "Name of the platform; the tag platform of its VPC", "string"),
        _variable("environment", "Name of the environment; the tag environment of its VPC", "string"),
        _variable("zones", "In how many availability zones each guest runs", "number"),
        _variable("single_zone_guests", "Guests that run in one zone only, because their data cannot be in two", "set(string)", []),
        _variable("instance_types", "EC2 types of guests in place of the chosen ones", "map(string)", {}),
        _variable("user_data", "Cloud-init documents of guests; never with secrets in them", "map(string)", {}),
        _variable("monitoring", "Detailed monitoring (each minute, charged for)", "bool", False),
        *(_variable(f"ami_{identifier}", f"AMI in place of {name}, of which no public image is known", "string") for name, identifier in unknown),
    ]


def _filter(name: str, values: Sequence[Any]) -> Block:
    return Block("filter", body=(Attribute("name", name), Attribute("values", list(values))))


def _data(segment_ids: Mapping[str, str], image_ids: Mapping[str, str]) -> list[Item]:
    vpc = Expression("data.aws_vpc.platform.id")
    tags = {"platform": Expression("var.platform"), "environment": Expression("var.environment")}
    zones = Expression("slice(sort(data.aws_availability_zones.available.names), 0, var.zones)")
    items: list[Item] = [
        # Without the filter local zones would count too.
        Block("data", ("aws_availability_zones", "available"), (Attribute("state", "available"), _filter("opt-in-status", ["opt-in-not-required"]))),
        Block("locals", body=(Attribute("zones", zones),)),
        Block("data", ("aws_vpc", "platform"), (Attribute("tags", tags),)),
    ]
    for name, identifier in segment_ids.items():
        filters = (_filter("vpc-id", [vpc]), _filter("availability-zone", [Expression("each.key")]), _filter("tag:segment", [name]))
        items.append(Block("data", ("aws_subnets", identifier), (Attribute("for_each", Expression("toset(local.zones)")), *filters)))
        # Compiled from `reaches`, and made with the VPC.
        items.append(Block("data", ("aws_security_group", identifier), (Attribute("vpc_id", vpc), Attribute("tags", {"segment": name}))))
    for name, identifier in image_ids.items():
        if name in _AMIS:
            owner, pattern = _AMIS[name]
            body = (Attribute("most_recent", True), Attribute("owners", [owner]), _filter("name", [pattern]), _filter("architecture", ["x86_64"]))
            items.append(Block("data", ("aws_ami", identifier), body))
    return items


def _instances(machines: Sequence[Machine], segment_ids: Mapping[str, str], image_ids: Mapping[str, str]) -> list[Item]:
    names, volumes = Names(), Names()
    items: list[Item] = []
    for machine in machines:
        identifier = names.give(machine.name)
        items += [_instance(machine, identifier, segment_ids[machine.segment], image_ids[machine.image or machine.name])]
        for index, (disk, size) in enumerate(machine.disks[1:]):
            items += _disk(machine, identifier, volumes.give(f"{machine.name}_{disk}"), disk, size, _DEVICES[index])
    return items


def _zones(name: str) -> Expression:
    return Expression(f"toset(contains(var.single_zone_guests, {quote(name)}) ? slice(local.zones, 0, 1) : local.zones)")


def _instance(machine: Machine, identifier: str, segment: str, image: str) -> Block:
    key = quote(machine.name)
    ami = f"data.aws_ami.{image}.id" if machine.image in _AMIS else f"var.ami_{image}"
    values = {
        "ami": Expression(ami),
        "instance_type": Expression(f"lookup(var.instance_types, {key}, {quote(machine.instance_type)})"),
        "subnet_id": Expression(f"one(data.aws_subnets.{segment}[each.key].ids)"),
        "vpc_security_group_ids": [Expression(f"data.aws_security_group.{segment}.id")],
        "user_data": Expression(f"lookup(var.user_data, {key}, null)"),
        "monitoring": Expression("var.monitoring"),
    }
    root = {"volume_type": "gp3", "volume_size": machine.disks[0][1] if machine.disks else None, "encrypted": True}
    body: list[Item] = [
        Comment(f"In the lab: {machine.vcpus} vCPUs, {machine.memory_mb} MiB."),
        Attribute("for_each", _zones(machine.name)),
        *attributes(values),
        Attribute("tags", {"Name": Expression(f'"{quote(machine.name)[1:-1]}-${{each.key}}"'), "segment": machine.segment}),
        Block("root_block_device", body=attributes(root)),
        Block("metadata_options", body=attributes({"http_tokens": "required"})),
        # A newer AMI is a reason for a new instance only when somebody says so.
        Block("lifecycle", body=(Attribute("ignore_changes", [Expression("ami")]),)),
    ]
    return Block("resource", ("aws_instance", identifier), tuple(body))


def _disk(machine: Machine, instance: str, identifier: str, disk: str, size: int, letter: str) -> list[Item]:
    zones = Attribute("for_each", _zones(machine.name))
    volume = {"availability_zone": Expression("each.key"), "type": "gp3", "size": size, "encrypted": True}
    tags = {"Name": Expression(f'"{quote(f"{machine.name}-{disk}")[1:-1]}-${{each.key}}"'), "segment": machine.segment}
    attachment = {
        "device_name": f"/dev/sd{letter}",
        "volume_id": Expression(f"aws_ebs_volume.{identifier}[each.key].id"),
        "instance_id": Expression(f"aws_instance.{instance}[each.key].id"),
    }
    protect = Block("lifecycle", body=(Attribute("prevent_destroy", True),))
    return [
        Block("resource", ("aws_ebs_volume", identifier), (zones, *attributes(volume), Attribute("tags", tags), protect)),
        Block("resource", ("aws_volume_attachment", identifier), (zones, *attributes(attachment))),
    ]


def _outputs(machines: Sequence[Machine]) -> list[Item]:
    names = Names()
    values = {machine.name: Expression(f"values(aws_instance.{names.give(machine.name)})[*].private_ip") for machine in machines}
    return [Block("output", ("addresses",), (Attribute("description", "Private addresses of each guest, by zone"), Attribute("value", values)))]


def _environment(environment: str, zones: int, platform: str, machines: Sequence[Machine]) -> dict[str, str]:
    backend = Block("backend", ("s3",), attributes({"key": f"{platform}/{environment}/guests.tfstate", "use_lockfile": True, "encrypt": True}))
    tags = {"platform": platform, "environment": environment, "managed-by": "terraform"}
    provider = Block("provider", ("aws",), (Attribute("region", Expression("var.region")), Block("default_tags", body=(Attribute("tags", tags),))))
    images = Names()
    image_ids = {name: images.give(name) for name in sorted({machine.image or machine.name for machine in machines})}
    unknown = [(name, identifier) for name, identifier in image_ids.items() if name not in _AMIS]
    values: dict[str, Any] = {
        "source": "../../modules/guests",
        "platform": platform,
        "environment": environment,
        "zones": zones,
        "single_zone_guests": sorted(machine.name for machine in machines if len(machine.disks) > 1),
        "monitoring": environment == "production",
        **{f"ami_{identifier}": Expression(f"var.ami_{identifier}") for _name, identifier in unknown},
    }
    variables: list[Item] = [
        _variable("region", "AWS region", "string"),
        *(_variable(f"ami_{identifier}", f"AMI in place of {name}", "string") for name, identifier in unknown),
    ]
    body: dict[str, list[Item]] = {
        "versions.tf": [_terraform(backend)],
        "variables.tf": variables,
        "main.tf": [provider, Block("module", ("guests",), attributes(values))],
        "outputs.tf": [Block("output", ("addresses",), (Attribute("value", Expression("module.guests.addresses")),))],
    }
    settings = attributes({"bucket": "NAME-OF-THE-STATE-BUCKET", "region": "REGION"})
    example: list[Item] = [Comment("Copy to backend.hcl: terraform init -backend-config=backend.hcl"), *settings]
    return {**{name: write(items, HEADER) for name, items in body.items()}, "backend.hcl.example": write(example)}
