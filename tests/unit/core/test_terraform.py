# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import hcl2
import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.export_facts import domain_facts, machine_aliases, network_facts
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform import image_of
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform_aws import INSTANCE_TYPES, export_aws, instance_type
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform_domain import export_lab
from ansible_collections.hybridlab.platform.plugins.module_utils.host.export import observe_everything
from ansible_collections.hybridlab.platform.tests.unit.core.export_host import export_host

from tests.integration.terraform.schemas import AWS, AWS_DATA, LIBVIRT, Attribute, Field, with_id

URI = "qemu+ssh://admin@kvm.example/system"
META = {"lifecycle", "for_each"}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    conn = libvirt.open(export_host(tmp_path_factory.mktemp("host")))
    try:
        return observe_everything(conn)
    finally:
        conn.close()


def parsed(files: dict[str, str], prefix: str, kind: str) -> dict[str, dict[str, Any]]:
    """Bodies of the blocks of that kind in the files below ``prefix``, by their address without quotes."""
    found = {}
    for name, text in files.items():
        if name.startswith(prefix) and name.endswith(".tf"):
            for block in hcl2.loads(text).get(kind, []):
                for first, inner in block.items():
                    for second, body in inner.items():
                        found[f"{first}.{second}".replace('"', "")] = body
    return found


def plain(value: Any) -> Any:
    """A value as the parser gives it, without quotes."""
    return value.strip('"') if isinstance(value, str) else value


def check_schema(body: dict[str, Any], fields: dict[str, Field], where: str) -> None:
    """Every argument is one that the provider has, and every one that it asks for is there."""
    for name, value in body.items():
        if name.startswith("__") or (name in META and name not in fields):
            continue
        assert name in fields, f"{where}.{name}"
        entry = fields[name]
        if isinstance(entry, Attribute):
            continue
        assert isinstance(value, list), f"{where}.{name} is a block"
        assert not entry.limit or len(value) <= entry.limit, f"{where}.{name}"
        for block in value:
            check_schema(block, dict(entry.fields), f"{where}.{name}")
    for name, entry in fields.items():
        if isinstance(entry, Attribute) and entry.required:
            assert name in body, f"{where}.{name} is missing"


def test_every_argument_is_one_of_the_provider(facts: Any) -> None:
    resources = parsed(export_lab(facts, URI, everything=True).files, "lab/", "resource")
    assert {address.partition(".")[0] for address in resources} == set(LIBVIRT)
    for address, body in resources.items():
        check_schema(body, with_id(LIBVIRT[address.partition(".")[0]]), address)


def test_aws_arguments_are_those_of_the_provider(facts: Any) -> None:
    files = export_aws(facts, "lab", everything=True).files
    resources, data = (parsed(files, "aws/modules/", kind) for kind in ("resource", "data"))
    assert {address.partition(".")[0] for address in resources} == set(AWS)
    assert {address.partition(".")[0] for address in data} == set(AWS_DATA)
    for schemas, found in ((AWS, resources), (AWS_DATA, data)):
        for address, body in found.items():
            check_schema(body, with_id(schemas[address.partition(".")[0]]), address)


def test_only_what_is_ours_is_exported(facts: Any) -> None:
    export = export_lab(facts, URI)
    addresses = set(parsed(export.files, "lab/", "resource"))
    assert {address for address in addresses if address.startswith("libvirt_network.")} == {
        "libvirt_network.public",
        "libvirt_network.database",
        "libvirt_network.quiet_one",
    }
    assert {address for address in addresses if address.startswith("libvirt_pool.")} == {"libvirt_pool.fast", "libvirt_pool.large"}
    assert {address for address in addresses if address.startswith("libvirt_domain.")} == {"libvirt_domain.web", "libvirt_domain.db"}
    assert "libvirt_volume.of-somebody_qcow2" not in addresses
    notes = {note.where: note.text for note in export.notes}
    assert "no volume of a running pool" in notes["guest lost"]
    assert notes["pool fast"].startswith("volumes not exported: 1,")
    everything = set(parsed(export_lab(facts, URI, everything=True).files, "lab/", "resource"))
    assert everything - addresses == {
        "libvirt_network.default",
        "libvirt_pool.default-pool",
        "libvirt_volume.of-somebody_qcow2",
        "libvirt_volume.old_img",
        "libvirt_domain.foreign",
    }


