# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the archives in which Ansible sends its modules to a host, from one run to the next.

A run builds each module anew: it parses the module and all that it imports, a quarter of a second for one of ours. The archives say nothing
of a host, a task or its arguments. Each run works on a directory of its own, whose files are links into the store, so runs side by side do
not meet, and a run that is killed leaves nothing half-made.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

# Modules whose whole source the key covers. Other collections', and a playbook's own, are built by each run.
COVERED = ("ansible.modules.", "ansible_collections.hybridlab.platform.plugins.modules.")
# Nobody goes back to sources that were replaced so long ago.
KEPT_SECONDS = 7 * 24 * 3600


def key(version: str, ansible: Path, plugins: Path) -> str:
    """Twelve hex digits that change with Ansible, with Python and with every edit below ``plugins``."""
    found = hashlib.sha256(repr((version, str(ansible), sys.version)).encode())
    for part in ("modules", "module_utils"):
        for path in sorted((plugins / part).rglob("*.py")):
            seen = path.stat()
            found.update(repr((str(path), seen.st_mtime_ns, seen.st_size)).encode())
    return found.hexdigest()[:12]


def bring(store: Path, work: Path) -> None:
    """Links what is kept into the directory in which this run looks first."""
    if store.is_dir():
        os.utime(store)
        work.mkdir(parents=True, exist_ok=True)
        _link(store, work)


def keep(work: Path, store: Path) -> None:
    """Links what this run has built into the store, and removes stores that were not used for a week."""
    if not work.is_dir():
        return
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    _link(work, store)
    for other in store.parent.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if other != store and other.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


def _link(source: Path, destination: Path) -> None:
    for path in _finished(source.iterdir()):
        # Another run was quicker, or the file systems differ: the module is built again, as without a store.
        with contextlib.suppress(OSError):
            os.link(path, destination / path.name)


def _finished(paths: Iterable[Path]) -> Iterable[Path]:
    return (path for path in paths if path.name.startswith(COVERED) and path.suffix != ".lock" and not path.name.endswith("-part"))
