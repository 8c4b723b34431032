# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sound mail models are taken as they are meant. Faulty ones stand in bad_models_mail.yml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_mail, check_mail_dns
from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_mail_address as addresses
from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_mail_domains as domains
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_context import Context
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_mail import backup_hint, read_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import Faults
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_backup import Backup, BackupService
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import LISTENERS, Alias, Group, Listener, Mail, Mailbox
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import check_platform, parse_platform
from ansible_collections.hybridlab.platform.tests.unit.bad_models import BAD_MODELS, lab_model
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[3]
SANDBOX = ROOT / "inventories" / "sandbox" / "group_vars" / "all"


def lab_mail(**values: Any) -> Mail:
    model = lab_model()
    model["platform_mail"].update(values)
    mail = parse_platform(model).services.mail
    assert mail is not None
    return mail


def with_domain(**values: Any) -> Mail:
    """The lab's mail with values of its first domain."""
    return lab_mail(domains=[{**lab_model()["platform_mail"]["domains"][0], **values}, *lab_model()["platform_mail"]["domains"][1:]])


def findings(mail: dict[str, Any]) -> list[tuple[str, str]]:
    model = lab_model()
    model["platform_mail"] = mail
    return [(finding.rule, finding.path) for finding in check_platform(model)]


def test_the_lab_has_its_four_domains() -> None:
    mail = lab_mail()

    assert [domain.name for domain in mail.domains] == ["kuma8088.com", "fx-trader-life.com", "webmakeprofit.org", "webmakesprofit.com"]
    assert {domain.relay for domain in mail.domains} == {"sendgrid"}
    (relay,) = mail.relays
    assert (relay.host, relay.port, relay.username, relay.password, relay.tls) == ("smtp.sendgrid.net", 587, "apikey", "sendgrid_api_key", "verify")
    # data/mail/<domain>/<user>/new
    assert f"{mail.directory}/mail/kuma8088.com/admin/new".endswith("/data/mail/kuma8088.com/admin/new")
    assert mail.domains[0].mailboxes == (Mailbox("admin@kuma8088.com", "mail_kuma8088_admin", "Administrator", 10240),)
    assert mail.domains[1].aliases == (Alias("contact@fx-trader-life.com", ("info@fx-trader-life.com",)),)
    assert mail.domains[2].groups == (Group("team@webmakeprofit.org", ("info@webmakeprofit.org", "admin@kuma8088.com"), "members"),)
    assert mail.domains[3].catch_all == "info@webmakesprofit.com"


def test_without_mail_there_is_none() -> None:
    model = lab_model()
    model["platform_mail"] = None
    assert parse_platform(model).services.mail is None
    del model["platform_mail"]
    assert parse_platform(model).services.mail is None


def test_the_sandbox_example_is_sound() -> None:
    model = lab_model() | yaml.safe_load((SANDBOX / "mail.yml.example").read_text(encoding="utf-8"))
    template = model["platform_mail"]["relays"][0]
    assert template["host"] == "{{ sandbox_connection.internet_address }}"
    template["host"] = "172.30.0.2"

    mail = parse_platform(model).services.mail

    assert mail is not None
    assert [(domain.name, domain.relay) for domain in mail.domains] == [("lab.example", "smarthost"), ("second.example", None)]
    assert mail.antivirus.update is False


def test_defaults_open_each_port_to_whom_it_is_for() -> None:
    mail = lab_mail(listeners={})

    assert {listener.name: listener.port for listener in mail.listeners} == {name: port for name, port in LISTENERS.items() if name != "lmtp"}
    people = ("internet", "tailnet", "host")
    expected = dict.fromkeys(LISTENERS, people) | {"smtp": ("internet", "host"), "webmail": ("tailnet", "host", "management")}
    del expected["lmtp"]
    assert {listener.name: listener.sources for listener in mail.listeners} == expected


def test_lmtp_is_published_only_where_the_model_names_it() -> None:
    assert lab_mail(listeners={}).listener("lmtp") is None
    assert lab_mail(listeners={"lmtp": {}}).listener("lmtp") == Listener("lmtp", 2525, ("tailnet",))


def test_listeners_are_changed_one_by_one() -> None:
    mail = lab_mail(listeners={"imap": None, "imaps": {"port": 1993}, "smtp": {"from": ["internet", "private"]}}, webmail=False)

    assert mail.listener("imap") is mail.listener("webmail") is None
    imaps, smtp, sieve = (mail.listener(name) for name in ("imaps", "smtp", "managesieve"))
    assert imaps is not None and (imaps.port, imaps.sources) == (1993, ("internet", "tailnet", "host"))
    assert smtp is not None and (smtp.port, smtp.sources) == (25, ("internet", "private"))
    assert sieve is not None and sieve.port == 4190


