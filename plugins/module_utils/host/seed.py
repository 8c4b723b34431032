# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seed images: an ISO 9660 file system with cloud-init's documents."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

# cloud-init's data source NoCloud looks for a file system of this label.
LABEL = "cidata"
_SECONDS = 60


def write_seed(path: str, documents: Mapping[str, str]) -> None:
    """Replaces ``path`` by an image of the ``documents`` (text by file name) in one step, mode 0600. The same documents give the same bytes.

    ResourceError when the program that makes it is missing or fails.
    """
    target = Path(path)
    part = Path(f"{path}.part")
    try:
        # That of a run that was killed.
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                _make_image(stream.fileno(), documents)
                os.fsync(stream.fileno())
            part.replace(target)
        except BaseException:
            part.unlink()
            raise
    except OSError as error:
        raise ResourceError(f"seed image {path}: {error.strerror or error}. Make its directory, or room there, and run again") from None


def _make_image(output: int, documents: Mapping[str, str]) -> None:
    # A directory for its owner alone (mode 0700): documents may hold secrets, and arguments are seen by everybody. In memory where there is a
    # /run, so that what a killed run left behind is never on a disk.
    parent = "/run" if os.access("/run", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="hybridlab-seed-", dir=parent) as folder:
        for name, text in documents.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        # Of the image's dates SOURCE_DATE_EPOCH fixes all but those of its files (xorrisofs(1)); -rational-rock fixes owners and modes.
        for file in (*Path(folder).iterdir(), Path(folder)):
            os.utime(file, (0, 0))
        argv = ["xorrisofs", "-quiet", "-volid", LABEL, "-joliet", "-rational-rock", folder]
        try:
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"},
                timeout=_SECONDS,
                check=True,
            )
        except FileNotFoundError:
            raise ResourceError("xorrisofs is missing on the managed host; install the package xorriso there (role kvm_host does)") from None
        except subprocess.TimeoutExpired:
            raise ResourceError(f"xorrisofs did not end within {_SECONDS} s; look at the load of the managed host and run again") from None
        except subprocess.CalledProcessError as error:
            raise ResourceError(f"xorrisofs ended with {error.returncode}: {error.stderr.decode(errors='replace').strip()}") from None
