# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host becomes a node of the declared Swarm, and what is refused on the way."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_swarm import (
    Found,
    Network,
    clashes,
    plan,
    plan_deleted,
    staying,
    wanted,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.tests.unit.core.test_docker_daemon import lab_docker

DOCKER = lab_docker()
FIRST = wanted(DOCKER)
POOL = IPv4Network("172.20.0.0/16")
BRIDGE = Network("docker_gwbridge", "bridge", (IPv4Network("172.18.0.0/16"),))
ARBITRARY = replace(BRIDGE, subnets=(IPv4Network("172.19.0.0/16"),))
INGRESS = Network("ingress", "overlay", (IPv4Network("172.20.0.0/24"),))
BUILT = Found("active", manager=True, address="192.0.2.5", remotes=("192.0.2.5:2377",), pool=(POOL,), subnet_size=24, nodes=1, networks=(BRIDGE, INGRESS))


def test_a_swarm_takes_its_networks_from_the_model() -> None:
    found = plan(FIRST, Found(), "192.0.2.5")
    assert found.commands[0].startswith("docker network create --subnet 172.18.0.0/16 ")
    assert found.commands[1] == (
        "docker swarm init --default-addr-pool 172.20.0.0/16 --default-addr-pool-mask-length 24 --advertise-addr 192.0.2.5 --listen-addr 192.0.2.5:2377"
    )
    assert found.after == plan(FIRST, BUILT, None).before


def test_a_swarm_as_declared_is_left_alone() -> None:
    found = plan(FIRST, BUILT, "198.51.100.9")  # what it advertises stays, whatever the default route has become
    assert (found.commands, found.before, found.disruptive) == ([], found.after, [])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (replace(BUILT, pool=(IPv4Network("10.0.0.0/8"),)), "from 10.0.0.0/8 in /24 and not from 172.20.0.0/16 in /24"),
        (replace(BUILT, subnet_size=26), "in /26 and not"),
        (replace(BUILT, networks=(ARBITRARY, INGRESS)), "docker_gwbridge has 172.19.0.0/16"),
        (replace(BUILT, manager=False, pool=(), subnet_size=None), "it is a worker of another Swarm"),
    ],
)
def test_another_swarm_would_have_to_end(changed: Found, reason: str) -> None:
    found = plan(FIRST, replace(changed, services=3), None)
    assert reason in found.disruptive[0]["reason"]
    assert "3 services" in found.disruptive[0]["reason"]
    assert found.commands[0] == "docker swarm leave --force"
    assert "docker swarm init" in found.commands[-1]


def test_a_declared_address_that_differs_is_disruptive() -> None:
    assert "it advertises 192.0.2.5 and not 192.0.2.6" in plan(replace(FIRST, advertise="192.0.2.6"), BUILT, None).disruptive[0]["reason"]


def test_docker_gwbridge_is_made_anew_where_nothing_uses_it() -> None:
    found = plan(FIRST, Found(networks=(ARBITRARY,)), "192.0.2.5")
    assert [line.split(" --")[0] for line in found.commands] == ["docker network rm docker_gwbridge", "docker network create", "docker swarm init"]
    with pytest.raises(ResourceError, match="2 containers are attached"):
        plan(FIRST, Found(networks=(replace(ARBITRARY, containers=2),)), "192.0.2.5")


def test_autolock_changes_while_the_swarm_runs() -> None:
    locking = wanted(lab_docker(swarm={"pool": "swarm_pool", "autolock": True}))
    assert plan(locking, BUILT, None).commands == ["docker swarm update --autolock=true"]
    assert plan(FIRST, replace(BUILT, autolock=True), None).commands == ["docker swarm update --autolock=false"]
    assert plan(locking, Found(), "192.0.2.5").commands[-1].endswith(" --autolock")


@pytest.mark.parametrize(("state", "words"), [("locked", "docker swarm unlock"), ("error", "journalctl -u docker"), ("pending", "journalctl -u docker")])
def test_a_swarm_that_does_not_answer_is_left_to_a_person(state: str, words: str) -> None:
    with pytest.raises(ResourceError, match=words):
        plan(FIRST, replace(BUILT, state=state), None)


def test_without_an_address_nothing_is_begun() -> None:
    with pytest.raises(ResourceError, match="no default route"):
        plan(FIRST, Found(), None)


def test_a_further_node_joins_and_its_token_is_not_shown() -> None:
    worker = wanted(DOCKER, join="192.0.2.5", role="worker", address="192.0.2.6")
    found = plan(worker, Found(), None)
    assert found.commands[-1] == (
        'docker swarm join --token "$(ssh 192.0.2.5 docker swarm join-token -q worker)" --advertise-addr 192.0.2.6 --listen-addr 192.0.2.6:2377 192.0.2.5:2377'
    )
    joined = Found("active", address="192.0.2.6", remotes=("192.0.2.5:2377",), networks=(BRIDGE,))
    assert plan(worker, joined, None).before == found.after
    assert plan(worker, joined, None).commands == []
    assert "another Swarm" in plan(worker, replace(joined, remotes=("192.0.2.99:2377",)), None).disruptive[0]["reason"]
    with pytest.raises(ResourceError, match="docker node promote"):
        plan(wanted(DOCKER, join="192.0.2.5", role="manager", address="192.0.2.6"), joined, None)


def test_a_node_leaves_and_what_is_lost_is_told() -> None:
    found = plan_deleted(BUILT)
    assert found.commands == ["docker swarm leave --force", "docker network rm docker_gwbridge"]
    assert found.disruptive == []
    assert plan_deleted(Found()).commands == []
    assert "2 services" in plan_deleted(replace(BUILT, services=2)).disruptive[0]["reason"]


def test_networks_that_overlap_a_segment_are_named() -> None:
    segments = {"management": IPv4Network("10.0.0.0/24"), "public": IPv4Network("10.0.1.0/24")}
    seized = Network("ingress", "overlay", (IPv4Network("10.0.0.0/24"),))
    assert clashes([BRIDGE, seized], segments) == ["ingress (overlay, 10.0.0.0/24) overlaps the segment management (10.0.0.0/24)"]
    # Those of a Swarm that ends go with it.
    found = replace(BUILT, pool=(IPv4Network("10.0.0.0/8"),), networks=(BRIDGE, seized))
    assert staying(plan(FIRST, found, None), found) == [BRIDGE]


def test_no_swarm_without_a_declaration() -> None:
    with pytest.raises(ResourceError, match="no Swarm is declared"):
        wanted(lab_docker(swarm=None))
