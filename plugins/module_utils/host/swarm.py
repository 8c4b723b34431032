# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Swarm of this host: what it has, and a plan's steps done one by one through the engine's API.

Each step can be the last one before a run is killed: objects are made before the services that use them, and removed when every rollout is done.
"""

from __future__ import annotations

import base64
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_declare import Declared, Object, with_ids
from ansible_collections.hybridlab.platform.plugins.module_utils.core.swarm_plan import CONFIG, CREATE, NETWORK, SECRET, SERVICE, UPDATE, Found, Step
from ansible_collections.hybridlab.platform.plugins.module_utils.host.engine_api import Engine, EngineRefused

_KEY_BYTES = 32
# A service gets a new version each time that something is written to it, also by the engine itself while it rolls out.
_TRIES = 5
_MISSING = 404
_RELEASE_SECONDS, _PAUSE = 30.0, 0.5
_OUT_OF_SEQUENCE = "out of sequence"
_PATHS = {SECRET: "secrets", CONFIG: "configs", NETWORK: "networks", SERVICE: "services"}


def is_manager(engine: Engine) -> bool:
    """Whether this host is a manager of an unlocked Swarm."""
    swarm = engine.get("/info").get("Swarm") or {}
    return swarm.get("LocalNodeState") == "active" and bool(swarm.get("ControlAvailable"))


def read(engine: Engine) -> Found:
    """All that the Swarm has; of services also how many tasks run (ServiceStatus)."""
    return Found.read(
        services=engine.get("/services", status=True),
        networks=engine.get("/networks"),
        secrets=engine.get("/secrets"),
        configs=engine.get("/configs"),
    )


def read_key(path: str) -> Optional[bytes]:
    """The host's key for secret_check; None where there is none yet."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def make_key(path: str) -> bytes:
    """The key, made when there is none; nobody but root reads it."""
    found = read_key(path)
    if found is not None and len(found) == _KEY_BYTES:
        return found
    target = Path(path)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(_KEY_BYTES)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(key)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(target)
    return key


class Applier:
    """Does the steps of one plan."""

    def __init__(self, engine: Engine, declared: Declared, found: Found) -> None:
        self.engine = engine
        self.declared = declared
        # Ids by name, of what there was and of what this run makes.
        self.ids = {
            SECRET: {name: str(item["ID"]) for name, item in found.secrets.items()},
            CONFIG: {name: str(item["ID"]) for name, item in found.configs.items()},
            SERVICE: {name: str(item["ID"]) for name, item in found.services.items()},
        }

    def apply(self, step: Step) -> None:
        if step.verb == CREATE:
            self._create(step)
        elif step.verb == UPDATE:
            self._update(step)
        else:
            self._remove(step)

    def _create(self, step: Step) -> None:
        if step.kind == NETWORK:
            self.engine.post("/networks/create", step.spec)
        elif step.kind == SERVICE:
            self.ids[SERVICE][step.name] = str(self.engine.post("/services/create", self._sent(step))["ID"])
        else:
            objects: Mapping[str, Object] = self.declared.secrets if step.kind == SECRET else self.declared.configs
            item = objects[step.name]
            body = {"Name": item.name, "Labels": dict(item.labels), "Data": base64.b64encode(item.data).decode()}
            self.ids[step.kind][step.name] = str(self.engine.post(f"/{_PATHS[step.kind]}/create", body)["ID"])

    def _sent(self, step: Step) -> dict[str, Any]:
        return with_ids(step.spec or {}, self.ids[SECRET], self.ids[CONFIG])

    def _update(self, step: Step) -> None:
        version, body = step.version, self._sent(step)
        for _attempt in range(_TRIES):
            try:
                self.engine.post(f"/services/{step.id}/update", body, version=version)
                return
            except EngineRefused as error:
                if _OUT_OF_SEQUENCE not in error.reason:
                    raise
            version = int(self.engine.get(f"/services/{step.id}")["Version"]["Index"])
        raise ResourceError(f"service {step.name}: it changed {_TRIES} times while it was to be updated. Somebody else is at it; run again when they are done.")

    def _remove(self, step: Step) -> None:
        end = time.monotonic() + _RELEASE_SECONDS
        while True:
            try:
                self.engine.delete(f"/{_PATHS[step.kind]}/{step.id}")
                return
            except EngineRefused as error:
                if error.status == _MISSING:
                    return
                # A task that has just ended still holds what it used.
                if "in use" not in error.reason or time.monotonic() > end:
                    raise
            time.sleep(_PAUSE)
