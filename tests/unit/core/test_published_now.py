# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose port is published, and which a change of the rules would close."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_plan import parse_listing
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_ports import ALLOW, REFUSE, compile_ports
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_now import Publication, published, would_close

WEB = Port(8080, 80, ("internet",))
DNS = Port(53, 53, ("internet",), "udp")
HAND = Publication("tcp", 9000, "container hand")
OURS = Publication("tcp", 8081, "container lab_old.1.x", ours=True)
CLOSED = parse_listing("table inet hybridlab_ports {\n\tchain forward {\n\t\tct state new counter drop\n\t}\n}\n")

CONTAINERS: list[dict[str, Any]] = [
    {"Names": ["/hand"], "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 9000, "Type": "tcp"}, {"IP": "::", "PublicPort": 9000, "Type": "tcp"}]},
    {"Names": ["/inner"], "Ports": [{"PrivatePort": 6379, "Type": "tcp"}], "Labels": None},
    {"Names": ["/lab_web.1.x"], "Labels": {"com.docker.swarm.service.id": "s1"}, "Ports": [{"PublicPort": 8080, "Type": "tcp"}]},
    {"Names": ["/other.1.x"], "Labels": {"com.docker.swarm.service.id": "s2"}, "Ports": [{"PublicPort": 53, "Type": "udp"}]},
]
SERVICES: list[dict[str, Any]] = [
    {"ID": "s1", "Spec": {"Name": "lab_web", "Labels": {"com.hybridlab.workload": "web"}}, "Endpoint": {}},
    {
        "ID": "s2",
        "Spec": {"Name": "other", "Labels": None},
        "Endpoint": {
            "Ports": [
                {"Protocol": "tcp", "PublishedPort": 443, "PublishMode": "ingress"},
                {"Protocol": "udp", "PublishedPort": 53, "PublishMode": "host"},
            ]
        },
    },
]


def text(ports: list[Port], undeclared: str = REFUSE) -> str:
    return render(compile_ports(ports, (), (), undeclared))


def test_containers_and_services_by_port_with_those_of_workloads_marked() -> None:
    assert [(str(one), one.ours) for one in published(CONTAINERS, SERVICES)] == [
        ("53/udp (container other.1.x)", False),
        ("443/tcp (service other)", False),
        ("8080/tcp (container lab_web.1.x)", True),
        ("9000/tcp (container hand)", False),
    ]


def test_first_load_closes_what_nobody_declares() -> None:
    assert would_close([HAND, OURS, Publication("tcp", 8080)], {("tcp", 8080)}, None, None) == [HAND]


@pytest.mark.parametrize(
    ("before", "closes"),
    [
        (text([WEB]), False),  # closed already: a table that somebody deleted is repaired without a question
        (text([WEB], ALLOW), True),
        (text([Port(9000, 80, ("host",))]), True),  # was declared until now
        (text([Port(9000, 80, ("host",), "udp")]), False),
    ],
)
def test_what_was_closed_before_is_not_closed_anew(before: str, closes: bool) -> None:
    assert (would_close([HAND], {("tcp", 8080)}, None, before) == [HAND]) is closes


def test_the_table_in_the_kernel_counts_before_the_file() -> None:
    # nft indents what it lists by a tab.
    loose = parse_listing("table inet hybridlab_ports {\n\tcounter refused_tcp_8080 {\n\t}\n\tchain prerouting {\n\t}\n}\n")
    assert would_close([HAND], {("tcp", 8080)}, loose, text([WEB])) == [HAND]
    assert would_close([HAND], {("tcp", 8080)}, CLOSED, text([WEB], ALLOW)) == []
