# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""platform_check as a task calls it."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.hardware import GB, Hardware
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ranges import Route
from ansible_collections.hybridlab.platform.plugins.modules import platform_check
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module
from ansible_collections.hybridlab.platform.tests.unit.private_network import private_network, run

DELL = Hardware(6, 12, 31800, {"/": 70 * GB, "/home": 390 * GB, "/data": 3600 * GB}, "rocky", "9.6")


class Caller:
    def __init__(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.capsys = capsys
        self.tmp_path = tmp_path

    def __call__(self, model: dict[str, Any], check: bool = False, **params: Any) -> dict[str, Any]:
        args = {"model": json.dumps(model), "_ansible_check_mode": check, "_ansible_remote_tmp": str(self.tmp_path), **params}
        return call_module(platform_check, args, self.capsys)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Caller:
    return Caller(capsys, tmp_path)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> list[Route]:
    """The lab's own machine; a test adds routes to the list."""
    routes: list[Route] = []
    monkeypatch.setattr(platform_check, "read_routes", lambda: routes)
    monkeypatch.setattr(platform_check, "read_hardware", lambda mounts: DELL)
    monkeypatch.setattr(platform_check, "read_listening", lambda: {22, 2201})
    monkeypatch.setattr(platform_check, "read_listeners", lambda ports: [])
    return routes


@pytest.mark.parametrize("check", [False, True])
def test_sound_model(call: Caller, check: bool) -> None:
    answer = call(lab_model(), check=check)

    assert answer["changed"] is False
    assert answer["findings"] == []
    assert answer["segments"] == ["management", "public", "private", "database", "container"]
    assert ["management", "database"] in answer["pairs"]
    assert ["database", "internet"] in answer["pairs"]
    assert len(answer["pairs"]) == 9 + 5
    assert answer["summary"] == "lab: 5 segments, 9 of 20 ordered pairs allowed, internet from 5"


@pytest.mark.parametrize("check", [False, True])
def test_faulty_model(call: Caller, check: bool) -> None:
    model = lab_model()
    model["platform_segments"][1]["reaches"] = ["privat"]
    model["platform_segments"][3]["ssh_ports"] = {"first": 22, "last": "2260"}

    answer = call(model, check=check)

    assert answer["failed"] is True
    assert answer["msg"].splitlines() == [
        "the platform model has 3 faults; nothing was changed",
        "  - platform_segments[database].ssh_ports.first: found 22: SSH never answers on port 22 here. Choose a port of the segment's own, such as 2201",
        "  - platform_segments[database].ssh_ports.last: found '2260': must be a whole number, this is text. Write 2260, without quotes",
        "  - platform_segments[public].reaches[0]: found 'privat': is no segment of this platform. Did you mean 'private'?",
    ]
    assert answer["findings"][2] == {
        "path": "platform_segments[public].reaches[0]",
        "found": "privat",
        "reason": "is no segment of this platform",
        "cure": "Did you mean 'private'?",
        "rule": "reaches-unknown",
    }


def test_the_labs_host(call: Caller, host: list[Route]) -> None:
    host += [Route(IPv4Network("10.0.1.0/24"), "br-public"), Route(IPv4Network("172.17.0.0/16"), "docker0"), Route(IPv4Network("192.168.1.0/24"), "eno1")]

    assert call(lab_model(), host=True)["findings"] == []


def test_faults_of_routes_and_hardware_are_told_together(call: Caller, host: list[Route]) -> None:
    host.append(Route(IPv4Network("10.0.2.0/23"), "eno1"))
    model = lab_model()
    model["platform_host"]["memory_mb"] = 64000
    model["platform_host"]["filesystems"].append({"mount": "/backup", "size_gb": 100})

    answer = call(model, host=True)

    assert [(finding["rule"], finding["path"]) for finding in answer["findings"]] == [
        ("overlap-route", "platform_segments[private].cidr"),
        ("overlap-route", "platform_segments[database].cidr"),
        ("hardware", "platform_host.memory_mb"),
        ("hardware", "platform_host.filesystems[3].mount"),
    ]


def test_guests_against_what_the_host_really_has(call: Caller, host: list[Route]) -> None:
    model = lab_model()
    model["platform_guests"][0]["memory_mb"] = 22300

    assert call(model)["guests"] == ["test-vm"]
    (finding,) = call(model, host=True)["findings"]

    # Up to 5 percent less memory than the model's is still its hardware; here it is too little for the guest.
    assert (finding["rule"], finding["path"]) == ("capacity", "platform_guests")
    assert "70 % of 31800" in finding["reason"]


def test_files_of_images_are_looked_for_where_asked(call: Caller, tmp_path: Path) -> None:
    model = lab_model()
    image = tmp_path / "debian.qcow2"
    model["platform_images"][0]["file"] = str(image)

    assert call(model)["findings"] == []
    (finding,) = call(model, files=True)["findings"]
    assert (finding["rule"], finding["path"], finding["found"]) == ("image-file", "platform_images[debian-12].file", str(image))

    image.touch()
    assert call(model, files=True)["findings"] == []


def test_host_is_left_alone_without_host(call: Caller, host: list[Route]) -> None:
    host.append(Route(IPv4Network("10.0.2.0/23"), "eno1"))

    assert call(lab_model())["findings"] == []


def test_this_machine_against_a_modest_model(call: Caller) -> None:
    model = {
        "platform_name": "small",
        "platform_domain": "lab.local",
        "platform_segments": [{"name": "one", "cidr": "172.31.255.248/29", "internet": False}],
        "platform_host": {"cores": 1, "threads": 1, "memory_mb": 64, "filesystems": [{"mount": "/", "size_gb": 1}]},
    }
    before = copy.deepcopy(model)

    with private_network():
        answer = call(model, host=True)

    assert answer["summary"] == "small: 1 segment, 0 of 0 ordered pairs allowed, internet from 0"
    assert model == before


def test_what_this_machine_has_and_the_model_does_not_know(call: Caller) -> None:
    model = {
        "platform_name": "small",
        "platform_domain": "lab.local",
        "platform_segments": [
            {
                "name": "one",
                "cidr": "10.0.1.0/24",
                "ssh_ports": {"first": 2211, "last": 2212},
                "hosts": [{"name": "web", "address": "10.0.1.10", "ssh_port": 2211}, {"name": "mail", "address": "10.0.1.11", "ssh_port": 2212}],
            }
        ],
        "platform_host": {"distribution": "Plan9"},
    }
    with private_network():
        run("ip", "link", "add", "docker0", "type", "bridge")
        run("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
        run("ip", "link", "set", "docker0", "up")
        with socket.create_server(("0.0.0.0", 2212)):
            answer = call(model, host=True)

    assert [(finding["rule"], finding["path"], finding["found"]) for finding in answer["findings"]] == [
        ("ssh-port-taken", "platform_segments[one].hosts[mail].ssh_port", 2212),
        ("undeclared-route", "platform_ranges", "172.17.0.0/16"),
        ("distribution", "platform_host.distribution", "Plan9"),
    ]


# Listens under the name of a program, on a TCP or UDP port of an address, until its input ends.
LISTEN = """
import pathlib, socket, sys
name, kind, address, port = sys.argv[1:]
pathlib.Path("/proc/self/comm").write_text(name)
taken = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
taken.bind((address, int(port)))
if kind == "tcp":
    taken.listen()
print("listens", flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(name: str, kind: str, address: str, port: int) -> Iterator[int]:
    """The process's number."""
    argv = [sys.executable, "-c", LISTEN, name, kind, address, str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        yield process.pid
        process.stdin.close()


def workload(published: int, protocol: str) -> dict[str, Any]:
    """The variables of a workload that publishes one port."""
    return {
        "platform_container_images": [{"name": "web", "reference": "web@sha256:" + "0" * 64}],
        "platform_workloads": [
            {"name": "web", "image": "web", "ports": [{"published": published, "target": 80, "protocol": protocol, "from": ["internet"]}]},
        ],
    }


@pytest.mark.parametrize(("protocol", "address"), [("tcp", "127.0.0.1"), ("tcp", "::1"), ("udp", "0.0.0.0")])
def test_a_published_port_that_something_but_docker_has_is_refused_with_its_name(call: Caller, protocol: str, address: str) -> None:
    model = {
        "platform_name": "small",
        "platform_domain": "lab.local",
        "platform_segments": [{"name": "one", "cidr": "172.31.255.248/29", "internet": False}],
        **{key: lab_model()[key] for key in ("platform_docker", "platform_ranges")},
        **workload(25, protocol),
    }
    with private_network():
        with listening("dockerd", protocol, address, 25):
            assert call(model, host=True)["findings"] == []
        with listening("master", protocol, address, 25) as pid:
            (finding,) = call(model, host=True)["findings"]

    assert (finding["rule"], finding["path"]) == ("port-taken", "platform_workloads[web].ports[0].published")
    shown = f"[{address}]" if ":" in address else address
    assert finding["reason"] == f"is taken: master (pid {pid}) listens on {shown}:25 of this host already, so Docker cannot publish it"
    assert f"systemctl status {pid}" in finding["cure"]


def test_host_that_cannot_be_read(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[Route]:
        raise FileNotFoundError(2, "No such file or directory", "/proc/net/route")

    monkeypatch.setattr(platform_check, "read_routes", refuse)

    answer = call(lab_model(), host=True)

    assert answer["failed"] is True
    assert "/proc/net/route" in answer["msg"]
    assert "Mount /proc" in answer["msg"]


@pytest.mark.parametrize(("text", "reason"), [("{'platform_name': 'lab'}", "is no JSON"), ("[]", "must be a mapping")])
def test_model_that_is_no_mapping(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, reason: str) -> None:
    answer = call_module(platform_check, {"model": text, "_ansible_remote_tmp": str(tmp_path)}, capsys)

    assert answer["failed"] is True
    assert reason in answer["msg"]
