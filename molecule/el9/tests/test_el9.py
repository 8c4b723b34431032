# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The look-alike after the roles: what EL9 names differently from Debian is there, under EL9's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
MODEL = yaml.safe_load((CHECKOUT / "inventories/sandbox/group_vars/all/segments.yml").read_text(encoding="utf-8"))
NAMES = yaml.safe_load((CHECKOUT / "roles/kvm_host/vars/Rocky_9.yml").read_text(encoding="utf-8"))


def test_host_is_what_it_plays(host: Any) -> None:
    assert (host.system_info.distribution, host.system_info.release) == ("rocky", "9.6")
    assert host.check_output("python3 --version").startswith("Python 3.9.")
    assert not host.exists("apt-get")


@pytest.mark.parametrize("name", NAMES["__kvm_host_packages"])
def test_package_is_installed_by_its_own_name(host: Any, name: str) -> None:
    assert host.check_output(f"rpm -q --queryformat '%{{NAME}}' {name}") == name


@pytest.mark.parametrize("unit", NAMES["__kvm_host_units"], ids=lambda unit: str(unit["name"]))
def test_unit_is_as_declared(host: Any, unit: dict[str, Any]) -> None:
    assert host.run(f"systemctl is-enabled {unit['name']}").stdout.strip() == "enabled"
    if unit.get("running"):
        assert host.run(f"systemctl is-active {unit['name']}").stdout.strip() == "active"


def test_monolithic_daemon_does_not_run(host: Any) -> None:
    assert host.run("systemctl is-active libvirtd.service").stdout.strip() == "inactive"


def test_every_segment_is_an_active_network(host: Any) -> None:
    assert sorted(host.check_output("virsh -c network:///system net-list --name").split()) == sorted(segment["name"] for segment in MODEL["platform_segments"])


def test_stock_network_no_longer_starts(host: Any) -> None:
    info = host.check_output("virsh -c qemu:///system net-info default")
    assert "Active:         no" in info
    assert "Autostart:      no" in info


def test_nothing_failed(host: Any) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
