# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From ``packages.yml`` to one RPM spec file with a sub-package for each entry; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tools.el9.units import BACKEND, PROXY, UNIT_DIR, modular_units, stub_unit

# Tells at a glance that a package is none of Rocky's.
RELEASE = "1.lookalike.el9"


@dataclass(frozen=True)
class Package:
    """One package of the look-alike's repository; see the head of ``packages.yml``."""

    name: str
    version: str
    base: bool = False
    epel: bool = False
    requires: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    obsoletes: tuple[str, ...] = ()
    payload: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    triggers: str = ""
    units: tuple[str, ...] = ()
    modular: str = ""

    def written_files(self) -> dict[str, str]:
        """Path to text of all files that are made here, units among them."""
        texts = dict(self.files)
        texts.update({f"{UNIT_DIR}/{name}": stub_unit(name) for name in self.units})
        if self.modular:
            texts.update({f"{UNIT_DIR}/{name}": text for name, text in modular_units(self.modular).items()})
            texts[f"/etc/libvirt/{self.modular}.conf"] = ""
        return texts

    def symlinks(self) -> dict[str, str]:
        if self.modular and self.modular != BACKEND:
            return {**self.links, f"/usr/sbin/{self.modular}": PROXY}
        return dict(self.links)


def parse_packages(data: Any) -> list[Package]:
    """:raises ValueError: an unknown key, a name twice, or a requirement that no package of the list satisfies"""
    known = {item.name for item in fields(Package)}
    packages = []
    for entry in data:
        unknown = sorted(set(entry) - known)
        if unknown:
            raise ValueError(f"packages.yml: {entry.get('name')}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        packages.append(Package(**values))
    names = [package.name for package in packages]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"packages.yml: {', '.join(twice)}: named twice")
    given = set(names) | {provided.split()[0] for package in packages for provided in package.provides}
    missing = sorted({f"{package.name} requires {need}" for package in packages for need in package.requires if need.split()[0] not in given})
    if missing:
        raise ValueError(f"packages.yml: {'; '.join(missing)}: no package of that name")
    return packages


def spec_text(packages: Iterable[Package], contents: Mapping[str, Iterable[str]], tree: str) -> str:
    """The spec file.

    :param contents: package name to the lines of its %files section
    :param tree: directory whose files make up all packages
    """
    parts = [
        "%global debug_package %{nil}\n%global __os_install_post %{nil}\n%global _build_id_links none\n%global _binary_payload w1.gzdio\n",
        f"Name: el9-lookalike\nVersion: 1\nRelease: {RELEASE}\nSummary: Stand-ins for packages of EL9\n",
        "License: GPL-3.0-or-later\nBuildArch: x86_64\nAutoReqProv: no\n",
        "%description\nStand-ins for packages of EL9.\n",
    ]
    packages = list(packages)
    for package in packages:
        head = [f"%package -n {package.name}", f"Version: {package.version}", f"Summary: Stand-in for {package.name}", "AutoReqProv: no"]
        head += [f"Requires: {need}" for need in package.requires]
        head += [f"Recommends: {need}" for need in package.recommends]
        head += [f"Provides: {name}" for name in package.provides]
        head += [f"Obsoletes: {name}" for name in package.obsoletes]
        parts.append("\n".join(head) + f"\n%description -n {package.name}\nStand-in for {package.name} of EL9.\n")
    parts.append(f"%install\ncp -a {tree}/. %{{buildroot}}/\n")
    for package in packages:
        if package.post:
            parts.append(f"%post -n {package.name}\n" + "\n".join(package.post) + "\n")
        if package.triggers:
            parts.append(package.triggers)
        parts.append(f"%files -n {package.name}\n" + "".join(f"{line}\n" for line in contents.get(package.name, ())))
    return "\n".join(parts)
