# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only Debian 12's own packages go into a base image, wherever the machine gets them from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.sandbox.aptsources import Source, distribution_sources, machine_options, machine_sources, parse_deb822, parse_one_line
from tools.sandbox.errors import SandboxError

DEB822 = """\
Types: deb deb-src
# a remark between the fields
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Enabled: no

Types: deb
URIs: https://packages.vendor.example/linux/debian
Suites: bookworm
Components: stable

Types: deb
URIs: https://packages.other.example
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/other.gpg
"""
ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main contrib # here
deb-src http://mirror.example/debian bookworm main
deb [trusted=yes] http://local.example/debian bookworm main
deb http://mirror.example/debian trixie main
deb file:/srv/debian bookworm main
"""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_deb822_keeps_enabled_sources_of_the_distribution_without_backports() -> None:
    assert distribution_sources(parse_deb822(DEB822)) == [
        Source(("http://mirror.example/debian",), ("bookworm", "bookworm-updates"), ("main", "contrib"), KEYRING)
    ]


def test_one_line_sources_of_another_release_or_of_a_local_directory_stay_out() -> None:
    assert distribution_sources(parse_one_line(ONE_LINE)) == [
        Source(("http://mirror.example/debian",), ("bookworm",), ("main", "contrib"), KEYRING),
        Source(("http://local.example/debian",), ("bookworm",), ("main",), trusted="yes"),
    ]


def test_a_key_in_the_stanza_survives_the_round_trip() -> None:
    text = "Types: deb\nURIs: http://m.example/d\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP-----\n .\n abc\n"
    (source,) = parse_deb822(text)
    assert parse_deb822(source.text()) == [source]
    assert " abc" in source.signed_by


def test_mirror_lists_on_disk_become_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "debian.list").write_text("# first\nhttps://one.example/debian\tpriority:1\nhttps://two.example/debian\n", encoding="utf-8")
    (source,) = distribution_sources([Source((f"mirror+file://{tmp_path}/debian.list",), ("bookworm",), ("main",))])
    assert source.uris == ("https://one.example/debian", "https://two.example/debian")


def test_the_machine_s_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n", encoding="utf-8")
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822, encoding="utf-8")
    (tmp_path / "sources.list.d/vendor.sources.disabled").write_text(
        "Types: deb\nURIs: http://no.example\nSuites: bookworm\nComponents: main\n", encoding="utf-8"
    )
    text = machine_sources(apt=tmp_path)
    assert [uri for source in parse_deb822(text) for uri in source.uris] == ["http://a.example/debian", "http://mirror.example/debian"]


def test_a_machine_without_debian_12_names_both_ways_round(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"HYBRIDLAB_APT_SOURCES.*HYBRIDLAB_BASE_IMAGE"):
        machine_sources(apt=tmp_path)


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    named = tmp_path / "mine.sources"
    named.write_text(
        "Types: deb\nURIs: http://mine.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /etc/apt/keyrings/mine.gpg\n", encoding="utf-8"
    )
    assert "Signed-By: /etc/apt/keyrings/mine.gpg" in machine_sources(str(named))
    with pytest.raises(SandboxError, match="no file"):
        machine_sources(str(tmp_path / "absent.sources"))


def test_only_options_that_decide_about_reaching_packages_are_taken() -> None:
    dump = """\
Acquire "";
Acquire::Check-Valid-Until "false";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::http::Proxy::local.example "DIRECT";
Acquire::https::Proxy "";
Acquire::Retries "3";
APT::Install-Recommends "false";
DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";
"""
    assert machine_options(dump, {"https_proxy": "http://proxy.example:3128", "http_proxy": "http://ignored.example"}) == [
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::http::Proxy::local.example "DIRECT";',
        'Acquire::Retries "3";',
        'Acquire::https::Proxy "http://proxy.example:3128";',
    ]
