# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages the role docker_engine wants, and what it refuses before its first change: its own tasks, with package managers that answer as told."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tools import playbook

# What a host's programs answer: name -> (output, exit status).
DEBIAN = {"dpkg-query": ("", 1)}
DEBIAN_CE = {"dpkg-query": ("installed", 0)}
DEBIAN_LEFTOVERS = {"dpkg-query": ("config-files", 0)}
EL9 = {"rpm": ("", 1), "dnf": ("", 1)}
EL9_CE = {"rpm": ("", 0), "dnf": ("", 1)}
EL9_AVAILABLE = {"rpm": ("", 1), "dnf": ("available", 0)}

SIGNED = {"baseurl": "file:///srv/docker", "gpgkey": "/srv/docker/gpg"}
UNSIGNED = {"baseurl": "file:///srv/docker"}

# host -> (distribution, programs, docker_engine_repository, the engine's package or nothing; then the words of a refusal)
HOSTS: dict[str, tuple[str, dict[str, tuple[str, int]], dict[str, Any], str]] = {
    "debian": ("Debian 12 apt", DEBIAN, {}, "docker.io"),
    "debian-ce": ("Debian 12 apt", DEBIAN_CE, {}, ""),
    "debian-leftovers": ("Debian 12 apt", DEBIAN_LEFTOVERS, {}, "docker.io"),
    "el9-ce": ("Rocky 9 dnf", EL9_CE, {}, ""),
    "el9-ce-renewed": ("Rocky 9 dnf", EL9_CE, SIGNED, "docker-ce"),
    "el9-available": ("Rocky 9 dnf", EL9_AVAILABLE, {}, "docker-ce"),
    "el9-unsigned": ("Rocky 9 dnf", EL9, {**UNSIGNED, "gpgcheck": False}, "docker-ce"),
}
REFUSED: dict[str, tuple[str, dict[str, tuple[str, int]], dict[str, Any], str]] = {
    "el9-nowhere": ("Rocky 9 dnf", EL9, {}, "found no baseurl, and el9-nowhere has neither docker-ce nor a repository with it. Nothing was changed"),
    "el9-silent": ("Rocky 9 dnf", EL9, UNSIGNED, "found no gpgkey: whoever answers for file:///srv/docker could install anything here as root"),
}

PLAY = """
- hosts: all
  gather_facts: false
  environment: {PATH: "{{ programs }}:{{ lookup('ansible.builtin.env', 'PATH') }}"}
  tasks:
    - ansible.builtin.set_fact:
        distribution: "{{ system.split()[0] }}"
        distribution_major_version: "{{ system.split()[1] }}"
        pkg_mgr: "{{ system.split()[2] }}"
        cacheable: true
    - ansible.builtin.include_role: {name: hybridlab.platform.docker_engine, tasks_from: preflight.yml, public: true}
    - name: Wanted
      ansible.builtin.debug: {var: __docker_engine_wanted}
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> playbook.Outcome:
    folder = tmp_path_factory.mktemp("packages")
    hosts: dict[str, Any] = {}
    for name, (system, programs, repository, _expected) in {**HOSTS, **REFUSED}.items():
        place = folder / name
        place.mkdir()
        for program, (output, status) in programs.items():
            (place / program).write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {status}\n", encoding="utf-8")
            (place / program).chmod(0o755)
        hosts[name] = {"system": system, "programs": str(place), "docker_engine_repository": repository}
    inventory = folder / "hosts.json"
    everywhere = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": everywhere}}), encoding="utf-8")
    (folder / "play.yml").write_text(PLAY, encoding="utf-8")
    return playbook.run(str(folder / "play.yml"), str(inventory))


@pytest.mark.parametrize("name", HOSTS)
def test_the_engine_that_is_there_is_used_and_else_its_packages_are_wanted(outcome: playbook.Outcome, name: str) -> None:
    engine = HOSTS[name][3]
    (wanted,) = [task.result["__docker_engine_wanted"] for task in outcome.tasks if task.host == name and task.name == "Wanted"]
    assert "rsync" in wanted
    assert {"docker.io", "docker-ce"} & set(wanted) == ({engine} if engine else set())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_or_is_not_signed_is_refused(outcome: playbook.Outcome, name: str) -> None:
    (said,) = [str(task.result["msg"]) for task in outcome.tasks if task.host == name and task.result.get("failed")]
    assert REFUSED[name][3] in said
