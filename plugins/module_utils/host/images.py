# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base volumes in the directories of pools: what is there, who reads from it, and how one gets there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import os
import posixpath
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Optional
from urllib.error import HTTPError

from ansible.module_utils import urls
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_format import HEADER_BYTES, check_header, check_info, read_qcow2
from ansible_collections.hybridlab.platform.plugins.module_utils.core.images import PART, BaseVolume, Image, Sweep, mask_url, no_space
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import Guest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import read_image_volume_name, size_text
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import errors

# Where a base volume's checksum and size are noted. It travels with the file and, unlike a file beside it, is no volume of the pool.
_NOTE = "user.hybridlab.image"

_CHUNK = 1024 * 1024
# Left free for the other guests of a thin pool: one that finds no space is paused.
_HEADROOM = 64 * 1024 * 1024
# Nobody has to trust an image, so what looks at it gets little: seconds of CPU and of time, bytes of memory.
_PRLIMIT = ("prlimit", "--cpu=60", "--as=1073741824")
_QEMU_IMG_SECONDS = 120
# Exit status of qemu-img check for clusters that are allocated and not used, which harms nobody (qemu-img(1)).
_LEAKS = 3


def observe_images(directories: Mapping[str, str], readers: Mapping[str, list[str]]) -> list[BaseVolume]:
    """The base volumes in the pools' ``directories`` (by pool), sorted by path. readers: as :func:`find_readers` has them."""
    found = []
    for pool, directory in directories.items():
        for path in _files(directory):
            name = read_image_volume_name(path.name)
            if name is None:
                continue
            size = path.stat().st_size
            note = _read_note(path)
            noted = note.get("size", size)
            header = read_qcow2(_head(path))
            found.append(
                BaseVolume(
                    name=name.image,
                    pool=pool,
                    path=str(path),
                    format=name.format,
                    size=size,
                    virtual_size=header.virtual_size if header else (size if name.format == "raw" else None),
                    checksum=note.get("checksum"),
                    damage=None if size == noted else f"it has {size} bytes, and had {noted} when it was made",
                    used_by=tuple(sorted(readers.get(os.path.realpath(path), ()))),
                )
            )
    return sorted(found, key=lambda volume: volume.path)


def find_leftovers(directories: Mapping[str, str]) -> list[Sweep]:
    """What killed runs left of base volumes. That of a run that is still at work is none."""
    return [
        Sweep(str(path), pool)
        for pool, directory in directories.items()
        for path in _files(directory)
        if path.name.endswith(PART) and read_image_volume_name(path.name[: -len(PART)]) and not _is_held(path)
    ]


def find_readers(directories: Iterable[str], guests: Iterable[Guest]) -> dict[str, list[str]]:
    """Who reads from a file, by the file's real path: guests by name, and volumes that no guest has as their path.

    directories: those of all pools
    """
    owners: dict[str, list[str]] = {}
    for guest in guests:
        for file in guest.files:
            owners.setdefault(os.path.realpath(file), []).append(guest.name)
    files = {os.path.realpath(path) for directory in directories for path in _files(directory)} | {file for file in owners if Path(file).is_file()}
    readers = {file: list(names) for file, names in owners.items()}
    for file in sorted(files):
        header = read_qcow2(_head(Path(file)))
        if header is not None and header.backing is not None:
            backing = os.path.realpath(posixpath.join(posixpath.dirname(file), header.backing))
            readers.setdefault(backing, []).extend(owners.get(file, [file]))
    return readers


