# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A built mail host, and a second host that is the Internet to it: other people's mail server, the smarthost, the DNS, and whoever connects."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import json
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, TypeVar, cast

from ansible_collections.hybridlab.platform.plugins.module_utils.core import mail_dns
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_mail import parse_mail

from tests.integration.lab import Lab, fresh, model
from tests.integration.mail.connections import SECONDS, Imap, Smtp, joined, said
from tools import playbook
from tools.sandbox.names import Identity, Settings
from tools.sandbox.verbs import Sandbox

LAYERS = ("platform_docker", "platform_secrets", "platform_container_images", "platform_mail")
PASSWORD = "a word for all of them"
STREAM = "webmakesprofit.com"
RELAY = "relay.outside.example"
# Senders of the outside. Nothing but its own address may send for the strict one, and that is not it.
HONEST, STRICT = "sender.example", "strict.example"
PEM_END = "-----END CERTIFICATE-----"
FILES = (playbook.CHECKOUT / "tests/integration/mail/dns_server.py", playbook.CHECKOUT / "tests/integration/mail/stream.py")

# Port 587 takes mail by STARTTLS and a login only, port 25 nothing but what comes from this host itself. What is for elsewhere.example ends here.
OUTSIDE = r"""
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends postfix libsasl2-modules sasl2-bin >/dev/null 2>&1
systemctl stop postfix
postconf -F '*/*/chroot = n'
postconf -e 'myhostname = relay.outside.example' 'mydestination =' 'inet_protocols = ipv4' 'maillog_file = /var/log/postfix.log' \
    'virtual_mailbox_domains = elsewhere.example' 'virtual_mailbox_base = /var/mail/elsewhere' 'virtual_mailbox_maps = static:all/' \
    'virtual_uid_maps = static:65534' 'virtual_gid_maps = static:65534' 'virtual_minimum_uid = 1' \
    'smtpd_tls_cert_file = /etc/postfix/relay.crt' 'smtpd_tls_key_file = /etc/postfix/relay.key' 'smtp_tls_security_level = may' \
    'cyrus_sasl_config_path = /etc/postfix/sasl' 'smtpd_sasl_local_domain = outside' 'smtp_bind_address = 0.0.0.0' \
    'queue_run_delay = 3s' 'minimal_backoff_time = 3s' 'maximal_backoff_time = 6s' 'default_destination_concurrency_limit = 5'
postconf -M 'submission/inet=submission inet n - n - - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes'
postconf -P submission/inet/smtpd_relay_restrictions=permit_sasl_authenticated,reject
printf 'pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n' >/etc/postfix/sasl/smtpd.conf
printf '%s' 'the relay knows this' | saslpasswd2 -p -c -u outside relay
chgrp postfix /etc/sasldb2
install -d -o nobody -g nogroup /var/mail/elsewhere
chmod 600 /etc/postfix/relay.key
"""

# A certificate of the host's own CA, as it would be shortly before its end.
NEARLY_OVER = """
cd {directory}; work=$(mktemp -d)
names=$(openssl x509 -in tls/current/fullchain.pem -noout -ext subjectAltName | tail -n 1 | tr -d ' ')
echo "subjectAltName=$names" >$work/extensions
openssl req -new -key tls/current/privkey.pem -subj /CN={hostname} -out $work/request
openssl x509 -req -in $work/request -days 5 -CA ca/ca.pem -CAkey ca/ca.key -CAcreateserial -CAserial $work/serial -extfile $work/extensions \
    -out tls/current/fullchain.pem 2>/dev/null
rm -r $work
"""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Reply:
    """What an SMTP server said."""

    code: int
    text: str


