# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of a server over real sockets in real TLS: what goes well, and each way in which it may not."""

from __future__ import annotations

import socket
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_probe_errors as errors
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import Probe
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_report import report, text
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_probe_run import connect, run
from ansible_collections.hybridlab.platform.plugins.modules import mail_probe
from ansible_collections.hybridlab.platform.tests.unit.mail_probe.conftest import Server
from ansible_collections.hybridlab.platform.tests.unit.mail_probe.mail_peers import PASSWORD, USER, Smtp
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module


def told(probe: Probe) -> dict[str, Any]:
    return report(run(probe), datetime.now(timezone.utc))


def failed(probe: Probe, code: int) -> str:
    """The only cause, in words."""
    found = told(probe)
    assert (found["ok"], found["exit_code"]) == (False, code), text(found)
    (entry,) = found["failures"]
    return str(entry["example"])


class TestOneMessage:
    @pytest.mark.parametrize("implicit", [False, True])
    @pytest.mark.parametrize("mechanism", ["plain", "login"])
    def test_sent_fetched_compared_deleted(self, server: Server, implicit: bool, mechanism: str) -> None:
        server.mailbox.delay = 0.05
        found = told(server.probe(implicit=implicit, auth=mechanism))
        assert (found["ok"], found["sent"], found["fetched"], found["folders"], found["notes"]) == (True, 1, 1, {"INBOX": 1}, [])
        assert server.mailbox.logins == [f"IMAP {mechanism.upper()}", f"SMTP {mechanism.upper()}"], "the reader is there before anything is sent"
        assert server.mailbox.folders == {"INBOX": {}, "Spam": {}}
        tls = found["smtp"]["tls"]
        assert (tls["version"], tls["verified"], tls["issuer"]) == ("TLSv1.3", True, "Authority ca")
        assert tls["names"] == ["mail.example.com", "*.example.net", "127.0.0.1"] and tls["days"] in (89, 90)
        assert found["smtp"]["banner"] == "mx.example.com ESMTP" and "ready" in found["imap"]["banner"]
        assert 0.05 <= found["send_seconds"]["p50"] < 5 and 0.05 <= found["delivery_seconds"]["p50"] < 5

    def test_other_mail_is_left_alone(self, server: Server) -> None:
        server.mailbox.folders["INBOX"][3] = b"Subject: old\r\n\r\nhello\r\n"
        assert told(server.probe())["ok"]
        assert list(server.mailbox.folders["INBOX"]) == [3]

    def test_kept(self, server: Server) -> None:
        assert told(server.probe(keep=True))["fetched"] == 1
        (kept,) = server.mailbox.folders["INBOX"].values()
        assert kept.startswith(b"Date: ")

    def test_late_mail_of_earlier_runs_is_swept(self, server: Server) -> None:
        server.mailbox.folders["INBOX"] = {3: b"Subject: old\r\n\r\nhello\r\n", 4: b"X-Mail-Probe: old-1\r\n\r\nhello\r\n"}
        assert told(server.probe())["ok"]
        assert list(server.mailbox.folders["INBOX"]) == [3, 4]
        assert told(server.probe(sweep=True))["ok"]
        assert list(server.mailbox.folders["INBOX"]) == [3]

    def test_only_marked_where_single_messages_cannot_be_removed(self, server: Server) -> None:
        server.mailbox.uidplus = False
        found = told(server.probe())
        assert found["ok"] and "only marked as deleted" in found["notes"][0]
        assert len(server.mailbox.folders["INBOX"]) == 1

    def test_without_a_login_as_another_server(self, server: Server) -> None:
        options = server.options(login=None)
        options["smtp"].update(port=server.start(Smtp), tls="offered")
        found = report(run(mail_probe.plan(options)), datetime.now(timezone.utc))
        assert found["ok"] and found["smtp"]["auth"] is None and found["smtp"]["tls"]["version"] == "TLSv1.3"

    def test_without_tls_where_none_is_offered(self, server: Server) -> None:
        options = server.options(login=None, imap=None)
        options["smtp"]["tls"] = "offered"
        server.mailbox.starttls = False
        found = report(run(mail_probe.plan(options)), datetime.now(timezone.utc))
        assert found["ok"] and found["fetched"] == 0 and found["smtp"]["tls"] is None
        assert "was not encrypted" in found["notes"][0]

    def test_the_mechanism_that_is_there(self, server: Server) -> None:
        server.mailbox.smtp_auth, server.mailbox.imap_auth = "LOGIN", "AUTH=LOGIN"
        found = told(server.probe())
        assert (found["smtp"]["auth"], found["imap"]["auth"]) == ("LOGIN", "LOGIN")

    def test_imap_with_its_command_only(self, server: Server) -> None:
        server.mailbox.imap_auth = "AUTH=SCRAM-SHA-256"
        assert "not all ASCII" in failed(server.probe(), errors.LOGIN_REFUSED)
        assert "answered no to the login" in failed(server.probe(password="wrong"), errors.LOGIN_REFUSED)
        assert server.mailbox.logins == ["IMAP command"]

    def test_filed_as_spam(self, server: Server) -> None:
        server.mailbox.into = "Spam"
        found = told(server.probe())
        assert found["ok"] and found["folders"] == {"Spam": 1} and "mail was filed in Spam" in found["notes"][0]
        assert server.mailbox.folders["Spam"] == {}

    def test_changed_on_the_way(self, server: Server) -> None:
        server.mailbox.footer = b"Sent by a trial version\r\n"
        assert "arrived with another text" in failed(server.probe(), errors.FAILED)

    def test_delivered_twice(self, server: Server) -> None:
        server.mailbox.copies = 2
        found = told(server.probe())
        assert found["ok"] and found["doubled"] == 1 and "1 of the messages arrived more than once" in found["notes"][0]
        assert server.mailbox.folders["INBOX"] == {}

    def test_not_in_time(self, server: Server) -> None:
        server.mailbox.lose = True
        assert "not in INBOX or Spam 0.3 s after the last one" in failed(server.probe(deadline=0.3), errors.LATE)

    def test_imap_that_hangs_up_is_asked_again(self, server: Server) -> None:
        server.mailbox.hang_up_after_fetch = 1
        found = told(server.probe(deadline=10.0))
        assert found["ok"] and found["doubled"] == 0 and server.mailbox.folders["INBOX"] == {}

    def test_what_cannot_be_deleted_is_said(self, server: Server) -> None:
        server.mailbox.always["IMAP STORE"] = "NO [NOPERM] read only"
        found = told(server.probe())
        assert found["ok"] and "messages were left in INBOX" in found["notes"][0]


