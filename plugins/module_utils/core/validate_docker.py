# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of the container engine, its Swarm and the workloads (procedures 3.1 and 3.2). No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, ip_network
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_daemon import API_PORTS
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answer, Answers, Questions, Row, active_units, given, judged, show_units

DOCKER, SWARM, WORKLOADS = "docker", "swarm", "workloads"

PORTS_TABLE = "hybridlab_ports"
PORTS_UNIT = "hybridlab-ports.service"


def questions(platform: Platform) -> Questions:
    docker = platform.services.docker
    if docker is None:
        return {}
    return {
        "docker_units": show_units(("docker.service", PORTS_UNIT)),
        "docker_info": ("docker", "info", "--format", "{{json .}}"),
        "docker_networks": ("sh", "-c", "docker network ls --quiet | xargs --no-run-if-empty docker network inspect"),
        "docker_services": ("docker", "service", "ls", "--format", "{{json .}}"),
        "docker_unhealthy": ("docker", "ps", "--filter", "health=unhealthy", "--format", "{{.Names}}"),
        "data_root": ("stat", "--format", "%U:%G %a", docker.data_root),
        "docker_group": ("getent", "group", "docker"),
        "listeners": ("ss", "-Htln"),
        "ports_table": ("nft", "--stateless", "list", "table", "inet", PORTS_TABLE),
    }


def rows(platform: Platform, answers: Answers) -> Iterator[Row]:
    docker = platform.services.docker
    if docker is None:
        return
    info = _json(answers["docker_info"])
    yield from active_units(DOCKER, ("docker.service", PORTS_UNIT), answers["docker_units"])
    yield from _engine(docker, info, answers)
    yield from _overlaps(platform, answers["docker_networks"])
    if docker.swarm is not None:
        swarm = info.get("Swarm") or {}
        yield judged(SWARM, "state", "active", answers["docker_info"], swarm.get("LocalNodeState") == "active", str(swarm.get("LocalNodeState")))
        yield judged(SWARM, "manager", "yes", answers["docker_info"], swarm.get("ControlAvailable") is True, "yes" if swarm.get("ControlAvailable") else "no")
        pools = [str(pool) for pool in ((swarm.get("Cluster") or {}).get("DefaultAddrPool") or [])]
        yield given(SWARM, "address pool", [str(docker.swarm.pool)], pools)
    yield from _workloads(platform, answers)


def _engine(docker: Docker, info: Mapping[str, Any], answers: Answers) -> Iterator[Row]:
    answer = answers["docker_info"]
    for check, key, expected in (
        ("storage driver", "Driver", "overlay2"),
        ("log driver", "LoggingDriver", "json-file"),
        ("data root", "DockerRootDir", docker.data_root),
    ):
        yield judged(DOCKER, check, expected, answer, info.get(key) == expected, str(info.get(key)) if info else None)
    yield judged(DOCKER, "mode of the data root", "root:root 710", answers["data_root"], answers["data_root"].out.strip() == "root:root 710")
    pools = [f"{pool['Base']} /{pool['Size']}" for pool in info.get("DefaultAddressPools") or []]
    yield given(DOCKER, "address pools", [f"{pool.cidr} /{pool.size}" for pool in docker.address_pools], pools)
    open_ports = sorted({port for port in API_PORTS for line in answers["listeners"].lines if line.split()[3].endswith(f":{port}")})
    yield judged(DOCKER, "TCP listener of the API", "none", answers["listeners"], not open_ports, ", ".join(map(str, open_ports)) or "none")
    members = sorted(filter(None, answers["docker_group"].out.strip().rpartition(":")[2].split(",")))
    yield judged(
        DOCKER,
        "members of group docker",
        ", ".join(sorted(docker.users)) or "none",
        answers["docker_group"],
        members == sorted(docker.users),
        ", ".join(members) or "none",
    )
    unhealthy = answers["docker_unhealthy"]
    yield judged(
        DOCKER,
        "unhealthy containers",
        "none",
        unhealthy,
        unhealthy.rc == 0 and not unhealthy.lines,
        ", ".join(unhealthy.lines) or ("none" if unhealthy.rc == 0 else None),
    )
    loaded = answers["ports_table"]
    yield judged(DOCKER, f"table inet {PORTS_TABLE}", "loaded", loaded, loaded.rc == 0, "loaded" if loaded.rc == 0 else None)


def _overlaps(platform: Platform, answer: Answer) -> Iterator[Row]:
    found = []
    for network in json.loads(answer.out) if answer.rc == 0 and answer.out.strip() else []:
        for subnet in _subnets(network):
            found += [f"{network['Name']} {subnet} and {segment.name}" for segment in platform.segments if subnet.overlaps(segment.cidr)]
    yield judged(
        DOCKER, "networks that overlap a segment", "none", answer, answer.rc == 0 and not found, "; ".join(found) or ("none" if answer.rc == 0 else None)
    )


def _subnets(network: Mapping[str, Any]) -> Iterator[IPv4Network]:
    for config in (network.get("IPAM") or {}).get("Config") or []:
        subnet = ip_network(config["Subnet"]) if config.get("Subnet") else None
        if isinstance(subnet, IPv4Network):
            yield subnet


def _workloads(platform: Platform, answers: Answers) -> Iterator[Row]:
    answer = answers["docker_services"]
    listed = {row["Name"]: row for row in (json.loads(line) for line in answer.lines)} if answer.rc == 0 else {}
    for workload in platform.services.workloads:
        if workload.target == "swarm":
            row = listed.get(f"{workload.stack}_{workload.name}")
            # "2/2", and behind it what limits the placement.
            found = row["Replicas"].split()[0] if row else "no such service"
            expected = f"{workload.replicas}/{workload.replicas}"
            yield judged(WORKLOADS, f"{workload.name}: replicas", expected, answer, found == expected, found)


def _json(answer: Answer) -> dict[str, Any]:
    value = json.loads(answer.out) if answer.rc == 0 and answer.out.strip().startswith("{") else {}
    return value if isinstance(value, dict) else {}
