# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any, Optional

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_plan import plan_networks
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import is_owned, managed_ip_index, read_guest, read_network, write_network
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Definition, Guest, Tap, declare
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.tests.unit.core.network_values import PUBLIC, definitions, dns, entry, host, mac
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([entry(name="a/b")], r"config\[a/b\]\.name: found 'a/b'"),
        ([entry(name="-c")], r"config\[-c\]\.name"),
        ([entry(bridge="br-much-too-long")], r"\.bridge: found 'br-much-too-long': an interface name has 1 to 15"),
        ([entry(bridge=None)], r"\.bridge: not set"),
        ([entry(address="10.0.1")], r"\.address: found '10.0.1': not an IPv4 address"),
        ([entry(address="fd00::1")], r"\.address: found 'fd00::1'"),
        ([entry(address="10.0.1.255")], r"\.address: found '10.0.1.255'.*first or last"),
        ([entry(prefix=31)], r"\.prefix: found 31"),
        ([entry(domain="lab_local!")], r"\.domain: found 'lab_local!'"),
        ([entry(mtu=10)], r"\.mtu: found 10"),
        ([entry(dhcp=[{"first": "10.0.1.20", "last": "10.0.1.10"}])], r"\.dhcp\[0\]\.last: found '10.0.1.10'.*swap"),
        ([entry(dhcp=[{"first": "10.0.2.20", "last": "10.0.2.30"}])], r"\.dhcp: found '10.0.2.20-10.0.2.30'"),
        ([entry(dhcp=[{"first": "10.0.1.1", "last": "10.0.1.30"}])], r"own address 10.0.1.1"),
        ([entry(dhcp=[{"first": "10.0.1.5", "last": "10.0.1.9"}, {"first": "10.0.1.9", "last": "10.0.1.30"}])], r"\.dhcp\[1\].*overlaps"),
        ([entry(hosts=[{"mac": "52-54", "address": "10.0.1.5"}])], r"\.hosts\[0\]\.mac: found '52-54'"),
        ([entry(hosts=[{"mac": mac(1), "address": "10.0.1.5"}, {"mac": mac(1).upper(), "address": "10.0.1.6"}])], r"hosts\[1\]\.mac"),
        ([entry(hosts=[{"mac": mac(1), "address": "10.0.1.5"}, {"mac": mac(2), "address": "10.0.1.5"}])], r"hosts\[1\]\.address"),
        ([entry(hosts=[{"mac": mac(n), "address": f"10.0.1.{n}", "name": "web"} for n in (5, 6)])], r"hosts\[1\]\.name"),
        ([entry(hosts=[{"mac": mac(1), "address": "10.0.9.5"}])], r"\.hosts: found '10.0.9.5'"),
        ([entry(hosts=[{"mac": mac(1), "address": "10.0.1.1"}])], r"network's own address"),
        ([entry(dns=[{"address": "10.0.1.5", "names": []}])], r"\.dns\[0\]\.names"),
        ([entry(dns=[{"address": "10.0.1.5", "names": ["a b"]}])], r"\.dns\[0\]\.names: found 'a b'"),
        ([entry(dns=[{"address": "10.0.1.5", "names": ["a"]}, {"address": "10.0.1.5", "names": ["b"]}])], r"dns\[1\]\.address"),
        ([entry(), entry()], r"config\[1\]\.name: found 'public'"),
        ([entry(), entry(name="b", address="10.0.2.1")], r"config\[b\]\.bridge: found 'br-public'"),
        ([entry(), entry(name="b", bridge="br-b", prefix=23, address="10.0.0.1")], r"config\[b\]\.address: found 10.0.0.0/23.*overlaps"),
    ],
)  # fmt: skip
def test_bad_declarations_name_place_value_and_cure(config: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        plan_networks("merged", config, [])


def test_both_sides_are_normalised() -> None:
    written = entry(
        domain="Lab.Local",
        hosts=[{"mac": "52-54-00-00-00-0B", "address": "10.0.1.11"}, {"mac": "52:54:00:00:00:0A", "name": "WEB", "address": "10.0.1.10"}],
        dns=[{"address": "10.0.1.10", "names": ["Web", "www", "web"]}],
        dhcp=[{"first": "10.0.1.100", "last": "10.0.1.200"}],
    )
    assert declare(written, None, False, "config[public]").definition == PUBLIC


# XML.

THEIRS = """
<network connections='2'><name>public</name><uuid>9eca9638-d112-4d21-9f12-ad9b457d478b</uuid>
  <metadata><x:y xmlns:x='urn:other'>kept</x:y></metadata>
  <forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>
  <bridge name='br-public' zone='lab' stp='off' delay='4'/><mac address='52:54:00:aa:bb:cc'/>
  <domain name='Lab.Local'/>
  <dns><forwarder addr='9.9.9.9'/><txt name='a' value='b'/><host ip='10.0.1.10'><hostname>WEB</hostname></host>
    <host ip='fd00::5'><hostname>six</hostname></host></dns>
  <ip family='ipv6' address='fd00::1' prefix='64'/>
  <ip address='10.0.1.1' netmask='255.255.255.0'>
    <tftp root='/srv'/>
    <dhcp><range start='10.0.1.100' end='10.0.1.200'><lease expiry='1' unit='hours'/></range>
      <host mac='52:54:00:00:00:0A' name='web' ip='10.0.1.10'/><bootp file='pxe'/></dhcp>
  </ip>
  <portgroup name='p'/>
</network>"""


def test_reading_somebody_elses_network() -> None:
    found = read_network(THEIRS)
    assert found == replace(
        PUBLIC,
        hosts=(host(10, "web"),),
        dns=(dns(10, "web"),),
        deviations=(
            "forward mode is nat, not open",
            "names of the domain are asked elsewhere too (no localOnly)",
            "the bridge's spanning tree or delay is not on/0",
        ),
    )
    assert not is_owned(THEIRS)
    assert managed_ip_index(THEIRS) == 1
    assert read_network(THEIRS.replace(" netmask='255.255.255.0'", "")).prefix == 8  # its class, as libvirt takes it


def test_writing_over_it_keeps_what_we_do_not_manage() -> None:
    xml = write_network(PUBLIC, THEIRS)
    root = ET.fromstring(xml)
    assert read_network(xml) == PUBLIC
    assert is_owned(xml)
    assert root.findtext("uuid") == "9eca9638-d112-4d21-9f12-ad9b457d478b"
    assert root.find("mac[@address='52:54:00:aa:bb:cc']") is not None
    assert root.findtext("metadata/{urn:other}y") == "kept"
    assert root.find("bridge[@zone='lab']") is not None
    assert root.find("ip/dhcp/range/lease[@expiry='1']") is not None
    assert [child.tag for child in root.findall("dns/*")].count("host") == 2
    for path in ("dns/forwarder", "dns/txt", "ip/dhcp/bootp", "ip/tftp", "ip[@family='ipv6']", "portgroup"):
        assert root.find(path) is not None, path
    assert root.find("forward/nat") is None
    assert root.get("connections") is None


def test_without_dhcp_and_dns_there_are_no_empty_elements() -> None:
    bare = replace(PUBLIC, dhcp=(), hosts=(), dns=(), domain=None)
    for base in (None, write_network(PUBLIC)):
        root = ET.fromstring(write_network(bare, base))
        assert [root.find(path) for path in ("dns", "ip/dhcp", "domain", "mtu")] == [None] * 4


def test_a_guest_uses_what_its_running_or_its_kept_definition_names() -> None:
    running = "<domain><devices><interface type='network'><source network='public' bridge='br-public'/></interface></devices></domain>"
    kept = (
        "<domain><devices><interface type='bridge'><source bridge='br-x'/></interface>"
        "<disk type='file'><source file='/pool/a.img'/></disk><disk type='volume'><source pool='fast' volume='b'/></disk></devices></domain>"
    )
    found = read_guest("web", True, [running, kept])
    assert found == Guest("web", True, frozenset({"public"}), frozenset({"br-public", "br-x"}), frozenset({"fast"}), frozenset({"/pool/a.img"}))


def test_taps_of_a_guest_are_those_of_its_running_definition() -> None:
    running = (
        "<domain><devices>"
        "<interface type='network'><source network='public' bridge='br-public'/><target dev='vnet0'/><mtu size='1400'/><port isolated='yes'/></interface>"
        "<interface type='bridge'><source bridge='br-x'/><target dev='vnet1'/></interface>"
        "<interface type='direct'><source dev='eth0' mode='bridge'/><target dev='macvtap0'/></interface>"
        "<interface type='network'><source network='public'/></interface>"
        "</devices></domain>"
    )
    kept = "<domain><devices><interface type='bridge'><source bridge='br-y'/><target dev='mine'/></interface></devices></domain>"
    assert read_guest("web", True, [running, kept]).taps == (
        Tap("vnet0", "public", "br-public", mtu=1400, isolated=True),
        Tap("vnet1", None, "br-x"),
    )
    assert read_guest("web", False, [kept]).taps == ()


@given(definitions(), st.one_of(st.none(), definitions()))
def test_xml_reads_back_as_what_was_written(definition: Definition, base: Optional[Definition]) -> None:
    xml = write_network(definition, None if base is None else write_network(base))
    assert read_network(xml) == definition
    assert is_owned(xml)
    assert write_network(definition, xml) == xml


def test_class_of_an_address_without_prefix() -> None:
    for text, prefix in (("10.0.0.1", 8), ("172.16.0.1", 16), ("192.168.1.1", 24)):
        assert read_network(f"<network><name>n</name><ip address='{ipaddress.ip_address(text)}'/></network>").prefix == prefix