def test_one_import_for_each_resource_by_the_ids_that_libvirt_has(facts: Any) -> None:
    export = export_lab(facts, URI, everything=True)
    imports = {plain(block["to"]).strip("${}"): plain(block["id"]) for block in hcl2.loads(export.files["lab/imports.tf"])["import"]}
    assert set(imports) == set(parsed(export.files, "lab/", "resource"))
    assert export.imports == len(imports)
    assert imports["libvirt_network.public"] == "11111111-1111-4111-8111-111111111111"
    assert imports["libvirt_volume.web-root_before_qcow2"] == "/srv/fast/web-root@before.qcow2"
    known = {entry.get("key", entry.get("uuid")) for kind in ("networks", "pools", "volumes", "domains") for entry in facts[kind]}
    assert set(imports.values()) <= known


def test_sizes_bounds_and_references(facts: Any) -> None:
    resources = parsed(export_lab(facts, URI).files, "lab/", "resource")
    web = resources["libvirt_domain.web"]
    assert (web["vcpu"], web["memory"]) == (2, 1024)
    assert "libvirt_volume.web-root_before_qcow2.id" in web["disk"][0]["volume_id"]
    assert "libvirt_network.public.id" in web["network_interface"][0]["network_id"]
    assert plain(resources["libvirt_domain.db"]["network_interface"][1]["network_id"]) == "44444444-4444-4444-8444-444444444444"
    overlay = resources["libvirt_volume.web-root_before_qcow2"]
    assert overlay["size"] == 10 * 2**30
    assert "libvirt_volume.web-root_qcow2.id" in overlay["base_volume_id"]
    assert "base_volume_id" in str(overlay["lifecycle"][0]["ignore_changes"])
    assert all(body["lifecycle"][0]["prevent_destroy"] is True for body in resources.values())


def test_what_cannot_be_expressed_is_in_the_file_and_in_the_notes(facts: Any) -> None:
    export = export_lab(facts, URI)
    for note in export.notes:
        kind = {"libvirt_network": "networks", "libvirt_pool": "pools", "libvirt_volume": "volumes", "libvirt_domain": "guests"}.get(
            note.where.partition(".")[0]
        )
        if kind is not None:
            assert f"# - {note.text}" in export.files[f"lab/{kind}.tf"], note
    texts = [note.text for note in export.notes if note.where == "libvirt_domain.web"]
    assert any("memory now: 512 MiB" in text for text in texts)
    assert any("vda=root, vdb=seed" in text for text in texts)
    assert any("10.0.1.20" in text for text in texts)


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        ({"device": "cdrom", "kind": "file", "source": None}, "is empty"),
        ({"device": "disk", "kind": "network", "source": "pool/image"}, "on the network"),
        ({"device": "disk", "kind": "volume", "source": "gone", "pool": "fast"}, "no volume of a running pool"),
    ],
)
def test_guests_that_the_provider_cannot_read_are_left_out(facts: Any, disk: dict[str, Any], reason: str) -> None:
    changed = copy.deepcopy(facts)
    web = next(domain for domain in changed["domains"] if domain["name"] == "web")
    web["disks"].append({**web["disks"][0], "target": "vdz", **disk})
    export = export_lab(changed, URI)
    assert "libvirt_domain.web" not in parsed(export.files, "lab/", "resource")
    assert any(note.where == "guest web" and reason in note.text for note in export.notes)


def test_machine_types_are_written_by_their_alias_and_default_cpus_not_at_all(facts: Any) -> None:
    changed = copy.deepcopy(facts)
    changed["machines"] = {"pc-q35-7.2": "q35"}
    for domain in changed["domains"]:
        domain["machine"] = "pc-q35-7.2"
        domain["cpu_mode"] = "custom" if domain["name"] == "web" else "host-passthrough"
    resources = parsed(export_lab(changed, URI).files, "lab/", "resource")
    assert [plain(resources[f"libvirt_domain.{name}"]["machine"]) for name in ("web", "db")] == ["q35", "q35"]
    assert "cpu" not in resources["libvirt_domain.web"]
    assert plain(resources["libvirt_domain.db"]["cpu"][0]["mode"]) == "host-passthrough"


