# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dovecot and Postfix of the mail platform: their workloads are sound, their settings follow the model, their questions fit the directory of accounts."""

from __future__ import annotations

import http.server
import json
import os
import re
import runpy
import socketserver
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_dovecot, mail_postfix, mail_store
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import LISTENERS, Alias, Group, Listener, Mail, Mailbox, MailDomain, Relay
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_workloads import parse_container_images, parse_workloads

IMAGES = Path(__file__).parents[3] / "images"
SMART = Relay("smart", "smtp.relay.example", 587, "apikey", "relay_password", ca="relay-ca.pem")
OTHER = Relay("other", "smtp.relay.example", 587, "second", "other_password", tls="encrypt")
PLAIN = Relay("plain", "in.relay.example", 465, tls="encrypt")
MAIL = Mail(
    hostname="mail.example.com",
    admins=("ann@example.com", "bob@example.org"),
    relays=(SMART, OTHER, PLAIN),
    listeners=tuple(Listener(name, port, ("internet",)) for name, port in LISTENERS.items()),
    domains=(
        MailDomain(
            "example.com",
            relay="smart",
            mailboxes=(
                Mailbox("ann@example.com"),
                Mailbox("bob@example.com", quota_mb=5),
                Mailbox("off@example.com", enabled=False),
                Mailbox("fwd@example.com", forward_to=("far@example.net",), keep_copy=False),
            ),
            aliases=(Alias("info@example.com", ("ann@example.com", "bob@example.com")),),
            groups=(Group("team@example.com", ("ann@example.com",), "members"), Group("all@example.com", ("bob@example.com",))),
        ),
        MailDomain("example.org", relay="plain", catch_all="bob@example.org", mailboxes=(Mailbox("bob@example.org"),)),
    ),
)


def postfix(mail: Mail) -> dict[str, Any]:
    return mail_postfix.workloads(mail)[0]


def settings(mail: Mail) -> dict[str, str]:
    """main.cf as a mapping."""
    lines = (line.partition(" =") for line in mail_postfix.main_cf(mail).splitlines())
    return {name: value.strip() for name, _equals, value in lines}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The directory of accounts as the model says it."""
    path = tmp_path / "directory.sqlite"
    found = sqlite3.connect(path)
    found.executescript(mail_store.SCHEMA_DIRECTORY)
    for table, rows in mail_store.derive(mail_store.wanted_rows(MAIL)).items():
        for row in rows.values():
            found.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    found.commit()
    yield found
    found.close()


def ask(directory: sqlite3.Connection, name: str, key: str) -> list[str]:
    """What a map of Postfix answers."""
    text = (IMAGES / "mail_postfix/maps" / f"{name}.cf").read_text(encoding="utf-8")
    found = re.search(r"^query = (.*)$", text, re.M)
    assert found is not None
    query = found[1].replace("%s", key.replace("'", "''")).replace("%%", "%")
    return sorted(str(row[0]) for row in directory.execute(query) if row[0] is not None)


def test_entries_are_taken() -> None:
    raw = [*mail_dovecot.images(MAIL, "/images"), *mail_postfix.images(MAIL, "/images")]
    images = parse_container_images([{"name": "base", "rootfs": "/base.tar"}, *raw])
    assert all((IMAGES / Path(image["context"]).name / "Dockerfile").is_file() for image in raw)

    entries = [*mail_dovecot.workloads(MAIL), *mail_postfix.workloads(MAIL)]
    found = parse_workloads(entries, "lab", images=[image.name for image in images])

    for workload in found:
        assert (workload.read_only, workload.cap_drop, workload.stack) == (True, ("ALL",), MAIL.stack), workload.name
        assert workload.memory_mb and workload.health is not None and not workload.environment, workload.name
        assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "DAC_READ_SEARCH"} & set(workload.cap_add), workload.name
    ports = {workload.name: {port.target for port in workload.ports} for workload in found}
    assert ports == {"dovecot": {143, 993, 4190, 2525}, "postfix": {25, 587, 465}}


def test_who_sees_what() -> None:
    """Passwords are Dovecot's alone, mail too; the directory and the keys are for reading."""
    volumes = {
        entry["name"]: {volume["target"]: volume.get("read_only", False) for volume in entry["volumes"]}
        for entry in [*mail_dovecot.workloads(MAIL), postfix(MAIL)]
    }
    assert {target for target in volumes["postfix"] if target.startswith("/srv")} == {"/srv/accounts", "/srv/tls"}
    for name, found in volumes.items():
        assert all(read_only for target, read_only in found.items() if target in ("/srv/accounts", "/srv/passwords", "/srv/tls")), name
    assert set(volumes["dovecot"]) & set(volumes["postfix"]) == {
        "/run/mail/dovecot",
        "/run/mail/postfix",
        "/run/mail/rspamd",
        "/srv/accounts",
        "/srv/tls",
    }


