# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build contexts and root file systems on the machine that runs Ansible."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.container_images import BUILD, IMPORT, PULL
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_key import Entry, context_key, reference, rootfs_key
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import ContainerImage
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

_CHUNK = 1024 * 1024
# What an interpreter or an editor leaves beside sources, and no image is made of.
_IGNORED_DIRECTORIES = frozenset({"__pycache__", ".git"})


def resolve(images: Sequence[ContainerImage]) -> list[dict[str, Any]]:
    """What the module ``container_images`` takes.

    images: each after its base. Each result has ``name``, ``reference`` and ``source`` (``pull``, ``import`` or ``build``);
            one that is built also has ``base`` (a reference or None) and ``args``; ``origin`` is the path on this machine.

    ResourceError when a path is missing.
    """
    found: list[dict[str, Any]] = []
    references: dict[str, str] = {}
    for image in images:
        found.append(_resolve(image, references))
        references[image.name] = str(found[-1]["reference"])
    return found


def _resolve(image: ContainerImage, references: Mapping[str, str]) -> dict[str, Any]:
    where = f"platform_container_images[{image.name}]"
    if image.reference:
        return {"name": image.name, "reference": image.reference, "source": PULL}
    if image.rootfs:
        path = _existing(f"{where}.rootfs", image.rootfs, Path.is_file, "tar file")
        return {"name": image.name, "reference": reference(image.name, rootfs_key(_checksum(path))), "source": IMPORT, "origin": str(path)}
    path = _existing(f"{where}.context", image.context, _is_context, "directory with a Dockerfile")
    base = references[image.base] if image.base else None
    key = context_key(entries(path), image.args, base)
    return {"name": image.name, "reference": reference(image.name, key), "source": BUILD, "origin": str(path), "base": base, "args": dict(image.args)}


def _is_context(path: Path) -> bool:
    return (path / "Dockerfile").is_file()


def _existing(where: str, value: Optional[str], fits: Callable[[Path], bool], noun: str) -> Path:
    path = Path(str(value)).expanduser().resolve()
    if not fits(path):
        raise ResourceError(f"{where}: found {value}: there is no such {noun} on the machine that runs Ansible. Make it, or correct the path.")
    return path


def entries(directory: Path) -> list[Entry]:
    """All that a build context consists of, sorted."""
    return [_entry(directory, path) for path in _walk(directory)]


def archive(directory: Path) -> bytes:
    """The context as a tar whose bytes depend on names, modes and contents alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _walk(directory):
            found = tar.gettarinfo(str(path), arcname=path.relative_to(directory).as_posix())
            found.uid = found.gid = found.mtime = 0
            found.uname = found.gname = ""
            found.mode = 0o755 if found.isdir() or found.mode & 0o100 else 0o644
            if found.isfile():
                with path.open("rb") as stream:
                    tar.addfile(found, stream)
            else:
                tar.addfile(found)
    return buffer.getvalue()


def _walk(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if name not in _IGNORED_DIRECTORIES)
        for name in sorted([*directories, *files]):
            yield Path(parent) / name


def _entry(directory: Path, path: Path) -> Entry:
    name = path.relative_to(directory).as_posix()
    if path.is_symlink():
        return Entry(name, "link", content=str(path.readlink()))
    if path.is_dir():
        return Entry(name, "directory")
    if not path.is_file():
        raise ResourceError(f"{path}: found a device, socket or pipe in a build context. Remove it.")
    return Entry(name, "file", bool(path.stat().st_mode & 0o100), _checksum(path))


def _checksum(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            state.update(chunk)
    return state.hexdigest()
