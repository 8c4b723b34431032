# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DNS sheet: what stands in it, how it is written as a zone, and that a check against it never contradicts it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hybridlab.platform.plugins.filter.mail import mail_dns
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_autoconfig import mta_sts_id
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_dns import Record, as_data, rdata, records, strings, zone_text, zones
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_dns_compare import compare
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail, Tls
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.tests.unit.bad_models import lab_model

KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" * 12  # as long as one of 2048 bits: two strings of a TXT
KEYS = {"kuma8088.com": {"lab1": KEY, "lab2": KEY[::-1]}, "webmakeprofit.org": {"lab1": KEY}}
TLSA = "AB" * 32
ADDRESSES = {"ipv4": "192.0.2.25", "ipv6": "2001:db8::25"}


def lab_mail(**values: Any) -> Mail:
    model = lab_model()
    model["platform_mail"].update(values)
    mail = parse_platform(model).services.mail
    assert mail is not None
    return mail


def sheet(mail: Mail) -> list[Record]:
    return records(mail, KEYS, ADDRESSES, TLSA)


def answers_of(found: list[Record]) -> dict[tuple[str, str], list[str]]:
    """What DNS says where all of it was entered, as dig +short writes it."""
    told: dict[tuple[str, str], list[str]] = {}
    for record in found:
        told.setdefault((record.name, record.type), []).append(rdata(record))
    return told


def lines(found: list[Record], name: str) -> dict[str, str]:
    return {record.type: record.value for record in found if record.name == name}


def test_each_domain_has_what_it_needs() -> None:
    mail = lab_mail()
    found = sheet(mail)

    assert lines(found, "mail.kuma8088.com") == {"A": "192.0.2.25", "AAAA": "2001:db8::25", "TXT": "v=spf1 a -all"}
    assert lines(found, "_25._tcp.mail.kuma8088.com") == {"TLSA": f"3 1 1 {TLSA.lower()}"}
    for domain in mail.domains:
        name = domain.name
        assert lines(found, name) == {"MX": "10 mail.kuma8088.com", "TXT": "v=spf1 mx include:sendgrid.net -all"}
        assert lines(found, f"_dmarc.{name}") == {"TXT": f"v=DMARC1; p=quarantine; rua=mailto:postmaster@{name}"}
        assert lines(found, f"_smtp._tls.{name}") == {"TXT": f"v=TLSRPTv1; rua=mailto:postmaster@{name}"}
        assert lines(found, f"_mta-sts.{name}") == {"TXT": f"v=STSv1; id={mta_sts_id(mail, domain)}"}
        for prefix in ("mta-sts", "autoconfig", "autodiscover"):
            assert lines(found, f"{prefix}.{name}") == {"CNAME": "mail.kuma8088.com"}
        services = {"_imaps": 993, "_submissions": 465, "_submission": 587, "_sieve": 4190}
        for service, port in services.items():
            assert lines(found, f"{service}._tcp.{name}") == {"SRV": f"0 1 {port} mail.kuma8088.com"}
    assert lines(found, "lab1._domainkey.kuma8088.com") == {"TXT": f"v=DKIM1; k=rsa; p={KEY}"}
    assert lines(found, "lab2._domainkey.kuma8088.com") == {"TXT": f"v=DKIM1; k=rsa; p={KEY[::-1]}"}
    assert [record.name for record in found if "_domainkey" in record.name and not record.name.endswith("kuma8088.com")] == [
        "lab1._domainkey.webmakeprofit.org"
    ]
    assert all(record.why and record.ttl == 3600 for record in found)
    assert as_data(found)[0].keys() == {"name", "type", "ttl", "value", "why"}


def test_spf_follows_the_way_out() -> None:
    mail = lab_mail()

    def spf(changed: Mail) -> str:
        return next(record.value for record in sheet(changed) if record.name == mail.domains[0].name and record.value.startswith("v=spf1"))

    assert spf(replace(mail, domains=(replace(mail.domains[0], relay=None),))) == "v=spf1 mx -all"
    assert spf(replace(mail, relays=(replace(mail.relays[0], spf=None),))) == "v=spf1 mx ~all"


