# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images a host lacks, and which old ones it may lose: what is and what shall be in, an ordered plan out. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_key import PREFIX
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import shell_line

PULL, IMPORT, BUILD = "pull", "import", "build"


@dataclass(frozen=True)
class WantedImage:
    """One declared image.

    source: PULL, IMPORT or BUILD
    path:   of the tar on the host: a root file system, or a build context; None where it was not brought
    base:   reference of the image that a build starts from
    """

    name: str
    reference: str
    source: str
    path: Optional[str] = None
    base: Optional[str] = None
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredImage:
    """An image of ours that the host has. tagged: when it got its name, in a form that sorts; used: whether a container or a service runs it."""

    reference: str
    tagged: str = ""
    used: bool = False


@dataclass(frozen=True)
class ImagePlan:
    """make: to be brought, in this order; remove: references; stale: references that can go when the rollout is done"""

    make: tuple[WantedImage, ...]
    remove: tuple[str, ...]
    stale: tuple[str, ...]
    before: list[str]
    after: list[str]
    commands: list[str]


def plan_images(wanted: Sequence[WantedImage], found: Sequence[StoredImage], present: Sequence[str], state: str, keep: int) -> ImagePlan:
    """state: ``merged`` makes what is missing and removes nothing; ``overridden`` also removes what is stale; ``deleted`` removes every image of ours.

    found:   images of ours on the host
    present: references of ``wanted`` that the host has
    keep:    how many older images of each name stay, so that a rollout can be taken back
    """
    make = () if state == "deleted" else tuple(image for image in wanted if image.reference not in present)
    declared = set() if state == "deleted" else {image.reference for image in wanted}
    stale = tuple(sorted(_stale(found, declared, 0 if state == "deleted" else keep)))
    remove = () if state == "merged" else tuple(reference for reference in stale if not _used(found, reference))
    before = sorted({image.reference for image in found} | set(present))
    after = sorted((set(before) | {image.reference for image in make}) - set(remove))
    commands = [line for image in make for line in _make_lines(image)]
    commands += [shell_line(["docker", "image", "rm", reference]) for reference in remove]
    return ImagePlan(make, remove, stale, before, after, commands)


def _stale(found: Sequence[StoredImage], declared: set[str], keep: int) -> list[str]:
    by_name: dict[str, list[StoredImage]] = {}
    for image in found:
        if image.reference not in declared:
            by_name.setdefault(image.reference.rpartition(":")[0], []).append(image)
    stale: list[str] = []
    for images in by_name.values():
        # What runs now is what a failed rollout goes back to, even when something newer was built in vain since.
        newest_first = sorted(images, key=lambda image: (image.used, image.tagged), reverse=True)
        stale += [image.reference for image in newest_first[keep:]]
    return stale


def _used(found: Sequence[StoredImage], reference: str) -> bool:
    return any(image.used for image in found if image.reference == reference)


def _make_lines(image: WantedImage) -> list[str]:
    name = image.reference.rpartition(":")[0][len(PREFIX) :]
    if image.source == PULL:
        return [shell_line(["docker", "pull", image.reference])]
    if image.source == IMPORT:
        return [shell_line(["docker", "import", f"{name}.tar", image.reference])]
    arguments = [f"--build-arg=BASE={image.base}"] if image.base else []
    # A value may be one that nobody is to read over a shoulder; the name tells which one it is.
    arguments += [f"--build-arg={key}" for key in sorted(image.args)]
    return [shell_line(["docker", "build", "--tag", image.reference, *arguments, name])]


def describe(plan: ImagePlan) -> tuple[dict[str, Any], dict[str, Any]]:
    """(before, after) for a person and a diff."""
    return {"images": plan.before}, {"images": plan.after}
