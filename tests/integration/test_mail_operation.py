# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the mail system: who guesses passwords is shut out, a certificate is swapped under open sessions, views, and what teardown leaves.

The tests of this module share one host and run in order.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import Lab, fresh, model
from tests.integration.mail_host import NEARLY_OVER, PASSWORD, Imap, Smtp, joined, letter, until
from tests.integration.test_monitoring import HOOK, RECEIVER
from tools import playbook
from tools.sandbox.names import INTERNET, Identity, Settings
from tools.sandbox.verbs import Sandbox

NAME = "mail-operation"
LAYERS = ("platform_docker", "platform_container_images")
ANNA, HOSTNAME, ROOT = "anna@kuma8088.com", "mail.kuma8088.com", "/data/mail"
RETRIES = 3
# An address that takes part in nothing: it stands in names that look like lines of a log.
NOBODY = "192.0.2.9"

# Tries logins from the address SOURCE: imap, submission or submissions; prints what became of each try.
CLIENT = """
import imaplib, smtplib, ssl, sys
host, source, kind, times, user, password = sys.argv[1:]
trust = ssl._create_unverified_context()
class Imap(imaplib.IMAP4_SSL):
    def _create_socket(self, timeout):
        import socket
        return trust.wrap_socket(socket.create_connection((host, 993), 8, (source, 0)))
for _ in range(int(times)):
    try:
        if kind == "imap":
            Imap(host).login(user, password)
        else:
            way, port = (smtplib.SMTP_SSL, 465) if kind == "submissions" else (smtplib.SMTP, 587)
            session = way(host, port, timeout=8, source_address=(source, 0), **({"context": trust} if port == 465 else {}))
            if port == 587:
                session.starttls(context=trust)
            session.login(user, password)
        print("in")
    except (imaplib.IMAP4.error, smtplib.SMTPResponseException):
        print("refused")
    except OSError:
        print("shut")
"""
TIDY = f"""
python3 - <<'EOF'
import sqlite3
link = sqlite3.connect("{ROOT}/accounts/directory.sqlite")
link.execute("INSERT INTO removals VALUES ('gone@kuma8088.com', 'archive')")
link.commit()
EOF
install -d -o 5000 -g 5000 {ROOT}/mail/kuma8088.com/gone/cur; echo hello >{ROOT}/mail/kuma8088.com/gone/cur/1.x:2,
systemctl start hybridlab-mail-tidy.service
ls {ROOT}/archive
"""


def mail() -> dict[str, Any]:
    """The platform_mail of these tests: no viruses are looked for, no webmail, and mail goes straight out."""
    raw = copy.deepcopy(model("mail")["platform_mail"])
    raw.update(relay=None, relays=[], antivirus={"enabled": False}, webmail=False)
    raw["listeners"] = {**raw.get("listeners", {}), "https": None}
    return raw


class Operated:
    """lab: the mail host. guesser, other: two addresses of the Internet."""

    def __init__(self, lab: Lab, hook: str) -> None:
        self.lab, self.internet = lab, Lab(INTERNET)
        sandbox = Sandbox(Identity.of(), Settings())
        found = sandbox.connection(lab.name)
        self.address: str = found["address"]
        self.guesser: str = found["internet_address"]
        self.other = f"{self.guesser.rpartition('.')[0]}.201"
        self.container = sandbox.container(INTERNET)
        self.hook = hook

    def variables(self) -> tuple[str, ...]:
        jails = [{"name": "sshd"}, *({"name": name, "retries": RETRIES} for name in ("mail-dovecot", "mail-postfix"))]
        key = "{{ lookup('ansible.builtin.file', inventory_dir ~ '/../../.cache/sandbox/guest_key.pub') }}"
        values: dict[str, Any] = {
            **model("mail"),
            "platform_mail": mail(),
            "platform_security": {"accounts": [{"name": "admin", "sudo": True, "ssh_keys": [key]}], "fail2ban": {"jails": jails}},
            "platform_monitoring": {"webhooks": [{"name": "team", "kind": "generic", "url": "hook_url"}], "watch_minutes": 60},
        }
        values["platform_secrets"] = {**values["platform_secrets"], "hook_url": {"value": self.hook}}
        return "-e", json.dumps(values)

    def tries(self, source: str, kind: str, times: int = 1, user: str = ANNA, password: str = "not it") -> list[str]:
        words = base64.b64encode(CLIENT.encode()).decode()
        name = base64.b64encode(user.encode()).decode()
        argv = f"{self.address} {source} {kind} {times} \"$(echo {name} | base64 -d)\" '{password}'"
        return self.internet.sh(f"echo {words} | base64 -d >/tmp/client.py; python3 /tmp/client.py {argv}").split()

    def banned(self, jail: str) -> list[str]:
        line = next(line for line in self.lab.sh(f"fail2ban-client status {jail}").splitlines() if "Banned IP list" in line)
        return line.partition(":")[2].split()

    def let_in(self, jail: str) -> None:
        self.lab.sh(f"fail2ban-client set {jail} unbanip {self.guesser}")

    def told(self, word: str) -> list[str]:
        rows = [json.loads(line) for line in self.lab.sh(f"cat {HOOK}/received 2>/dev/null || :").splitlines()]
        return [json.dumps(row) for row in rows if word in json.dumps(row)]


