# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of mailboxes that are removed: put into an archive, or deleted. May be killed anywhere and run again.

They belong to a user of the containers, so no link of theirs is followed.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

_TREES = ("mail", "home")


def put_away(root: str, address: str, how: str, stamp: str) -> Optional[str]:
    """Archive (``how``: archive) or delete (delete) what the mailbox left below ``root``. Path of the archive, None without one.

    stamp: a time that goes into the archive's name
    """
    local, domain = address.rsplit("@", 1)
    if "/" in local or local in (".", "..") or "/" in domain:
        raise ResourceError(f"{address}: cannot be the name of a directory. Nothing was removed. Put its files away by hand, below {root}/mail and {root}/home")
    archive = Path(root) / "archive"
    archive.mkdir(mode=0o700, exist_ok=True)
    staged = archive / f".{address}"
    for tree in _TREES:
        _take(Path(root) / tree / domain, local, staged, tree)
    if not staged.exists():
        return None
    made = _pack(staged, archive / f"{address}-{stamp}.tar.gz") if how == "archive" else None
    shutil.rmtree(staged)
    return made


def _take(folder: Path, name: str, staged: Path, tree: str) -> None:
    """Move the mailbox's directory out of the containers' reach, in one step: what is packed does not change any more."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResourceError(f"{folder}: is no directory of its own ({error.strerror}). Nothing of {name} was removed. Look who made it") from error
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
        staged.mkdir(mode=0o700, exist_ok=True)
        os.rename(name, _free(staged, tree), src_dir_fd=handle)
    except FileNotFoundError:
        return
    finally:
        os.close(handle)


def _free(staged: Path, tree: str) -> str:
    """A name that no earlier, unfinished removal has taken."""
    count = 0
    while (staged / f"{tree}{count or ''}").exists():
        count += 1
    return str(staged / f"{tree}{count or ''}")


def _pack(staged: Path, target: Path) -> str:
    partial = target.with_name(f".{target.name}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=6) as packed:
                for tree in sorted(staged.iterdir()):
                    packed.add(str(tree), arcname=tree.name)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ResourceError(f"{target}: {error.strerror}. The mail is unharmed in {staged}. Make room there and run again: the removal goes on") from error
    partial.replace(target)
    return str(target)