def letter(sender: str, to: str, subject: str, text: str = "Shall we meet for lunch on Tuesday?\n") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, to, subject
    made["Date"], made["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2])
    made.set_content(text)
    return made


def until(ask: Callable[[], Answer], why: str, seconds: float = SECONDS, pause: float = 0.5) -> Answer:
    """What ``ask`` answers as soon as it is something."""
    end = time.monotonic() + seconds
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < end, why
        time.sleep(pause)


class MailHost:
    """lab: the mail host. outside: the other one. ca: of the smarthost. variables: what playbooks were given last."""

    def __init__(self, lab: Lab, outside: Lab, ca: Path) -> None:
        self.lab, self.outside, self.ca = lab, outside, ca
        self.variables = variables(ca)
        sandbox = Sandbox(Identity.of(), Settings())
        self.address: str = sandbox.connection(lab.name)["address"]
        self.outside_address: str = sandbox.connection(outside.name)["address"]
        self._client = sandbox.container(outside.name)
        raw = model("mail")["platform_mail"]
        # What a template stands for is of no matter to what is read here.
        raw["relays"][0]["ca"] = "/dev/null"
        self.mail: Mail = parse_mail(raw)

    # -- connections from the outside ---------------------------------------------------------------

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """The host's own CA, and nothing else."""
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        found.load_verify_locations(cadata=self.lab.sh(f"cat {self.mail.directory}/tls/current/ca.pem"))
        return found

    def _secured(self, link: socket.socket) -> ssl.SSLSocket:
        return self.trust.wrap_socket(link, server_hostname=self.mail.hostname)

    @contextmanager
    def smtp(self, port: int = 25, login: Optional[str] = None) -> Iterator[smtplib.SMTP]:
        """A session in which EHLO was said; with TLS at the submission ports."""
        link = joined(self._client, self.address, port)
        session = Smtp(self._secured(link) if port == 465 else link, self.mail.hostname)
        try:
            if port == 587 and login is not None:
                session.starttls(context=self.trust)
            session.ehlo()
            if login is not None:
                session.login(login, PASSWORD)
            yield session
        finally:
            session.close()

    def offered(self, made: EmailMessage, *to: str, sender: Optional[str] = None, login: Optional[str] = None, port: Optional[int] = None) -> Reply:
        """The server's last word about a mail."""
        with self.smtp(port or (587 if login else 25), login) as session:
            code, text = session.mail(made["From"] if sender is None else sender)
            for one in to:
                if code < 400:
                    code, text = session.rcpt(one)
            if code < 400:
                code, text = session.data(made.as_bytes(policy=SMTP))
            return Reply(code, text.decode())

    def takes(self, to: str, subject: str) -> bool:
        """Whether a mail from outside is taken now."""
        try:
            return self.offered(letter(f"carla@{HONEST}", to, subject), to).code == 250
        except (OSError, smtplib.SMTPException):
            return False

    @contextmanager
    def imap(self, login: str) -> Iterator[imaplib.IMAP4]:
        session = Imap(self._secured(joined(self._client, self.address, 993)))
        try:
            session.login(login, PASSWORD)
            yield session
        finally:
            session.shutdown()

    def headers(self, login: str, folder: str = "INBOX", field: str = "SUBJECT") -> list[str]:
        """That field of each mail of a folder."""
        with self.imap(login) as session:
            count = int(session.select(folder, readonly=True)[1][0] or b"0")
            if not count:
                return []
            _word, rows = session.fetch("1:*", f"(BODY.PEEK[HEADER.FIELDS ({field})])")
            return [row[1].decode().partition(":")[2].strip() for row in rows if isinstance(row, tuple)]

    def fetched(self, login: str, subject: str, folder: str = "INBOX", seconds: float = SECONDS) -> bytes:
        """The mail of that subject, as soon as it is there."""
        with self.imap(login) as session:

            def look() -> Optional[bytes]:
                session.select(folder, readonly=True)
                found = session.search(None, "HEADER", "SUBJECT", f'"{subject}"')[1][0].split()
                return session.fetch(found[0].decode(), "(BODY.PEEK[])")[1][0][1] if found else None  # type: ignore[index,return-value]

            return until(look, f"{subject} did not reach {folder} of {login}", seconds, 0.3) or b""

    def sieve(self, login: str, script: str) -> None:
        """Make a script the one that is active: ManageSieve, RFC 5804."""
        link = joined(self._client, self.address, 4190)
        try:
            said(link)
            link.sendall(b"STARTTLS\r\n")
            said(link)
            link = self._secured(link)
            said(link)
            word = base64.b64encode(f"\0{login}\0{PASSWORD}".encode()).decode()
            for command in (f'AUTHENTICATE "PLAIN" "{word}"', f'PUTSCRIPT "own" {{{len(script)}+}}\r\n{script}', 'SETACTIVE "own"'):
                link.sendall(f"{command}\r\n".encode())
                said(link)
        finally:
            link.close()

    # -- the host ----------------------------------------------------------------------------------

    def containers(self) -> dict[str, str]:
        """Container of each part that runs."""
        rows = self.lab.sh("docker ps --format '{{.Label \"com.docker.swarm.service.name\"}} {{.ID}}'").splitlines()
        return {name.partition("_")[2]: container for name, _space, container in (row.partition(" ") for row in rows)}

    def killed(self, part: str) -> None:
        """By signal 9, and another one is there."""
        old = self.containers()[part]
        self.lab.sh(f"docker kill --signal KILL {old} >/dev/null")
        until(lambda: self.containers().get(part, old) != old, f"no new container of {part}")

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """While a part is away."""
        service = f"{self.mail.stack}_{part}"
        self.lab.sh(f"docker service scale --detach {service}=0 >/dev/null")
        until(lambda: part not in self.containers(), f"{part} does not end")
        try:
            yield
        finally:
            self.lab.sh(f"docker service scale --detach {service}=1 >/dev/null")
            until(lambda: part in self.containers(), f"{part} does not come back")

    @contextmanager
    def full(self, part: str, path: str, owner: int) -> Iterator[None]:
        """While a directory of a part's is a full disk."""
        pid = self.lab.sh(f"docker inspect --format '{{{{.State.Pid}}}}' {self.containers()[part]}").strip()
        mount = f"size=4k,mode=0700,uid={owner},gid={owner}"
        inside = f"nsenter --target {pid} --mount"
        self.lab.sh(f"{inside} mount -t tmpfs -o {mount} none {path}; {inside} sh -c 'cat /dev/zero >{path}/filler 2>/dev/null || :'")
        try:
            yield
        finally:
            self.lab.sh(f"{inside} sh -c 'for turn in 1 2 3 4 5; do umount {path} && exit 0; sleep 1; done; exit 1'")

    def flush(self) -> None:
        """The mail host's queue is tried now."""
        self.lab.sh(f"docker exec {self.containers()['postfix']} postqueue -f")

    def age_certificate(self) -> None:
        self.lab.sh(NEARLY_OVER.format(directory=self.mail.directory, hostname=self.mail.hostname))

    def current_certificate(self) -> str:
        """Its SHA-256."""
        pem = self.lab.sh(f"cat {self.mail.directory}/tls/current/fullchain.pem")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[: pem.index(PEM_END) + len(PEM_END)])).hexdigest()

    def shown_certificate(self, port: int) -> str:
        """SHA-256 of what a new connection is shown."""
        link = joined(self._client, self.address, port)
        if port in (993, 465):
            secured = self._secured(link)
        else:
            session = Smtp(link, self.mail.hostname)
            session.starttls(context=self.trust)
            secured = cast(ssl.SSLSocket, session.sock)
        try:
            return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        finally:
            secured.close()

    def queued(self) -> bool:
        """Whether mail waits in the mail host's queue after a try."""
        return "(" in self.lab.sh(f"docker exec {self.containers()['postfix']} postqueue -p").partition("\n")[2]

    def scanner(self, path: str) -> Any:
        """What Rspamd's controller answers."""
        link = f"/data/docker/volumes/{self.mail.stack}_sockets_rspamd/_data/controller"
        script = (
            "import http.client, socket; link = http.client.HTTPConnection('localhost'); link.sock = socket.socket(socket.AF_UNIX);"
            f"link.sock.connect('{link}'); link.request('GET', '{path}'); print(link.getresponse().read().decode())"
        )
        return json.loads(self.lab.sh(f'python3 -c "{script}"'))

    # -- the outside -------------------------------------------------------------------------------

    def sheet(self) -> list[mail_dns.Record]:
        """The records that the host's mail domains need."""
        rows = self.lab.sh(f"cd {self.mail.directory}/dkim; for file in */*.pub; do echo $file $(grep -v -- --- $file | tr -d '\\n'); done").splitlines()
        keys: dict[str, dict[str, str]] = {}
        for path, key in (row.split() for row in rows):
            keys.setdefault(path.partition("/")[0], {})[path.partition("/")[2][: -len(".pub")]] = key
        return mail_dns.records(self.mail, keys, {"ipv4": self.address})

    def put(self, path: str, content: bytes) -> None:
        self.outside.sh(f"echo {base64.b64encode(content).decode()} | base64 -d >{path}")

    def named(self) -> None:
        """The outside serves the DNS sheet and its own zones; both hosts ask it, and nobody else."""
        address = self.outside_address
        zone: dict[str, list[Any]] = {
            RELAY: [("A", address)],
            "outside.example": [("TXT", f"v=spf1 ip4:{address} -all")],
            HONEST: [("A", address), ("MX", (10, HONEST)), ("TXT", f"v=spf1 ip4:{address} -all")],
            STRICT: [("A", "192.0.2.77"), ("MX", (10, STRICT)), ("TXT", "v=spf1 ip4:192.0.2.77 -all")],
            f"_dmarc.{STRICT}": [("TXT", "v=DMARC1; p=reject")],
            "elsewhere.example": [("MX", (10, RELAY))],
        }
        for record in self.sheet():
            value: Any = record.value
            if record.type == "MX":
                preference, exchange = record.value.split()
                value = (int(preference), exchange)
            if record.type in ("A", "MX", "TXT", "CNAME"):
                zone.setdefault(record.name, []).append((record.type, value))
        self.put("/root/zone.json", json.dumps(zone).encode())
        self.outside.sh("systemd-run --quiet --unit=names python3 /root/dns_server.py 0.0.0.0 /root/zone.json; echo nameserver 127.0.0.1 >/etc/resolv.conf")
        self.lab.sh(f"echo nameserver {address} >/etc/resolv.conf")
        self.outside.sh("systemctl start postfix")

    def arrived(self, subject: str) -> bytes:
        """A mail that the smarthost got."""
        script = f"grep -lrF -- 'Subject: {subject}' /var/mail/elsewhere/all/new 2>/dev/null | head -n 1 | xargs -r cat | base64"
        return base64.b64decode(until(lambda: self.outside.sh(script).strip(), f"{subject} did not reach the smarthost"))


