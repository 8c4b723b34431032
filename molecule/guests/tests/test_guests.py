# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests after site.yml, looked at from their host with the tools that its operator would use."""

from __future__ import annotations

import json
from typing import Any

import pytest

# As inventories/sandbox declares them, and what they are given where it is silent: the lowest free address and port.
GUESTS = {"web": ("public", "10.0.1.10", 2211), "app": ("private", "10.0.2.10", 2231)}


@pytest.mark.parametrize("name", GUESTS)
def test_guest_runs_and_starts_at_boot(host: Any, name: str) -> None:
    info = host.check_output(f"virsh dominfo {name}")
    assert "State:          running" in info
    assert "Autostart:      enable" in info


@pytest.mark.parametrize("name", GUESTS)
def test_guest_has_leased_its_address(host: Any, name: str) -> None:
    network, address, _port = GUESTS[name]
    assert f"{address}/24" in host.check_output(f"virsh net-dhcp-leases {network}")


@pytest.mark.parametrize("name", GUESTS)
def test_every_segment_knows_its_name(host: Any, name: str) -> None:
    for network in ("management", "public", "private", "database", "container"):
        assert f"<hostname>{name}</hostname>" in host.check_output(f"virsh net-dumpxml {network}")


@pytest.mark.parametrize("name", GUESTS)
def test_ssh_answers_on_its_port(host: Any, name: str) -> None:
    _network, address, port = GUESTS[name]
    greet = f"import socket; print(socket.create_connection(('{address}', {port}), 10).recv(8).decode())"
    assert host.check_output(f'python3 -c "{greet}"').startswith("SSH-2.0")


@pytest.mark.parametrize("name", GUESTS)
def test_agent_answers(host: Any, name: str) -> None:
    answer = json.loads(host.check_output(f"""virsh qemu-agent-command {name} '{{"execute": "guest-get-host-name"}}'"""))
    assert answer["return"]["host-name"] == name


@pytest.mark.parametrize("name", GUESTS)
def test_disk_is_an_overlay_on_the_one_image(host: Any, name: str) -> None:
    chain = json.loads(host.check_output(f"qemu-img info -U --backing-chain --output json /var/lib/libvirt/images/{name}-root.qcow2"))
    assert len(chain) == 2
    assert "/image-tiny-" in chain[1]["filename"]


def test_seed_is_for_nobody_else(host: Any) -> None:
    for name in GUESTS:
        assert host.file(f"/var/lib/libvirt/images/{name}-seed.iso").mode == 0o600


def test_hook_watches_over_starts_by_hand(host: Any) -> None:
    too_large = "<domain type='qemu'><name>too-large</name><memory unit='GiB'>4000</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    host.run(f'echo "{too_large}" > /run/too-large.xml')
    refused = host.run("virsh create /run/too-large.xml")
    assert refused.rc != 0
    assert "memory" in refused.stderr
    assert "too-large" in refused.stderr
    assert host.run("virsh dominfo too-large").rc != 0
