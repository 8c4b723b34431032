# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import (
    ImageVolume,
    PoolSpace,
    VolumeSpace,
    check_space,
    image_volume_name,
    read_image_volume_name,
    size_text,
    thin_worst_case,
)
from hypothesis import given
from hypothesis import strategies as st

GIB = 2**30
FAST = PoolSpace("fast", 100 * GIB, 40 * GIB, 60 * GIB)
OTHERS = [VolumeSpace("a-root.qcow2", 50 * GIB, 10 * GIB), VolumeSpace("image.raw", 2 * GIB, 3 * GIB)]


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True), st.from_regex(r"[0-9a-f]{64}", fullmatch=True), st.sampled_from(["qcow2", "raw"]))
def test_the_name_of_a_base_volume_is_read_back(image: str, digits: str, image_format: str) -> None:
    name = image_volume_name(image, f"sha256:{digits}", image_format)
    assert name == image_volume_name(image, digits.upper(), image_format)
    assert read_image_volume_name(name) == ImageVolume(image, digits[:12], image_format)


@pytest.mark.parametrize(
    "name", ["web-root.qcow2", "image-x-0123.qcow2", "image--0123456789ab.qcow2", "image-x-0123456789ab.iso", "image-x-0123456789ab.qcow2.part"]
)
def test_other_names_are_none(name: str) -> None:
    assert read_image_volume_name(name) is None


def test_what_the_thin_volumes_may_still_take() -> None:
    assert thin_worst_case(OTHERS) == 40 * GIB


def test_new_volumes_must_fit_filled() -> None:
    assert check_space("config[web].disks", FAST, [("web-root.qcow2", 20 * GIB)], OTHERS) == []
    (warning,) = check_space("config[web].disks", FAST, [("web-root.qcow2", 60 * GIB)], OTHERS)
    assert "may take 100.0 GiB more when all are filled, but 60.0 GiB are available of 100.0 GiB" in warning
    with pytest.raises(ResourceError) as refused:
        check_space("config[web].disks", FAST, [("web-root.qcow2", 60 * GIB), ("web-data.qcow2", 1)], OTHERS)
    assert str(refused.value) == (
        "config[web].disks: found 60.0 GiB of new disks (web-root.qcow2 60.0 GiB, web-data.qcow2 1 bytes), but pool fast has 60.0 GiB available of 100.0 GiB; "
        "the thin volumes there may take 40.0 GiB more. Nothing was changed. Choose smaller disks (size_gb) or another pool, or make room there."
    )


def test_the_worst_case_counts_the_others_too() -> None:
    assert check_space("config", FAST, [("a", 20 * GIB)], OTHERS, thin="worst_case") == []
    with pytest.raises(ResourceError, match=r"may take 40\.0 GiB more"):
        check_space("config", FAST, [("a", 20 * GIB + 1)], OTHERS, thin="worst_case")


def test_nothing_new_is_never_refused() -> None:
    full = PoolSpace("fast", GIB, GIB, 0)
    assert check_space("config", full, [], OTHERS, thin="worst_case") == []


@pytest.mark.parametrize(("size", "text"), [(0, "0 bytes"), (2**20 - 1, "1048575 bytes"), (2**20, "1.0 MiB"), (3 * 2**29, "1.5 GiB")])
def test_sizes_for_a_person(size: int, text: str) -> None:
    assert size_text(size) == text
