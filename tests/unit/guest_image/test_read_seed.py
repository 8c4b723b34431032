# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tiny guest takes from the documents that the platform writes for cloud-init: its own program, run on its functions."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.cloud_init import documents

from tools.guest_image.recipes import FILES

MACS = ("52:54:00:11:22:33", "52:54:00:11:22:44")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("read_seed", str(FILES / "tiny" / "read-seed"))
    spec = importlib.util.spec_from_loader("read_seed", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "STATE", tmp_path)
    return module


@pytest.fixture
def seed() -> dict[str, str]:
    interfaces: list[dict[str, Any]] = [
        {"mac": MACS[0], "address": "10.0.1.20", "prefix": 24, "gateway": "10.0.1.1", "dhcp": False},
        {"mac": MACS[1], "address": None, "prefix": None, "gateway": None, "dhcp": True},
    ]
    users = [{"name": "ops", "ssh_keys": ["ssh-ed25519 AAAA ops"]}]
    return documents(
        name="web",
        domain="public.lab.test",
        users=users,
        packages=[],
        commands=[],
        ssh_port=2211,
        interfaces=interfaces,
        user_data={},
        instance_id="i-1",
    )


def assignments(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())


def test_the_network_of_each_interface_by_its_mac(program: ModuleType, seed: dict[str, str], tmp_path: Path) -> None:
    program.set_network(yaml.safe_load(seed["network-config"]))
    first, second = (assignments(tmp_path / "net" / mac) for mac in MACS)
    assert first == {
        "dhcp": "no",
        "lease_routes": "yes",
        "lease_dns": "yes",
        "addresses": "10.0.1.20/24",
        "gateway": "10.0.1.1",
        "dns": "10.0.1.1",
        "search": "public.lab.test",
    }
    assert (second["dhcp"], second["lease_routes"], second["lease_dns"], second["addresses"]) == ("yes", "no", "no", "''")


def test_the_ports_of_ssh(program: ModuleType, seed: dict[str, str]) -> None:
    assert program.ssh_ports(yaml.safe_load(seed["user-data"])) == [2211]
    assert program.ssh_ports({"write_files": [{"content": "Port 22\nPort 99999\n# Port 5\nPort 2232\n"}], "note": "see Port 7 of it"}) == [2232]


def test_words_of_the_seed_cannot_become_commands_of_the_shell(program: ModuleType) -> None:
    text = program.interface({"dhcp4": True, "nameservers": {"search": ["a; reboot", "$(reboot)"]}})
    assert "search='a; reboot $(reboot)'" in text.splitlines()
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6"):
        program.interface({"addresses": ["10.0.0.1/24; reboot"]})
