# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on a host: what the engine has of ours, and pull, import, build and removal through its API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hybridlab.platform.plugins.module_utils.core.container_images import BUILD, IMPORT, StoredImage, WantedImage
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_key import DIGITS, PREFIX
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.engine_api import Engine, EngineRefused

# Made by this collection: hybridlab/<name>:<key>.
_OURS = re.compile(rf"{PREFIX}[a-z0-9][a-z0-9._-]*:[0-9a-f]{{{DIGITS}}}")
_LAST_LINES = 25
_CONFLICT, _MISSING = 409, 404


def found_images(engine: Engine) -> list[StoredImage]:
    """The images of ours that the host has."""
    listed = [(tag, item["Id"]) for item in engine.get("/images/json") for tag in item.get("RepoTags") or () if _OURS.fullmatch(tag)]
    if not listed:
        return []
    used = _used(engine)
    return [StoredImage(tag, _tagged(engine, tag), tag in used or identity in used) for tag, identity in listed]


def present(engine: Engine, references: Iterable[str]) -> list[str]:
    """Those of ``references`` that the engine knows."""
    return [reference for reference in references if _has(engine, reference)]


def _has(engine: Engine, reference: str) -> bool:
    try:
        engine.get(f"/images/{reference}/json")
    except EngineRefused as error:
        if error.status == _MISSING:
            return False
        raise
    return True


def _tagged(engine: Engine, tag: str) -> str:
    # Not the time of its creation: a build that finds every layer in the cache has that of the older image.
    return str((engine.get(f"/images/{tag}/json").get("Metadata") or {}).get("LastTagTime") or "")


def _used(engine: Engine) -> set[str]:
    """References and ids of what running containers and services run."""
    used = {str(item[key]) for item in engine.get("/containers/json") for key in ("Image", "ImageID")}
    try:
        services = engine.get("/services")
    except EngineRefused:  # no Swarm, or not a manager of one
        services = []
    return used | {str(item["Spec"]["TaskTemplate"].get("ContainerSpec", {}).get("Image")) for item in services}


class ImageMaker:
    """timeout: seconds that the engine may be silent; network: in which the commands of a build run."""

    def __init__(self, engine: Engine, timeout: int, network: str) -> None:
        self.engine = engine
        self.timeout = timeout
        self.network = network

    def make(self, image: WantedImage) -> None:
        if image.source == IMPORT:
            self._import(image)
        elif image.source == BUILD:
            self._build(image)
        else:
            self._pull(image)
        if not _has(self.engine, image.reference):
            raise ResourceError(f"image {image.name}: every step succeeded, yet the engine does not know {image.reference}. Run again.")

    def remove(self, reference: str) -> None:
        try:
            # Forced: what stopped containers of an old task still refer to loses its name only, and goes with them.
            self.engine.delete(f"/images/{reference}", force=True)
        except EngineRefused as error:
            if error.status not in (_MISSING, _CONFLICT):
                raise

    def _pull(self, image: WantedImage) -> None:
        self._follow(image, self.engine.stream("/images/create", None, self.timeout, fromImage=image.reference))

    def _import(self, image: WantedImage) -> None:
        repository, _colon, tag = image.reference.rpartition(":")
        with self._brought(image).open("rb") as tar:
            self._follow(image, self.engine.stream("/images/create", tar, self.timeout, fromSrc="-", repo=repository, tag=tag))

    def _build(self, image: WantedImage) -> None:
        arguments = {**image.args, **({"BASE": image.base} if image.base else {})}
        with self._brought(image).open("rb") as tar:
            self._follow(
                image,
                self.engine.stream("/build", tar, self.timeout, t=image.reference, buildargs=arguments, rm=True, forcerm=True, networkmode=self.network),
            )

    def _brought(self, image: WantedImage) -> Path:
        if image.path is None:
            raise ResourceError(f"image {image.name}: the host lacks {image.reference}, and its files were not brought. Run again.")
        return Path(image.path)

    def _follow(self, image: WantedImage, messages: Iterator[Mapping[str, Any]]) -> None:
        lines: list[str] = []
        for message in messages:
            lines += str(message.get("stream") or message.get("status") or "").splitlines()
            if "error" in message:
                raise ResourceError(f"image {image.name} ({image.source}): {message['error']}{_tail(lines)}")


def _tail(lines: Sequence[str]) -> str:
    said = [line for line in lines if line.strip()][-_LAST_LINES:]
    return "\nThe last lines were:\n  " + "\n  ".join(said) if said else ""
