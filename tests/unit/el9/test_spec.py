# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of packages, and the spec file and units that are made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.el9.assemble import read_yaml
from tools.el9.spec import parse_packages, spec_text
from tools.el9.units import BACKEND_SOCKET, modular_units, socket_paths, stub_unit
from tools.sandbox.aptsources import RELEASE

CHECKOUT = Path(__file__).resolve().parents[3]
PACKAGES = parse_packages(read_yaml("packages.yml"))
DEBIAN = read_yaml("debian.yml")


def fields(unit: str) -> dict[str, list[str]]:
    """Setting to its values, over all sections."""
    result: dict[str, list[str]] = {}
    for line in unit.splitlines():
        key, found, value = line.partition("=")
        if found:
            result.setdefault(key, []).append(value)
    return result


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"name": "a", "version": "1", "require": ["b"]}], "a: unknown key require; known are "),
        ([{"name": "a", "version": "1"}, {"name": "a", "version": "2"}], "a: named twice"),
        ([{"name": "a", "version": "1", "requires": ["b >= 2"]}], "a requires b >= 2: no package of that name"),
    ],
)
def test_bad_list_is_refused(entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=r"packages\.yml") as caught:
        parse_packages(entries)
    assert message in str(caught.value)


def test_a_requirement_may_be_satisfied_by_what_another_provides() -> None:
    assert len(parse_packages([{"name": "a", "version": "1", "requires": ["c"]}, {"name": "b", "version": "1", "provides": ["c = 3"]}])) == 2


def test_every_payload_is_a_package_of_debian_that_the_build_fetches() -> None:
    fetched = {*DEBIAN["install"], *DEBIAN["unpack"]}
    assert {debian for package in PACKAGES for debian in package.payload} <= fetched
    assert set(DEBIAN["unpack"].values()) <= {RELEASE, *DEBIAN["suites"]}


def test_no_file_belongs_to_two_packages() -> None:
    made = [path for package in PACKAGES for path in (*package.written_files(), *package.symlinks(), *package.copies)]
    assert len(made) == len(set(made))
    carried = [debian for package in PACKAGES for debian in package.payload]
    assert len(carried) == len(set(carried))


@pytest.mark.parametrize("names", sorted(CHECKOUT.glob("roles/*/vars/Rocky_9.yml")), ids=lambda path: path.parents[1].name)
def test_every_package_that_a_role_names_on_rocky_9_is_there(names: Path) -> None:
    values = yaml.safe_load(names.read_text(encoding="utf-8"))
    wanted = {name for key, value in values.items() if key.endswith(("_packages", "_repositories")) for name in value}
    wanted |= {value for key, value in values.items() if key.endswith("_package")}
    assert wanted <= {package.name for package in PACKAGES}


def test_spec_has_each_package_with_its_relations_and_files() -> None:
    relations = {"requires": ["b"], "recommends": ["c"], "provides": ["d = 1"], "obsoletes": ["e < 1"]}
    packages = parse_packages([{"name": "a", "version": "1.2", **relations, "post": ["true"], "triggers": "%trigger\n"}, {"name": "b", "version": "3"}])
    text = spec_text(packages, {"a": ['"/usr/bin/a"']}, "/tree")
    head = {"%package -n a", "Version: 1.2", "Requires: b", "Recommends: c", "Provides: d = 1", "Obsoletes: e < 1"}
    assert head | {"%post -n a", "%trigger", '"/usr/bin/a"', "%files -n b"} <= set(text.splitlines())
    assert "cp -a /tree/. %{buildroot}/" in text


def test_stub_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.mount: there are stubs of services, timers and sockets only"):
        stub_unit("a.mount")


def test_stub_timer_starts_the_service_of_its_name() -> None:
    assert fields(stub_unit("dnf-automatic.timer"))["Unit"] == ["dnf-automatic.service"]


@pytest.mark.parametrize("daemon", [package.modular for package in PACKAGES if package.modular])
def test_modular_daemon_listens_where_libvirt_looks_for_it(daemon: str) -> None:
    units = modular_units(daemon)
    assert len(units) == 4
    for name, path in socket_paths(daemon).items():
        socket = fields(units[name])
        assert socket["ListenStream"] == [path]
        assert socket["Service"] == [f"{daemon}.service"]
        assert ("FileDescriptorName" in socket) == (daemon == "virtqemud")
    service = fields(units[f"{daemon}.service"])
    assert service["Conflicts"] == ["libvirtd.service"]
    assert service["Also"] == list(socket_paths(daemon))
    assert (BACKEND_SOCKET in service["ExecStart"][0]) == (daemon != "virtqemud")


def test_a_proxy_gives_no_more_rights_than_its_socket() -> None:
    """Whatever connects to a proxy reaches the backend's read-write socket, so the read-only one must be root's alone."""
    units = modular_units("virtnetworkd")
    assert fields(units["virtnetworkd-ro.socket"])["SocketMode"] == ["0600"]
    assert fields(units["virtnetworkd-admin.socket"])["SocketMode"] == ["0600"]
    assert fields(modular_units("virtqemud")["virtqemud-ro.socket"])["SocketMode"] == ["0666"]
