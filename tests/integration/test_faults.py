# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on real hosts: restarted daemons, other software, reboots. The matrix holds after each."""

from __future__ import annotations

import pytest

from tests.integration.lab import Lab

NETWORKS = ("management", "public", "private", "database", "container")


RESTARTS = {
    "libvirtd": "systemctl restart libvirtd",
    "firewalld reload": "firewall-cmd --reload",
    "firewalld complete reload": "firewall-cmd --complete-reload",
    "firewalld": "systemctl restart firewalld",
    "firewalld stopped": "systemctl stop firewalld",
    "firewalld started": "systemctl start firewalld",
    "networks": "for name in {networks}; do virsh net-destroy $name; virsh net-start $name; done".format(networks=" ".join(NETWORKS)),
    "rules loaded again": "systemctl reload hybridlab-segments",
    "docker installed": "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io >/dev/null && systemctl start docker",
    "docker": "systemctl restart docker",
    # A Docker that finds forwarding off closes the FORWARD chain for everybody else.
    "docker that closes FORWARD": (
        "systemctl stop docker docker.socket; sysctl -qw net.ipv4.ip_forward=0; systemctl start docker; iptables -S FORWARD | grep -qx -- '-P FORWARD DROP'"
    ),
    "firewalld beside that docker": "systemctl restart firewalld",
    "firewalld complete reload beside that docker": "firewall-cmd --complete-reload",
}


@pytest.mark.parametrize("script", RESTARTS.values(), ids=RESTARTS.keys())
def test_the_matrix_holds_after(built_host: Lab, script: str) -> None:
    built_host.sh(script)
    built_host.verified()


def test_the_matrix_holds_after_a_reboot(built_host: Lab) -> None:
    built_host.restart()
    assert built_host.sh("virsh -q net-list --autostart --name | sort").split() == sorted(NETWORKS)
    # Docker is there by now and has closed FORWARD before; what lets the segments through has to be back as well.
    assert "--mark 0x1000/0x1000 -j ACCEPT" in built_host.sh("iptables -S DOCKER-USER")
    built_host.verified()
    built_host.unchanged()


def test_a_host_whose_rules_cannot_be_loaded_forwards_nothing(built_host: Lab) -> None:
    built_host.sh("echo broken >>/etc/hybridlab/segments.nft")
    built_host.restart()
    assert built_host.sh("systemctl is-failed hybridlab-segments || true").strip() == "failed"
    measured = built_host.play("playbooks/verify.yml").task("Open real connections between all segments and compare with the model").result
    assert measured["pairs_ok"] == 11  # those that are refused anyway
    assert measured["internet_ok"] == 0
    built_host.played("site.yml")
    built_host.verified()


@pytest.mark.parametrize(
    "harm",
    [
        "nft delete table inet hybridlab_segments",
        "nft flush chain inet hybridlab_segments forward",
        "nft insert rule inet hybridlab_segments forward accept",
        "virsh net-destroy private",
        "virsh net-autostart database --disable",
        "virsh net-undefine public && virsh net-destroy public",
        "sysctl -qw net.ipv4.ip_forward=0",
        "rm /etc/firewalld/zones/hybridlab.xml && firewall-cmd --reload",
        "systemctl disable hybridlab-segments",
        "rm /etc/hybridlab/segments.nft",
    ],
)
def test_what_somebody_changed_by_hand_is_repaired(built_host: Lab, harm: str) -> None:
    built_host.sh(harm)
    assert built_host.played("site.yml").changed > 0
    built_host.unchanged()