def certificate(directory: Path) -> tuple[Path, Path]:
    """(certificate, key) of the smarthost, of no CA but its own."""
    paths = directory / "relay.crt", directory / "relay.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={RELAY}", "-addext", f"subjectAltName=DNS:{RELAY}"]
    subprocess.run([*made, "-out", str(paths[0]), "-keyout", str(paths[1])], check=True, capture_output=True)
    return paths


def variables(ca: Path, raw: Optional[dict[str, Any]] = None) -> tuple[str, ...]:
    """Arguments of playbooks. raw: another platform_mail."""
    values = model("mail") if raw is None else {**model("mail"), "platform_mail": raw}
    return "-e", json.dumps({**values, "relay_ca": str(ca)})


@contextmanager
def mail_host(directory: Path) -> Iterator[MailHost]:
    """Both hosts, built and with each other's names."""
    chain, key = certificate(directory)
    with fresh("mail-outside") as outside, fresh("mail", layers=LAYERS) as lab, ThreadPoolExecutor(1) as pool:
        host = MailHost(lab, outside, chain)

        def prepare() -> None:
            outside.sh("mkdir -p /etc/postfix")
            for path in (chain, key):
                host.put(f"/etc/postfix/{path.name}", path.read_bytes())
            for path in FILES:
                host.put(f"/root/{path.name}", path.read_bytes())
            outside.sh(OUTSIDE)

        prepared = pool.submit(prepare)
        lab.played("site.yml", *host.variables, "--skip-tags", "verify")
        prepared.result()
        host.named()
        for part in ("rspamd", "postfix"):
            host.killed(part)
        until(lambda: host.takes(host.mail.admins[0], "first"), "the mail host takes no mail")
        yield host