def test_firmware_tpm_and_other_kinds_of_links(facts: Any) -> None:
    changed = copy.deepcopy(facts)
    web = next(domain for domain in changed["domains"] if domain["name"] == "web")
    web.update(
        firmware="/fw.fd", firmware_secure=True, nvram={"file": "/n.fd", "template": None}, tpm={"model": "tpm-crb", "backend": "emulator", "version": "2.0"}
    )
    web["interfaces"] += [
        {"kind": "bridge", "source": "br0", "mode": None, "mac": "52:54:00:00:00:02"},
        {"kind": "direct", "source": "eth0", "mode": "bridge", "mac": "52:54:00:00:00:03"},
        {"kind": "user", "source": None, "mode": None, "mac": "52:54:00:00:00:04"},
    ]
    export = export_lab(changed, URI)
    body = parsed(export.files, "lab/", "resource")["libvirt_domain.web"]
    check_schema(body, with_id(LIBVIRT["libvirt_domain"]), "web")
    assert [plain(entry.get("bridge", entry.get("macvtap", ""))) for entry in body["network_interface"]] == ["", "br0", "eth0", ""]
    assert "tpm" in str(body["lifecycle"][0]["ignore_changes"])
    texts = "".join(note.text for note in export.notes if note.where == "libvirt_domain.web")
    assert "Secure Boot" in texts and "52:54:00:00:00:04" in texts


def test_an_empty_host_gives_whole_files() -> None:
    facts: dict[str, Any] = {"networks": [], "pools": [], "volumes": [], "domains": [], "machines": {}}
    lab, aws = export_lab(facts, URI), export_aws(facts, "lab")
    assert lab.imports == 0
    for name, text in {**lab.files, **aws.files}.items():
        if name.endswith(".tf"):
            hcl2.loads(text)
    assert "None" not in "".join(lab.files.values())


def test_networks_of_other_kinds(facts: Any) -> None:
    changed = copy.deepcopy(facts)
    changed["networks"] = [{**changed["networks"][0], "mode": "hostdev", "owned": True, "name": "cards"}]
    changed["domains"] = []
    export = export_lab(changed, URI)
    assert next(note.text for note in export.notes if note.where == "network cards").startswith("not exported: the provider has no networks")


def test_environments_have_their_own_state_tags_and_zones(facts: Any) -> None:
    files = export_aws(facts, "lab").files
    keys = set()
    for environment, zones in (("dev", 1), ("staging", 1), ("production", 2)):
        (module,) = hcl2.loads(files[f"aws/environments/{environment}/main.tf"])["module"]
        assert next(iter(module.values()))["zones"] == zones
        assert re.search(rf'environment = "{environment}"', files[f"aws/environments/{environment}/main.tf"])
        versions = files[f"aws/environments/{environment}/versions.tf"]
        assert "use_lockfile = true" in versions
        keys.update(re.findall(r'key +=+ "(.*)"', versions))
    assert len(keys) == 3


def test_instances_follow_the_guests(facts: Any) -> None:
    resources = parsed(export_aws(facts, "lab").files, "aws/modules/", "resource")
    assert set(resources) == {"aws_instance.web", "aws_instance.db", "aws_ebs_volume.db_data", "aws_volume_attachment.db_data"}
    assert resources["aws_ebs_volume.db_data"]["size"] == 50
    assert resources["aws_instance.web"]["root_block_device"][0]["volume_size"] == 10
    assert "data.aws_ami.debian-12.id" in resources["aws_instance.web"]["ami"]
    assert "t3.micro" in resources["aws_instance.web"]["instance_type"]
    assert "c6i.xlarge" in resources["aws_instance.db"]["instance_type"]


def test_a_guest_without_a_known_image_asks_for_one(facts: Any) -> None:
    files = export_aws(facts, "lab", everything=True).files
    assert "aws_instance.foreign" not in parsed(files, "aws/modules/", "resource")
    changed = copy.deepcopy(facts)
    foreign = next(domain for domain in changed["domains"] if domain["name"] == "foreign")
    foreign["interfaces"] = [{"kind": "network", "source": "default", "mode": None, "mac": "52:54:00:00:00:01"}]
    files = export_aws(changed, "lab", everything=True).files
    assert "var.ami_foreign" in parsed(files, "aws/modules/", "resource")["aws_instance.foreign"]["ami"]
    for environment in ("dev", "staging", "production"):
        assert 'variable "ami_foreign"' in files[f"aws/environments/{environment}/variables.tf"]


