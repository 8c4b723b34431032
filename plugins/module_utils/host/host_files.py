# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes files and directories of ours on this host."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.host_files import Directory, File, Found, Step, is_inside
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files as texts

VALIDATE_SECONDS = 60


def read(files: Sequence[File], directories: Sequence[Directory]) -> tuple[dict[str, Found], list[str]]:
    """What stands at the declared paths, and what else is in the exclusive directories. ResourceError when a path is something else than declared."""
    found: dict[str, Found] = {}
    for item in directories:
        path = Path(item.path)
        if path.is_dir():
            found[item.path] = Found(path.stat().st_mode & 0o7777)
        elif path.exists() or path.is_symlink():
            raise ResourceError(f"directories[{item.path}]: there is a file of this name on the host. Move it away")
    for file in files:
        path = Path(file.path)
        if path.is_dir():
            raise ResourceError(f"config[{file.path}]: there is a directory of this name on the host. Move it away")
        # A link that leads nowhere is replaced like a file that differs.
        if path.exists():
            found[file.path] = Found(path.stat().st_mode & 0o7777, path.read_text(encoding="utf-8", errors="replace"))
    declared = [file.path for file in files] + [item.path for item in directories]
    strays = []
    for item in directories:
        if item.exclusive and item.path in found:
            for path in sorted(Path(item.path).iterdir()):
                if not any(str(path) == other or is_inside(other, str(path)) for other in declared):
                    strays.append(str(path))
                    found[str(path)] = Found(path.lstat().st_mode & 0o7777)
    return found, strays


def apply(step: Step) -> None:
    """ResourceError when what a file's ``validate`` runs does not accept its content; the old file then stays."""
    path = Path(step.path)
    if step.verb == "mkdir":
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(step.mode)
    elif step.verb == "chmod":
        path.chmod(step.mode)
    elif step.verb == "remove":
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    elif step.file is not None:
        if step.file.validate:
            _validate(step.file)
        texts.write_text(step.path, step.file.content, step.mode)


def _validate(file: File) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".hybridlab-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(file.content)
        argv = [temporary if word == "%s" else word for word in file.validate]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=VALIDATE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise ResourceError(f"config[{file.path}]: it can't be checked: {file.validate[0]}: {fault}") from fault
    finally:
        Path(temporary).unlink()
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or f"{argv[0]} ended with {done.returncode}").replace(temporary, file.path)
        raise ResourceError(f"config[{file.path}]: not written, the old one stays: {words[-1000:]}")
