# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of the hypervisor, its networks and its guests (procedures 2.1 and 2.2). No I/O."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_compile import TABLE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform, Segment
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import (
    Answer,
    Answers,
    Questions,
    Row,
    active_units,
    equal,
    given,
    judged,
    show_blocks,
    show_units,
)

HYPERVISOR, NETWORKS, GUESTS = "hypervisor", "networks", "guests"

# Debian's libvirt is one daemon, EL9's is one for each driver (roles/kvm_host/vars).
MONOLITHIC = ("libvirtd.socket",)
MODULAR = ("virtqemud.socket", "virtnetworkd.socket", "virtstoraged.socket")
RULES_UNIT = "hybridlab-segments.service"

_VIRSH = ("virsh", "--connect", "qemu:///system", "--quiet", "--readonly")


def questions(platform: Platform) -> Questions:
    asked = {
        "os": ("cat", "/etc/os-release"),
        "cpuinfo": ("cat", "/proc/cpuinfo"),
        "kvm": ("test", "-c", "/dev/kvm"),
        "libvirt_units": show_units((*MONOLITHIC, *MODULAR)),
        "ip_forward": ("cat", "/proc/sys/net/ipv4/ip_forward"),
        "rules_unit": show_units((RULES_UNIT,)),
        "rules": ("nft", "--stateless", "list", "table", "inet", TABLE),
        "networks": (*_VIRSH, "net-list", "--all", "--table"),
        "domains": (*_VIRSH, "list", "--all", "--table"),
        "addresses": ("ip", "-oneline", "-4", "address", "show"),
    }
    if platform.host.virtualization == "kvm":
        asked["virt_host_validate"] = ("virt-host-validate", "qemu")
    for pool in platform.pools:
        asked[f"pool {pool.name}"] = (*_VIRSH, "pool-dumpxml", pool.name)
        asked[f"pool state {pool.name}"] = (*_VIRSH, "pool-info", pool.name)
    for segment in platform.segments:
        asked[f"network {segment.name}"] = (*_VIRSH, "net-dumpxml", segment.name)
    return asked


def rows(platform: Platform, answers: Answers) -> Iterator[Row]:
    yield from _hypervisor(platform, answers)
    yield from _pools(platform, answers)
    yield from _networks(platform, answers)
    yield from _guests(platform, answers)


def _hypervisor(platform: Platform, answers: Answers) -> Iterator[Row]:
    spec = platform.host
    release = dict(line.split("=", 1) for line in answers["os"].lines if "=" in line)
    name = " ".join(release.get(key, "").strip('"') for key in ("NAME", "VERSION_ID")).strip()
    if spec.distribution is not None:
        wanted = f"{spec.distribution} {spec.version or ''}".strip()
        good = name.lower().startswith(spec.distribution.lower()) and (spec.version is None or release.get("VERSION_ID", "").strip('"') == spec.version)
        yield judged(HYPERVISOR, "distribution", wanted, answers["os"], good, name)
    if spec.virtualization == "kvm":
        flags = {word for line in answers["cpuinfo"].lines if line.startswith("flags") for word in line.split()}
        yield judged(
            HYPERVISOR,
            "CPU virtualisation",
            "vmx or svm",
            answers["cpuinfo"],
            bool(flags & {"vmx", "svm"}),
            ", ".join(sorted(flags & {"vmx", "svm"})) or "neither",
        )
        yield judged(HYPERVISOR, "/dev/kvm", "there", answers["kvm"], answers["kvm"].rc == 0, "there" if answers["kvm"].rc == 0 else "missing", (0, 1))
        failed = [line for line in answers["virt_host_validate"].lines if "FAIL" in line]
        yield judged(HYPERVISOR, "virt-host-validate", "no failure", answers["virt_host_validate"], not failed, "; ".join(failed) or "no failure", (0, 1))
    units = MODULAR if MODULAR[0] in show_blocks(answers["libvirt_units"]) else MONOLITHIC
    yield from active_units(HYPERVISOR, units, answers["libvirt_units"])
    yield equal(HYPERVISOR, "net.ipv4.ip_forward", "1", answers["ip_forward"])