def test_lmtp_over_tcp_only_where_the_model_says_to_whom() -> None:
    assert "port = 2525" in mail_dovecot.model_conf(MAIL)
    assert "2525" not in mail_dovecot.model_conf(replace(MAIL, listeners=()))


def test_settings() -> None:
    found = settings(MAIL)
    assert (found["recipient_delimiter"], found["message_size_limit"]) == ("+", str(25 * 1024 * 1024))
    assert "{postmaster@mail.example.com = ann@example.com, bob@example.org}" in found["host_addresses"]
    assert found["virtual_alias_domains"] == "mail.example.com"
    bare = settings(replace(MAIL, hostname="example.com", subaddress=None, relays=(), domains=(MailDomain("example.com"),)))
    assert (bare["recipient_delimiter"], bare["virtual_alias_domains"], bare["host_addresses"], bare["smtp_sasl_auth_enable"]) == ("", "", "", "no")


def test_mail_of_strangers_goes_the_way_that_all_can_go() -> None:
    """What is passed on has a sender of no domain here."""
    assert settings(MAIL)["relayhost"] == "[smtp.relay.example]:587"
    assert settings(replace(MAIL, domains=(*MAIL.domains, MailDomain("example.net"))))["relayhost"] == ""


def test_notices_speak_tls_first_to_a_relay_that_does() -> None:
    """A bounce has no sender, so its way is the default's."""
    implicit = replace(MAIL, domains=(MailDomain("example.org", relay="plain"),))
    assert (settings(implicit)["relayhost"], settings(implicit)["default_transport"]) == ("[in.relay.example]:465", "smtps")
    assert settings(MAIL)["default_transport"] == "smtp"
    assert settings(replace(implicit, domains=(*implicit.domains, MailDomain("example.net"))))["default_transport"] == "smtp"


def services() -> dict[str, tuple[list[str], dict[str, str]]]:
    """master.cf: name of a service -> its words, its settings."""
    text = re.sub(r"\n(?:#.*\n)*[ \t]+", " ", (IMAGES / "mail_postfix/master.cf").read_text(encoding="utf-8"))
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            words = line.split()
            found["/".join(words[:2])] = (words[:8], dict(re.findall(r"-o (?:\{ )?(\w+) ?= ?(\S+)", line)))
    return found


def test_one_client_does_not_hold_all_servers() -> None:
    text = (IMAGES / "mail_postfix/main.cf").read_text(encoding="utf-8")
    limit = re.search(r"^smtpd_client_connection_count_limit = (\d+)$", text, re.M)
    (words, _settings) = services()["smtp/inet"]
    assert limit is not None and 20 <= int(limit[1]) <= int(words[6]) / 3
    port = runpy.run_path(str(IMAGES / "mail_postfix/mail-health"))["PORT"]
    health, own = services()[f"127.0.0.1:{port}/inet"]
    assert health[7] == "smtpd" and set(own) == {"syslog_name"}, "it answers as the server for others does"


def test_a_login_sends_to_no_crowd_at_once() -> None:
    for name in ("submission/inet", "submissions/inet"):
        assert services()[name][1]["smtpd_recipient_limit"] == "100", name


def test_old_mail_of_junk_and_trash_goes() -> None:
    text = (IMAGES / "mail_dovecot/dovecot.conf").read_text(encoding="utf-8")
    found = dict(re.findall(r"  mailbox (\w+) \{\n([^}]*)\}", text))
    assert {name for name, body in found.items() if "autoexpunge = 30d\n" in body} == {"Junk", "Trash"}


def test_mail_is_brought_over_from_servers_with_public_certificates() -> None:
    assert "ca-certificates" in (IMAGES / "mail_dovecot/Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", ["clamav", "dovecot", "nginx", "postfix", "rspamd"])
