# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a verb ended, as an exit code and one message for a person."""

from __future__ import annotations

# 2 is what argparse ends with.
FAILED, USAGE, REFUSED, LOCKED, DIFFERENT = 1, 2, 3, 4, 5


class BackupError(Exception):
    """The verb began, and could not come to its end."""

    code = FAILED


class UsageError(BackupError):
    """Something was named that is not there, or the settings are wrong."""

    code = USAGE


class Refused(BackupError):
    """Nothing was begun: the disk, the room on it, or the place to restore to is not what it has to be."""

    code = REFUSED


class Locked(BackupError):
    """Another run holds the lock."""

    code = LOCKED


class Incomplete(BackupError):
    """A generation was made, and lacks something."""


class Fatal(BackupError):
    """Not of one part alone: it ends the whole run."""


class DiskFull(Fatal):
    """The backup disk has no room left."""


class Ended(Fatal):
    """Somebody asked the process to end."""