class TestRefusals:
    @pytest.mark.parametrize(
        ("stage", "reply", "code", "words"),
        [
            ("connect", "554 5.7.1 banned", errors.UNREACHABLE, "answered 554 5.7.1 banned to connect"),
            ("connect", "421 4.7.0 too many", errors.PUT_OFF, "Use fewer connections or a lower rate"),
            ("STARTTLS", "454 4.7.0 no TLS now", errors.PUT_OFF, "answered 454 4.7.0 no TLS now to STARTTLS"),
            ("AUTH", "454 4.7.0 Temporary authentication failure", errors.PUT_OFF, "what checks passwords"),
            ("MAIL", "530 5.7.0 Must issue a STARTTLS command first", errors.LOGIN_REFUSED, "It wants STARTTLS or a login first"),
            ("MAIL", "553 5.7.1 not owned by user", errors.REFUSED, "none of the addresses of this login"),
            ("RCPT", "550 5.1.1 User unknown", errors.REFUSED, "no such address here"),
            ("RCPT", "452 4.2.2 full", errors.PUT_OFF, "no room now"),
            ("DATA", "451 4.3.0 later", errors.PUT_OFF, "answered 451 4.3.0 later to DATA"),
            ("message", "552 5.3.4 too big", errors.REFUSED, "larger than is taken"),
            ("message", "451 4.7.1 Service unavailable", errors.PUT_OFF, "such as a scanner that is away"),
            ("message", "554 5.7.1 Gtube", errors.REFUSED, "its scanner refuses"),
        ],
    )
    def test_by_the_stage(self, server: Server, stage: str, reply: str, code: int, words: str) -> None:
        server.mailbox.always[stage] = reply
        assert words in failed(server.probe(retries=0), code)

    @pytest.mark.parametrize("mechanism", ["plain", "login"])
    def test_wrong_password(self, server: Server, mechanism: str) -> None:
        said = failed(server.probe(password="wrong", imap_password=PASSWORD, auth=mechanism), errors.LOGIN_REFUSED)
        assert "535 5.7.8" in said and "The login or the password is wrong" in said and "wrong " not in said.partition("The login")[0]
        assert server.mailbox.logins[1:] == [f"SMTP {mechanism.upper()}"], "one attempt: several would shut the login"

    def test_wrong_password_of_imap_sends_nothing(self, server: Server) -> None:
        assert "AUTHENTICATIONFAILED" in failed(server.probe(imap_password="wrong"), errors.LOGIN_REFUSED)
        assert server.mailbox.sent_at == []

    def test_mechanism_that_is_not_offered(self, server: Server) -> None:
        server.mailbox.smtp_auth = "PLAIN"
        assert "cannot log in by LOGIN: it has PLAIN" in failed(server.probe(auth="login"), errors.LOGIN_REFUSED)

    def test_no_starttls(self, server: Server) -> None:
        server.mailbox.starttls = False
        assert "the server offers no STARTTLS" in failed(server.probe(), errors.TLS_FAILED)

    def test_connection_refused(self, server: Server) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            options = server.options(imap=None, smtp={"host": "127.0.0.1", "port": closed.getsockname()[1]})
            assert "connection refused. Nothing listens at port" in failed(mail_probe.plan(options), errors.UNREACHABLE)

    def test_unknown_name(self, server: Server) -> None:
        options = server.options(imap=None, smtp={"host": "mx.invalid"})
        assert "the name 'mx.invalid' is not known" in failed(mail_probe.plan(options), errors.UNREACHABLE)

    @pytest.mark.parametrize("tls", ["starttls", "implicit"])
    def test_silence(self, server: Server, tls: str) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            options = server.options(imap=None, timeout=0.3, smtp={"host": "127.0.0.1", "port": silent.getsockname()[1], "tls": tls})
            assert "no answer within 0.3 s" in failed(mail_probe.plan(options), errors.UNREACHABLE)

    def test_implicit_tls_at_a_port_without(self, server: Server) -> None:
        options = server.options()
        options["smtp"]["tls"] = "implicit"
        assert "does not speak TLS at once" in failed(mail_probe.plan(options), errors.TLS_FAILED)


