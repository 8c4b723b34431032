# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's daemon.json: what it says, which keys are the platform's own, and which changes a running engine takes without a restart.

Docker 20.10 (Debian 12) and 27 to 29 (EL9) take the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_docker import Docker

CONFIG = "/etc/docker/daemon.json"

# The ports of an engine that answers on the network, without and with TLS (IANA: docker, docker-s).
API_PORTS = (2375, 2376)

# Where an engine keeps its data when nothing else is said.
DEFAULT_ROOT = "/var/lib/docker"

# Which of its two stores of images and containers an engine uses: its own, or containerd's (from Docker 24 on; of a new engine the default from 29 on).
FEATURES, CONTAINERD_STORE = "features", "containerd-snapshotter"

# daemon/reload.go of moby 20.10 and later; each other key counts from the next start. Of the features the store is chosen at a start.
RELOADABLE = frozenset(
    {
        "debug",
        "default-runtime",
        FEATURES,
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)

# What a model may change by platform_docker.daemon.
_DEFAULTS: Mapping[str, Any] = {
    # The containerd store of Docker 29 keeps images under /var/lib/containerd: not in the data root, not in its backup.
    FEATURES: {CONTAINERD_STORE: False},
    # Containers on docker0 that have not been linked do not see each other; those of a network of their own do.
    "icc": False,
    "live-restore": False,
    "log-driver": "json-file",
    "log-opts": {"max-file": "3", "max-size": "10m"},
    # A set-user-ID program in a container gives no rights. Swarm takes this for single services from Docker 27 on only.
    "no-new-privileges": True,
    "storage-driver": "overlay2",
}

_TCP = "would let the engine answer on the network, and who reaches it there is root on this host"
_TCP_CURE = "Remove it. From elsewhere use the socket through SSH: DOCKER_HOST=ssh://<user>@<host>"
_OPENS_TCP = re.compile(r"hosts?|tls.*|metrics-addr|api-cors-header|api-enable-cors")

# key -> (why it is not for the model to set, what to do)
_OWN: Mapping[str, tuple[str, str]] = {
    "data-root": ("is the platform's own", "Set platform_docker.data_root"),
    "graph": ("is an old name of data-root, which is the platform's own", "Set platform_docker.data_root"),
    "bip": ("is the platform's own", "Set platform_docker.bridge"),
    "bridge": ("is the platform's own", "Set platform_docker.bridge"),
    "fixed-cidr": ("would give docker0's containers other addresses than the platform knows", "Set platform_docker.bridge"),
    "default-address-pools": ("is the platform's own", "Set platform_docker.address_pools"),
    "userland-proxy": ("is the platform's own: with the proxy every client of a published port seems to be the host itself", "Remove it"),
    "iptables": ("is the platform's own: without Docker's rules published ports lead nowhere and containers reach nothing", "Remove it"),
    "ip-forward": ("is the platform's own: the KVM host forwards already", "Remove it"),
    "ip-masq": ("is the platform's own: containers reach others by the host's address", "Remove it"),
    "group": ("is the platform's own: the members of the group docker are platform_docker.users", "Remove it"),
    "swarm-default-advertise-addr": ("is the platform's own", "Set platform_docker.swarm.advertise_address"),
    "default-network-opts": ("may carry bridges and pools of its own", "Set platform_docker.address_pools"),
}


def refusal(key: str, value: Any, swarm: bool) -> Optional[tuple[str, str, str]]:
    """(rule, reason, cure) where ``key`` is not for platform_docker.daemon; None where it is, known to the engine or not."""
    if _OPENS_TCP.fullmatch(key):
        return "docker-tcp", _TCP, _TCP_CURE
    if key in _OWN:
        return ("docker-owned", *_OWN[key])
    if key == "live-restore" and swarm and value is not False:
        return "docker-live-restore", "an engine with live-restore refuses to be part of a Swarm", "Remove it, or remove platform_docker.swarm"
    return None


def first_address(cidr: IPv4Network) -> str:
    """The gateway of a network of containers, with its prefix length."""
    return f"{cidr.network_address + 1}/{cidr.prefixlen}"


def daemon_json(docker: Docker) -> dict[str, Any]:
    """The whole file. What the model adds wins over the defaults; mappings in it are taken whole, but for ``features``."""
    own = {
        "bip": first_address(docker.bridge),
        "data-root": docker.data_root,
        "default-address-pools": [{"base": str(pool.cidr), "size": pool.size} for pool in docker.address_pools],
        "userland-proxy": False,
    }
    whole = {**_DEFAULTS, **docker.daemon, **own}
    if isinstance(docker.daemon.get(FEATURES), Mapping):
        whole[FEATURES] = {**_DEFAULTS[FEATURES], **docker.daemon[FEATURES]}
    return dict(sorted(whole.items()))


def render(config: Mapping[str, Any]) -> str:
    """Text of the file."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def parse(text: Optional[str]) -> Optional[dict[str, Any]]:
    """The file's mapping; empty where there is no file or nothing in it, None where it holds something else."""
    if text is None or not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def data_root(config: Optional[Mapping[str, Any]]) -> str:
    """Where an engine with this file keeps its data."""
    found = (config or {}).get("data-root", (config or {}).get("graph"))
    return found if isinstance(found, str) and found else DEFAULT_ROOT


def needs_restart(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Keys that have changed and that a running engine does not read again."""
    changed = [key for key in {*before, *after} - RELOADABLE if before.get(key) != after.get(key)]
    return sorted([*changed, *([f"{FEATURES}.{CONTAINERD_STORE}"] if containerd_store(before) != containerd_store(after) else [])])


def containerd_store(config: Optional[Mapping[str, Any]]) -> Optional[bool]:
    """Whether this file has the engine keep images and containers in containerd's store; None where the engine decides."""
    features = (config or {}).get(FEATURES)
    found = features.get(CONTAINERD_STORE) if isinstance(features, Mapping) else None
    return found if isinstance(found, bool) else None
