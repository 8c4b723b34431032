# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for the provider itself: what it says on the wire, and that it plans as the providers' SDK does."""

from __future__ import annotations

from typing import Any

import libvirt
import msgpack
import pytest

from tests.integration.terraform.fake_provider import read_domain, read_network
from tests.integration.terraform.schemas import LIBVIRT, PROVIDERS, empty, plan, replaced, with_id
from tests.integration.terraform.wire import decode, dynamic, encode, read_dynamic
from tools.export_terraform import Host

DOMAIN = with_id(LIBVIRT["libvirt_domain"])


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**40])
def test_messages_survive_the_wire(number: int) -> None:
    assert decode(encode([(1, number), (16, "text"), (2, b"\x00\xff")])) == {1: number, 16: b"text", 2: b"\x00\xff"}


def test_values_in_both_forms_and_unknown_ones() -> None:
    assert read_dynamic(dynamic({"a": [1, None]})) == {"a": [1, None]}
    packed = msgpack.packb({"a": msgpack.ExtType(0, b"\x00"), "b": "x"})
    assert read_dynamic(encode([(1, packed)])) == {"a": None, "b": "x"}


def test_every_provider_has_a_schema_message() -> None:
    for provider in PROVIDERS.values():
        assert set(decode(provider.message())) >= {1, 2}


def test_defaults_are_planned_for_what_was_never_read() -> None:
    prior = {**empty(DOMAIN), "id": "x", "name": "web", "memory": 512, "vcpu": 1, "running": True}
    planned = plan(DOMAIN, {"name": "web"}, prior)
    assert (planned["type"], planned["fw_cfg_name"], planned["qemu_agent"]) == ("kvm", "opt/com.coreos/config", False)
    assert sorted(replaced(DOMAIN, planned, prior)) == ["fw_cfg_name", "type"]


def test_computed_blocks_keep_what_was_read_and_sets_have_no_order() -> None:
    fields = LIBVIRT["libvirt_network"]
    hosts = [{"ip": "10.0.0.1", "hostname": "a"}, {"ip": "10.0.0.2", "hostname": "b"}]
    prior = {**empty(fields), "dns": [{"enabled": True, "local_only": True, "forwarders": [], "srvs": [], "hosts": hosts}]}
    assert plan(fields, {}, prior)["dns"] == prior["dns"]
    turned = {"dns": [{"enabled": True, "local_only": True, "hosts": hosts[::-1]}]}
    assert plan(fields, turned, prior)["dns"] == prior["dns"]


def test_it_reads_a_live_libvirt_with_the_omissions_of_the_provider() -> None:
    conn = libvirt.open("test:///default")
    try:
        network = read_network(conn, conn.networkLookupByName("default").UUIDString())
        assert (network["mode"], network["addresses"]) == ("nat", ["0.0.0.0/0"])
        domain: Any = conn.lookupByName("test")
        domain.destroy()
        domain.undefine()
        made = conn.defineXML("<domain type='test'><name>m</name><memory unit='MiB'>64</memory><os><type arch='i686'>hvm</type></os></domain>")
        state = read_domain(conn, made.UUIDString())
        assert (state["memory"], state["running"], state["disk"], "type" in state) == (64, False, [], False)
        made.undefine()
    finally:
        conn.close()


@pytest.mark.parametrize(
    ("connection", "wanted"),
    [
        ({"connection": "ssh", "host": "kvm.example", "user": "admin", "port": 22}, "qemu+ssh://admin@kvm.example/system"),
        ({"connection": "ssh", "host": "10.0.0.1", "user": "", "port": 2201}, "qemu+ssh://10.0.0.1:2201/system"),
        ({"connection": "local", "host": "here", "user": "", "port": 22}, "qemu:///system"),
    ],
)
def test_the_uri_for_terraform_follows_the_connection(connection: dict[str, Any], wanted: str) -> None:
    assert Host("kvm", {**connection, "uri": "qemu:///system", "platform": "lab"}, {}).uri == wanted