class TestCertificates:
    @pytest.mark.parametrize("implicit", [False, True])
    @pytest.mark.parametrize(
        ("certificate", "ca", "words"),
        [
            ("expired", "ca", "the certificate expired on 20"),
            ("wrong", "ca", "the certificate is not for '127.0.0.1' but for mail.example.org, www.example.org"),
            ("good", "other-ca", "issued by 'Authority ca', which is not in"),
            ("self", "ca", "issued by 'mail.example.com', which is not in"),
        ],
    )
    def test_said_in_a_sentence(self, server: Server, certificate: str, ca: str, words: str, implicit: bool) -> None:
        said = failed(server.probe(certificate, implicit, ca=str(server.folder / f"{ca}.pem")), errors.TLS_FAILED)
        assert words in said and "\n" not in said
        assert server.mailbox.logins == [], "no password went to a server that is not trusted"

    def test_systems_authorities(self, server: Server) -> None:
        assert "not one that this system trusts" in failed(server.probe(ca=None), errors.TLS_FAILED)

    def test_expected_under_another_name(self, server: Server) -> None:
        options = server.options("wrong")
        for kind in ("smtp", "imap"):
            options[kind]["name"] = "www.example.org"
        assert told(mail_probe.plan(options))["ok"]

    def test_insecure_is_said(self, server: Server) -> None:
        found = told(server.probe("expired", insecure=True, ca=None))
        assert found["ok"] and found["smtp"]["tls"]["verified"] is False and found["smtp"]["tls"]["days"] < 0
        assert "INSECURE" in found["notes"][0] and "NOT CHECKED" in text(found)

    def test_file_of_authorities(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "empty.pem").write_text("nothing", encoding="utf-8")
        for name, words in (("away.pem", "No such file"), ("empty.pem", "holds no certificate")):
            with pytest.raises(ResourceError, match=words):
                run(server.probe(ca=str(tmp_path / name)))