@pytest.mark.parametrize(
    ("vcpus", "memory", "wanted"),
    [(1, 512, "t3.nano"), (1, 513, "t3.micro"), (2, 16000, "r6i.large"), (3, 100, "c6i.xlarge"), (8, 32768, "t3.2xlarge"), (65, 1, "m6i.24xlarge")],
)
def test_instance_types(vcpus: int, memory: int, wanted: str) -> None:
    assert instance_type(vcpus, memory) == wanted


def test_no_instance_type_is_larger_than_a_fitting_one() -> None:
    assert list(INSTANCE_TYPES) == sorted(INSTANCE_TYPES, key=lambda entry: entry[:2])
    assert all(instance_type(vcpus, memory) == name for vcpus, memory, name in INSTANCE_TYPES)
    with pytest.raises(ResourceError, match="256 vCPUs"):
        instance_type(256, 1024)


def test_image_names() -> None:
    assert image_of("image-debian-12-0123456789ab.qcow2") == "debian-12"
    assert image_of("web-root.qcow2") is None


def test_network_facts() -> None:
    found = network_facts(
        "<network><name>n</name><uuid>u</uuid><forward mode='nat'/><bridge name='b'/><ip address='10.1.0.1' netmask='255.255.0.0'/>"
        "<ip family='ipv6' address='fd00::1' prefix='64'/><route address='10.9.0.0' prefix='16' gateway='10.1.0.2'/>"
        "<dns enable='no'><forwarder addr='9.9.9.9'/><txt name='a' value='b'/></dns></network>"
    )
    assert found["addresses"] == [{"cidr": "10.1.0.0/16", "prefix": False}, {"cidr": "fd00::/64", "prefix": True}]
    assert found["routes"] == [{"cidr": "10.9.0.0/16", "gateway": "10.1.0.2"}]
    assert found["dns"] == {"enabled": False, "hosts": [], "forwarders": [{"address": "9.9.9.9", "domain": None}]}
    assert found["other"] == ["TXT records (1)"]
    assert found["owned"] is False


def test_domain_facts_of_firmware_tpm_and_devices() -> None:
    found = domain_facts(
        "<domain type='kvm'><name>d</name><uuid>u</uuid><memory unit='GiB'>2</memory><vcpu current='1'>4</vcpu><cpu mode='host-passthrough'/>"
        "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader secure='yes' type='pflash'>/fw.fd</loader><nvram template='/t'>/n</nvram></os>"
        "<devices><disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='sda' bus='scsi'/><wwn>5000</wwn></disk>"
        "<interface type='direct'><mac address='AA:00:00:00:00:01'/><source dev='eth0' mode='bridge'/></interface>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm><hostdev/></devices></domain>"
    )
    assert (found["memory_kib"], found["current_memory_kib"], found["vcpus"], found["current_vcpus"]) == (2097152, 2097152, 4, 1)
    assert found["disks"][0]["source"] == "v" and found["disks"][0]["wwn"] == "5000"
    assert found["interfaces"] == [{"kind": "direct", "source": "eth0", "mode": "bridge", "mac": "aa:00:00:00:00:01"}]
    assert found["tpm"] == {"model": "tpm-crb", "backend": "emulator", "version": "2.0"}
    assert found["other"] == ["hostdev (1)"]
    assert (found["firmware_secure"], found["nvram"]) == (True, {"file": "/n", "template": "/t"})


def test_machine_aliases() -> None:
    xml = "<capabilities><guest><arch name='x86_64'><machine canonical='pc-q35-7.2'>q35</machine><machine>pc-q35-7.2</machine></arch></guest></capabilities>"
    assert machine_aliases(xml) == {"pc-q35-7.2": "q35"}


def test_the_host_file_is_what_libvirt_reads(facts: Any, tmp_path: Path) -> None:
    assert [domain["name"] for domain in facts["domains"]] == ["db", "foreign", "lost", "web"]
    assert len(facts["volumes"]) == 8
    assert facts["machines"] == {}
