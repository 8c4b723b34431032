# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What mail programs and other servers are told over HTTPS."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import (
    autoconfig,
    autodiscover,
    certificate_names,
    mta_sts_id,
    mta_sts_policy,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Listener, Mail, MailDomain

PEOPLE = ("internet", "tailnet")
MAIL = Mail(
    hostname="mail.example.com",
    domains=(MailDomain("example.com"), MailDomain("xn--mnchen-3ya.example")),
    admins=("admin@example.com",),
    listeners=tuple(
        Listener(name, port, PEOPLE)
        for name, port in (("smtp", 25), ("submission", 587), ("submissions", 465), ("imap", 143), ("imaps", 9993), ("https", 443), ("webmail", 8443))
    ),
)


def test_settings_for_thunderbird() -> None:
    root = ElementTree.fromstring(autoconfig(MAIL, MAIL.domains[1]))

    assert root.findtext("emailProvider/domain") == "xn--mnchen-3ya.example"
    found = [
        (server.tag, server.get("type"), server.findtext("hostname"), server.findtext("port"), server.findtext("socketType"))
        for server in root.iter()
        if server.tag.endswith("Server")
    ]
    assert found == [
        ("incomingServer", "imap", "mail.example.com", "9993", "SSL"),
        ("incomingServer", "imap", "mail.example.com", "143", "STARTTLS"),
        ("outgoingServer", "smtp", "mail.example.com", "465", "SSL"),
        ("outgoingServer", "smtp", "mail.example.com", "587", "STARTTLS"),
    ]
    assert {server.findtext("username") for server in root.iter() if server.tag.endswith("Server")} == {"%EMAILADDRESS%"}


def test_settings_for_outlook_name_one_server_of_each_kind() -> None:
    spaces = {"o": "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"}
    implicit = replace(MAIL, listeners=tuple(one for one in MAIL.listeners if one.name != "submissions"))
    root = ElementTree.fromstring(autodiscover(implicit))

    found = [
        [protocol.findtext(f"o:{key}", namespaces=spaces) for key in ("Type", "Port", "Encryption")] for protocol in root.iterfind(".//o:Protocol", spaces)
    ]
    assert found == [["IMAP", "9993", "SSL"], ["SMTP", "587", "TLS"]]
    assert "LoginName" not in autodiscover(MAIL)


def test_policies_of_mta_sts() -> None:
    testing, enforced, none = (replace(MAIL.domains[0], mta_sts=mode) for mode in ("testing", "enforce", "none"))

    assert mta_sts_policy(MAIL, enforced) == "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 1209600\r\n"
    assert "mode: testing\r\n" in mta_sts_policy(MAIL, testing)
    # Without servers, as RFC 8461 8.3 has it for domains that give it up.
    assert mta_sts_policy(MAIL, none) == "version: STSv1\r\nmode: none\r\nmax_age: 86400\r\n"
    ids = {mta_sts_id(MAIL, domain) for domain in (testing, enforced, none)}
    assert len(ids) == 3
    assert all(found.isalnum() and len(found) <= 32 for found in ids)
    assert mta_sts_id(replace(MAIL, hostname="mx.example.com"), testing) not in ids


def test_names_for_the_certificate() -> None:
    assert certificate_names(MAIL) == [
        "mail.example.com",
        *(f"{prefix}.{domain}" for domain in ("example.com", "xn--mnchen-3ya.example") for prefix in ("mta-sts", "autoconfig", "autodiscover")),
    ]
    assert certificate_names(replace(MAIL, listeners=())) == ["mail.example.com"]