def _pools(platform: Platform, answers: Answers) -> Iterator[Row]:
    for pool in platform.pools:
        definition, state = answers[f"pool {pool.name}"], answers[f"pool state {pool.name}"]
        found = dict(line.split(":", 1) for line in state.lines if ":" in line)
        path = ET.fromstring(definition.out).findtext("target/path") if definition.rc == 0 else None
        yield judged(HYPERVISOR, f"pool {pool.name}: directory", pool.path, definition, path == pool.path, path)
        values = ", ".join(found.get(key, "?").strip() for key in ("State", "Autostart"))
        yield judged(HYPERVISOR, f"pool {pool.name}: state, autostart", "running, yes", state, values == "running, yes", values if found else None)


def _networks(platform: Platform, answers: Answers) -> Iterator[Row]:
    yield judged(NETWORKS, f"table inet {TABLE}", "loaded", answers["rules"], answers["rules"].rc == 0, "loaded" if answers["rules"].rc == 0 else None)
    yield from active_units(NETWORKS, (RULES_UNIT,), answers["rules_unit"])
    listed = {line.split()[0]: line.split()[1:3] for line in answers["networks"].lines if len(line.split()) >= 3}
    stock = listed.get("default")
    out_of_service = stock is None or stock == ["inactive", "no"]
    yield judged(
        NETWORKS, "network default", "out of service", answers["networks"], out_of_service, "out of service" if out_of_service else ", ".join(stock or ())
    )
    addresses = {(words[1], words[3]) for words in (line.split() for line in answers["addresses"].lines) if len(words) > 3}
    loaded = answers["rules"].out
    for segment in platform.segments:
        state = ", ".join(listed.get(segment.name, [])) or "missing"
        yield judged(NETWORKS, f"{segment.name}: active, autostart", "active, yes", answers["networks"], state == "active, yes", state)
        yield from _definition(segment, answers[f"network {segment.name}"])
        own = f"{segment.gateway}/{segment.cidr.prefixlen}"
        found = next((address for device, address in sorted(addresses) if device == segment.bridge), f"{segment.bridge} has no address")
        yield judged(NETWORKS, f"{segment.name}: address of {segment.bridge}", own, answers["addresses"], (segment.bridge, own) in addresses, found)
        for host in segment.hosts:
            if host.ssh_port is not None:
                there = f"tcp dport {host.ssh_port} dnat ip to {host.address}:{host.ssh_port}" in loaded
                check = f"forward {host.ssh_port} to {host.name}"
                yield judged(NETWORKS, check, str(host.address), answers["rules"], there, str(host.address) if there else "not forwarded")


def _definition(segment: Segment, answer: Answer) -> Iterator[Row]:
    if answer.rc != 0:
        yield Row(NETWORKS, f"{segment.name}: definition", "a libvirt network", answer.why, False)
        return
    network = ET.fromstring(answer.out)
    bridge, forward = network.find("bridge"), network.find("forward")
    mode = "none" if forward is None else forward.get("mode", "nat")
    found = f"{bridge.get('name') if bridge is not None else 'no bridge'}, {mode}"
    yield given(NETWORKS, f"{segment.name}: bridge, mode", f"{segment.bridge}, open", found)
    wanted = [str(item) for item in segment.dhcp]
    ranges = [f"{item.get('start')}-{item.get('end')}" for item in network.iter("range")]
    yield given(NETWORKS, f"{segment.name}: dynamic range", wanted, ranges)


def _guests(platform: Platform, answers: Answers) -> Iterator[Row]:
    # "- name state"; the state may be two words.
    found = {words[1]: " ".join(words[2:]) for words in (line.split() for line in answers["domains"].lines) if len(words) >= 3}
    expected = {"running": "running", "stopped": "shut off", "suspended": "paused", "absent": None}
    for guest in platform.guests:
        wanted = expected[guest.state]
        state = found.get(guest.name)
        yield judged(GUESTS, guest.name, wanted or "absent", answers["domains"], state == wanted, state or "absent")
