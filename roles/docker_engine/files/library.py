# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one archive of the Python packages that a lock file names, to be unpacked on managed hosts. Runs on the controller.

pip fetches them, from wherever pip on this machine is set up to, and compares each with its hash. Pure Python wheels are zip files that need no
installation: their members go into a tar file under hybridlab/python/<key>/, the last of them a mark that all are there. What has been made once is kept.
Prints {"key": ..., "archive": ...}.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Optional

# The oldest Python among the managed hosts: that of EL9.
PYTHON = "3.9"
MARK = ".complete"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", type=Path, required=True, help="requirements file with a hash for each wheel")
    parser.add_argument("--cache", type=Path, help="where archives are kept; default: hybridlab in the user's cache directory")
    arguments = parser.parse_args()
    cache = arguments.cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hybridlab"
    key = key_of(arguments.lock)
    archive = cache.expanduser() / f"python-{key}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            wheels = fetch(arguments.lock, Path(folder))
            made = Path(folder, archive.name)
            pack(wheels, key, made)
            made.replace(archive)
    print(json.dumps({"key": key, "archive": str(archive)}))
    return 0


def key_of(lock: Path) -> str:
    """12 digits that change with what the file names, not with its comments."""
    lines = [line.strip() for line in lock.read_text(encoding="utf-8").splitlines() if not line.strip().startswith("#")]
    return hashlib.sha256("\n".join(filter(None, lines)).encode()).hexdigest()[:12]


def fetch(lock: Path, folder: Path) -> list[Path]:
    """The wheels of the lock file. SystemExit in words when pip cannot have them."""
    target = ["--only-binary=:all:", "--platform=any", f"--python-version={PYTHON}", "--implementation=py", "--abi=none"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", *target, "-r", str(lock), "-d", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"{done.stdout.strip()}\npip could not fetch what {lock} names. This machine (the controller) needs pip, and pip a package index or wheels."
        )
    return sorted(folder.glob("*.whl"))


def pack(wheels: list[Path], key: str, archive: Path) -> None:
    """The same wheels give the same bytes."""
    root = f"hybridlab/python/{key}"
    with tarfile.open(archive, "w") as tar:
        for folder in ("hybridlab", "hybridlab/python", root):
            _add(tar, folder, None)
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as members:
                for name in sorted(members.namelist()):
                    if ".." in Path(name).parts or name.startswith("/"):
                        raise SystemExit(f"{wheel.name} holds {name}, which would be unpacked elsewhere")
                    _add(tar, f"{root}/{name}".rstrip("/"), None if name.endswith("/") else members.read(name))
        _add(tar, f"{root}/{MARK}", b"")


def _add(tar: tarfile.TarFile, name: str, content: Optional[bytes]) -> None:
    """A file, or a directory where there is no content; owned by root."""
    member = tarfile.TarInfo(name)
    member.type, member.mode = (tarfile.DIRTYPE, 0o755) if content is None else (tarfile.REGTYPE, 0o644)
    member.size = len(content or b"")
    tar.addfile(member, io.BytesIO(content or b""))


if __name__ == "__main__":
    sys.exit(main())