def test_a_port_closed_in_mail_is_free_for_a_workload() -> None:
    model = lab_model()
    model["platform_workloads"][1]["ports"][0]["published"] = 443
    assert [finding.rule for finding in check_platform(model)] == ["mail-port-workload"]
    model["platform_mail"]["listeners"] = {"https": None}
    assert check_platform(model) == []


def test_addresses_in_any_spelling() -> None:
    mail = with_domain(
        mailboxes=[{"local": "admin"}, {"local": "Jane.Doe", "forward_to": ["Jane@MÜNCHEN.Example", "admin+jane"], "keep_copy": False}],
        aliases=[{"local": "o'brien", "to": ["jane.doe", "x+y@example.com"]}],
    )

    _admin, jane = mail.domains[0].mailboxes
    assert (jane.address, jane.forward_to, jane.keep_copy) == ("jane.doe@kuma8088.com", ("jane@xn--mnchen-3ya.example", "admin+jane@kuma8088.com"), False)
    assert mail.domains[0].aliases == (Alias("o'brien@kuma8088.com", ("jane.doe@kuma8088.com", "x+y@example.com")),)


def test_without_details_a_plus_is_a_letter() -> None:
    mail = lab_mail(subaddress=None)
    assert mail.subaddress is None

    model = lab_model()["platform_mail"]
    model["subaddress"] = None
    model["domains"][0]["aliases"] = [{"local": "a+b", "to": ["admin"]}, {"local": "c", "to": ["admin+x"]}]
    assert findings(model) == [("mail-target-unknown", "platform_mail.domains[kuma8088.com].aliases[c].to[0]")]


def test_a_domain_may_leave_the_common_relay() -> None:
    assert with_domain(relay=None).domains[0].relay is None


def test_quota_of_a_domain_is_that_of_its_mailboxes() -> None:
    mail = with_domain(quota_mb=500, mailboxes=[{"local": "admin"}, {"local": "much", "quota_mb": 0}, {"local": "some", "quota_mb": 100}])
    assert [mailbox.quota_mb for mailbox in mail.domains[0].mailboxes] == [500, 0, 100]


def test_a_list_that_postfix_would_not_expand() -> None:
    model = lab_model()["platform_mail"]
    model["domains"][2]["groups"][0].update(members=[f"member{index}@example.com" for index in range(1001)], senders="anyone")
    assert findings(model) == [("mail-list-long", "platform_mail.domains[webmakeprofit.org].groups[team].members")]
    model["domains"][2]["groups"][0]["members"].pop()
    assert findings(model) == []


def test_who_is_forwarded_to_may_be_caught() -> None:
    """A target that only the catch-all takes is delivered, so it is no fault; the catch-all itself needs an address that somebody named."""
    model = lab_model()["platform_mail"]
    model["domains"][0]["aliases"] = [{"local": "sales", "to": ["whoever@webmakesprofit.com"]}]
    assert findings(model) == []
    model["domains"][0]["catch_all"] = "whoever@webmakesprofit.com"
    assert findings(model) == [("mail-target-unknown", "platform_mail.domains[kuma8088.com].catch_all")]


def test_no_finding_shows_a_secret() -> None:
    model = lab_model()["platform_mail"]
    model["relays"][0]["password"] = "SG.very-secret"
    model["domains"][0]["mailboxes"][0]["passwd"] = "SG.very-secret"
    model["tls"] = {"certificate": "c.pem", "key": "SG.very-secret"}
    full = lab_model() | {"platform_mail": model}
    found = check_platform(full)
    assert len(found) == 3
    assert all("very-secret" not in str(finding) for finding in found)


def test_hint_for_the_backup() -> None:
    mail = lab_mail()

    assert "/data/mail/data" in str(backup_hint(mail, None))
    assert "platform_backup.paths" in str(backup_hint(mail, Backup(paths=("/data/mail/data2", "/data/mail/data/accounts"))))
    assert backup_hint(mail, Backup(paths=("/data/mail",))) is None
    assert backup_hint(mail, Backup(services=(BackupService("mail", paths=("/data/mail/data",)),))) is None


