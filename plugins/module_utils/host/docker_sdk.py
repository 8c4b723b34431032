# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker SDK for Python on the managed host, and clients of the engine made with it.

The role docker_engine brings the SDK as unpacked wheels, the same on every distribution. It is imported when it is asked for and not before:
modules that plan without Docker must be able to load on a host that has neither.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# A link to the directory of the wheels in use; the role puts a new one beside it and turns the link over.
LIBRARY = "/usr/local/lib/hybridlab/python/current"
SOCKET = "/var/run/docker.sock"
TIMEOUT = 60

# What this collection was written for. Debian's python3-docker 5.0 speaks to urllib3 1.26 only and lacks parts that are used here.
OLDEST_MAJOR = 7

_INSTALL = "Run the role docker_engine (playbooks/docker.yml), which brings the SDK to the host without needing the Internet there"


def ensure(planning: bool = False, library: str = LIBRARY) -> Optional[Any]:
    """The module ``docker``.

    planning: whether the caller can go on without it, in check mode on a host that has no Docker yet; then None where it is missing

    Raises ResourceError where it is missing or too old.
    """
    place = Path(library)
    if place.is_dir() and not any(str(path) in sys.path for path in (place, place.resolve())):
        # The directory itself and not the link: one that is turned over while this process runs must not mix two versions.
        sys.path.insert(0, str(place.resolve()))
        importlib.invalidate_caches()
    try:
        sdk = importlib.import_module("docker")
        importlib.import_module("docker.errors")
    except ImportError as error:
        if planning:
            return None
        raise ResourceError(f"the Docker SDK for Python cannot be imported on this host ({error}). {_INSTALL}.") from error
    version = str(getattr(sdk, "__version__", "0"))
    if int(version.split(".", 1)[0]) < OLDEST_MAJOR:
        if planning:
            return None
        raise ResourceError(f"the Docker SDK for Python on this host is {version}, {OLDEST_MAJOR}.0 or later is needed. {_INSTALL}.")
    return sdk


def client(planning: bool = False, timeout: int = TIMEOUT, socket: str = SOCKET, library: str = LIBRARY) -> Optional[Any]:
    """A ``docker.DockerClient`` of the engine on this host, which has answered once.

    planning: whether the caller can go on without an engine, in check mode on a host that has none yet; then None where the SDK or the socket is missing
    timeout:  seconds that one answer of the engine may take

    Raises ResourceError where the SDK or the engine is missing, or the engine does not answer.
    """
    sdk = ensure(planning, library)
    if sdk is None or (planning and not Path(socket).exists()):
        return None
    try:
        # Without "auto" the SDK speaks its own newest version, which an older engine refuses.
        return sdk.DockerClient(base_url=f"unix://{socket}", version="auto", timeout=timeout)
    except (sdk.errors.DockerException, OSError) as error:
        raise ResourceError(f"the Docker engine does not answer on {socket} ({error}). See: systemctl status docker; journalctl -u docker -n 50") from error


def asked(question: Callable[[Any], Any], timeout: int = TIMEOUT) -> Any:
    """What ``question`` returns, given a client of the engine. Raises ResourceError with the engine's words where it refuses or falls silent."""
    sdk: Any = ensure()
    engine = client(timeout=timeout)
    try:
        return question(engine)
    except (sdk.errors.DockerException, OSError) as error:  # requests' own errors are OSErrors
        raise ResourceError(f"the Docker engine: {error}. See: journalctl -u docker -n 50") from error