def test_the_sheet_says_what_is_of_no_use_yet() -> None:
    mail = lab_mail()

    def told(changed: Mail) -> set[str]:
        return {record.name.partition(".")[0] for record in sheet(changed) if "public CA only" in record.why}

    assert told(mail) == {"_mta-sts", "mta-sts", "autoconfig", "autodiscover"}
    assert told(replace(mail, tls=Tls("chain.pem", "key"))) == set()
    assert [record.type for record in sheet(mail) if "closed to IPv6" in record.why] == ["AAAA"]


def test_what_the_internet_does_not_reach_is_not_announced() -> None:
    found = sheet(lab_mail(listeners={"https": {"from": ["tailnet"]}, "imaps": {"from": ["management"]}, "managesieve": None}))

    names = {record.name.partition(".kuma8088.com")[0] for record in found}
    assert names.isdisjoint({"mta-sts", "_mta-sts", "autoconfig", "autodiscover", "_imaps._tcp", "_sieve._tcp"})
    assert "_submissions._tcp" in names


def test_names_that_a_relay_asks_for() -> None:
    mail = lab_mail()
    domain = replace(mail.domains[0], cnames=(("s1._domainkey", "s1.domainkey.u1.wl.sendgrid.net"),))

    assert lines(sheet(replace(mail, domains=(domain,))), "s1._domainkey.kuma8088.com") == {"CNAME": "s1.domainkey.u1.wl.sendgrid.net"}


def test_long_texts_are_cut_into_strings() -> None:
    assert [len(piece) for piece in strings("x" * 600)] == [255, 255, 90]
    record = Record("a.example", "TXT", 60, "x" * 256 + '"\\', "")
    assert rdata(record) == f'"{"x" * 255}" "x\\"\\\\"'


def test_records_go_into_the_zone_that_holds_them() -> None:
    mail = lab_mail(hostname="mx.hosting.example")
    found = zones(mail, sheet(mail))

    assert set(found) == {"hosting.example", *(domain.name for domain in mail.domains)}
    assert {record.type for record in found["hosting.example"]} == {"A", "AAAA", "TXT", "TLSA"}
    text = zone_text("hosting.example", found["hosting.example"]).splitlines()
    assert text[:2] == ["$ORIGIN hosting.example.", "$TTL 3600"]
    assert "mx.hosting.example. 3600 IN A 192.0.2.25" in text


def test_the_check_agrees_with_its_own_advice() -> None:
    found = sheet(lab_mail())
    assert compare(found, answers_of(found)) == []

    missing = compare(found, {})
    assert {(difference.name, difference.type) for difference in missing} == {(record.name, record.type) for record in found}
    assert {difference.kind for difference in missing} == {"missing"}