def test_a_closed_group_may_lead_to_a_closed_group() -> None:
    groups = [{"local": name, "members": members, "senders": "members"} for name, members in (("staff", ["admin", "heads"]), ("heads", ["admin"]))]
    assert [group.address for group in with_domain(groups=groups).domains[0].groups] == ["staff@kuma8088.com", "heads@kuma8088.com"]


def test_there_are_enough_bad_models_of_mail() -> None:
    assert len([bad for bad in BAD_MODELS if bad.group == "Mail"]) >= 50


@given(st.text(max_size=70))
def test_local_parts_are_plain_or_refused(text: str) -> None:
    """Nothing that a map, a path or a protocol could take for more than a name gets through; what gets through stays as it is."""
    faults = Faults()
    found = addresses.own_local(faults, "here", text, "+", login=True)

    assert (found is None) == bool(faults.items)
    if found is not None:
        assert found.isascii() and found == found.lower() and not set(found) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert found not in (".", "..") and len(found) <= 64
        assert addresses.own_local(Faults(), "here", found, "+", login=True) == found


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_domains_are_names_of_dns_or_refused(text: str) -> None:
    faults = Faults()
    found = addresses.mail_domain(faults, "here", text)

    assert (found is None) == bool(faults.items)
    if found is not None:
        assert all(0 < len(label) <= 63 and not set(label) - set("abcdefghijklmnopqrstuvwxyz0123456789-") for label in found.split("."))
        assert addresses.mail_domain(Faults(), "here", found) == found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("日本語。jp", "xn--wgv71a119e.jp"),
        ("xn--strae-oqa.example", "xn--strae-oqa.example"),
    ],
)
def test_domains_become_a_labels(text: str, name: str) -> None:
    faults = Faults()
    assert addresses.mail_domain(faults, "here", text) == name
    assert not faults.items


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True), min_size=1, max_size=7))
def test_circles_are_found_when_there_are_any(edges: list[list[int]]) -> None:
    """edges[i]: what alias i leads to; numbers beyond the aliases are outside."""
    names = [f"a{index}" for index in range(len(edges))]
    raw = {
        "hostname": "mail.other.example",
        "admins": ["admin@own.example"],
        "domains": [
            {
                "name": "own.example",
                "mailboxes": [{"local": "admin"}],
                "aliases": [
                    {"local": names[index], "to": [names[to] if to < len(names) else f"a{to}@else.example" for to in targets]}
                    for index, targets in enumerate(edges)
                ],
            }
        ],
    }
    reached = {index: {to for to in targets if to < len(edges)} for index, targets in enumerate(edges)}
    for _round in edges:
        reached = {index: found.union(*(reached[to] for to in found)) for index, found in reached.items()}
    faults = Faults()
    read_mail(faults, raw, Context(images=("base",)))

    loops = [finding for finding in faults.items if finding.rule == "mail-loop"]
    assert bool(loops) == any(index in found for index, found in reached.items())
    for loop in loops:
        steps = loop.reason.partition(": ")[2].split(" -> ")
        assert steps[0] == steps[-1]
        for here, there in zip(steps, steps[1:]):
            assert int(there[1]) in edges[int(here[1])]


def test_the_example_of_the_page_is_sound() -> None:
    text = (ROOT / "docs" / "mail.md").read_text(encoding="utf-8")
    example = text.partition("```yaml\n")[2].partition("```")[0]
    model, values = lab_model(), yaml.safe_load(example)
    model["platform_secrets"].update(values["platform_secrets"])
    model["platform_mail"] = values["platform_mail"]
    mail = parse_platform(model).services.mail

    assert mail is not None
    first, second = mail.domains
    assert (second.name, second.relay, second.catch_all) == ("xn--mnchen-3ya.example", None, "info@xn--mnchen-3ya.example")
    assert first.aliases == (Alias("sales@example.com", ("jane@example.com", "john@elsewhere.example")),)


def test_the_page_names_every_key() -> None:
    text = (ROOT / "docs" / "mail.md").read_text(encoding="utf-8")
    keys = {*check_mail.MAIL_KEYS, *check_mail.RELAY_KEYS, *check_mail.TLS_KEYS, *check_mail.ANTIVIRUS_KEYS, *check_mail.SPAM_KEYS, *LISTENERS}
    keys |= {*domains.DOMAIN_KEYS, *domains.MAILBOX_KEYS, *domains.ALIAS_KEYS, *domains.GROUP_KEYS, *check_mail_dns.DKIM_KEYS}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", text)] == []