@pytest.mark.parametrize(("release", "taken"), [("debian\nVERSION_ID=12", True), ('debian\nVERSION_ID="13"', False), ("ubuntu\nVERSION_ID=12", False)])
def test_a_base_of_another_release_is_refused(tmp_path: Path, part: str, release: str, taken: bool) -> None:
    (tmp_path / "os-release").write_text(f"ID={release}\n", encoding="utf-8")
    text = (IMAGES / f"mail_{part}/Dockerfile").read_text(encoding="utf-8")
    command = re.search(r"^FROM \$\{BASE\}\n(?:#.*\n)*RUN (\. /etc/os-release.*)$", text, re.M)
    assert command is not None
    done = subprocess.run(["sh", "-c", command[1].replace("/etc/os-release", str(tmp_path / "os-release"))], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is taken
    assert taken or "has to be debian 12" in done.stderr


def test_relays() -> None:
    assert mail_postfix.tls_policy(MAIL).splitlines() == [
        "[smtp.relay.example]:587 secure match=smtp.relay.example tafile=/etc/postfix/model/postfix.relay_ca_0",
        "[in.relay.example]:465 encrypt",
    ]
    assert mail_postfix.logins(MAIL) == [{"key": "[smtp.relay.example]:587", "username": "apikey", "secret": "/run/secrets/relay_password"}]
    assert postfix(MAIL)["secrets"] == ["relay_password"]
    assert [config["file"] for config in postfix(MAIL)["configs"] if "file" in config] == ["relay-ca.pem"]


def test_two_accounts_at_one_relay_are_told_apart_by_the_sender() -> None:
    both = replace(MAIL, domains=(MAIL.domains[0], MailDomain("example.org", relay="other")))
    assert settings(both)["smtp_sender_dependent_authentication"] == "yes"
    assert settings(MAIL)["smtp_sender_dependent_authentication"] == "no"
    assert {login["key"]: login["username"] for login in mail_postfix.logins(both)} == {
        "@example.com": "apikey",
        "@example.org": "second",
        "[smtp.relay.example]:587": "apikey",
    }


def test_passwords_of_relays_are_written_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "relay_password"
    secret.write_text("s3cret with:colon\n", encoding="utf-8")
    model, image, here = (tmp_path / name for name in ("model", "image", "here"))
    for made in (model, image, here):
        made.mkdir()
        (made / "main.cf").write_text(f"from = {made.name}\n", encoding="utf-8")
    logins = [{"key": "[relay.example]:587", "username": "apikey", "secret": str(secret)}]
    (model / "relays.json").write_text(json.dumps(logins), encoding="utf-8")
    script = runpy.run_path(str(IMAGES / "mail_postfix/mail-start"))
    script["main"].__globals__.update(IMAGE=image, MODEL=model, HERE=here, POSTFIX=os.getuid())
    ran: list[Any] = []
    monkeypatch.setattr(os, "execv", lambda *words: ran.append(words))
    monkeypatch.setattr(os, "chown", lambda *_words: None)
    before = os.umask(0o022)
    try:
        script["main"]()
    finally:
        os.umask(before)
    table = here / "sasl_passwords"
    assert table.read_text(encoding="utf-8") == "[relay.example]:587 apikey:s3cret with:colon\n"
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert (here / "main.cf").read_text(encoding="utf-8") == "from = image\n\nfrom = model\n"
    assert ran == [("/usr/sbin/postfix", ["postfix", "start-fg"])]


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("domains", "example.com", ["example.com"]),
        ("domains", "example.net", []),
        ("mailboxes", "ann@example.com", ["ann@example.com"]),
        # Shut to its owner, and still there for those who write.
        ("mailboxes", "off@example.com", ["off@example.com"]),
        ("mailboxes", "o'no@example.com", []),
        ("routes", "info@example.com", ["ann@example.com", "bob@example.com"]),
        ("routes", "fwd@example.com", ["far@example.net"]),
        ("routes", "@example.org", ["bob@example.org"]),
        ("routes", "@example.com", []),
        ("logins", "ann@example.com", ["ann@example.com"]),
        ("logins", "info@example.com", ["ann@example.com", "bob@example.com"]),
        ("logins", "team@example.com", []),
        ("relays", "@example.com", ["[smtp.relay.example]:587"]),
        ("relays", "ann@example.com", []),
        ("transports", "@example.com", ["smtp:[smtp.relay.example]:587"]),
        ("transports", "@example.net", []),
        ("transports", "@example.org", ["smtps:[in.relay.example]:465"]),
        ("closed", "team@example.com", ["members_only"]),
        ("closed", "all@example.com", []),
        ("quotas", "bob@example.com", ["has_quota"]),
        ("quotas", "ann@example.com", []),
    ],
)
def test_maps(directory: sqlite3.Connection, name: str, key: str, expected: list[str]) -> None:
    assert ask(directory, name, key) == expected


