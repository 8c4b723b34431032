# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sound workloads, images and secrets are taken as they are meant, and no finding shows a secret. Faulty ones stand in bad_models_workloads.yml."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mounts import CONFIG_BYTES_MAX
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_secrets import SECRET_BYTES_MAX
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import FileUse, Port, Secret, Update, Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import check_platform, parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_container_images, parse_secrets, parse_workloads
from ansible_collections.hybridlab.platform.tests.unit.bad_models import BAD_MODELS, LAB_VARIABLES, lab_model

SANDBOX_WORKLOADS = LAB_VARIABLES.parents[2] / "sandbox" / "group_vars" / "all" / "workloads.yml"
PORT = {"published": 8080, "target": 80, "from": ["host"]}


def parse(**keys: Any) -> Workload:
    (workload,) = parse_workloads([{"name": "web", "image": "web", **keys}], "lab")
    return workload


def rules(config: list[dict[str, Any]], **given: Any) -> list[tuple[str, str]]:
    with pytest.raises(ModelError) as caught:
        parse_workloads(config, "lab", **given)
    return [(finding.rule, finding.path) for finding in caught.value.findings]


def test_a_line_is_enough_and_the_defaults_are_safe() -> None:
    workload = parse()

    assert workload == Workload("web", "web", "lab")
    assert (workload.read_only, workload.cap_drop, workload.cap_add, workload.init, workload.ports) == (True, ("ALL",), (), True, ())


def test_the_lab_s_workloads_are_sound() -> None:
    services = parse_platform(lab_model()).services

    web, edge = [workload for workload in services.workloads if workload.stack == "demo"]
    assert (web.stack, web.replicas, web.update.order, web.ports) == ("demo", 2, "start-first", ())
    assert web.secrets == (FileUse("web_token", "/run/secrets/web_token", 0o400, "10001", "10001"),)
    assert edge.ports == (Port(8080, 8080, ("internet", "host", "management")),)
    assert [image.name for image in services.images] == ["base", "web", "edge"]
    assert [secret.name for secret in services.secrets if not secret.name.startswith("mail_")] == ["web_token", "sendgrid_api_key"]


def test_the_sandbox_has_the_same_two() -> None:
    variables = yaml.safe_load(SANDBOX_WORKLOADS.read_text(encoding="utf-8"))
    images = parse_container_images(variables["platform_container_images"])

    workloads = parse_workloads(variables["platform_workloads"], "sandbox", [image.name for image in images], ["web_token"], ["management"])
    assert [workload.name for workload in workloads] == ["web", "edge"]


@pytest.mark.parametrize(
    ("user", "owner"),
    [("1000:1001", ("1000", "1001")), ("1000", ("1000", "0")), ("1000:staff", ("1000", "0")), (None, ("0", "0"))],
)
def test_files_belong_to_the_user_of_the_container(user: str, owner: tuple[str, str]) -> None:
    keys = {} if user is None else {"user": user}
    workload = parse(secrets=["token"], configs=[{"name": "site", "target": "/etc/site", "content": "x"}], **keys)

    for use, mode in ((workload.secrets[0], 0o400), (workload.configs[0], 0o444)):
        assert (use.uid, use.gid, use.mode) == (*owner, mode)


def test_a_secret_says_itself_who_may_read_it() -> None:
    workload = parse(user="web", secrets=[{"name": "token", "target": "/etc/token", "mode": "0440", "uid": "33", "gid": "34"}])

    assert workload.secrets == (FileUse("token", "/etc/token", 0o440, "33", "34"),)
    assert parse(user="web", secrets=[{"name": "token", "mode": "0444"}]).secrets[0].mode == 0o444


def test_capabilities_have_their_plain_names() -> None:
    assert parse(cap_add=["cap_net_bind_service", "CHOWN"]).cap_add == ("NET_BIND_SERVICE", "CHOWN")
    assert parse(cap_drop=[]).cap_drop == ()


def test_an_empty_value_is_a_value() -> None:
    workload = parse(environment={"EMPTY": ""}, args=["--prefix", ""])

    assert (workload.environment, workload.args) == ({"EMPTY": ""}, ("--prefix", ""))


def test_zero_is_no_default() -> None:
    workload = parse(replicas=0, update={"delay_seconds": 0, "max_failure_percent": 0}, health={"command": ["true"], "start_seconds": 0})

    assert workload.replicas == 0
    assert workload.health is not None
    assert workload.health.start_seconds == 0