def test_whoever_follows_each_advice_ends_without_one() -> None:
    """From any state of the zone: every difference is repaired as it says, and none is left."""
    found = sheet(lab_mail())
    generator = random.Random(8)
    for _round in range(50):
        told = {key: list(values) for key, values in answers_of(found).items() if generator.random() < 0.7}
        for key in generator.sample(sorted(told), 5):
            told[key].append({"TXT": '"v=spf1 -all"', "MX": "5 old.example."}.get(key[1], "192.0.2.99"))
        for difference in compare(found, told):
            sort = difference.wanted.split(";")[0].split(" ")[0] if difference.wanted and difference.type == "TXT" else ""
            kept = [value for value in told.get((difference.name, difference.type), []) if sort and not value.startswith(f'"{sort}')]
            told[difference.name, difference.type] = [*kept, *(difference.wanted or "").split(", ")]
        assert compare(found, told) == []


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("kuma8088.com", "MX", ["5 MAIL.Kuma8088.com."]),
        ("kuma8088.com", "TXT", ['"google-site-verification=x"', '"v=spf1 include:sendgrid.net +mx -all"']),
        ("kuma8088.com", "TXT", ['"v=spf1 mx include:sendgrid.net include:news.example -all"']),
        ("_dmarc.kuma8088.com", "TXT", ['"v=DMARC1;rua=mailto:me@example.com;ruf=mailto:me@example.com; p=quarantine;"']),
        ("lab1._domainkey.kuma8088.com", "TXT", [f'"v=DKIM1;k=rsa;" "p={KEY[:200]}" "{KEY[200:]}"']),
        ("_25._tcp.mail.kuma8088.com", "TLSA", [f"3 1 1 {TLSA[:40]} {TLSA[40:]}"]),
        ("mail.kuma8088.com", "AAAA", ["2001:DB8:0:0::25"]),
    ],
)
def test_other_spellings_are_the_same(name: str, kind: str, values: list[str]) -> None:
    found = sheet(lab_mail())
    assert compare(found, {**answers_of(found), (name, kind): values}) == []


def test_addresses_may_stand_for_a_cname() -> None:
    found = sheet(lab_mail())
    told = answers_of(found)
    del told["autoconfig.kuma8088.com", "CNAME"]

    assert compare(found, {**told, ("autoconfig.kuma8088.com", "A"): ["192.0.2.25"]}) == []
    (difference,) = compare(found, {**told, ("autoconfig.kuma8088.com", "A"): ["192.0.2.26"]})
    assert (difference.name, difference.kind) == ("autoconfig.kuma8088.com", "missing")


@pytest.mark.parametrize(
    ("name", "kind", "values", "fault"),
    [
        ("kuma8088.com", "MX", ["10 mail.kuma8088.com.", "20 old.example."], "doubled"),
        ("kuma8088.com", "MX", ["10 old.example."], "different"),
        ("kuma8088.com", "TXT", ['"v=spf1 mx include:sendgrid.net -all"', '"v=spf1 -all"'], "doubled"),
        ("kuma8088.com", "TXT", ['"v=spf1 mx include:sendgrid.net ~all"'], "different"),
        ("kuma8088.com", "TXT", ['"v=spf1 mx -all"'], "different"),
        ("_dmarc.kuma8088.com", "TXT", ['"v=DMARC1; p=none; rua=mailto:postmaster@kuma8088.com"'], "different"),
        ("_dmarc.kuma8088.com", "TXT", ['"v=DMARC1; p=quarantine"'], "different"),
        ("lab1._domainkey.kuma8088.com", "TXT", ['"v=DKIM1; k=rsa; p=MIIB"'], "different"),
        ("_mta-sts.kuma8088.com", "TXT", ['"v=STSv1; id=1"'], "different"),
        ("mail.kuma8088.com", "A", ["192.0.2.26"], "different"),
        ("_imaps._tcp.kuma8088.com", "SRV", ["0 1 143 mail.kuma8088.com."], "different"),
    ],
)
def test_what_has_another_effect_is_told(name: str, kind: str, values: list[str], fault: str) -> None:
    found = sheet(lab_mail())
    (difference,) = compare(found, {**answers_of(found), (name, kind): values})

    assert (difference.name, difference.type, difference.kind) == (name, kind, fault)
    assert str(difference.wanted) in difference.cure


def test_the_filter_gives_the_sheet_and_refuses_a_faulty_model() -> None:
    mail = lab_model()["platform_mail"]
    found = mail_dns(mail, KEYS, ADDRESSES, TLSA)

    assert found["records"] == as_data(sheet(lab_mail()))
    assert set(found["zones"]) == {"kuma8088.com", "fx-trader-life.com", "webmakeprofit.org", "webmakesprofit.com"}
    assert found["certificate_names"][0] == "mail.kuma8088.com"
    with pytest.raises(AnsibleFilterError, match="is not fully qualified"):
        mail_dns({**mail, "hostname": "mail"})
