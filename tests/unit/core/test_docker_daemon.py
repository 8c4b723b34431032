# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What daemon.json says of a declared engine, and which changes of it need a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core import docker_daemon as daemon
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_parse import parse_docker
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model


def lab_docker(**changes: Any) -> Docker:
    model = lab_model()
    return parse_docker({**model["platform_docker"], **changes}, model["platform_ranges"])


def test_the_lab_s_file() -> None:
    assert json.loads(daemon.render(daemon.daemon_json(lab_docker()))) == {
        "bip": "172.17.0.1/16",
        "data-root": "/data/docker",
        "default-address-pools": [{"base": "172.22.0.0/16", "size": 24}],
        "features": {"containerd-snapshotter": False},
        "icc": False,
        "live-restore": False,
        "log-driver": "json-file",
        "log-opts": {"max-file": "3", "max-size": "10m"},
        "no-new-privileges": True,
        "storage-driver": "overlay2",
        "userland-proxy": False,
    }


def test_what_the_model_adds_wins_over_defaults() -> None:
    config = daemon.daemon_json(lab_docker(daemon={"features": {"buildkit": True}, "log-opts": {"max-size": "1m"}, "debug": True}))
    assert config["features"] == {"containerd-snapshotter": False, "buildkit": True}
    assert config["log-opts"] == {"max-size": "1m"}
    assert config["debug"] is True


def test_live_restore_is_for_engines_without_a_swarm() -> None:
    assert daemon.daemon_json(lab_docker(swarm=None, daemon={"live-restore": True}))["live-restore"] is True
    with pytest.raises(ModelError, match="refuses to be part of a Swarm"):
        lab_docker(daemon={"live-restore": True})


def test_the_guard_of_the_host_watches_the_engine_s_ports() -> None:
    role = yaml.safe_load((Path(__file__).resolve().parents[3] / "roles/host_security/vars/main.yml").read_text(encoding="utf-8"))
    assert tuple(role["__host_security_docker_ports"]) == daemon.API_PORTS


@pytest.mark.parametrize("key", ["hosts", "host", "tls", "tlsverify", "tlscacert", "tlskey", "metrics-addr", "api-cors-header"])
def test_no_key_opens_the_network(key: str) -> None:
    refused = daemon.refusal(key, True, True)
    assert refused is not None
    assert refused[0] == "docker-tcp"


@pytest.mark.parametrize("key", sorted(daemon.daemon_json(lab_docker()).keys() - {"features", "icc", "log-driver", "log-opts", "no-new-privileges"}))
def test_what_the_platform_writes_itself_is_not_for_the_model(key: str) -> None:
    if key == "storage-driver":
        assert daemon.refusal(key, "vfs", True) is None
    else:
        assert daemon.refusal(key, True, True) is not None


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ({"debug": True}, {"debug": False, "labels": ["a"]}, []),
        ({"bip": "172.17.0.1/16"}, {"bip": "172.17.0.1/24"}, ["bip"]),
        ({}, {"icc": False, "debug": True}, ["icc"]),
        ({"features": {"buildkit": True}}, {"features": {"buildkit": False}}, []),
        ({"features": {"containerd-snapshotter": True}}, {"features": {"containerd-snapshotter": False}}, ["features.containerd-snapshotter"]),
        ({"features": True}, {"features": {"containerd-snapshotter": False}}, ["features.containerd-snapshotter"]),
        ({"bogus": 1, "bip": "x"}, {"bip": "x"}, ["bogus"]),
    ],
)
def test_a_restart_is_for_what_a_reload_does_not_read(before: dict[str, Any], after: dict[str, Any], keys: list[str]) -> None:
    assert daemon.needs_restart(before, after) == keys


@pytest.mark.parametrize(
    ("text", "config", "root"),
    [
        (None, {}, "/var/lib/docker"),
        (" \n", {}, "/var/lib/docker"),
        ('{"data-root": "/srv/d"}', {"data-root": "/srv/d"}, "/srv/d"),
        ('{"graph": "/old"}', {"graph": "/old"}, "/old"),
        ("[1]", None, "/var/lib/docker"),
        ("{", None, "/var/lib/docker"),
    ],
)
def test_a_file_as_somebody_left_it(text: str | None, config: dict[str, Any] | None, root: str) -> None:
    assert daemon.parse(text) == config
    assert daemon.data_root(daemon.parse(text)) == root
