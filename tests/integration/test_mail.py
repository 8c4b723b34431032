# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real mail through a built mail host, from and to a second host that plays the Internet. The tests share both and run in order."""

from __future__ import annotations

import copy
import imaplib
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes, policy
from secrets import token_hex

import dkim  # type: ignore[import-untyped]
import pytest

from tests.integration.lab import model
from tests.integration.mail.scan_cases import EICAR, GTUBE
from tests.integration.mail_host import HONEST, STREAM, STRICT, MailHost, letter, mail_host, until, variables

ANNA, BERT, SMALL = "anna@kuma8088.com", "bert@kuma8088.com", "small@kuma8088.com"
INFO = {domain: f"info@{domain}" for domain in ("fx-trader-life.com", "webmakeprofit.org", "webmakesprofit.com")}
STRANGER = f"carla@{HONEST}"
ELSEWHERE = "dora@elsewhere.example"
NEW = "emil@kuma8088.com"
# What a run for a new mailbox may change.
ACCOUNTS = {"Say who has mail", "Give new mailboxes their first passwords"}
LIVE_SECONDS = 2.0
# The stream of mails while parts are killed.
MAILS, PER_SECOND = 2000, 40
ARRIVED_SECONDS = 240
KILLED = ("dovecot", "postfix", "rspamd", "redis", "clamav")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailHost]:
    with mail_host(tmp_path_factory.mktemp("mail")) as made:
        yield made


def headers(mail: bytes, name: str) -> list[str]:
    return [str(value) for value in message_from_bytes(mail, policy=policy.default).get_all(name, [])]


# -- as it should be ----------------------------------------------------------------------------


def test_a_new_mailbox_works_at_once_and_restarts_nothing(host: MailHost) -> None:
    before = host.containers()
    raw = copy.deepcopy(model("mail")["platform_mail"])
    raw["domains"][0]["mailboxes"].append({"local": "emil", "name": "Emil", "password": "mail_people"})
    given = variables(host.ca, raw)
    outcome = host.lab.played("site.yml", *given, "--skip-tags", "verify")
    assert {task.name.rpartition(" : ")[2] for task in outcome.tasks if task.changed} == ACCOUNTS
    assert host.containers() == before
    assert host.headers(NEW) == []
    assert host.offered(letter(STRANGER, NEW, "welcome"), NEW).code == 250
    assert host.fetched(NEW, "welcome")
    host.variables = given


def test_a_mailbox_made_by_hand_is_live_in_two_seconds(host: MailHost) -> None:
    host.lab.sh("printf '%s\\n' 'a word for all of them' | mailctl add fritz@fx-trader-life.com --name Fritz --stdin")
    made = time.monotonic()
    assert host.headers("fritz@fx-trader-life.com") == []
    assert time.monotonic() - made < LIVE_SECONDS
    host.lab.sh("mailctl remove fritz@fx-trader-life.com")


# -- mail in -------------------------------------------------------------------------------------


def test_mail_from_outside_is_scanned_and_fetched(host: MailHost) -> None:
    assert host.offered(letter(STRANGER, ANNA, "plain"), ANNA).code == 250
    mail = host.fetched(ANNA, "plain")
    (verdict,) = headers(mail, "Authentication-Results")
    assert verdict.startswith(host.mail.hostname) and "spf=pass" in verdict
    (found,) = headers(mail, "X-Spamd-Result")
    assert "CLAM_CLEAN" in found
    assert not headers(mail, "X-Spam")


@pytest.mark.parametrize(
    ("to", "boxes"),
    [
        ("anna+lists@kuma8088.com", [ANNA]),
        ("ANNA@Kuma8088.COM", [ANNA]),
        ("sales@kuma8088.com", [ANNA, INFO["fx-trader-life.com"]]),
        ("whoever@webmakesprofit.com", [INFO["webmakesprofit.com"]]),
        ("postmaster@webmakeprofit.org", ["admin@kuma8088.com"]),
        (BERT, [BERT]),
    ],
    ids=("subaddress", "letters of both cases", "alias", "catch-all", "role", "forward with a copy"),
)
def test_addresses_lead_to_mailboxes(host: MailHost, to: str, boxes: list[str]) -> None:
    subject = f"to {to}"
    assert host.offered(letter(STRANGER, to, subject), to).code == 250
    for box in boxes:
        assert host.fetched(box, subject)
    if to == BERT:
        assert host.arrived(subject)


def test_a_group_is_for_its_members(host: MailHost) -> None:
    team = "team@webmakeprofit.org"
    assert host.offered(letter(STRANGER, team, "group, stranger"), team).code == 550
    assert host.offered(letter(ANNA, team, "group, member"), team, login=ANNA).code == 250
    for box in (ANNA, INFO["webmakeprofit.org"]):
        assert host.fetched(box, "group, member")
    assert "group, stranger" not in host.headers(ANNA)


