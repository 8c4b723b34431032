# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is reached by HTTPS: sound entries of platform_workloads, and servers of nginx that tell each domain's texts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_web
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import autoconfig, autodiscover, mta_sts_policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import LISTENERS, Listener, Mail, MailDomain
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_container_images, parse_workloads

IMAGES = Path(__file__).parents[3] / "images"
MAIL = Mail(
    hostname="mail.example.com",
    domains=(MailDomain("example.com", mta_sts="enforce"), MailDomain("xn--mnchen-3ya.example")),
    admins=("admin@example.com",),
    listeners=tuple(Listener(name, port, ("internet",)) for name, port in LISTENERS.items()),
)
PRIVATE = replace(MAIL, listeners=tuple(one for one in MAIL.listeners if one.name != "https"))
PUBLIC = replace(MAIL, webmail=False)
NOTHING = replace(PRIVATE, webmail=False)
# nginx, src/core/ngx_conf_file.c: NGX_CONF_BUFFER. A longer word is refused.
WORD_MAX = 4096


def entries(mail: Mail) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in mail_web.workloads(mail)}


def words(conf: str) -> list[str]:
    """The texts that nginx returns, read as it reads them (ngx_conf_read_token)."""
    found = re.findall(r'return 200 "((?:[^"\\]|\\.)*)";', conf, re.S)
    escapes = {"n": "\n", "r": "\r", '"': '"', "\\": "\\"}
    return [re.sub(r"\\(.)", lambda match: escapes[match[1]], word) for word in found]


def servers(conf: str) -> dict[str, str]:
    parts = re.split(r"(?m)^server \{$", conf)[1:]
    return {str(re.search(r"server_name (\S+);", part)[1]): part for part in parts if "public.conf" in part}  # type: ignore[index]


@pytest.mark.parametrize("mail", [MAIL, PRIVATE, PUBLIC])
def test_entries_are_taken_and_run_without_rights(mail: Mail) -> None:
    images = [{"name": "base", "rootfs": "/base.tar"}, *mail_web.images(mail, "/images")]
    assert [image.name for image in parse_container_images(images)] == [image["name"] for image in images]

    found = parse_workloads(mail_web.workloads(mail), "lab", images=[image["name"] for image in images])

    for workload in found:
        assert (workload.read_only, workload.cap_drop, workload.cap_add) == (True, ("ALL",), ()), workload.name
        assert workload.user is not None and not workload.user.startswith("0"), workload.name
        assert workload.memory_mb and workload.health is not None and workload.stack == mail.stack, workload.name
        assert all(port.target > 1024 for port in workload.ports), workload.name
        for secret in workload.secrets:
            assert (secret.uid, secret.mode) == (workload.user.partition(":")[0], 0o400), workload.name


def test_who_runs_with_the_webmail_and_without() -> None:
    assert list(entries(MAIL)) == ["mariadb", "accounts", "roundcube", "nginx"]
    assert list(entries(PUBLIC)) == ["nginx"]
    assert mail_web.workloads(NOTHING) == [] and mail_web.images(NOTHING, "/images") == []
    assert [image["name"] for image in mail_web.images(PUBLIC, "/images")] == ["mail-roundcube", "mail-nginx"]
    assert mail_web.secrets(PUBLIC) == [] and mail_web.backup(PUBLIC) == []


def test_ports() -> None:
    assert [(port["published"], port["target"]) for port in entries(MAIL)["nginx"]["ports"]] == [(443, 4443), (8443, 8443)]
    assert [port["published"] for port in entries(PUBLIC)["nginx"]["ports"]] == [443]
    assert [port["published"] for port in entries(PRIVATE)["nginx"]["ports"]] == [8443]
    assert entries(PUBLIC)["nginx"]["health"]["command"][1:] == ["public:mta-sts.example.com:/.well-known/mta-sts.txt"]
    assert entries(PRIVATE)["nginx"]["health"]["command"][1:] == ["webmail"]


def test_secrets_are_files_of_those_who_need_them() -> None:
    used = {name: [secret["name"] for secret in entry.get("secrets", [])] for name, entry in entries(MAIL).items()}
    assert used == {"mariadb": ["mail_roundcube_db"], "accounts": [], "roundcube": ["mail_roundcube_db", "mail_roundcube_key"], "nginx": []}
    assert mail_web.secrets(MAIL) == ["mail_roundcube_db", "mail_roundcube_key"]
    assert not any(entry.get("environment") for entry in entries(MAIL).values())


def test_each_domain_is_told_its_own() -> None:
    found = servers(mail_web.servers_conf(MAIL))

    assert len(found) == 1 + 3 * len(MAIL.domains)
    for domain in MAIL.domains:
        assert words(found[f"mta-sts.{domain.name}"]) == [mta_sts_policy(MAIL, domain)]
        assert words(found[f"autoconfig.{domain.name}"]) == [autoconfig(MAIL, domain)] * 2
        assert words(found[f"autodiscover.{domain.name}"]) == [autodiscover(MAIL)]
    assert words(found["_"]) == []


def test_the_longest_names_fit_into_a_word() -> None:
    label = "x" * 63
    name = ".".join([label, label, label, "x" * 40])
    for text in words(mail_web.servers_conf(replace(MAIL, hostname=name, domains=(MailDomain(name),)))):
        assert len(text) + text.count('"') + 2 * text.count("\n") < WORD_MAX
        assert "$" not in text


def test_the_webmail_is_served_only_where_it_is_wanted() -> None:
    assert "webmail.conf" in mail_web.servers_conf(MAIL) and "webmail.conf" not in mail_web.servers_conf(PUBLIC)
    assert "public.conf" not in mail_web.servers_conf(PRIVATE)
    assert "client_max_body_size 48m;" in mail_web.servers_conf(replace(MAIL, message_mb=40))
    assert json.loads(mail_web.model_json(MAIL)) == {"hostname": "mail.example.com", "message_mb": 25}


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ("_task=login", True),
        ("_task=login&_action=login", True),
        ("", False),
        ("_task=mail", False),
        ("_task=mail&_task=login", False),
        ("_task=logi%6e", False),
        ("_task=login%3Cb%3E", False),
    ],
)
def test_only_what_nginx_counts_is_a_login(query: str, taken: bool) -> None:
    """Roundcube takes the task from body and cookies too, the last of several, and without tags; nginx sees the first in the address."""
    nginx = (IMAGES / "mail_nginx/nginx.conf").read_text(encoding="utf-8")
    assert 'map "$request_method:$arg__task" $login_client' in nginx and '"POST:login" $binary_remote_addr;' in nginx
    config = (IMAGES / "mail_roundcube/config.inc.php").read_text(encoding="utf-8")
    pattern = re.search(r"isset\(\$_POST\['_user'\], \$_POST\['_pass'\]\) && !preg_match\('/(.*)/'", config)
    assert pattern is not None
    assert bool(re.search(pattern[1], query)) is taken


def test_the_dump_stands_for_the_volume() -> None:
    (service,) = mail_web.backup(MAIL)
    assert service["workload"] in entries(MAIL)
    assert service["dump"]["volumes"] == ["mail_mariadb"]
    for command in (service["dump"]["command"], service["restore"]["command"], service["restore"]["ready"]):
        assert (IMAGES / "mail_mariadb" / Path(command[0]).name).is_file()


def test_health_commands_are_in_the_images() -> None:
    for entry in entries(MAIL).values():
        assert (IMAGES / entry["image"].replace("-", "_") / Path(entry["health"]["command"][0]).name).is_file()