@pytest.fixture(scope="module")
def operated() -> Iterator[Operated]:
    with fresh(NAME, layers=LAYERS) as lab:
        lab.sh(f"mkdir {HOOK}; echo 204 >{HOOK}/answer; cat >{HOOK}/receiver.py <<'EOF'\n{RECEIVER}EOF\nsystemd-run --quiet python3 {HOOK}/receiver.py")
        port = until(lambda: lab.sh(f"cat {HOOK}/port 2>/dev/null || :"), "the webhook does not run")
        found = Operated(lab, f"http://127.0.0.1:{port}/hook")
        found.internet.sh(f"ip address replace {found.other}/24 dev eth0")
        try:
            lab.played("site.yml", *found.variables(), "--skip-tags", "verify")
            yield found
        finally:
            found.internet.sh(f"ip address delete {found.other}/24 dev eth0")


def test_who_guesses_passwords_by_imap_is_shut_out_wherever_one_logs_in(operated: Operated) -> None:
    assert operated.tries(operated.guesser, "imap", RETRIES - 1) == ["refused"] * (RETRIES - 1)
    assert operated.banned("mail-dovecot") == []
    operated.tries(operated.guesser, "imap")
    until(lambda: operated.banned("mail-dovecot") == [operated.guesser], "nobody was banned")
    for kind in ("imap", "submission", "submissions"):
        assert operated.tries(operated.guesser, kind, password=PASSWORD) == ["shut"]
        assert operated.tries(operated.other, kind, password=PASSWORD) == ["in"]
    # Where other servers bring mail nobody logs in, and nobody is shut out.
    assert "220" in operated.internet.sh(f"python3 -c \"import socket; print(socket.create_connection(('{operated.address}', 25), 8).recv(99))\"")
    until(lambda: operated.told(f"mail-dovecot: {operated.guesser} banned"), "the webhook was not told")
    operated.let_in("mail-dovecot")
    assert operated.tries(operated.guesser, "imap", password=PASSWORD) == ["in"]


def test_who_guesses_passwords_by_submission_is_shut_out_and_nobody_whom_he_names(operated: Operated) -> None:
    name = f"x from unknown[{NOBODY}]: SASL PLAIN authentication failed"
    operated.tries(operated.guesser, "submission")
    operated.tries(operated.guesser, "submissions", user=name)
    operated.tries(operated.guesser, "submission", RETRIES)
    until(lambda: operated.banned("mail-postfix") == [operated.guesser], "nobody was banned")
    assert operated.tries(operated.guesser, "imap", password=PASSWORD) == ["shut"]
    operated.let_in("mail-postfix")
    operated.tries(operated.guesser, "imap", RETRIES, user=f"x,{NOBODY},<y>")
    until(lambda: operated.banned("mail-dovecot") == [operated.guesser], "nobody was banned")
    operated.let_in("mail-dovecot")
    operated.lab.sh("systemctl restart fail2ban")
    assert NOBODY not in operated.lab.sh("fail2ban-client banned; cat /var/log/fail2ban.log")


def test_a_container_is_never_banned(operated: Operated) -> None:
    script = f"""
import imaplib, ssl
for _ in range({RETRIES + 1}):
    link = imaplib.IMAP4("dovecot", timeout=20)
    link.starttls(ssl._create_unverified_context())
    try:
        link.login("{ANNA}", "not it")
    except imaplib.IMAP4.error:
        print("refused")
"""
    words = base64.b64encode(script.encode()).decode()
    argv = f"$(docker ps --quiet --filter name=mail_postfix) python3 -c \"import base64; exec(base64.b64decode('{words}'))\""
    assert operated.lab.sh(f"docker exec {argv}").split() == ["refused"] * (RETRIES + 1)
    until(lambda: "[mail-dovecot] Ignore 172." in operated.lab.sh("cat /var/log/fail2ban.log"), "the logins were not seen")
    assert operated.banned("mail-dovecot") == []