def test_a_script_files_mail(host: MailHost) -> None:
    script = 'require ["fileinto", "mailbox"]; if header :contains "subject" "invoice" { fileinto :create "Invoices"; }'
    host.sieve(ANNA, script)
    assert host.offered(letter(STRANGER, ANNA, "invoice 17"), ANNA).code == 250
    assert host.fetched(ANNA, "invoice 17", "Invoices")


# -- mail out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("login", "port"), [(ANNA, 587), *((address, 465) for address in INFO.values())])
def test_mail_goes_out_by_the_smarthost_and_is_signed(host: MailHost, login: str, port: int) -> None:
    subject = f"out from {login}"
    assert host.offered(letter(login, ELSEWHERE, subject), ELSEWHERE, login=login, port=port).code == 250
    mail = host.arrived(subject)
    received = headers(mail, "Received")[0]
    assert "ESMTPSA" in received and host.mail.hostname in received
    texts = {record.name: record.value for record in host.sheet() if record.type == "TXT"}
    # maildir has the lines' ends of Unix.
    assert dkim.verify(mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), dnsfunc=lambda name, timeout=5: texts.get(name.decode().rstrip("."), "").encode())
    domain = login.rpartition("@")[2]
    assert any(f"d={domain}" in signature for signature in headers(mail, "DKIM-Signature"))


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(("subject", "text"), [("gtube", GTUBE), ("virus", EICAR)], ids=("spam", "virus in the text"))
def test_spam_and_viruses_are_refused(host: MailHost, subject: str, text: str) -> None:
    assert host.offered(letter(STRANGER, ANNA, subject, f"{text}\n"), ANNA).code == 554
    assert subject not in host.headers(ANNA)


def test_a_virus_in_an_attachment_is_refused(host: MailHost) -> None:
    made = letter(STRANGER, ANNA, "attached")
    made.add_attachment(EICAR.encode(), "application", "octet-stream", filename="a.com")
    found = host.offered(made, ANNA)
    assert found.code == 554 and "EICAR" in found.text.upper()
    out = letter(ANNA, ELSEWHERE, "attached, out")
    out.add_attachment(EICAR.encode(), "application", "octet-stream", filename="a.com")
    assert host.offered(out, ELSEWHERE, login=ANNA).code == 554


def test_a_spoofed_sender_is_refused(host: MailHost) -> None:
    boss = f"boss@{STRICT}"
    assert host.offered(letter(boss, ANNA, "spoofed"), ANNA).code == 554


def test_recipients_are_refused_before_the_mail(host: MailHost) -> None:
    with host.smtp() as session:
        session.mail(STRANGER)
        assert session.rcpt("nobody@kuma8088.com")[0] == 550
        assert session.rcpt(ELSEWHERE)[0] == 554
        assert session.rcpt(f"{ELSEWHERE.replace('@', '%')}@kuma8088.com")[0] >= 500
        assert session.rcpt(ANNA)[0] == 250


def test_a_full_mailbox_is_refused_before_the_mail(host: MailHost) -> None:
    with host.imap(SMALL) as session:
        big = letter(STRANGER, SMALL, "big", "x" * 70 + "\n")
        big.add_attachment(bytes(400_000), "application", "octet-stream", filename="big")
        words = [session.append("INBOX", None, None, big.as_bytes())[0] for _turn in range(5)]
    assert (words[0], words[-1]) == ("OK", "NO")
    with host.smtp() as session:
        session.mail(STRANGER, ["size=900000"])
        assert session.rcpt(SMALL)[0] in (452, 552)


def test_an_end_of_data_that_is_none_smuggles_nothing(host: MailHost) -> None:
    smuggled = f"\r\n\n.\r\nMAIL FROM:<{STRANGER}>\r\nRCPT TO:<{ANNA}>\r\nDATA\r\nSubject: smuggled\r\n\r\nhere\r\n.\r\n"
    for end in ("\n.\n", "\n.\r\n", "\r\n.\n"):
        with host.smtp() as session:
            session.mail(STRANGER)
            session.rcpt(ANNA)
            session.docmd("DATA")
            session.send(f"Subject: outer\r\n\r\nbody{end}{smuggled.lstrip()}".encode())
            code, _text = session.getreply()
            assert code in (521, 550), (end, code)
    assert not {"smuggled", "outer"} & set(host.headers(ANNA))


def test_submission_wants_tls_a_login_and_an_own_address(host: MailHost) -> None:
    with host.smtp(587) as session:
        assert session.mail(ANNA)[0] == 530
        assert not session.has_extn("auth")
    with host.smtp(465) as session:
        session.mail(ANNA)
        assert session.rcpt(ELSEWHERE)[0] == 554
    with host.smtp(465, ANNA) as session:
        session.mail(BERT)
        assert session.rcpt(ELSEWHERE)[0] == 553
    with host.smtp(465) as session, pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        session.login(ANNA, "not the word")
    assert caught.value.smtp_code == 535


