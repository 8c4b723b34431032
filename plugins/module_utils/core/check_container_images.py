# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``platform_container_images``, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import ContainerImage
from ansible_collections.hybridlab.platform.plugins.module_utils.core.workload_names import is_secret_name

VARIABLE = "platform_container_images"
IMAGE_KEYS = ("name", "reference", "context", "rootfs", "base", "args")
SOURCES = ("reference", "context", "rootfs")
# The build argument that carries the image of ``base``.
BASE_ARGUMENT = "BASE"

# The grammar of github.com/distribution/reference: an optional registry, path components, an optional tag, the digest.
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"{_HOST}{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?@sha256:[0-9a-f]{{64}}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_container_images(faults: Faults, raw: Any, context: Context) -> list[ContainerImage]:
    """``platform_container_images``, in an order in which each comes after its base."""
    rows = Table(faults, "", {VARIABLE: raw}, (VARIABLE,)).rows(VARIABLE)
    names = [row["name"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("name"), str)]
    found: list[ContainerImage] = []
    for path, row in zip(labels(VARIABLE, rows), rows):
        image = _read_image(faults, path, row, names)
        if image is not None and image.name in [other.name for other in found]:
            faults.add("image-twice", f"{path}.name", image.name, "is the name of another image", "Give each image a name of its own")
        elif image is not None:
            found.append(image)
    return _in_order(faults, found)


def _read_image(faults: Faults, path: str, raw: Any, names: Sequence[str]) -> Optional[ContainerImage]:
    table = Table.read(faults, path, raw, IMAGE_KEYS, ("name",))
    if table is None:
        return None
    name = values.host_name(faults, table.at("name"), table.text("name"))
    sources = [key for key in SOURCES if key in table.value]
    if len(sources) != 1:
        reason = f"has {' and '.join(sources)}, and comes from one place only" if sources else f"comes from nowhere: it has none of {', '.join(SOURCES)}"
        cure = "Keep one of them" if sources else "Add reference (an image with its digest), context (a directory to build) or rootfs (a tar)"
        faults.add("image-source", path, name, reason, cure)
    image = ContainerImage(
        name=name or "",
        reference=_read_reference(faults, table),
        context=table.text("context"),
        rootfs=table.text("rootfs"),
        base=_read_base(faults, table, names),
        args=_read_args(faults, table),
    )
    for key in ("base", "args"):
        if key in table.value and sources and "context" not in sources:
            faults.add("image-not-built", table.at(key), table.value[key], f"is for a build, and {sources[0]} is not built", f"Remove {key}, or use context")
    return image if name else None


def _read_reference(faults: Faults, table: Table) -> Optional[str]:
    reference = table.text("reference")
    if reference is None or _REFERENCE.fullmatch(reference):
        return reference
    path, (plain, at, _digest) = table.at("reference"), reference.partition("@")
    if at:
        cure = "Write <image>@sha256: and 64 hexadecimal digits in small letters; docker image inspect shows them as RepoDigests"
        faults.add("image-reference", path, reference, "is no image with a digest", cure)
    else:
        reason = "names an image without its digest: a tag can be another image tomorrow"
        cure = f"Write '{plain}@sha256:<64 hexadecimal digits>'; docker image inspect shows them as RepoDigests after a pull"
        faults.add("image-digest", path, reference, reason, cure)
    return None


def _read_base(faults: Faults, table: Table, names: Sequence[str]) -> Optional[str]:
    base = table.text("base")
    if base is not None and base not in names:
        faults.add("image-base", table.at("base"), base, "is no image of this platform", meant(base, names, "images"))
        return None
    return base


def _read_args(faults: Faults, table: Table) -> dict[str, str]:
    raw = table.value.get("args", {})
    args = Table.read(faults, table.at("args"), raw, tuple(raw) if isinstance(raw, Mapping) else ("<name of the argument>",))
    found: dict[str, str] = {}
    for key in args.value if args is not None else ():
        path = f"{table.at('args')}.{key}"
        if not isinstance(key, str) or not _VARIABLE_NAME.fullmatch(key):
            faults.add("image-argument", path, key, "is no name for a build argument", "Use letters, digits and '_', the first no digit")
        elif key == BASE_ARGUMENT:
            faults.add("image-argument", path, raw[key], "is the argument that carries the image of base", "Set base instead")
        elif is_secret_name(key):
            reason = "looks like a secret, and the arguments of a build stay readable in the image's history"
            faults.add("image-argument-secret", path, HIDDEN, reason, "Give it to the workload: platform_secrets, and secrets of the workload")
        elif args is not None:
            found[key] = args.text(key) or ""
    return found


def _in_order(faults: Faults, images: Sequence[ContainerImage]) -> list[ContainerImage]:
    """Bases first; what is its own base in the end is told, and left where it was."""
    waiting = list(images)
    done: list[ContainerImage] = []
    while waiting:
        waited = {image.name for image in waiting}
        ready = [image for image in waiting if image.base not in waited]
        if not ready:
            circle = ", ".join(image.name for image in waiting)
            path = f"{VARIABLE}[{waiting[0].name}].base"
            faults.add("image-circle", path, waiting[0].base, f"leads back to the image itself (among {circle})", "Let one of them come from somewhere else")
            return [*done, *waiting]
        done += ready
        waiting = [image for image in waiting if image not in ready]
    return done
