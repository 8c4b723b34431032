# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The printed zones as dnspython reads them: every record arrives as it was meant, and the check takes them."""

from __future__ import annotations

import dns.rdatatype
import dns.zone
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_dns import records, zone_text, zones
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_dns_compare import compare
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model

HEAD = "@ IN SOA ns.example. admin.example. 1 7200 3600 1209600 3600\n@ IN NS ns.example.\n"
KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" * 22  # as of 4096 bits: three strings


def read(name: str, text: str) -> dict[tuple[str, str], list[str]]:
    """{(name, type): values} as a resolver would answer."""
    head, rest = text.split("\n", 1)
    zone = dns.zone.from_text(f"{head}\n{HEAD}{rest}", origin=f"{name}.", relativize=False)
    return {
        (str(owner).rstrip("."), dns.rdatatype.to_text(data.rdtype)): [str(value) for value in data]
        for owner, data in zone.iterate_rdatasets()
        if data.rdtype not in (dns.rdatatype.SOA, dns.rdatatype.NS)
    }


@pytest.mark.parametrize("hostname", ["mail.kuma8088.com", "mx.hosting.example"])
def test_a_real_parser_reads_what_was_meant(hostname: str) -> None:
    model = lab_model()
    model["platform_mail"]["hostname"] = hostname
    model["platform_mail"]["domains"][1]["name"] = "münchen.example"
    mail = parse_platform(model).services.mail
    assert mail is not None
    sheet = records(mail, {domain.name: {"lab1": KEY, "lab2": KEY} for domain in mail.domains}, {"ipv4": "192.0.2.25", "ipv6": "2001:db8::25"}, "ab" * 32)

    told: dict[tuple[str, str], list[str]] = {}
    for name, found in zones(mail, sheet).items():
        told.update(read(name, zone_text(name, found)))

    assert sum(len(values) for values in told.values()) == len(sheet)
    assert compare(sheet, told) == []
    assert told["lab1._domainkey.xn--mnchen-3ya.example", "TXT"][0].count('" "') == 2
    assert f"10 {hostname}." in told["kuma8088.com", "MX"]