# -- what is learned -----------------------------------------------------------------------------


def test_a_move_to_junk_teaches(host: MailHost) -> None:
    def learned() -> int:
        return int(host.scanner("/stat")["learned"])

    # What was learned once is not learned again.
    text = "".join(f"Word {token_hex(4)} offers {token_hex(4)} and {token_hex(4)} to whoever answers this letter today.\n" for _line in range(40))
    assert host.offered(letter(STRANGER, ANNA, "teach me", text), ANNA).code == 250
    host.fetched(ANNA, "teach me")
    before = learned()
    with host.imap(ANNA) as session:
        session.select("INBOX")
        number = session.search(None, "HEADER", "SUBJECT", '"teach me"')[1][0].split()[-1].decode()
        assert session.copy(number, "Junk")[0] == "OK"
    until(lambda: learned() > before, "nothing was learned", 30)


# -- what is renewed -----------------------------------------------------------------------------


def test_a_new_certificate_drops_no_connection(host: MailHost) -> None:
    before = host.containers()
    host.age_certificate()
    old, over, faults = host.current_certificate(), threading.Event(), []

    def visit() -> None:
        while not over.is_set():
            try:
                host.headers(NEW)
                host.shown_certificate(465)
            except (OSError, AssertionError, imaplib.IMAP4.error, smtplib.SMTPException) as error:
                faults.append(repr(error))

    with host.imap(ANNA) as reading, host.smtp(465, ANNA) as sending:
        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            host.lab.played("playbooks/mail.yml", *host.variables)
        finally:
            over.set()
            visitor.join()
        new = host.current_certificate()
        assert new != old
        for port in (25, 587, 465, 993):
            until(lambda port=port: host.shown_certificate(port) == new, f"port {port} shows the old certificate", 15)  # type: ignore[misc]
        assert (reading.noop()[0], sending.noop()[0]) == ("OK", 250)
    assert not faults
    assert host.containers() == before


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["clamav", "rspamd"])
def test_without_a_scanner_mail_waits_at_its_sender(host: MailHost, part: str) -> None:
    with host.without(part):
        found = host.offered(letter(STRANGER, ANNA, f"without {part}"), ANNA)
        assert 400 <= found.code < 500, found
    until(lambda: host.takes(ANNA, f"again with {part}"), f"{part} does not work again", 90, 2)
    assert host.fetched(ANNA, f"again with {part}")
    assert f"without {part}" not in host.headers(ANNA)


def test_a_full_disk_takes_nothing_and_loses_nothing(host: MailHost) -> None:
    with host.full("postfix", "/var/spool/postfix/incoming", 5001):
        found = host.offered(letter(STRANGER, ANNA, "queue is full", "z" * 70_000), ANNA)
        assert found.code in (451, 452), found
    box = INFO["webmakeprofit.org"]
    with host.full("dovecot", "/srv/mail/mail/webmakeprofit.org/info/tmp", 5000):
        assert host.offered(letter(STRANGER, box, "box is full", "z\n" * 40_000), box).code == 250
        until(lambda: "box is full" not in host.headers(box) and host.queued(), "the mail does not wait in the queue")
    host.flush()
    assert host.fetched(box, "box is full")
    assert host.offered(letter(STRANGER, ANNA, "room again"), ANNA).code == 250
    assert host.fetched(ANNA, "room again")


def test_no_acknowledged_mail_is_lost_whatever_is_killed(host: MailHost) -> None:
    box = INFO[STREAM]
    host.outside.sh(f"systemd-run --quiet --unit=stream python3 /root/stream.py {MAILS} {PER_SECOND} stream@{STREAM} /root/taken")
    for part in KILLED:
        time.sleep(4)
        host.killed(part)
    until(lambda: host.outside.sh("systemctl is-active stream || true").strip() == "inactive", "the stream does not end", 120, 2)
    taken = set(host.outside.sh("cat /root/taken").split())
    assert len(taken) == MAILS

    def missing() -> set[str]:
        host.flush()
        return taken - set(host.headers(box))

    until(lambda: not missing(), "mails are missing", ARRIVED_SECONDS, 5)
    copies = Counter(subject for subject in host.headers(box) if subject in taken)
    log = host.outside.sh("grep -c 'status=bounced' /var/log/postfix.log || true; grep -c 'status=deferred' /var/log/postfix.log || true").split()
    print(f"{MAILS} mails, {sum(copies.values()) - len(taken)} copies too many; put off {log[1]} times at the sender")
    assert log[0] == "0", host.outside.sh("grep 'status=bounced' /var/log/postfix.log | head -n 5")


def test_the_host_is_as_the_model_says_after_all_that(host: MailHost) -> None:
    host.lab.unchanged("site.yml", *host.variables)
    assert host.offered(letter(STRANGER, ANNA, "at the end"), ANNA).code == 250
    assert host.fetched(ANNA, "at the end")
