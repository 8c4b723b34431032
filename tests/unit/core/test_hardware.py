# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's hardware and routes: read from the kernel, compared with the model."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.hardware import (
    GB,
    Hardware,
    compare_hardware,
    parse_cpuinfo,
    parse_meminfo,
    parse_os_release,
    parse_proc_net_tcp,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Filesystem, HostSpec
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route, parse_proc_net_route
from ansible_collections.hybridlab.platform.plugins.module_utils.host.system import read_hardware, read_listening, read_routes

WANTED = HostSpec(cores=6, threads=12, memory_mb=32000, filesystems=(Filesystem("/", 65), Filesystem("/data", 3400)))
ENOUGH: dict[str, Any] = {"cores": 6, "threads": 12, "memory_mb": 32000, "filesystems": {"/": 65 * GB, "/data": 3400 * GB}}


@pytest.mark.parametrize(
    "found",
    [
        ENOUGH,
        {**ENOUGH, "cores": 8, "threads": 16, "memory_mb": 64000},
        {**ENOUGH, "memory_mb": 30400},
        {**ENOUGH, "filesystems": {"/": 65 * GB, "/data": 3230 * GB, "/home": GB}},
    ],
    ids=["exact", "more", "memory 5 percent less", "filesystem 5 percent less"],
)
def test_enough(found: dict[str, Any]) -> None:
    assert compare_hardware(WANTED, Hardware(**found)) == []


@pytest.mark.parametrize(
    ("short", "path", "reason"),
    [
        ({"cores": 5}, "platform_host.cores", "the host has 5"),
        ({"threads": 11}, "platform_host.threads", "the host has 11"),
        ({"memory_mb": 30399}, "platform_host.memory_mb", "the host has 30399 MiB"),
        ({"filesystems": {"/": 65 * GB, "/data": 3229 * GB}}, "platform_host.filesystems[1].size_gb", "/data has 3229.0 GB"),
        ({"filesystems": {"/": 65 * GB}}, "platform_host.filesystems[1].mount", "nothing is mounted there"),
    ],
)
def test_too_little(short: dict[str, Any], path: str, reason: str) -> None:
    (finding,) = compare_hardware(WANTED, Hardware(**{**ENOUGH, **short}))

    assert (finding.rule, finding.path) == ("hardware", path)
    assert reason in finding.reason


def test_all_that_is_short_is_told() -> None:
    assert len(compare_hardware(WANTED, Hardware(1, 1, 1))) == 5


def test_what_is_not_demanded_is_not_compared() -> None:
    assert compare_hardware(HostSpec(), Hardware(1, 1, 1)) == []


def on(distribution: str, version: str) -> Hardware:
    return Hardware(1, 1, 1, {}, distribution, version)


@pytest.mark.parametrize(
    ("wanted", "version", "found"),
    [
        ("Rocky", "9.6", on("rocky", "9.6")),
        ("Rocky", "9", on("rocky", "9.6")),
        ("Debian", "12", on("debian", "12")),
        ("RedHat", "9.4", on("rhel", "9.4")),
        ("AlmaLinux", "9", on("almalinux", "9.5")),
        ("CentOS", "9", on("centos", "9")),
        ("Ubuntu", "24.04", on("ubuntu", "24.04")),
    ],
)
def test_distribution_that_is_meant(wanted: str, version: str, found: Hardware) -> None:
    assert compare_hardware(HostSpec(distribution=wanted, version=version), found) == []


@pytest.mark.parametrize(
    ("wanted", "version", "found", "path", "reason"),
    [
        ("Rocky", "9.6", on("debian", "9.6"), "platform_host.distribution", "the host runs Debian"),
        ("rhel", "9", on("rhel", "9.4"), "platform_host.distribution", "the host runs RedHat"),
        ("Ubuntu", "12", on("mint", "12"), "platform_host.distribution", "the host runs mint"),
        ("Debian", "12", on("", "12"), "platform_host.distribution", "/etc/os-release does not say what the host runs"),
        ("Rocky", "9.6", on("rocky", "9.5"), "platform_host.version", "the host runs 9.5"),
        ("Rocky", "9.6", on("rocky", "9"), "platform_host.version", "the host runs 9"),
        ("Debian", "1", on("debian", "12"), "platform_host.version", "the host runs 12"),
        ("Debian", "13", on("debian", ""), "platform_host.version", "/etc/os-release does not say what the host runs"),
    ],
)
def test_another_distribution(wanted: str, version: str, found: Hardware, path: str, reason: str) -> None:
    (finding,) = compare_hardware(HostSpec(distribution=wanted, version=version), found)

    assert (finding.rule, finding.path) == ("distribution", path)
    assert reason in finding.reason


def test_os_release() -> None:
    assert parse_os_release('NAME="Rocky Linux"\nID="rocky"\nVERSION_ID="9.6"\n') == ("rocky", "9.6")
    assert parse_os_release("# mine\n\nID=debian\nVERSION_ID=12\nNOTE=a'b\n") == ("debian", "12")
    assert parse_os_release("NAME='none'\n") == ("", "")