def hash_file(where: str, path: str, kind: str) -> str:
    """``<kind>:<hexadecimal>`` of a file on this host."""
    digest = hashlib.new(kind)
    try:
        with Path(path).open("rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                digest.update(chunk)
    except OSError as error:
        raise ResourceError(f"{where}: found {path!r}: {error.strerror}. Name a file on the managed host that can be read.") from None
    return f"{kind}:{digest.hexdigest()}"


def fetch_image(image: Image, timeout: int) -> None:
    """Makes the base volume: either all of it and checked, or nothing. timeout: seconds that the server may be silent."""
    try:
        path = Path(image.target + PART)
        with _part(path) as part:
            _receive(image, part, timeout)
            part.flush()
            _check(image, path)
            _write_note(part.fileno(), {"checksum": image.checksum, "size": os.fstat(part.fileno()).st_size})
            # QEMU runs as another user; nobody is to write to what disks of guests lie upon.
            os.fchmod(part.fileno(), 0o444)
            os.fsync(part.fileno())
            path.replace(image.target)
            _sync_directory(image.directory)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(image, None, 0, _free(image.directory)) from None
        raise ResourceError(f"config[{image.name}]: {error.filename or image.target}: {error.strerror or error}. Nothing of it was left there.") from None


def remove_file(path: str) -> None:
    """Deletes a base volume, or what is left of one; none is fine."""
    Path(path).unlink(missing_ok=True)


def refresh(conn: Any, pool: str) -> None:
    """Lets libvirt look again what volumes the pool has."""
    with errors():
        conn.storagePoolLookupByName(pool).refresh(0)


def _receive(image: Image, part: BinaryIO, timeout: int) -> None:
    """Streams the source into ``part`` and compares the checksum."""
    kind, wanted = image.checksum.split(":")
    digest = hashlib.new(kind)
    written = 0
    with _source(image, timeout) as (size, read):
        _check_space(image, size, written, size or 0)
        for chunk in iter(read, b""):
            _check_space(image, size, written, len(chunk))
            part.write(chunk)
            digest.update(chunk)
            written += len(chunk)
    origin = mask_url(image.url) if image.url is not None else image.path
    if size is not None and written != size:
        raise ResourceError(f"config[{image.name}]: {origin} ended after {size_text(written)} of {size_text(size)}. Nothing of it was left. Run again.")
    if digest.hexdigest() != wanted:
        raise ResourceError(
            f"config[{image.name}].checksum: found {kind}:{wanted}, but {origin} has {kind}:{digest.hexdigest()}. Nothing of it was left. "
            "Compare both with what the publisher says; where the image was renewed, write the new checksum."
        )


@contextmanager
def _source(image: Image, timeout: int) -> Iterator[tuple[Optional[int], Callable[[], bytes]]]:
    """The source's size in bytes, if it is known, and a function that returns its next bytes, empty at the end."""
    if image.url is None:
        with Path(str(image.path)).open("rb") as stream:
            yield os.fstat(stream.fileno()).st_size, lambda: stream.read(_CHUNK)
        return
    with _url_errors(image):
        # decompress: an image is wanted as it lies on the server, that is what its checksum is of.
        answer = urls.open_url(image.url, timeout=timeout, follow_redirects="safe", decompress=False, http_agent="hybridlab.platform")
    length = answer.headers.get("Content-Length")

    def read() -> bytes:
        with _url_errors(image):
            return bytes(answer.read(_CHUNK))

    try:
        yield int(length) if length and length.isdigit() else None, read
    finally:
        answer.close()


@contextmanager
def _url_errors(image: Image) -> Iterator[None]:
    shown = mask_url(str(image.url))
    try:
        yield
    except HTTPError as error:
        raise ResourceError(
            f"config[{image.name}].url: found {shown!r}: the server answered {error.code} {error.reason}. Name an address that has the image."
        ) from None
    except (OSError, http.client.HTTPException, urls.ConnectionError, ValueError) as error:
        # The program's own words may repeat the address.
        reason = " ".join(str(error).replace(str(image.url), shown).split()) or type(error).__name__
        raise ResourceError(
            f"config[{image.name}].url: found {shown!r}: {reason}. Nothing of it was left. Make the server reachable from the managed host; "
            "where there is none, build an image (docs/guest-images.md) and name it with the key file in platform_images."
        ) from None


def _check_space(image: Image, size: Optional[int], written: int, more: int) -> None:
    free = _free(image.directory)
    if more + _HEADROOM > free:
        raise no_space(image, size, written, free)


def _check(image: Image, part: Path) -> None:
    where = f"config[{image.name}]"
    check_header(where, image.format, _head(part))
    check_info(where, image.format, _qemu_img(where, "info", "-f", image.format, "--output", "json", str(part)))
    if image.format == "qcow2":
        # Finds a truncated one, whose checksum may have been computed from the truncated file.
        _qemu_img(where, "check", "-f", image.format, str(part))


def _qemu_img(where: str, verb: str, *arguments: str) -> str:
    """What ``qemu-img`` prints. ResourceError when it doesn't like the image."""
    try:
        done = subprocess.run(
            [*_PRLIMIT, "qemu-img", verb, *arguments], capture_output=True, text=True, timeout=_QEMU_IMG_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ResourceError(f"{where}: qemu-img {verb} did not end within {_QEMU_IMG_SECONDS} s. Nothing of the image was left. Name another one.") from None
    if done.returncode not in (0, _LEAKS if verb == "check" else 0):
        reason = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise ResourceError(f"{where}: qemu-img {verb} finds the image damaged ({reason}). Nothing of it was left. Name a whole one.")
    return done.stdout


@contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """The file ``path``, empty and for this process alone; deleted again when the caller fails. The caller renames it."""
    # Not truncated by open(): another run may be writing to it.
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b") as stream:
        # Where the lock is free only because the other run has just renamed its file, that file must not be touched.
        if not _lock(stream) or not path.exists() or not os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            raise ResourceError(f"{path}: another run is making that base volume. Run again when it has ended.")
        try:
            stream.truncate(0)
            yield stream
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _lock(stream: BinaryIO) -> bool:
    """Whether this process has the file for itself now, until it closes it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(path: Path) -> bool:
    with path.open("rb") as stream:
        return not _lock(stream)


def _files(directory: str) -> list[Path]:
    """The regular files in a directory; none when it isn't there."""
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEADER_BYTES)
    except FileNotFoundError:
        return b""  # somebody has deleted it just now


def _free(directory: str) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _write_note(descriptor: int, note: Mapping[str, Any]) -> None:
    try:
        os.setxattr(descriptor, _NOTE, json.dumps(note).encode())
    except OSError as error:
        # Some file systems have no such attributes; the name still carries the checksum.
        if error.errno != errno.ENOTSUP:
            raise


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(os.getxattr(path, _NOTE))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _sync_directory(directory: str) -> None:
    """So that the new name survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