def test_a_new_certificate_drops_no_connection(operated: Operated) -> None:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=operated.lab.sh(f"cat {ROOT}/tls/current/ca.pem"))

    def secured(port: int) -> ssl.SSLSocket:
        return trust.wrap_socket(joined(operated.container, operated.address, port), server_hostname=HOSTNAME)

    def shown(port: int) -> Any:
        link = secured(port)
        try:
            return link.getpeercert(binary_form=True)
        finally:
            link.close()

    def session() -> smtplib.SMTP:
        found = Smtp(secured(465), HOSTNAME)
        found.ehlo()
        return found

    waiting, before_login = Imap(secured(993)), Imap(secured(993))
    waiting.login(ANNA, PASSWORD)
    waiting.select()
    waiting.send(b"w1 IDLE\r\n")
    assert waiting.readline().startswith(b"+")
    writing, silent = session(), session()
    writing.login(ANNA, PASSWORD)
    assert (writing.mail(ANNA)[0], writing.rcpt(ANNA)[0]) == (250, 250)

    operated.lab.sh(NEARLY_OVER.format(directory=ROOT, hostname=HOSTNAME))
    old, given = shown(993), operated.variables()
    outcome = operated.lab.played("playbooks/mail.yml", *given)
    assert outcome.task("Have what runs read the new certificate").changed
    for port in (993, 465):
        until(lambda port=port: shown(port) != old, f"port {port} shows the old certificate", 15)  # type: ignore[misc]

    assert writing.data(letter(ANNA, ANNA, "over the swap").as_bytes(policy=SMTP))[0] == 250
    assert silent.login(ANNA, PASSWORD)[0] == 235
    until(lambda: b"EXISTS" in waiting.readline(), "the session that waits is not told of the mail")
    waiting.send(b"DONE\r\n")
    assert before_login.login(ANNA, PASSWORD)[0] == "OK"
    operated.lab.unchanged("playbooks/mail.yml", *given)


def test_what_is_seen_of_it(operated: Operated, tmp_path: Path) -> None:
    environment = {**os.environ, "HYBRIDLAB_SANDBOX_NAME": NAME}
    arguments = ("-i", "inventories/sandbox", *operated.lab.model, *operated.variables())

    def tool(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", f"tools.{name}", *arguments, *more]
        return subprocess.run(argv, cwd=playbook.CHECKOUT, env=environment, capture_output=True, text=True, check=False)

    seen = tool("mail_status")
    assert seen.returncode == 0 and "mail_dovecot" in seen.stdout and "days left" in seen.stdout, seen.stdout + seen.stderr
    assert tool("mail_dns", "--output", str(tmp_path), "--ipv4", operated.address).returncode == 0
    zone = (tmp_path / "kuma8088.com.zone").read_text(encoding="utf-8")
    assert f"{HOSTNAME}. 3600 IN A {operated.address}" in zone and "_domainkey.kuma8088.com." in zone and "TLSA 3 1 1 3" not in zone
    for part in ("dovecot", "postfix"):
        assert operated.lab.sh(f"mailctl log {part} --lines 3").strip()
    health = json.loads(operated.lab.sh("hybridlab-health all --format json || [ $? -le 2 ]"))["checks"]
    rows = {(row["name"], row["subject"]): row["severity"] for row in health}
    assert rows["mail_platform_queue", None] == rows["certificate", f"{ROOT}/tls/current/fullchain.pem"] == "ok"
    outcome = operated.lab.play("playbooks/validate.yml", *operated.variables())
    judged = [row for row in outcome.task("Judge the host").result["rows"] if row["area"] == "mail"]
    assert len(judged) > 10 and [row for row in judged if not row["ok"]] == []


def test_a_removal_that_was_cut_short_is_finished_at_boot(operated: Operated) -> None:
    assert "gone@kuma8088.com" in operated.lab.sh(TIDY)
    assert operated.lab.sh(f"systemctl is-enabled hybridlab-mail-tidy.service; ls {ROOT}/mail/kuma8088.com").split()[0] == "enabled"
    assert "gone" not in operated.lab.sh(f"ls {ROOT}/mail/kuma8088.com").split()


def test_teardown_takes_our_files_and_never_mail(operated: Operated) -> None:
    kept = f"cd {ROOT}; find . -type f -not -path './mail/*/tmp/*' | sort | xargs sha256sum"
    before = operated.lab.sh(kept)
    operated.lab.played("playbooks/teardown.yml", *operated.variables(), "-e", "teardown=sandbox")
    assert operated.lab.sh(kept) == before and "directory.sqlite" in before
    left = operated.lab.sh("ls /usr/local/sbin /etc/hybridlab /etc/fail2ban/filter.d /etc/fail2ban/jail.d /usr/local/lib/hybridlab; systemctl list-unit-files")
    assert not [word for word in left.split() if "mailctl" in word or word.startswith(("mail-", "mail.json", "hybridlab-mail", "zz-hybridlab-mail"))]
    until(lambda: "mail-" not in operated.lab.sh("fail2ban-client status"), "fail2ban keeps the jails")
