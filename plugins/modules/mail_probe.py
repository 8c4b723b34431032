#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_probe
short_description: Send real mail through a server, fetch it again, and delete it
version_added: 0.1.0
description:
  - >-
    Sends a message with a token of its own through submission (or as another mail server would, without a login), waits for it in the recipient's mailbox
    by IMAP, compares its text, and deletes it. What the scanner files as spam is found too, and said in RV(notes).
  - Fails when a message could not be sent, or has not arrived in time, with the cause in words.
  - Everything is made by Python's own library, on the host that the task runs on.
author:
  - hybridlab.platform contributors (@hybridlab)
attributes:
  check_mode:
    description: Can run without changing anything. It connects, checks the certificates and logs in then, and sends nothing.
    support: full
  diff_mode:
    description: Nothing stays changed, so there is no difference to report.
    support: none
  idempotent:
    description: Leaves nothing behind, so every run starts from the same state. With O(keep) each run leaves its messages.
    support: partial
options:
  recipient:
    description: The address that the mail goes to. It is also the login of IMAP, unless O(imap_login) names another.
    type: str
    required: true
  sender:
    description: The address that it comes from. The recipient's own by default.
    type: str
  smtp:
    description: The server that takes the mail.
    type: dict
    required: true
    suboptions:
      host:
        description: Its name or address.
        type: str
        required: true
      port:
        description: Its port. V(587) for O(smtp) and V(993) for O(imap) by default.
        type: int
      tls:
        description:
          - >-
            V(implicit) from the first byte, V(starttls), V(offered) for STARTTLS where the server has it, V(none).
            By default V(implicit) for ports 465 and 993, V(offered) for 25, V(starttls) for others.
          - With a login, and for IMAP, only V(implicit) and V(starttls) will do.
        type: str
        choices: [starttls, implicit, offered, none]
      name:
        description: The name that its certificate has to be for, where that is not O(smtp.host).
        type: str
  imap:
    description: The server that the mail is fetched from. Without it the mail is only sent.
    type: dict
    suboptions:
      host:
        description: Its name or address.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        default: 993
      tls:
        description: As for O(smtp.tls), V(implicit) for port 993 and V(starttls) for others by default.
        type: str
        choices: [starttls, implicit]
      name:
        description: The name that its certificate has to be for, where that is not O(imap.host).
        type: str
  login:
    description: The login of SMTP. Without it the mail is sent without one, as another mail server does it.
    type: str
  password:
    description: The password of O(login), and of IMAP unless O(imap_password) is given.
    type: str
  imap_login:
    description: The login of IMAP, where it is not the recipient's address.
    type: str
  imap_password:
    description: The password of IMAP, where it is not O(password).
    type: str
  auth:
    description: How to log in. V(auto) takes PLAIN where it is offered, else LOGIN.
    type: str
    choices: [auto, plain, login]
    default: auto
  ca:
    description: File on the managed host with the certificates of the authorities to trust. The system's by default.
    type: path
  insecure:
    description: Whether any certificate will do. RV(notes) says so then.
    type: bool
    default: false
  deadline:
    description: Seconds that mail may take to arrive, after the last message was accepted.
    type: float
    default: 60
  timeout:
    description: Seconds that one answer of a server may take.
    type: float
    default: 30
  count:
    description: How many messages to send.
    type: int
    default: 1
  rate:
    description: Messages a second. V(0) sends as fast as it goes.
    type: float
    default: 0
  connections:
    description: Connections at a time.
    type: int
    default: 1
  per_connection:
    description: Messages that a connection is used for before it is made anew. V(0) uses it for all.
    type: int
    default: 0
  size:
    description: Bytes of a message with its header, 512 or more. V(0) makes it as small as it can be.
    type: int
    default: 0
  retries:
    description: Attempts after an answer 4xx or a lost connection, the first after a second, each twice as late as the one before.
    type: int
    default: 3
  keep:
    description: Whether messages stay in the mailbox.
    type: bool
    default: false
  sweep:
    description: >-
      Whether messages of this module and of C(mailprobe) that arrived before yesterday are deleted first. They came too late for their own run.
      Where the server keeps no index of headers, it reads the whole mailbox for this.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Prove that mail of the domain gets from its sender to its reader
  hybridlab.platform.mail_probe:
    recipient: probe@example.com
    login: probe@example.com
    password: "{{ vault_mail_probe }}"
    smtp: {host: mail.example.com}
    imap: {host: mail.example.com}

- name: Prove that mail from outside comes in, with the certificate of our own authority
  hybridlab.platform.mail_probe:
    sender: someone@example.net
    recipient: probe@example.com
    imap_password: "{{ vault_mail_probe }}"
    smtp: {host: 127.0.0.1, port: 25, name: mail.example.com}
    imap: {host: 127.0.0.1, port: 143, name: mail.example.com}
    ca: /data/mail/tls/current/ca.pem
"""

RETURN = r"""
ok:
  description: Whether every message was sent, and fetched unless RV(imap) is null.
  returned: always
  type: bool
