# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mail host in the eyes of others' programs: sslscan, OpenSSL, SpamAssassin, dkimpy, mbsync, OfflineIMAP, Chromium; and its mail back from a backup.

The tests share one host and run in order.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest

from tests.integration.lab import fresh, model
from tests.integration.mail.connections import END
from tests.integration.mail.judges import Reader, chain_verified, folded, form_faults, kept, tls_faults, written
from tests.integration.mail.webmail import use, webmail_behind
from tests.integration.mail_host import PASSWORD, MailHost, letter, until
from tools.sandbox.names import Identity, Settings
from tools.sandbox.verbs import Sandbox

LAYERS = ("platform_docker", "platform_secrets", "platform_container_images", "platform_mail", "platform_backup")
ANNA, BOX = "anna@kuma8088.com", "info@webmakeprofit.org"
MAILS = 200


def variables() -> tuple[str, ...]:
    """Arguments of playbooks: the mail host with its webmail and a backup. No viruses are looked for, and mail goes straight out."""
    values = model("mail")
    raw: dict[str, Any] = copy.deepcopy(values["platform_mail"])
    raw.update(relay=None, relays=[], antivirus={"enabled": False}, webmail=True)
    raw.pop("listeners", None)
    webmail = {"mail_roundcube_db": {"value": "the database knows this"}, "mail_roundcube_key": {"value": "a key of 24 characters.."}}
    backup = {"mount": "/mnt/backup", "target": "/mnt/backup/docker", "keep": 3, "reserve_gb": 0, "reserve_percent": 1, "images": "none"}
    return "-e", json.dumps({"platform_mail": raw, "platform_secrets": {**values["platform_secrets"], **webmail}, "platform_backup": backup})


@pytest.fixture(scope="module")
def host() -> Iterator[MailHost]:
    """Connections begin on the host itself: all its listeners are open to it, and to nobody else all of them are."""
    with fresh("mail-judges", layers=LAYERS) as lab:
        made = MailHost(lab, lab, Path("/dev/null"))
        lab.played("site.yml", *variables(), "--skip-tags", "verify")
        until(lambda: made.takes(made.mail.admins[0], "first"), "the mail host takes no mail")
        yield made


@pytest.fixture(scope="module")
def ca(host: MailHost, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of the host's own CA."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_text(host.lab.sh(f"cat {host.mail.directory}/tls/current/ca.pem"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reader(host: MailHost, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    path = tmp_path_factory.mktemp("reader") / "leaf.pem"
    path.write_text(host.lab.sh(f"openssl x509 -in {host.mail.directory}/tls/current/fullchain.pem"), encoding="utf-8")
    return Reader(inside(host), host.address, BOX, PASSWORD, path)


def inside(host: MailHost) -> list[str]:
    """Command that runs a program of this machine in the host's network."""
    pid = Sandbox(Identity.of(), Settings()).container(host.lab.name).attrs["State"]["Pid"]
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]


# -- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("port", "starttls"), [(25, "smtp"), (587, "smtp"), (143, "imap"), (465, ""), (993, ""), (443, ""), (8443, "")], ids=str)
def test_tls_is_sound_at_each_port(host: MailHost, ca: Path, port: int, starttls: str) -> None:
    name = host.mail.hostname
    assert tls_faults(inside(host), host.address, port, name, starttls) == []
    assert chain_verified(inside(host), host.address, port, name, ca, starttls) == "0 (ok)"