class TestBatch:
    def test_connections_are_used_again_and_renewed(self, server: Server) -> None:
        found = told(server.probe(count=20, connections=2, per_connection=5, size=3000))
        assert (found["ok"], found["sent"], found["fetched"], found["retried"]) == (True, 20, 20, 0)
        assert 4 <= server.mailbox.logins.count("SMTP PLAIN") <= 6
        assert server.mailbox.folders["INBOX"] == {}

    def test_rate(self, server: Server) -> None:
        found = told(server.probe(count=11, rate=20, connections=3))
        times = server.mailbox.sent_at
        assert found["ok"] and times[-1] - times[0] > 0.4
        assert all(later - first < 0.4 for first, later in pairwise(times))
        assert 15 < found["sent_per_second"] < 25

    def test_connections_work_at_the_same_time(self, server: Server) -> None:
        server.mailbox.delay = 0.3
        found = told(server.probe(count=8, connections=8))
        assert found["ok"] and server.mailbox.sent_at[-1] - server.mailbox.sent_at[0] < 1.0

    def test_what_is_put_off_is_tried_again(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        server.mailbox.replies = {"RCPT": ["451 4.7.1 later", "250 ok", "452 4.2.2 later"], "message": ["421 4.3.2 bye", None]}
        found = told(server.probe(count=6, retries=2))
        assert (found["ok"], found["sent"], found["fetched"], found["retried"]) == (True, 6, 6, 4), text(found)
        assert found["doubled"] == 1, "a connection that ends before the answer leaves it open whether the message was taken"
        assert found["seconds"] > 1

    def test_a_first_connection_that_is_put_off_is_tried_again(self, server: Server) -> None:
        server.mailbox.replies = {"connect": ["421 4.3.2 not yet", "220 here"]}
        found = told(server.probe())
        assert found["ok"] and found["seconds"] > 1

    def test_failures_by_their_cause(self, server: Server) -> None:
        server.mailbox.replies = {"RCPT": ["550 5.1.1 no"], "message": ["554 5.7.1 no", "554 5.7.1 never"]}
        found = told(server.probe(count=6))
        assert (found["sent"], found["fetched"], found["failed_messages"], found["exit_code"]) == (3, 3, 3, errors.REFUSED)
        assert [(entry["reason"], entry["count"]) for entry in found["failures"]] == [("554 5.7.1 at the message", 2), ("550 5.1.1 at RCPT TO", 1)]

    def test_a_login_that_is_refused_ends_the_run(self, server: Server) -> None:
        server.mailbox.replies = {"AUTH": ["235 in", "535 5.7.8 shut"]}
        found = told(server.probe(count=9, per_connection=1, retries=5))
        assert (found["sent"], found["fetched"], found["exit_code"]) == (1, 1, errors.LOGIN_REFUSED)
        assert server.mailbox.logins.count("SMTP PLAIN") == 2
        assert "7 of the messages were not tried" in found["notes"][0]

    def test_progress(self, server: Server) -> None:
        lines: list[str] = []
        run(server.probe(count=7, rate=5), lines.append)
        assert lines and lines[0].startswith("1 s: ") and lines[0].endswith("fetched, 0 failed, 0 retried")


class TestConnectOnly:
    def test_no_message(self, server: Server) -> None:
        found = report(connect(server.probe()), datetime.now(timezone.utc))
        assert found["ok"] and found["connect_only"] and found["count"] == 0
        assert server.mailbox.sent_at == [] and sorted(server.mailbox.logins) == ["IMAP PLAIN", "SMTP PLAIN"]

    def test_first_fault(self, server: Server) -> None:
        found = report(connect(server.probe(password="wrong")), datetime.now(timezone.utc))
        assert found["exit_code"] == errors.LOGIN_REFUSED


class TestModule:
    def test_result(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        found = call_module(mail_probe, server.options("good", insecure=True), capsys)
        assert (found["changed"], found["ok"], found["sent"], found["fetched"]) == (False, True, 1, 1)
        assert found["smtp"]["tls"]["version"] == "TLSv1.3" and "INSECURE" in found["warnings"][0]

    def test_check_mode_sends_nothing(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        found = call_module(mail_probe, {**server.options(), "_ansible_check_mode": True}, capsys)
        assert (found["changed"], found["ok"], found["connect_only"], found["sent"]) == (False, True, True, 0)
        assert server.mailbox.sent_at == []

    def test_kept_is_a_change(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        assert call_module(mail_probe, server.options(keep=True), capsys)["changed"]

    def test_failure_tells_all(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        server.mailbox.always["RCPT"] = "550 5.1.1 User unknown"
        found = call_module(mail_probe, server.options(), capsys)
        assert found["failed"] and "no such address" in found["msg"] and found["failures"][0]["count"] == 1
        assert PASSWORD not in str(found)

    def test_wrong_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        found = call_module(mail_probe, {"recipient": USER, "smtp": {"host": "127.0.0.1"}, "login": USER}, capsys)
        assert found["failed"] and "password: is missing" in found["msg"]
