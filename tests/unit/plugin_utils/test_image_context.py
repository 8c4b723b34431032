# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build contexts on the controller: what counts for the key, and the archive that is copied."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import ContainerImage
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.plugin_utils.image_context import archive, resolve


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "web"
    (directory / "app").mkdir(parents=True)
    (directory / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n", encoding="utf-8")
    (directory / "app/web").write_text("#!/bin/sh\n", encoding="utf-8")
    (directory / "app/web").chmod(0o755)
    (directory / "link").symlink_to("app/web")
    return directory


def reference_of(directory: Path, **image: str) -> str:
    return str(resolve([ContainerImage("web", context=str(directory), args=image)])[0]["reference"])


def test_times_owners_and_the_umask_do_not_count(context: Path) -> None:
    before, bytes_before = reference_of(context), archive(context)
    for path in (context / "Dockerfile", context / "app/web", context / "app"):
        os.utime(path, (1, 1))
    (context / "Dockerfile").chmod(0o600)
    (context / "app/web").chmod(0o700)
    (context / "app").chmod(0o700)
    (context / "app/__pycache__").mkdir()
    (context / "app/__pycache__/web.pyc").write_bytes(b"compiled")
    assert reference_of(context) == before
    assert archive(context) == bytes_before


def test_contents_executable_bits_names_links_and_arguments_count(context: Path) -> None:
    found = [reference_of(context), reference_of(context, A="1")]
    (context / "app/web").chmod(0o644)
    found.append(reference_of(context))
    (context / "app/web").write_text("#!/bin/bash\n", encoding="utf-8")
    found.append(reference_of(context))
    (context / "link").unlink()
    (context / "link").symlink_to("Dockerfile")
    found.append(reference_of(context))
    (context / "link").rename(context / "other")
    found.append(reference_of(context))
    assert len(set(found)) == len(found)


def test_the_archive_holds_the_context(context: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(context))) as tar:
        assert tar.getnames() == ["Dockerfile", "app", "link", "app/web"]
        assert (tar.getmember("app/web").mode, tar.getmember("Dockerfile").mode) == (0o755, 0o644)
        assert tar.getmember("link").linkname == "app/web"


def test_a_new_base_is_a_new_image(context: Path, tmp_path: Path) -> None:
    tar = tmp_path / "base.tar"
    images = [ContainerImage("base", rootfs=str(tar)), ContainerImage("web", context=str(context), base="base")]
    tar.write_bytes(b"one")
    first = resolve(images)
    tar.write_bytes(b"two")
    second = resolve(images)
    assert first[1]["base"] == first[0]["reference"]
    assert not {item["reference"] for item in first} & {item["reference"] for item in second}


@pytest.mark.parametrize("image", [ContainerImage("web", context="no/such/place"), ContainerImage("web", rootfs="no/such.tar")])
def test_a_missing_path_is_named(image: ContainerImage) -> None:
    with pytest.raises(ResourceError, match=r"platform_container_images\[web\]\.(context|rootfs): found no/such.* machine that runs Ansible"):
        resolve([image])


def test_a_pipe_in_a_context_is_refused(context: Path) -> None:
    os.mkfifo(context / "pipe")
    with pytest.raises(ResourceError, match="device, socket or pipe"):
        reference_of(context)