def test_where_names_are_not_known_they_are_taken_on_trust() -> None:
    config = [{"name": "web", "image": "any", "secrets": ["any"], "ports": [{**PORT, "from": ["anywhere"]}]}]

    (workload,) = parse_workloads(config, "lab")
    assert (workload.image, workload.ports[0].sources) == ("any", ("anywhere",))
    assert sorted(rules(config, images=["web"], secrets=[], segments=["public"])) == [
        ("image-unknown", "platform_workloads[web].image"),
        ("port-from", "platform_workloads[web].ports[0].from[0]"),
        ("secret-unknown", "platform_workloads[web].secrets[0]"),
    ]


def test_each_node_of_a_swarm_has_the_port_once() -> None:
    config = [{"name": "web", "image": "web", "replicas": 2, "ports": [PORT]}]

    assert rules(config) == [("replicas-port", "platform_workloads[web].replicas")]
    assert parse_workloads(config, "lab", nodes=2)[0].replicas == 2
    assert rules([{**config[0], "update": {"order": "start-first"}}], nodes=2) == [("start-first-port", "platform_workloads[web].update.order")]
    assert parse_workloads([{**config[0], "update": {"order": "start-first"}}], "lab", nodes=3)[0].update == Update(order="start-first")


def test_the_same_number_for_tcp_and_udp_is_two_ports() -> None:
    ports = [{"published": 53, "target": 53, "from": ["host"], "protocol": protocol} for protocol in ("tcp", "udp")]

    assert [port.protocol for port in parse(ports=ports).ports] == ["tcp", "udp"]


def test_two_workloads_cannot_publish_one_port() -> None:
    config = [{"name": name, "image": "web", "ports": [PORT]} for name in ("one", "two")]

    assert rules(config) == [("port-twice", "platform_workloads[two].ports[0].published")]


def test_another_target_has_ports_of_its_own() -> None:
    """Where each task has an address, neither the number of tasks nor another workload's port is in the way."""
    config = [{"name": name, "image": "web", "target": "ecs", "replicas": 3, "ports": [PORT]} for name in ("one", "two")]

    assert [workload.target for workload in parse_workloads(config, "lab")] == ["ecs", "ecs"]


@pytest.mark.parametrize("source", ["/srv/web", "/data/web", "/var/lib/web", "/etcetera", "/home/web", "/mnt/backup"])
def test_directories_of_the_host_that_a_container_may_have(source: str) -> None:
    assert parse(volumes=[{"source": source, "target": "/data"}]).volumes[0].source == source


@pytest.mark.parametrize("source", ["/etc/ssl", "/var", "/var/lib", "/var/lib/docker/volumes", "/run/user", "/usr/local", "/root/.ssh", "/proc/1", "/var/run"])
def test_directories_of_the_host_that_it_may_not_have(source: str) -> None:
    config = [{"name": "web", "image": "web", "volumes": [{"source": source, "target": "/data"}]}]

    assert rules(config) == [("bind-system", "platform_workloads[web].volumes[0].source")]


def test_images_come_after_what_they_are_made_of() -> None:
    images = parse_container_images(
        [{"name": "web", "context": "w", "base": "php"}, {"name": "php", "context": "p", "base": "os"}, {"name": "os", "rootfs": "t"}]
    )

    assert [image.name for image in images] == ["os", "php", "web"]


@pytest.mark.parametrize("name", ["nginx", "nginx:1.27", "library/nginx", "registry.example:5000/team/web_app", "web.example/a/b:v1"])
def test_references_with_a_digest_are_taken(name: str) -> None:
    reference = f"{name}@sha256:{'0123456789abcdef' * 4}"

    assert parse_container_images([{"name": "web", "reference": reference}])[0].reference == reference


def test_secrets_come_from_a_value_or_a_file() -> None:
    assert parse_secrets({"one": {"value": "a\nb"}, "two": {"file": "/x"}}) == (Secret("one", value="a\nb"), Secret("two", file="/x"))


def test_what_the_engine_could_not_hold_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        parse_secrets({"key": {"value": "x" * (SECRET_BYTES_MAX + 1)}})
    assert [finding.rule for finding in caught.value.findings] == ["secret-large"]
    config = {"name": "site", "target": "/etc/site", "content": "x" * (CONFIG_BYTES_MAX + 1)}
    assert rules([{"name": "web", "image": "web", "configs": [config]}]) == [("config-large", "platform_workloads[web].configs[0].content")]


def test_no_finding_shows_a_secret() -> None:
    """In the tables every value that would be a secret is hunter2, or 8642097531 where it is a number."""
    hiding = [bad for bad in BAD_MODELS if "hunter2" in repr(bad.values) or "8642097531" in repr(bad.values)]

    assert len(hiding) >= 8
    for bad in hiding:
        told = "\n".join(map(str, check_platform(bad.model())))
        assert "hunter2" not in told
        assert "8642097531" not in told


def test_no_text_of_a_secret_shows_its_value() -> None:
    assert "hunter2" not in repr(parse_secrets({"one": {"value": "hunter2"}}))