def test_sslscan_and_openssl_see_what_is_wrong(host: MailHost, ca: Path, tmp_path: Path) -> None:
    key, crt = str(tmp_path / "key"), str(tmp_path / "crt")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=weak.example"]
    subprocess.run([*made, "-keyout", key, "-out", crt], check=True, capture_output=True)
    weak = ["openssl", "s_server", "-accept", "127.0.0.1:4433", "-key", key, "-cert", crt, "-tls1", "-cipher", "ALL:@SECLEVEL=0"]
    with subprocess.Popen([*inside(host), *weak, "-www", "-quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: ":4433" in host.lab.sh("ss -Hltn"), "no weak server")
            faults = tls_faults(inside(host), "127.0.0.1", 4433)
        finally:
            server.terminate()
    assert "tls 1.0" in faults and "ADH-AES256-SHA: anonymous" in faults
    assert chain_verified(inside(host), host.address, 993, "other.example", ca) == "62 (hostname mismatch)"


# -- form ----------------------------------------------------------------------------------------


def test_a_mail_that_was_sent_has_no_fault(host: MailHost, tmp_path: Path) -> None:
    to = "info@fx-trader-life.com"
    assert host.offered(letter(ANNA, to, "Lunch on Tuesday"), to, login=ANNA).code == 250
    mail = host.fetched(to, "Lunch on Tuesday")
    assert form_faults(mail, tmp_path) == {}
    texts = {record.name: record.value for record in host.sheet() if record.type == "TXT"}
    assert dkim.verify(mail, dnsfunc=lambda name, timeout=5: texts.get(name.decode().rstrip("."), "").encode())
    assert {"MISSING_DATE", "MISSING_MID"} <= set(form_faults(b"From: a@example.com\nTo: b@example.com\nSubject: one\n\ntext\n", tmp_path))


# -- IMAP ----------------------------------------------------------------------------------------


def test_a_mailbox_is_the_same_to_each_reader(host: MailHost, reader: Reader, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    wanted = written(one, MAILS)
    assert sum(wanted.values()) == MAILS
    reader.mbsync(one)
    assert reader.pulled(other) == wanted
    reader.offlineimap(tmp_path / "third", host.current_certificate())
    assert folded(kept(tmp_path / "third")) == folded(wanted)
    # Deleted, changed and moved by one reader: the other sees the same.
    paths = sorted(path for path in other.rglob("*.*") if path.parent.name == "cur")
    for number, path in enumerate(paths[:60]):
        name = path.name.partition(":2,")[0]
        if number % 3 == 2:
            path.rename(other / "upper" / "cur" / f"moved{number}.judge:2,S")
        else:
            path.rename(path.with_name(f"{name}:2,{'T' if number % 3 else 'FS'}"))
    reader.mbsync(other)
    reader.mbsync(one)
    assert kept(one) == kept(other) == reader.pulled(tmp_path / "fourth")
    assert sum(kept(one).values()) == MAILS - 20


# -- the webmail ---------------------------------------------------------------------------------


def test_a_person_uses_the_webmail(host: MailHost) -> None:
    with webmail_behind([*inside(host), sys.executable, str(END), host.address, "8443"], host.mail.hostname) as webmail:
        use(webmail, ANNA, PASSWORD, "quite another word")


# -- the backup ----------------------------------------------------------------------------------


def test_mail_comes_back_from_a_backup(host: MailHost, reader: Reader, tmp_path: Path) -> None:
    before = reader.pulled(tmp_path / "before")
    host.lab.sh("mkdir -p /mnt/backup; mount -t tmpfs -o size=512m tmpfs /mnt/backup; systemctl start hybridlab-backup")
    assert "0 differences" in host.lab.sh("hybridlab-backup verify")
    lost = next(mail for mail in before if mail.folder == "INBOX")
    with host.imap(reader.login) as session:
        session.select("INBOX")
        number = session.search(None, "HEADER", "MESSAGE-ID", f'"<{lost.name}>"')[1][0].decode()
        session.store(number, "+FLAGS", r"(\Deleted)")
        session.expunge()
    assert before - reader.pulled(tmp_path / "lacking") == Counter([lost])
    host.lab.sh(f"mailctl restore-mail {reader.login} --message-id '<{lost.name}>' --in-place")
    assert reader.pulled(tmp_path / "mail") == before
    host.lab.sh(f"mailctl remove {reader.login} --delete --anyway; printf '%s\\n' '{PASSWORD}' | mailctl add {reader.login} --name Again --stdin")
    assert not reader.pulled(tmp_path / "empty")
    host.lab.sh(f"mailctl restore-mailbox {reader.login} --in-place")
    assert reader.pulled(tmp_path / "mailbox") == before


def test_the_webmails_users_come_back_from_a_backup(host: MailHost) -> None:
    def asked(question: str) -> list[str]:
        return host.lab.sh(f"docker exec {host.containers()['mariadb']} mariadb roundcube -Ne '{question}'").split()

    assert asked("select username from users") == [ANNA]
    asked("delete from users")
    assert asked("select username from users") == []
    assert "DIFFERENCES" not in host.lab.sh("hybridlab-backup restore --service webmail --force")
    assert asked("select username from users") == [ANNA]
