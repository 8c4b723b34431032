# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Debian packages this machine may install, as sources and options that work in a container.

Only the distribution's own sources are taken: the suites of Debian 12 whose signature is Debian's own. Third parties' stay out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tools.sandbox.errors import SandboxError

RELEASE = "bookworm"
SUITES = frozenset({RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security", f"{RELEASE}/updates"})
APT = Path("/etc/apt")
# Options that decide whether packages can be had at all; the rest of the machine's settings stays with the machine.
OPTIONS = re.compile(
    r"^(Acquire::(?:https?|ftp)::(?:Proxy|ProxyAutoDetect|CaInfo|Verify-Peer|Verify-Host|Timeout|User-Agent|Pipeline-Depth)\b.*"
    r"|Acquire::(?:Check-Valid-Until|Check-Date|Max-FutureTime|Min-ValidTime|Max-ValidTime|Retries|ForceIPv[46]))$",
    re.IGNORECASE,
)
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)$")


@dataclass(frozen=True)
class Source:
    """One place of packages: what a deb822 stanza says."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: str = ""

    def text(self) -> str:
        fields = {"Types": "deb", "URIs": " ".join(self.uris), "Suites": " ".join(self.suites), "Components": " ".join(self.components)}
        if self.signed_by:
            fields["Signed-By"] = self.signed_by
        if self.trusted:
            fields["Trusted"] = self.trusted
        return "".join(f"{key}: {value}\n" for key, value in fields.items())


def parse_deb822(text: str) -> list[Source]:
    """Enabled binary sources of a ``.sources`` file."""
    sources = []
    for block in re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] = f"{fields[key]}\n{line}"
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false", "0"):
            uris, suites, components = (tuple(fields.get(name, "").split()) for name in ("uris", "suites", "components"))
            sources.append(Source(uris, suites, components, fields.get("signed-by", ""), fields.get("trusted", "")))
    return sources


def parse_one_line(text: str) -> list[Source]:
    """Sources of a ``.list`` file."""
    sources = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if match:
            options = dict(part.split("=", 1) for part in (match["options"] or "").split() if "=" in part)
            components = tuple(match["components"].split())
            sources.append(Source((match["uri"],), (match["suite"],), components, options.get("signed-by", ""), options.get("trusted", "")))
    return sources


def _is_debian(source: Source) -> bool:
    keys = Path(source.signed_by.split(",")[0].split()[0]).name if source.signed_by.startswith("/") else source.signed_by
    return "main" in source.components and (not keys or keys.startswith("debian-archive-"))


def _expanded(uris: Iterable[str]) -> tuple[str, ...]:
    """Mirror lists on the machine's disk (Debian's cloud images have them) become what they name; a local directory is of no use in a container."""
    result: list[str] = []
    for uri in uris:
        if uri.startswith("mirror+file:"):
            listed = Path(re.sub(r"^mirror\+file:/*", "/", uri))
            lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
            result += [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
        elif uri.startswith(("http:", "https:")):
            result.append(uri)
    return tuple(result)


def distribution_sources(sources: Iterable[Source]) -> list[Source]:
    """Those of Debian 12 itself, without backports."""
    kept = []
    for source in sources:
        suites = tuple(suite for suite in source.suites if suite.rstrip("/") in SUITES)
        uris = _expanded(source.uris)
        if suites and uris and _is_debian(source):
            kept.append(replace(source, uris=uris, suites=suites))
    return kept


def machine_sources(named: str = "", apt: Path = APT) -> str:
    """The text of a ``.sources`` file: from the file ``named`` as it is, else from the machine's own sources.

    :raises SandboxError: there is none of Debian 12
    """
    if named:
        path = Path(named)
        if not path.is_file():
            raise SandboxError(f"HYBRIDLAB_APT_SOURCES names {named}, which is no file", "Give the path of a .sources or .list file")
        text = path.read_text(encoding="utf-8")
        found = parse_one_line(text) if path.suffix == ".list" else parse_deb822(text)
    else:
        files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
        found = distribution_sources(
            source
            for path in files
            if path.is_file() and path.suffix in (".list", ".sources")
            for source in (parse_one_line if path.suffix == ".list" else parse_deb822)(path.read_text(encoding="utf-8"))
        )
    if not found:
        raise SandboxError(
            f"{named or apt} has no source of Debian 12 ({RELEASE})",
            "Set HYBRIDLAB_APT_SOURCES to a file that has, or HYBRIDLAB_BASE_IMAGE to an image of Debian 12",
        )
    return "\n".join(source.text() for source in found)


def machine_options(dump: str, env: Mapping[str, str]) -> list[str]:
    """Lines for apt.conf: from ``apt-config dump``, and proxies that stand in the environment only."""
    lines = []
    for line in dump.splitlines():
        key, _space, value = line.partition(" ")
        if OPTIONS.match(key) and value not in ('"";', ""):
            lines.append(line)
    for scheme in ("http", "https"):
        proxy = env.get(f"{scheme}_proxy", "")
        if proxy and not any(line.lower().startswith(f"acquire::{scheme}::proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return lines