def test_listening_ports_of_proc() -> None:
    # Byte order as on this machine: addresses are made with the same packing as the kernel's.
    def v4(text: str) -> str:
        return f"{int.from_bytes(IPv4Address(text).packed, sys.byteorder):08X}"

    rows = [
        (f"{v4('0.0.0.0')}:0899", "0A"),
        (f"{v4('192.0.2.1')}:08A3", "0A"),
        (f"{v4('192.0.2.1')}:08A4", "01"),
        (f"{v4('127.0.0.53')}:0035", "0A"),
        (f"{'0' * 32}:0016", "0A"),
        (f"{'0' * 24}{int.from_bytes(bytes((0, 0, 0, 1)), sys.byteorder):08X}:0019", "0A"),
    ]
    text = "  sl  local_address rem_address   st tx_queue\n" + "".join(f"   {n}: {local} 00000000:0000 {state} 0:0\n" for n, (local, state) in enumerate(rows))

    assert parse_proc_net_tcp(text) == {2201, 2211, 22}


def test_listening_ports_of_this_host() -> None:
    with socket.create_server(("0.0.0.0", 0)) as everywhere, socket.create_server(("127.0.0.1", 0)) as inside, socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))
        listening = read_listening()

        assert everywhere.getsockname()[1] in listening
        assert not {inside.getsockname()[1], bound.getsockname()[1]} & listening
    if socket.has_dualstack_ipv6():
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as six:
            assert six.getsockname()[1] in read_listening()


def cpu(processor: int, package: int, core: int) -> str:
    return f"processor\t: {processor}\nmodel name\t: any\nphysical id\t: {package}\nsiblings\t: 4\ncore id\t\t: {core}\nflags\t\t: a b\n\n"


def test_two_packages_with_equal_core_numbers() -> None:
    assert parse_cpuinfo("".join(cpu(number, number // 4, number % 2) for number in range(8))) == (4, 8)


def test_cpuinfo_without_cores() -> None:
    assert parse_cpuinfo("processor\t: 0\nBogoMIPS\t: 50.00\n\nprocessor\t: 1\nBogoMIPS\t: 50.00\n\nHardware\t: any\n") == (2, 2)


def test_meminfo() -> None:
    assert parse_meminfo("MemTotal:       32768000 kB\nMemFree:          123 kB\n") == 32000
    with pytest.raises(ValueError, match="MemTotal"):
        parse_meminfo("")


def test_this_host_is_read() -> None:
    hardware = read_hardware(["/", "/no/such/mount"])

    assert 1 <= hardware.cores <= hardware.threads
    assert hardware.memory_mb == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    status = os.statvfs("/")
    assert hardware.filesystems == {"/": status.f_blocks * status.f_frsize}
    release = platform.freedesktop_os_release()
    assert (hardware.distribution, hardware.version) == (release["ID"], release.get("VERSION_ID", ""))


def test_routes_of_proc() -> None:
    # 0x0201: RTF_UP and RTF_REJECT, a route that leads nowhere. 0x0000: one that is not up.
    text = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eno1\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eno1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eno1\t0000400A\t010200C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0
eno2\t0000000A\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0
"""
    router = IPv4Address("192.0.2.1")

    assert parse_proc_net_route(text) == [
        Route(IPv4Network("0.0.0.0/0"), "eno1", router),
        Route(IPv4Network("192.0.2.0/24"), "eno1"),
        Route(IPv4Network("10.64.0.0/16"), "eno1", router),
    ]


def test_routes_of_this_host_are_those_that_ip_shows() -> None:
    shown = json.loads(subprocess.run(["ip", "-j", "-4", "route"], capture_output=True, text=True, check=True).stdout)
    expected = {(IPv4Network("0.0.0.0/0" if row["dst"] == "default" else row["dst"]), row["dev"], row.get("gateway")) for row in shown if "dev" in row}

    assert {(route.cidr, route.device, route.via and str(route.via)) for route in read_routes()} == expected


@pytest.mark.parametrize(
    "form", ["{}", "<!-- made by libvirt -->\n{}", "<networkstatus><taint/>{}</networkstatus>"], ids=["definition", "with a comment", "status"]
)
@pytest.mark.parametrize(("mark", "dropped"), [("<metadata><p:platform xmlns:p='urn:hybridlab:platform:1'/></metadata>", True), ("", False)])
def test_routes_on_bridges_of_ours_are_our_own_doing(tmp_path: Path, form: str, mark: str, dropped: bool) -> None:
    route = read_routes()[0]
    network = f"<network><name>x</name>{mark}<bridge name='{route.device}'/></network>"
    (tmp_path / "x.xml").write_text(form.format(network), encoding="utf-8")

    assert (route.device not in {found.device for found in read_routes([f"{tmp_path}/*.xml"])}) is dropped