def test_every_map_that_postfix_names_is_there() -> None:
    text = "".join((IMAGES / "mail_postfix" / name).read_text(encoding="utf-8") for name in ("main.cf", "master.cf"))
    named = set(re.findall(r"\$\{directory\}/(\w+)\.cf", text))
    assert named == {path.stem for path in (IMAGES / "mail_postfix/maps").iterdir()}


def test_users_as_dovecot_asks_for_them(directory: sqlite3.Connection) -> None:
    text = (IMAGES / "mail_dovecot/directory.sql").read_text(encoding="utf-8")
    queries = dict(re.findall(r"^(\w+) = (SELECT .*)$", text, re.M))
    query = queries["user_query"].replace("%u", "bob@example.com").replace("%d", "example.com").replace("%n", "bob")
    assert directory.execute(query).fetchall() == [("5000", "5000", "/srv/mail/home/example.com/bob", "*:bytes=5242880")]
    assert ("ann@example.com",) in directory.execute(queries["iterate_query"]).fetchall()


@pytest.mark.parametrize(
    ("recipient", "login", "passes"),
    [
        ("team@example.com", "ann@example.com", True),
        ("Team+detail@Example.com", "Ann@example.com", True),
        ("team@example.com", "bob@example.com", False),
        ("team@example.com", "", False),
        ("team+detail@example.com", "bob@example.com", False),
    ],
)
def test_a_closed_group(directory: sqlite3.Connection, capsys: pytest.CaptureFixture[str], recipient: str, login: str, passes: bool) -> None:
    path = directory.execute("PRAGMA database_list").fetchone()[2]
    script = runpy.run_path(str(IMAGES / "mail_postfix/group-policy"))
    script["serve"].__globals__["DIRECTORY"] = f"file:{path}?mode=ro"
    script["serve"](["request=smtpd_access_policy\n", f"recipient={recipient}\n", f"sasl_username={login}\n", "\n"])
    assert capsys.readouterr().out == ("action=DUNNO\n\n" if passes else "action=550 5.7.1 Only members of this group may write to it\n\n")


def test_a_directory_that_cannot_be_read_is_no_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(IMAGES / "mail_postfix/group-policy"))
    script["serve"].__globals__["DIRECTORY"] = f"file:{tmp_path}/none.sqlite?mode=ro"
    script["serve"](["recipient=team@example.com\n", "\n"])
    assert capsys.readouterr().out.startswith("action=DEFER ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-i", "-f", "ann@example.com", "--", "far@example.net"], ("ann@example.com", ["far@example.net"])),
        (["-i", "-f", "<>", "--", "<a@example.net>", "b@example.net"], ("", ["a@example.net", "b@example.net"])),
        (["-fann@example.com", "far@example.net"], ("ann@example.com", ["far@example.net"])),
    ],
)
def test_words_of_sendmail(words: list[str], expected: tuple[str, list[str]]) -> None:
    assert runpy.run_path(str(IMAGES / "mail_dovecot/mail-submit"))["arguments"](words) == expected


class Scanner(http.server.BaseHTTPRequestHandler):
    """Answers as Rspamd's controller does; the status is the mail's text."""

    seen: list[tuple[str, str]]

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Deliver-To"]))
        self.send_response(int(text))
        self.end_headers()

    def log_message(self, *_words: Any) -> None:
        """Silence."""

    def address_string(self) -> str:
        return "local"


class UnixServer(socketserver.UnixStreamServer):
    def get_request(self) -> tuple[Any, Any]:
        link, _address = super().get_request()
        return link, ("local", 0)


def test_learning(tmp_path: Path) -> None:
    script = runpy.run_path(str(IMAGES / "mail_dovecot/learn"))
    learn = script["learn"]
    path = tmp_path / "controller"
    learn.__globals__["CONTROLLER"] = str(path)
    assert "no answer from the scanner" in learn("spam", "ann@example.com", b"200")
    seen: list[tuple[str, str]] = []
    with UnixServer(str(path), type("Seeing", (Scanner,), {"seen": seen})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            assert learn("spam", "ann@example.com", b"200") == ""
            assert learn("ham", "ann@example.com", b"208") == ""
            assert learn("ham", "ann@example.com", b"503").startswith("not learned as ham: 503")
        finally:
            server.shutdown()
            thread.join()
    assert seen == [("/learnspam", "ann@example.com"), ("/learnham", "ann@example.com"), ("/learnham", "ann@example.com")]
