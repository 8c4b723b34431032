# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes the keys of images on the controller, and brings to the host what it needs to make those that it lacks."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.hybridlab.platform.plugins.module_utils.core.container_images import BUILD, PULL
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_container_images
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.plugin_utils.image_context import archive, resolve

_MODULE = "hybridlab.platform.container_images"


class ActionModule(ActionBase):
    """One call where nothing is missing; else the files are copied and a second call makes the images."""

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            images = resolve(parse_container_images(self._task.args.get("config") or []))
        except (ModelError, ResourceError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error
        planned = self._call(images, {}, task_vars, check_mode=True)
        if planned.get("failed") or self._task.check_mode or not planned.get("changed"):
            return {**result, **planned}
        missing = [image for image in images if image["name"] in planned.get("missing", ()) and image["source"] != PULL]
        with self._brought(missing) as paths:
            return {**result, **self._call(images, paths, task_vars, check_mode=False)}

    def _call(self, images: Sequence[dict[str, Any]], paths: dict[str, str], task_vars: Optional[dict[str, Any]], check_mode: bool) -> dict[str, Any]:
        resolved = [{**{key: value for key, value in image.items() if key != "origin"}, "path": paths.get(image["name"])} for image in images]
        asked = self._task.check_mode
        self._task.check_mode = check_mode
        try:
            answer: dict[str, Any] = self._execute_module(_MODULE, module_args={**self._task.args, "resolved": resolved}, task_vars=task_vars)
        finally:
            self._task.check_mode = asked
        return answer

    @contextlib.contextmanager
    def _brought(self, images: Sequence[dict[str, Any]]) -> Iterator[dict[str, str]]:
        """Paths on the host, by name of the image; gone afterwards."""
        if not images:
            yield {}
            return
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        paths: dict[str, str] = {}
        try:
            for image in images:
                paths[image["name"]] = shell.join_path(shell.tmpdir, f"{image['name']}.tar")
                self._bring(image, paths[image["name"]])
            yield paths
        finally:
            self._remove_tmp_path(shell.tmpdir)

    def _bring(self, image: dict[str, Any], path: str) -> None:
        origin = Path(image["origin"])
        if image["source"] != BUILD:
            self._transfer_file(str(origin), path)
            return
        handle, local = tempfile.mkstemp(suffix=".tar")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(archive(origin))
            self._transfer_file(local, path)
        finally:
            Path(local).unlink()
