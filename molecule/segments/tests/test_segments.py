# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host after site.yml, looked at with the tools that its operator would use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
MODEL = yaml.safe_load((CHECKOUT / "inventories/sandbox/group_vars/all/segments.yml").read_text(encoding="utf-8"))
SEGMENTS = {segment["name"]: segment for segment in MODEL["platform_segments"]}


@pytest.mark.parametrize("name", SEGMENTS)
def test_network_is_active_and_starts_at_boot(host: Any, name: str) -> None:
    info = host.check_output(f"virsh net-info {name}")
    assert "Active:         yes" in info
    assert "Autostart:      yes" in info
    assert f"Bridge:         {SEGMENTS[name]['bridge']}" in info


@pytest.mark.parametrize("name", SEGMENTS)
def test_bridge_carries_the_gateway(host: Any, name: str) -> None:
    assert SEGMENTS[name]["gateway"] in host.interface(SEGMENTS[name]["bridge"]).addresses


@pytest.mark.parametrize("name", SEGMENTS)
def test_dhcp_ranges_are_as_declared(host: Any, name: str) -> None:
    xml = host.check_output(f"virsh net-dumpxml {name}")
    declared = SEGMENTS[name].get("dhcp", [])
    assert xml.count("<range ") == len(declared)
    for dhcp in declared:
        assert f"<range start='{dhcp['first']}' end='{dhcp['last']}'" in xml


def test_networks_are_open_ones_of_ours_in_the_declared_domain(host: Any) -> None:
    for name in SEGMENTS:
        xml = host.check_output(f"virsh net-dumpxml {name}")
        assert "<forward mode='open'/>" in xml
        assert f"<domain name='{MODEL['platform_domain']}' localOnly='yes'/>" in xml
        assert "urn:hybridlab:platform" in xml


def test_no_other_network_is_active(host: Any) -> None:
    assert set(host.check_output("virsh -q net-list --name").split()) == set(SEGMENTS)


def test_forwarding_is_on_now_and_after_a_reboot(host: Any) -> None:
    assert host.sysctl("net.ipv4.ip_forward") == 1
    assert host.file("/etc/sysctl.d/99-zz-hybridlab.conf").contains("net.ipv4.ip_forward")


def test_rules_are_loaded_from_a_private_file_before_the_network(host: Any) -> None:
    rules = host.file("/etc/hybridlab/segments.nft")
    assert (rules.user, rules.group, rules.mode) == ("root", "root", 0o600)
    unit = host.service("hybridlab-segments")
    assert unit.is_enabled
    assert unit.is_running
    order = host.check_output("systemctl show -p Before hybridlab-segments")
    assert "network-pre.target" in order
    assert not host.service("nftables").is_enabled


def test_only_our_table_is_added_to_the_ruleset(host: Any) -> None:
    tables = set(host.check_output("nft list tables").splitlines())
    assert "table inet hybridlab_segments" in tables
    assert {table for table in tables if "hybridlab" in table} == {"table inet hybridlab_segments"}


def test_every_declared_pair_has_a_counter(host: Any) -> None:
    table = host.check_output("nft list table inet hybridlab_segments")
    for name, segment in SEGMENTS.items():
        for other in segment["reaches"]:
            assert f"pair_{name}_{other}" in table
    assert table.count("pair_") < 4 * sum(len(segment["reaches"]) for segment in SEGMENTS.values())


def test_firewalld_leaves_the_bridges_to_us(host: Any) -> None:
    assert host.service("firewalld").is_running
    interfaces = host.check_output("firewall-cmd --zone=hybridlab --list-interfaces").split()
    assert set(interfaces) == {segment["bridge"] for segment in SEGMENTS.values()}
    assert "2201/tcp" in host.check_output("firewall-cmd --policy=hybridlab-host --list-ports")


@pytest.mark.parametrize(("name", "path"), [("fast", "/var/lib/libvirt/images"), ("large", "/data/kvm/images")])
def test_pools_are_active(host: Any, name: str, path: str) -> None:
    info = host.check_output(f"virsh pool-info {name}")
    assert "running" in info
    assert "Autostart:      yes" in info
    assert path in host.check_output(f"virsh pool-dumpxml {name}")
    assert host.file(path).is_directory


def test_the_probes_left_nothing_behind(host: Any) -> None:
    assert host.check_output("ip netns list") == ""
    assert "hl" not in host.check_output("ip -o link show type veth")
