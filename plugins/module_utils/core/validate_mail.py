# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of the mail system: its containers, what each port's TLS shows, and its DKIM keys. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model import Platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Listener, Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_workloads import HOST, Workload
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answer, Answers, Questions, Row, given, judged

MAIL = "mail"

# By which protocol a listener goes over to TLS (s_client(1)); None = TLS from the first byte. LMTP has none.
STARTTLS: dict[str, Optional[str]] = {
    "smtp": "smtp",
    "submission": "smtp",
    "submissions": None,
    "imap": "imap",
    "imaps": None,
    "managesieve": "sieve",
    "https": None,
    "webmail": None,
}
SECONDS = 10


def questions(platform: Platform) -> Questions:
    mail = platform.services.mail
    if mail is None:
        return {}
    form = '{{.Label "com.docker.swarm.service.name"}} {{.Status}}'
    asked: dict[str, Sequence[str]] = {
        "mail_containers": ("docker", "ps", "--filter", f"label=com.docker.stack.namespace={mail.stack}", "--format", form),
        "mail_dkim": ("sh", "-c", f"cd {quote(mail.directory)}/dkim && ls -- */*.key"),
        "mail_selectors": ("cat", f"{mail.directory}/dkim/selectors.map"),
    }
    for listener in _shown(platform, mail):
        asked[f"mail_tls {listener.name}"] = ("sh", "-c", _handshake(mail, listener))
    return asked


def rows(platform: Platform, answers: Answers) -> Iterator[Row]:
    mail = platform.services.mail
    if mail is None:
        return
    for workload in _parts(platform, mail):
        yield _container(f"{mail.stack}_{workload.name}", answers["mail_containers"])
    for listener in _shown(platform, mail):
        answer = answers[f"mail_tls {listener.name}"]
        expected = f"TLS, certificate for {mail.hostname}"
        yield judged(MAIL, f"port {listener.port} ({listener.name})", expected, answer, True, expected)
    keys = answers["mail_dkim"].lines
    for domain in mail.domains:
        found = sorted(key.rpartition("/")[2][: -len(".key")] for key in keys if key.startswith(f"{domain.name}/"))
        missing = sorted({*domain.dkim.selectors} - {*found})
        wanted = ", ".join(sorted(domain.dkim.selectors))
        yield judged(MAIL, f"DKIM keys of {domain.name}", wanted, answers["mail_dkim"], not missing, f"{', '.join(found) or 'none'}")
    signing = sorted(f"{domain.name} {domain.dkim.active}" for domain in mail.domains)
    yield given(MAIL, "DKIM keys that sign", signing, sorted(answers["mail_selectors"].lines))


def _parts(platform: Platform, mail: Mail) -> list[Workload]:
    return [workload for workload in platform.services.workloads if workload.stack == mail.stack and workload.target == "swarm"]


def _shown(platform: Platform, mail: Mail) -> list[Listener]:
    """Listeners that speak TLS, and that the host itself may reach."""
    published = {port.published for workload in _parts(platform, mail) for port in workload.ports}
    return [one for one in mail.listeners if one.name in STARTTLS and HOST in one.sources and one.port in published]


def _handshake(mail: Mail, listener: Listener) -> str:
    """Ends with 0 when the certificate is good, and is the mail host's; where a CA of the host's own signs, by that one."""
    protocol = STARTTLS[listener.name]
    argv = ["timeout", str(SECONDS), "openssl", "s_client", "-brief", "-verify_return_error", "-connect", f"127.0.0.1:{listener.port}"]
    argv += ["-servername", mail.hostname, "-verify_hostname", mail.hostname, *(["-starttls", protocol] if protocol else [])]
    authority = quote(f"{mail.directory}/tls/current/ca.pem")
    return f'[ ! -e {authority} ] || set -- -CAfile {authority}; exec {" ".join(map(quote, argv))} "$@" </dev/null'


def _container(name: str, answer: Answer) -> Row:
    states = [line.partition(" ")[2] for line in answer.lines if line.partition(" ")[0] == name]
    good = [state for state in states if state.endswith("(healthy)")]
    return judged(MAIL, f"container {name}", "healthy", answer, bool(states) and good == states, ", ".join(states) or "none runs")
