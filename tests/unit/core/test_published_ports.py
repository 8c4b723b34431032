# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports from the model to the modules, and how wrong ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.filter.projections import FilterModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Port
from ansible_collections.hybridlab.platform.plugins.module_utils.core.published_ports import Published, read
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model

FILTERS = FilterModule().filters()
ROW = {"workload": "web", "published": 8080, "target": 80, "protocol": "tcp", "from": ["public", "host"]}
ENGINE = {"bridge": "docker_bridge", "gwbridge": "docker_gwbridge", "address_pools": [{"range": "docker_pool", "size": 24}]}
RANGES = {"docker_bridge": "172.17.0.0/16", "docker_gwbridge": "172.18.0.0/16", "docker_pool": "172.22.0.0/16", "swarm_pool": "172.20.0.0/16"}


def test_ports_of_the_workloads_on_the_docker_host() -> None:
    rows = FILTERS["published_ports"](
        [
            {"name": "web", "ports": [{"published": 8080, "target": 80, "from": ["public", "host"]}]},
            {"name": "dns", "target": "swarm", "ports": [{"published": 53, "target": 53, "protocol": "udp", "from": []}]},
            {"name": "queue"},
            {"name": "cloud", "target": "ecs", "ports": [{"published": 8080, "target": 80, "from": ["internet"]}]},
        ]
    )

    assert rows == [ROW, {"workload": "dns", "published": 53, "target": 53, "protocol": "udp", "from": []}]
    assert read(rows, ["public"]) == [Published("web", Port(8080, 80, ("public", "host"))), Published("dns", Port(53, 53, (), "udp"))]


def test_one_number_may_be_a_tcp_and_a_udp_port() -> None:
    assert len(read([ROW, {**ROW, "workload": "dns", "protocol": "udp"}], ["public"])) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"published": 0}, "config[1].published: found 0, which is no port"),
        ({"target": 65536}, "config[1].target: found 65536, which is no port"),
        ({"from": ["pubic"]}, "config[1].from[0]: found 'pubic', from where nobody can come. Name one of internet, tailnet, host, public"),
        ({"from": ["host", "host"]}, "config[1].from[1]: found 'host' for the second time"),
        ({"published": 8080, "workload": "other"}, "config[1].published: found 8080, which web publishes too. Give one of web and other another port"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ResourceError) as caught:
        read([ROW, {**ROW, "published": 8081, **changes}], ["public"])
    assert words in str(caught.value)


def test_networks_of_the_engine() -> None:
    assert FILTERS["docker_networks"](ENGINE, RANGES) == ["172.17.0.0/16", "172.18.0.0/16", "172.22.0.0/16"]
    assert FILTERS["docker_networks"]({**ENGINE, "swarm": {"pool": "swarm_pool"}}, RANGES)[-1] == "172.20.0.0/16"


def test_networks_of_the_labs_engine_are_in_its_ranges() -> None:
    model = lab_model()

    assert set(FILTERS["docker_networks"](model["platform_docker"], model["platform_ranges"])) <= set(model["platform_ranges"].values())


def test_an_engine_that_cannot_be_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match=r"platform_docker.bridge: found 'nowhere'"):
        FILTERS["docker_networks"]({**ENGINE, "bridge": "nowhere"}, RANGES)
