# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe is made of: options, messages, percentiles, certificates, sentences."""

from __future__ import annotations

import email
import email.policy
import math
import ssl
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_probe_errors as errors
from ansible_collections.hybridlab.platform.plugins.module_utils.core import x509
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import Endpoint, filler, host_and_port, mark_of, message, plan, text_digest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_report import Outcome, Trace, exit_code, percentile, report, text, times
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
SMTP, IMAP = {"host": "mx.example.com"}, {"host": "mx.example.com"}
BASE: dict[str, Any] = {"recipient": "anna@example.com", "smtp": SMTP, "imap": IMAP, "password": "secret"}


class TestPlan:
    @pytest.mark.parametrize(
        ("kind", "port", "tls"),
        [("smtp", 25, "offered"), ("smtp", 465, "implicit"), ("smtp", 587, "starttls"), ("imap", 143, "starttls"), ("imap", 993, "implicit")],
    )
    def test_tls_by_the_port(self, kind: str, port: int, tls: str) -> None:
        found = getattr(plan({**BASE, kind: {"host": "mx.example.com", "port": port}}), kind)
        assert (found.port, found.tls) == (port, tls)

    def test_defaults(self) -> None:
        probe = plan(BASE)
        assert probe.imap is not None and probe.imap_login is not None
        assert (probe.smtp.port, probe.imap.port, probe.sender) == (587, 993, "anna@example.com")
        assert probe.smtp_login is None, "without a login none is made up"
        assert (probe.imap_login.user, probe.imap_login.password) == ("anna@example.com", "secret")
        assert "secret" not in repr(probe)

    def test_two_logins(self) -> None:
        probe = plan({**BASE, "login": "bert", "imap_login": "carl", "imap_password": "other"})
        assert probe.smtp_login is not None and probe.imap_login is not None
        assert (probe.smtp_login.user, probe.smtp_login.password) == ("bert", "secret")
        assert (probe.imap_login.user, probe.imap_login.password) == ("carl", "other")

    def test_domains_become_a_labels(self) -> None:
        assert plan({**BASE, "recipient": "Anna+x@München.example"}).recipient == "Anna+x@xn--mnchen-3ya.example"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"recipient": "anna"}, "recipient: found 'anna'"),
            ({"recipient": "änna@example.com"}, "recipient: found 'änna@example.com'"),
            ({"recipient": "a b@example.com"}, "recipient"),
            ({"recipient": "anna@example"}, "recipient: found 'example'"),
            ({"sender": "anna@example.com\r\nRCPT TO:<x@example.net>"}, "sender: found"),
            ({"smtp": {"host": "x", "port": 0}}, "smtp.port: found 0"),
            ({"smtp": {"host": "x", "tls": "none"}, "login": "anna"}, "could be read on its way"),
            ({"smtp": {"host": "x", "port": 25}, "login": "anna"}, "could be read on its way"),
            ({"imap": {"host": "x", "tls": "none"}}, "imap.tls: found 'none'"),
            ({"login": "anna", "password": ""}, "password: is missing for the login 'anna'"),
            ({"password": None}, "imap_password: is missing"),
            ({"password": "a\0b"}, "NUL"),
            ({"count": 0}, "count: found 0. Give 1 to"),
            ({"rate": -1}, "rate: found -1"),
            ({"connections": 101}, "connections: found 101"),
            ({"size": 100}, "size: found 100"),
            ({"retries": -1}, "retries: found -1"),
            ({"deadline": 0}, "deadline: found 0"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(ResourceError) as raised:
            plan({**BASE, **changes})
        assert words in str(raised.value)

    @pytest.mark.parametrize(
        ("given_", "found"),
        [
            ("mx.example.com", ("mx.example.com", None)),
            ("127.0.0.1:2525", ("127.0.0.1", 2525)),
            ("[2001:db8::1]:25", ("2001:db8::1", 25)),
            ("[::1]", ("::1", None)),
        ],
    )
    def test_host_and_port(self, given_: str, found: tuple[str, Any]) -> None:
        assert host_and_port(given_) == found

    @pytest.mark.parametrize("given_", ["", "mx:", "mx:smtp", "2001:db8::1", "smtp://mx", "a b"])
    def test_no_host(self, given_: str) -> None:
        with pytest.raises(ResourceError, match="names no server"):
            host_and_port(given_)

    def test_when_messages_are_due(self) -> None:
        batch = plan({**BASE, "count": 5, "rate": 2.0, "connections": 9}).batch
        assert [batch.due(number) for number in range(4)] == [0, 0.5, 1.0, 1.5]
        assert [batch.again(attempt) for attempt in (1, 2, 3)] == [1, 2, 4]
        assert batch.connections == 5, "more connections than messages have nothing to do"


class TestMessage:
    def test_what_a_reader_sees(self) -> None:
        made = message(plan(BASE), "abc", 3, NOW)
        parsed = email.message_from_bytes(made.data, policy=email.policy.default)
        assert not parsed.defects
        assert (parsed["From"].addresses[0].addr_spec, parsed["To"], parsed["X-Mail-Probe"]) == ("anna@example.com", "anna@example.com", "abc-3")
        assert (parsed["Message-ID"], parsed["Auto-Submitted"]) == ("<abc-3@example.com>", "auto-generated")
        assert parsed["Date"].datetime == NOW
        assert "abc-3" in parsed.get_content()

    @given(st.integers(min_value=512, max_value=6000))
    @settings(max_examples=50, deadline=None)
    def test_size(self, size: int) -> None:
        data = message(plan({**BASE, "size": size}), "abc", 1, NOW).data
        assert len(data) == size
        assert data.endswith(b"\r\n") and data.count(b"\n") == data.count(b"\r\n")
        assert max(map(len, data.split(b"\r\n"))) <= 78

    @given(st.integers(min_value=-5, max_value=1000))
    def test_filler(self, size: int) -> None:
        assert len(filler(size)) == (size if size >= 2 else 0)

    def test_mark(self) -> None:
        assert mark_of(b"Subject: x\r\nX-Mail-Probe: abc-12\r\n\r\n", "abc") == "abc-12"
        assert mark_of(b"x-mail-probe:abc-12\r\n", "abc") == "abc-12"
        assert mark_of(b"X-Mail-Probe: abcd-12\r\n", "abc") is None
        assert mark_of(b"X-Mail-Probe: abc-12 x\r\n", "abc") is None

    def test_digest_forgives_ends_of_lines_only(self) -> None:
        assert text_digest(b"a\r\nb\r\n") == text_digest(b"a\nb\n\n") != text_digest(b"a\n b\n")


class TestReport:
    @given(st.lists(st.floats(min_value=0, max_value=100), min_size=1), st.sampled_from([50, 95, 99]))
    def test_percentile_is_the_nearest_rank(self, values: list[float], percent: int) -> None:
        values.sort()
        found = percentile(values, percent)
        assert sum(value <= found for value in values) >= percent / 100 * len(values)
        assert sum(value < found for value in values) < percent / 100 * len(values)
        assert found == values[max(1, math.ceil(percent * len(values) / 100)) - 1]

    def test_percentiles_of_a_hundred(self) -> None:
        assert times(range(100, 0, -1)) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
        assert times([]) is None
        assert times([0.25]) == {"p50": 0.25, "p95": 0.25, "p99": 0.25, "max": 0.25}

    def test_counts_and_failures(self) -> None:
        endpoint = Endpoint("mx", 25, "none")
        traces = [Trace(1, float(number), float(number), number + 0.5, number + 2.0, "INBOX", 1) for number in range(3)]
        traces.append(Trace(4, 3.0, 5.0, error=errors.answered(endpoint, errors.RCPT, 451, "4.7.1 later")))
        traces += [Trace(1, 4.0, 4.0, error=errors.answered(endpoint, errors.RCPT, 550, f"5.1.1 nobody {number}")) for number in range(2)]
        found = report(Outcome("t", traces=traces, seconds=5.0), NOW)
        assert (found["count"], found["sent"], found["fetched"], found["failed_messages"], found["retried"]) == (6, 3, 3, 3, 3)
        assert [(entry["reason"], entry["count"]) for entry in found["failures"]] == [("550 5.1.1 at RCPT TO", 2), ("451 4.7.1 at RCPT TO", 1)]
        assert (found["ok"], found["exit_code"]) == (False, errors.FAILED)
        assert found["send_seconds"]["p50"] == 0.5 and found["delivery_seconds"]["p50"] == 2.0
        assert found["sent_per_second"] == round(3 / 2.5, 2)
        assert "failed: 2 x 550 5.1.1 at RCPT TO: mx:25 answered 550 5.1.1 nobody 0 to RCPT TO. There is no such address" in text(found)

    @pytest.mark.parametrize(
        ("stage", "code", "wanted"),
        [
            (errors.CONNECT, 554, errors.UNREACHABLE),
            (errors.STARTTLS, 501, errors.TLS_FAILED),
            (errors.AUTH, 535, errors.LOGIN_REFUSED),
            (errors.MAIL, 530, errors.LOGIN_REFUSED),
            (errors.MAIL, 553, errors.REFUSED),
            (errors.RCPT, 550, errors.REFUSED),
            (errors.BODY, 554, errors.REFUSED),
            (errors.AUTH, 454, errors.PUT_OFF),
            (errors.RCPT, 452, errors.PUT_OFF),
        ],
    )
    def test_exit_code_of_one_cause(self, stage: str, code: int, wanted: int) -> None:
        raised = errors.answered(Endpoint("mx", 25, "none"), stage, code, "no")
        assert raised.temporary == (400 <= code < 500)
        assert exit_code(Outcome("t", traces=[Trace(error=raised), Trace(error=raised)])) == wanted


class TestCertificates:
    def test_agrees_with_openssl_and_python(self, certificates: Path) -> None:
        for name in ("good", "expired", "self", "ca"):
            pem = (certificates / f"{name}.pem").read_text(encoding="utf-8")
            found = x509.read(ssl.PEM_cert_to_DER_cert(pem))
            argv = ["openssl", "x509", "-noout", "-startdate", "-enddate", "-subject", "-issuer", "-nameopt", "multiline"]
            told = subprocess.run(argv, input=pem, capture_output=True, encoding="utf-8", check=True, timeout=60).stdout
            for label, value in (("notBefore", found.not_before), ("notAfter", found.not_after)):
                line = next(line for line in told.splitlines() if line.startswith(f"{label}="))
                assert value.timestamp() == ssl.cert_time_to_seconds(line.partition("=")[2])
            assert [line.partition("= ")[2] for line in told.splitlines() if "commonName" in line] == [found.subject, found.issuer]
        good = x509.read(ssl.PEM_cert_to_DER_cert((certificates / "good.pem").read_text(encoding="utf-8")))
        assert good.names == ("mail.example.com", "*.example.net", "127.0.0.1")
        assert good.issuer == "Authority ca"
        assert good.days(good.not_after - timedelta(days=3, hours=1)) == 3
        assert good.days(good.not_after + timedelta(hours=1)) == -1

    @given(st.binary(max_size=200))
    def test_no_certificate(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            x509.read(data)

    def test_a_cut_off_one(self, certificates: Path) -> None:
        der = ssl.PEM_cert_to_DER_cert((certificates / "good.pem").read_text(encoding="utf-8"))
        for length in range(0, len(der), 7):
            with pytest.raises(ValueError):
                x509.read(der[:length])
