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
from typing import Optional

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
            status = path.stat()
            found[item.path] = Found(status.st_mode & 0o7777, owner=(status.st_uid, status.st_gid))
        elif path.exists() or path.is_symlink():
            raise ResourceError(f"directories[{item.path}]: there is a file of this name on the host. Move it away")
    for file in files:
        there = _file(file)
        if there is not None:
            found[file.path] = there
    declared = [file.path for file in files] + [item.path for item in directories]
    strays = []
    for item in directories:
        if item.exclusive and item.path in found:
            for path in sorted(Path(item.path).iterdir()):
                if not any(str(path) == other or is_inside(other, str(path)) for other in declared):
                    strays.append(str(path))
                    found[str(path)] = Found(path.lstat().st_mode & 0o7777)
    return found, strays


def _file(file: File) -> Optional[Found]:
    path = Path(file.path)
    if not path.exists():
        return None  # a link that leads nowhere is replaced like a file that differs
    mode = path.stat().st_mode & 0o7777
    if not file.textual:
        return Found(mode)
    if path.is_dir():
        raise ResourceError(f"config[{file.path}]: there is a directory of this name on the host. Move it away")
    data = path.read_bytes()
    try:
        return Found(mode, data.decode())
    except UnicodeDecodeError as fault:
        if file.values:
            raise ResourceError(f"config[{file.path}]: is no text in UTF-8 ({fault}), so that no value can be set in it. Convert it (iconv)") from fault
        return Found(mode, data.decode(errors="replace"))


def apply(step: Step) -> None:
    """ResourceError when what a file's ``validate`` runs does not accept its content; the old file then stays."""
    path = Path(step.path)
    if step.verb == "daemon-reload":
        done = subprocess.run(["systemctl", "daemon-reload"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ResourceError(f"systemctl daemon-reload: {done.stderr.strip()}")
    elif step.verb == "mkdir":
        path.mkdir(parents=True, exist_ok=True)
        if step.owner is not None:
            os.chown(path, *step.owner)
        path.chmod(step.mode)
    elif step.verb == "chown" and step.owner is not None:
        os.chown(path, *step.owner)
    elif step.verb == "chmod":
        path.chmod(step.mode)
    elif step.verb == "remove":
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    elif step.file is not None:
        if step.file.validate:
            _validate(step.file, step.text)
        texts.write_text(step.path, step.text, step.mode)


def _validate(file: File, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".hybridlab-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        argv = [temporary if word == "%s" else word for word in file.validate]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=VALIDATE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise ResourceError(f"config[{file.path}]: it can't be checked: {file.validate[0]}: {fault}") from fault
    finally:
        Path(temporary).unlink()
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or f"{argv[0]} ended with {done.returncode}").replace(temporary, file.path)
        raise ResourceError(f"config[{file.path}]: not written, the old one stays: {words[-1000:]}")
