# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measured ports mean, in words and in numbers."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.port_probes import (
    TEST_NETS,
    Container,
    Measured,
    as_rows,
    as_table,
    differences,
    led,
    listens,
    outside,
    places,
    summary,
    undeclared,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_ports import Published
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

WEB = Published("web", Port(8080, 80, ("public", "host")))
DNS = Published("dns", Port(53, 53, ("public",), "udp"))
HAND = Published("", Port(9000, 80, ()))
TO = Container("172.17.0.2", 80)
SOUND = {"public": "open", "private": "refused", "host": "open", "localhost": "open", "internet": "timeout"}

# As Docker 20.10 writes them: its proxy on and off, for one address of the host, for Swarm's mesh.
NAT = """\
-P PREROUTING ACCEPT
-N DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.3:5353
-A DOCKER -d 127.0.0.1/32 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.17.0.4:80
-A DOCKER-INGRESS -p tcp -m tcp --dport 8443 -j DNAT --to-destination 172.18.0.2:8443
-A MINE -p tcp -m tcp --dport 7000 -j DNAT --to-destination 10.0.1.10:22
"""


def measured(**results: Any) -> Measured:
    return Measured(TO, "open", {**SOUND, **results}, {"public": "refused", "internet": "timeout"})


def test_where_docker_leads_its_ports() -> None:
    assert led(NAT) == {
        ("tcp", 8080): Container("172.17.0.2", 80),
        ("udp", 53): Container("172.17.0.3", 5353),
        ("tcp", 9000): Container("172.17.0.4", 80),
        ("tcp", 8443): Container("172.18.0.2", 8443),
    }


def test_what_is_published_past_the_model() -> None:
    assert undeclared([WEB, DNS], led(NAT)) == [Published("", Port(8443, 8443, ())), HAND]


def test_the_internets_link_is_where_the_host_has_no_route() -> None:
    first, second, third = TEST_NETS
    default = Route(IPv4Network("0.0.0.0/0"), "eth0")

    assert outside([default]) == first
    assert outside([default, Route(IPv4Network("192.0.2.0/24"), "eth0")]) == second
    with pytest.raises(ResourceError, match="nothing can play the Internet"):
        outside([Route(network, "eth0") for network in (first, second, third)])


def test_all_as_declared() -> None:
    found = [(WEB, measured())]

    assert differences(found) == []
    assert summary(found, []) == "ports 1/1, connections 7/7"
    assert as_table(found, list(SOUND)) == (
        "port \\ from     public  private  host  localhost  internet  listening\n8080/tcp (web)  open    refused  open  open       timeout   yes\n"
    )
    assert as_rows(found)[0]["ok"] is True


@pytest.mark.parametrize(
    ("one", "results", "words"),
    [
        (WEB, {"private": "open"}, "8080/tcp (web): from private open; declared closed (platform_workloads[web].ports from does not name private)"),
        (WEB, {"public": "timeout"}, "8080/tcp (web): from public timeout; declared open (platform_workloads[web].ports from names public)"),
        (WEB, {"localhost": "refused"}, "8080/tcp (web): from localhost refused; declared open (platform_workloads[web].ports from names host)"),
        (
            WEB,
            {"internet": "error: no such"},
            "8080/tcp (web): from internet error: no such; declared closed (platform_workloads[web].ports from does not name internet)",
        ),
        (
            HAND,
            {"public": "refused", "host": "refused", "localhost": "open"},
            "9000/tcp (undeclared): from localhost open; declared closed (no workload publishes it, and platform_docker.undeclared_ports is refuse)",
        ),
    ],
)
def test_each_difference_is_told(one: Published, results: dict[str, str], words: str) -> None:
    found = [(one, measured(**results))]

    assert differences(found) == [words]
    assert summary(found, differences(found)) == "ports 0/1, connections 6/7, 1 difference"
    assert as_table(found, list(SOUND)).count("!") == 1
    assert as_rows(found)[0]["ok"] is False


def test_a_container_that_is_reached_past_its_port_is_told() -> None:
    reached = measured()
    reached.direct["internet"] = "open"

    assert differences([(WEB, reached)]) == ["8080/tcp (web): from internet its container 172.17.0.2:80 is open; nobody may go past the published port"]
    assert summary([(WEB, reached)], ["one"]) == "ports 0/1, connections 6/7, 1 difference"


@pytest.mark.parametrize(
    ("silent", "words"),
    [
        (Measured(None), "Docker publishes no such port"),
        (Measured(TO, "refused"), "its container 172.17.0.2:80 does not answer (refused)"),
    ],
)
def test_a_port_at_which_nobody_listens_is_not_sound(silent: Measured, words: str) -> None:
    silent.results = dict.fromkeys(SOUND, "refused")

    assert differences([(WEB, silent)]) == [f"8080/tcp (web): {words}, so nothing is proved. Start the workload, or remove the port from it"]
    assert as_table([(WEB, silent)], list(SOUND)).endswith("no!\n")
    assert as_rows([(WEB, silent)])[0]["listening"] is False
    # Nobody is missed there.
    assert differences([(HAND, silent)]) == []


def test_a_silent_port_that_is_open_to_the_wrong_one_is_told_too() -> None:
    silent = Measured(TO, "refused", {**dict.fromkeys(SOUND, "refused"), "private": "open"})

    assert len(differences([(WEB, silent)])) == 2


def test_a_port_that_docker_does_not_lead_by_iptables_listens_when_somebody_gets_in() -> None:
    assert listens(WEB.port, Measured(None, "", SOUND))


@pytest.mark.parametrize(("result", "sound"), [("timeout", True), ("open", True), ("refused", False)])
def test_a_datagram_that_nobody_refuses_was_let_through(result: str, sound: bool) -> None:
    closed = dict.fromkeys(SOUND, "refused")
    met = Measured(TO, "timeout", {**closed, "public": result})

    assert (differences([(DNS, met)]) == []) == sound


def test_a_datagram_that_is_not_refused_where_it_must_be_is_told() -> None:
    met = Measured(TO, "timeout", {**dict.fromkeys(SOUND, "refused"), "public": "timeout", "internet": "timeout"})

    assert differences([(DNS, met)]) == ["53/udp (dns): from internet timeout; declared closed (platform_workloads[dns].ports from does not name internet)"]


def test_sides() -> None:
    assert places(["public", "private"]) == ["public", "private", "host", "localhost", "internet"]
