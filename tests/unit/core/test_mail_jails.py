# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the mail jails, on lines that the daemons have written: who failed is found, and nobody whom he names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

import pytest

TEMPLATES = Path(__file__).resolve().parents[3] / "roles/mail/templates"
DOVECOT = "host mail_dovecot[5357]: 2026-11-21 21:14:44 "
WORKER = f"{DOVECOT}auth-worker(25): Info: conn unix:auth-worker (pid=23,uid=5002): auth-worker<10>: "
POSTFIX = "host mail_postfix[5357]: Nov  1 21:15:08 mail postfix/"
NGINX = "host mail_nginx[5357]: "


def found(jail: str, line: str) -> Optional[str]:
    """The address that the filter takes out of a line, as fail2ban hands it over from the journal: host, identifier, message."""
    options = dict(row.split(" = ", 1) for row in (TEMPLATES / f"mail-{jail}.filter.j2").read_text(encoding="utf-8").splitlines() if " = " in row)
    if "prefregex" in options:
        before = re.search(options["prefregex"].replace("<F-CONTENT>", "(?P<content>").replace("</F-CONTENT>", ")"), line)
        if before is None:
            return None
        line = before["content"]
    seen = re.search(options["failregex"].replace("<ADDR>", r"(?P<address>[0-9a-fA-F:.]+)"), line)
    return seen["address"] if seen else None


@pytest.mark.parametrize(
    ("jail", "line"),
    [
        ("dovecot", f"{WORKER}sql(alice@lab.example,198.51.100.10,<AgWQ2c9g3JfGM2QK>): Password mismatch"),
        ("dovecot", f"{WORKER}sql(nobody@lab.example,198.51.100.10,<B8yq2c9g5JfGM2QK>): unknown user"),
        (
            "dovecot",
            f"{DOVECOT}auth: Info: plain(?,198.51.100.10,<a/b+c>): Username character disallowed by auth_username_chars: 0x2c (username: x,192.0.2.9,<y>)",
        ),
        ("postfix", f"{POSTFIX}submission/smtpd[116]: warning: unknown[198.51.100.10]: SASL PLAIN authentication failed: (reason), sasl_username=a@b"),
        (
            "postfix",
            f"{POSTFIX}submissions/smtpd[7]: warning: unknown[198.51.100.10]: SASL LOGIN authentication failed: , sasl_username=x[192.0.2.9]: SASL PLAIN"
            " authentication failed",
        ),
        ("web", f'{NGINX}198.51.100.10 8443 "POST /?_task=login HTTP/2.0" 401 5316 "curl"'),
        ("web", f'{NGINX}198.51.100.10 8443 "POST /?_task=login&x=192.0.2.9 HTTP/2.0" 401 5316 "192.0.2.9 1 \\x22POST"'),
    ],
)
def test_a_failed_login_is_found_with_its_address(jail: str, line: str) -> None:
    assert found(jail, line) == "198.51.100.10"


@pytest.mark.parametrize(
    ("jail", "line"),
    [
        ("dovecot", f"{WORKER}sql(health@health.invalid): unknown user"),
        ("dovecot", f"{WORKER}sql(alice@lab.example,198.51.100.10): Password mismatch"),
        ("dovecot", f"{DOVECOT}imap-login: Info: Disconnected: Aborted login (no auth attempts in 0 secs): user=<>, rip=198.51.100.10, lip=172.18.0.8"),
        ("dovecot", f"{DOVECOT}imap(alice@lab.example)<31><x>: Info: sql(a,192.0.2.9,<b>): Password mismatch"),
        ("postfix", f"{POSTFIX}smtpd[116]: NOQUEUE: reject: RCPT from unknown[198.51.100.10]: 550 5.1.1 <x>: SASL PLAIN authentication failed"),
        ("postfix", f"{POSTFIX}cleanup[9]: 1: warning: header Subject: warning: unknown[192.0.2.9]: SASL PLAIN authentication failed: x from local"),
        ("web", f'{NGINX}198.51.100.10 8443 "POST /?_task=login HTTP/2.0" 302 0 "curl"'),
        ("web", f'{NGINX}198.51.100.10 8443 "GET /401 HTTP/2.0" 404 0 "192.0.2.9 8443 \\x22POST / HTTP/2.0\\x22 401 "'),
    ],
)
def test_what_is_no_failed_login_of_a_client_is_not_counted(jail: str, line: str) -> None:
    assert found(jail, line) is None
