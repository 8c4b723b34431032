# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a mail host against the model: each row passes on a sound host, and what is broken fails alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import validate_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_services import Services
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import Port, Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_mail import parse_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answer

MAIL: dict[str, Any] = {
    "hostname": "mail.example.com",
    "admins": ["anna@example.com"],
    "domains": [{"name": "example.com", "mailboxes": [{"local": "anna"}]}],
    "listeners": {"submission": {"port": 1587}, "managesieve": {"from": ["internet"]}},
}


def platform() -> Platform:
    ports = tuple(Port(number, number, ("internet", "host")) for number in (25, 143, 993, 1587, 2525, 4190))
    parts = (Workload(name="dovecot", image="d", stack="mail", ports=ports), Workload(name="redis", image="r", stack="mail"), Workload("web", "w", "demo"))
    found = parse_platform({"platform_name": "lab", "platform_domain": "lab.local", "platform_segments": [{"name": "public", "cidr": "10.0.1.0/24"}]})
    return replace(found, services=Services(workloads=parts, mail=parse_mail(MAIL)))


def sound() -> dict[str, Answer]:
    answers = {key: Answer(0, "") for key in validate_mail.questions(platform())}
    answers["mail_containers"] = Answer(0, "mail_dovecot Up 2 hours (healthy)\nmail_redis Up 2 hours (healthy)\n")
    answers["mail_dkim"] = Answer(0, "example.com/s1.key\nexample.com/s2.key\nother.example/s1.key\n")
    answers["mail_selectors"] = Answer(0, "example.com s1\n")
    return answers


def failed(answers: dict[str, Answer]) -> list[str]:
    return [row.check for row in validate_mail.rows(platform(), answers) if not row.ok]


def test_a_sound_host_passes_and_only_what_the_host_reaches_and_publishes_is_asked() -> None:
    assert failed(sound()) == []
    asked = [key for key in validate_mail.questions(platform()) if key.startswith("mail_tls")]
    assert sorted(asked) == ["mail_tls imap", "mail_tls imaps", "mail_tls smtp", "mail_tls submission"]
    assert validate_mail.questions(replace(platform(), services=Services())) == {}


def test_a_certificate_is_asked_for_by_name_and_by_the_ports_own_protocol() -> None:
    asked = validate_mail.questions(platform())
    submission, imaps = asked["mail_tls submission"][2], asked["mail_tls imaps"][2]
    assert "-connect 127.0.0.1:1587" in submission and "-starttls smtp" in submission
    assert "-verify_hostname mail.example.com" in imaps and "-verify_return_error" in imaps and "-starttls" not in imaps


@pytest.mark.parametrize(
    ("key", "answer", "check"),
    [
        ("mail_containers", Answer(0, "mail_dovecot Up 1 second (health: starting)\nmail_redis Up (healthy)\n"), "container mail_dovecot"),
        ("mail_containers", Answer(0, "mail_dovecot Up 2 hours (healthy)\n"), "container mail_redis"),
        ("mail_containers", Answer(0, "mail_dovecot Up (unhealthy)\nmail_redis Up (healthy)\n"), "container mail_dovecot"),
        ("mail_tls imaps", Answer(1, "", "Verification error: certificate has expired\n"), "port 993 (imaps)"),
        ("mail_tls smtp", Answer(124, ""), "port 25 (smtp)"),
        ("mail_dkim", Answer(0, "example.com/s2.key\n"), "DKIM keys of example.com"),
        ("mail_dkim", Answer(2, "", "No such file or directory"), "DKIM keys of example.com"),
        ("mail_selectors", Answer(0, "example.com s2\n"), "DKIM keys that sign"),
        ("mail_selectors", Answer(1, "", "No such file or directory"), "DKIM keys that sign"),
    ],
)
def test_what_is_broken_fails_alone(key: str, answer: Answer, check: str) -> None:
    assert failed({**sound(), key: answer}) == [check]