exit_code:
  description: That of the command C(mailprobe), which says the kind of the cause.
  returned: always
  type: int
  sample: 0
token:
  description: What the messages of this run have in their header C(X-Mail-Probe), followed by their number.
  returned: always
  type: str
  sample: 4f1d0c2ab7e95a66
connect_only:
  description: Whether nothing was sent because of check mode.
  returned: always
  type: bool
  sample: false
interrupted:
  description: Whether the run was ended by hand. Never true for a task.
  returned: always
  type: bool
  sample: false
count:
  description: Messages that were to be sent. V(0) when no connection came about.
  returned: always
  type: int
  sample: 1
sent:
  description: Messages that the server took.
  returned: always
  type: int
  sample: 1
fetched:
  description: Those of them that arrived.
  returned: always
  type: int
  sample: 1
failed_messages:
  description: Messages that were not sent, did not arrive in time, or arrived changed.
  returned: always
  type: int
  sample: 0
retried:
  description: Attempts after the first one, of all messages.
  returned: always
  type: int
  sample: 0
doubled:
  description: Messages that arrived more than once.
  returned: always
  type: int
  sample: 0
folders:
  description: Where they arrived, and how many of them.
  returned: always
  type: dict
  sample: {INBOX: 1}
seconds:
  description: How long all of it took.
  returned: always
  type: float
  sample: 0.62
sent_per_second:
  description: From the beginning of the first message to the end of the last. Null when none was sent.
  returned: always
  type: float
  sample: 8.1
send_seconds:
  description: From the first command of a message to the answer that it was taken. Percentiles by the nearest rank; null when there were none.
  returned: always
  type: dict
  sample: {p50: 0.12, p95: 0.12, p99: 0.12, max: 0.12}
delivery_seconds:
  description: From the first attempt at a message until it was seen in the mailbox, which is looked at twenty times a second.
  returned: always
  type: dict
  sample: {p50: 0.34, p95: 0.34, p99: 0.34, max: 0.34}
failures:
  description: The causes, the commonest first, each with how often it came about and one example in words.
  returned: always
  type: list
  elements: dict
  sample: [{reason: 550 5.1.1 at RCPT TO, count: 1, exit: 6, example: "mail.example.com:25 answered 550 5.1.1 ..."}]
notes:
  description: What a reader has to know beside the counts.
  returned: always
  type: list
  elements: str
  sample: []
smtp:
  description: The server as it was met; null when it was not. RV(smtp.tls) is null without TLS, RV(smtp.auth) without a login.
  returned: always
  type: dict
  contains:
    host: {description: As it was given., type: str}
    port: {description: Its port., type: int}
    banner: {description: What it greets with., type: str}
    auth: {description: The mechanism of the login., type: str}
    tls:
      description: Version, cipher, and the certificate with the whole days that are left of it.
      type: dict
      sample:
        version: TLSv1.3
        cipher: TLS_AES_256_GCM_SHA384
        verified: true
        subject: mail.example.com
        issuer: An authority
        names: [mail.example.com]
        not_after: "2027-02-19T20:00:00+00:00"
        days: 89
imap:
  description: The same for IMAP.
  returned: always
  type: dict
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe import AUTH, AUTO, IMAP_PORT, IMPLICIT, STARTTLS, TLS, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_probe_report import report, text
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_probe_run import connect, run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "recipient": {"type": "str", "required": True},
            "sender": {"type": "str"},
            "smtp": {
                "type": "dict",
                "required": True,
                "options": {
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int"},
                    "tls": {"type": "str", "choices": list(TLS)},
                    "name": {"type": "str"},
                },
            },
            "imap": {
                "type": "dict",
                "options": {
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int", "default": IMAP_PORT},
                    "tls": {"type": "str", "choices": [STARTTLS, IMPLICIT]},
                    "name": {"type": "str"},
                },
            },
            "login": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "imap_login": {"type": "str"},
            "imap_password": {"type": "str", "no_log": True},
            "auth": {"type": "str", "choices": list(AUTH), "default": AUTO},
            "ca": {"type": "path"},
            "insecure": {"type": "bool", "default": False},
            "deadline": {"type": "float", "default": 60},
            "timeout": {"type": "float", "default": 30},
            "count": {"type": "int", "default": 1},
            "rate": {"type": "float", "default": 0},
            "connections": {"type": "int", "default": 1},
            "per_connection": {"type": "int", "default": 0},
            "size": {"type": "int", "default": 0},
            "retries": {"type": "int", "default": 3},
            "keep": {"type": "bool", "default": False},
            "sweep": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        probe = plan(module.params)
        outcome = connect(probe) if module.check_mode else run(probe)
    except ResourceError as error:
        module.fail_json(msg=str(error))
    answer = report(outcome, datetime.now(timezone.utc))
    for note in answer["notes"]:
        module.warn(note)
    answer["changed"] = probe.keep and answer["fetched"] > 0
    if not answer["ok"]:
        module.fail_json(msg=text(answer), **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
