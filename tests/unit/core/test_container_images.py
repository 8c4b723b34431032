# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of images, and which of them a host lacks or may lose."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.container_images import BUILD, IMPORT, PULL, StoredImage, WantedImage, plan_images
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_key import Entry, context_key, reference, rootfs_key

FILE = Entry("Dockerfile", "file", content="a" * 64)
BASE = "hybridlab/base:000000000001"


def test_the_key_does_not_depend_on_order() -> None:
    other = Entry("app/web", "file", True, "b" * 64)
    assert context_key([FILE, other], {"A": "1", "B": "2"}, BASE) == context_key([other, FILE], {"B": "2", "A": "1"}, BASE)


@pytest.mark.parametrize(
    ("entries", "args", "base"),
    [
        ([Entry("Dockerfile", "file", content="b" * 64)], {"A": "1"}, BASE),
        ([Entry("Containerfile", "file", content="a" * 64)], {"A": "1"}, BASE),
        ([Entry("Dockerfile", "file", True, "a" * 64)], {"A": "1"}, BASE),
        ([Entry("Dockerfile", "link", content="a" * 64)], {"A": "1"}, BASE),
        ([FILE, Entry("empty", "directory")], {"A": "1"}, BASE),
        ([FILE], {"A": "2"}, BASE),
        ([FILE], {"A1": ""}, BASE),
        ([FILE], {"A": "1"}, "hybridlab/base:000000000002"),
        ([FILE], {"A": "1"}, None),
    ],
)
def test_whatever_goes_in_changes_the_key(entries: list[Entry], args: dict[str, str], base: Any) -> None:
    assert context_key(entries, args, base) != context_key([FILE], {"A": "1"}, BASE)


def test_a_reference_is_what_the_engine_takes() -> None:
    assert reference("web", rootfs_key("0" * 64)) == f"hybridlab/web:{rootfs_key('0' * 64)}"
    assert len(rootfs_key("0" * 64)) == 12


NGINX = f"nginx@sha256:{'0' * 64}"
WANTED = [
    WantedImage("base", BASE, IMPORT),
    WantedImage("web", "hybridlab/web:000000000003", BUILD, base=BASE, args={"TOKEN": "do-not-show"}),
    WantedImage("nginx", NGINX, PULL),
]


def test_what_is_missing_is_made_in_order() -> None:
    plan = plan_images(WANTED, [], [], "merged", 1)
    assert [image.name for image in plan.make] == ["base", "web", "nginx"]
    assert plan.commands == [
        f"docker import base.tar {BASE}",
        f"docker build --tag hybridlab/web:000000000003 --build-arg=BASE={BASE} --build-arg=TOKEN web",
        f"docker pull {NGINX}",
    ]
    assert plan.after == sorted(image.reference for image in WANTED)


def test_what_is_there_needs_nothing() -> None:
    plan = plan_images(WANTED, [StoredImage(BASE)], [image.reference for image in WANTED], "overridden", 1)
    assert (plan.commands, plan.before) == ([], plan.after)


def old(number: int, used: bool = False) -> StoredImage:
    return StoredImage(f"hybridlab/web:{number:012d}", f"2026-01-0{number}T00:00:00Z", used)


@pytest.mark.parametrize(
    ("found", "keep", "stale"),
    [
        ([old(1), old(2)], 1, [1]),
        ([old(1), old(2)], 2, []),
        ([old(1), old(2)], 0, [1, 2]),
        # The newest was built in vain, and what runs is what a rollout goes back to.
        ([old(1, used=True), old(2)], 1, [2]),
    ],
)
def test_older_images_beyond_keep_are_stale(found: list[StoredImage], keep: int, stale: list[int]) -> None:
    references = [image.reference for image in WANTED]
    found = [*found, StoredImage("hybridlab/web:000000000003", "2026-01-09"), StoredImage(BASE)]
    merged = plan_images(WANTED, found, references, "merged", keep)
    assert list(merged.stale) == [old(number).reference for number in stale]
    assert merged.remove == ()
    assert list(plan_images(WANTED, found, references, "overridden", keep).remove) == [old(number).reference for number in stale]


def test_what_runs_is_never_removed() -> None:
    plan = plan_images([], [old(1, used=True), old(2)], [], "deleted", 1)
    assert plan.remove == (old(2).reference,)
    assert plan.after == [old(1).reference]
