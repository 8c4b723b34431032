# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the backup disk is there, is another one than that of the sources, can hold what is copied, and has room."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import Refused
from .journal import human
from .settings import Settings


@dataclass(frozen=True)
class Mount:
    point: str
    source: str


def mounts(text: str) -> list[Mount]:
    """Mounts of a ``mountinfo`` text (proc(5)), later ones over earlier ones."""
    found = []
    for line in text.splitlines():
        left, _dash, right = line.partition(" - ")
        found.append(Mount(_plain(left.split()[4]), _plain(right.split()[1])))
    return found


def _plain(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), field)


def mount_of(path: Path, table: Sequence[Mount]) -> Mount:
    """The mount on which ``path`` lies."""
    text = str(path.resolve())
    fitting = [mount for mount in table if text == mount.point or text.startswith(mount.point.rstrip("/") + "/")]
    return max(fitting, key=lambda mount: len(mount.point), default=Mount("/", ""))


def check_mount(settings: Settings, sources: Iterable[Path]) -> None:
    """Refused unless the disk is mounted and none of the sources, nor the system, lies on it."""
    mount = settings.mount
    table = mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    cure = f"Attach the disk and mount it there (findmnt {mount} shows it), then start the run again"
    if str(mount.resolve()) not in [found.point for found in table]:
        raise Refused(f"platform_backup.mount: {mount} is no mount point, and a backup would fill the system's own disk. {cure}")
    disk = mount_of(mount, table).source
    for source in (Path("/"), *sources):
        where = source if source.exists() else Path("/")
        # One file system may be mounted twice, and one device may hold several (btrfs subvolumes).
        same_device = disk.startswith("/dev/") and mount_of(where, table).source == disk
        if same_device or where.stat().st_dev == mount.stat().st_dev:
            raise Refused(f"platform_backup.mount: {mount} lies on the disk that holds {source}; that disk's end would be the end of both. {cure}")
    if os.statvfs(mount).f_flag & os.ST_RDONLY:
        raise Refused(f"platform_backup.mount: {mount} is mounted read-only; after an error of the disk the kernel does that. Check the disk, remount it")


def check_abilities(directory: Path) -> None:
    """Refused unless the file system keeps owners, modes, hard links, symbolic links and extended attributes: vfat, exfat and NTFS do not."""
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".probe.") as name:
            probe = Path(name) / "file"
            probe.touch()
            os.chown(probe, 12345, 12345)
            probe.chmod(0o4751)
            os.link(probe, Path(name) / "hard")
            Path(name, "soft").symlink_to("file")
            os.setxattr(probe, "user.hybridlab", b"1")
            found = probe.stat()
            kept = (found.st_uid, found.st_gid, found.st_mode & 0o7777, found.st_nlink) == (12345, 12345, 0o4751, 2)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Refused(f"{directory}: the disk is full. Make room (hybridlab-backup list, then remove NAME), or lower platform_backup.keep") from error
        raise Refused(f"{directory}: the disk can't hold a backup ({error.strerror}). Format it with ext4, XFS or btrfs") from error
    if not kept:
        raise Refused(f"{directory}: the disk does not keep owners, modes and hard links. Format it with ext4, XFS or btrfs")


def reserve(settings: Settings) -> int:
    """Bytes that stay free on the disk."""
    found = os.statvfs(settings.mount)
    return max(settings.reserve_bytes, found.f_blocks * found.f_frsize * settings.reserve_percent // 100)


def free(settings: Settings) -> int:
    found = os.statvfs(settings.mount)
    return found.f_bavail * found.f_frsize


def check_room(settings: Settings, needed: int) -> None:
    """Refused when ``needed`` bytes do not fit beside the reserve."""
    kept, have = reserve(settings), free(settings)
    if needed + kept > have:
        raise Refused(
            f"{settings.mount}: too small. This run needs about {human(needed)}, {human(kept)} stay free (platform_backup.reserve_gb and reserve_percent), "
            f"and {human(have)} are free. Use a larger disk, lower platform_backup.keep, or remove a generation (hybridlab-backup list, then remove NAME)"
        )
