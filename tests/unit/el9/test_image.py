# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the look-alike's packages come from, and when it is built anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tools.el9.image import Lookalike
from tools.sandbox.aptsources import parse_deb822
from tools.sandbox.errors import SandboxError
from tools.sandbox.names import Identity, Settings

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEBIAN = f"Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: {KEYS}\n"
SECURITY = "Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n"


def lookalike(tmp_path: Path, sources: str) -> Lookalike:
    listed = tmp_path / "machine.sources"
    listed.write_text(sources, encoding="utf-8")
    return Lookalike(Identity("0123ab", tmp_path), replace(Settings(), apt_sources=str(listed)))


def test_further_suites_come_from_the_mirror_of_the_distribution(tmp_path: Path) -> None:
    found = parse_deb822(lookalike(tmp_path, f"{SECURITY}\n{DEBIAN}").sources())
    assert [(source.uris, source.suites) for source in found] == [
        (("http://mirror.example/security",), ("bookworm-security",)),
        (("http://mirror.example/debian",), ("bookworm", "bookworm-updates")),
        (("http://mirror.example/debian",), ("bullseye", "bookworm-backports")),
    ]
    assert found[2].signed_by == KEYS


def test_a_machine_without_a_mirror_of_the_distribution_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"no APT source of this machine has the suite bookworm.*HYBRIDLAB_APT_SOURCES"):
        lookalike(tmp_path, SECURITY).sources()


def test_key_follows_what_goes_in(tmp_path: Path) -> None:
    first = lookalike(tmp_path, DEBIAN).key()
    assert lookalike(tmp_path, DEBIAN).key() == first
    assert lookalike(tmp_path, DEBIAN.replace("mirror.example", "other.example")).key() != first


def test_a_built_tarball_is_used_again(tmp_path: Path) -> None:
    built = lookalike(tmp_path, DEBIAN)
    built.path().parent.mkdir()
    built.path().write_bytes(b"tar")
    assert built.tarball().read_bytes() == b"tar"
