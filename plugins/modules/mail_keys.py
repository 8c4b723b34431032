#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_keys
short_description: Make the mail host's DKIM keys and its certificate
version_added: 0.1.0
description:
  - >-
    Makes the DKIM keys that are missing, for every selector of every domain, and the list from which Rspamd takes the one that signs.
    A key that is there is never replaced or removed: DNS has its other half.
  - >-
    Without a given certificate a CA of the host's own signs one for the host's name and the names of autoconfiguration and MTA-STS.
    It is renewed 30 days before its end, with the same key, so that a TLSA record stays right.
  - A certificate takes its place in one step, as a directory that the link C(tls/current) points to. The daemons have to be told then, see RV(renewed).
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: C(platform_mail) of the inventory.
    type: dict
    required: true
  directory:
    description: Where the mail host keeps its data. Without it what O(config) says.
    type: path
  certificate:
    description: The chain to be used, in PEM, the host's own certificate first. It must be for C(platform_mail.hostname) and fit O(private_key).
    type: str
  private_key:
    description: Its key in PEM, without a passphrase.
    type: str
  state:
    description:
      - V(present) makes what is missing.
      - V(gathered) only reports.
    type: str
    choices: [present, gathered]
    default: present
requirements:
  - openssl 1.1.1 or later on the managed host
"""

EXAMPLES = r"""
- name: Keys and a certificate of the host's own
  hybridlab.platform.mail_keys:
    config: "{{ platform_mail }}"
  register: keys

- name: A certificate of a public CA
  hybridlab.platform.mail_keys:
    config: "{{ platform_mail }}"
    certificate: "{{ lookup('ansible.builtin.file', platform_mail.tls.certificate) }}"
    private_key: "{{ mail_private_key }}"
"""

RETURN = r"""
before:
  description: Bits of the DKIM keys, selectors that sign, and the certificate with the reason why there has to be another, as found.
  returned: when O(state) is V(present)
  type: dict
  sample: {dkim: {}, selectors: {}, certificate: null}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is V(present)
  type: dict
  sample:
    dkim: {example.com: {s1: 2048, s2: 2048}}
    selectors: {example.com: s1}
    certificate: {from: own CA, names: [mail.example.com], due: null}
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is V(present)
  type: list
  elements: str
  sample: [openssl genrsa -out /data/mail/dkim/example.com/s1.key 2048]
renewed:
  description: Whether there is, or would be, another certificate. Daemons that have read the old one go on with it until they are told.
  returned: when O(state) is V(present)
  type: bool
  sample: false
dkim:
  description: Public keys in base64, by domain and selector, as a DKIM record has them in C(p=). In check mode those that are there.
  returned: always
  type: dict
  sample: {example.com: {s1: MIIBIjANBgkq...}}
tlsa:
  description: SHA-256 of the certificate's public key, as a TLSA record C(3 1 1) has it. Null where there is none yet.
  returned: always
  type: str
  sample: 0b9fa5a59eed715c26c1020c711b4f6ec42d58b0015e14337a39dad301c5afc3
until:
  description: When the certificate ends, as a date. Null where there is none yet.
  returned: always
  type: str
  sample: "2027-12-23"
"""

import subprocess
from collections.abc import Sequence
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_keys import plan, wanted
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_mail import parse_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_keys import Keys, utc_now

# A DKIM key of 4096 bits takes some seconds on a busy machine.
SECONDS = 120


def openssl(argv: Sequence[str], data: str) -> tuple[int, str, str]:
    done = subprocess.run(list(argv), input=data, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False)
    return done.returncode, done.stdout, done.stderr


def run(module: AnsibleModule) -> dict[str, Any]:
    mail = parse_mail(module.params["config"])
    root = module.params["directory"] or mail.directory
    keys, now = Keys(root, openssl), utc_now()
    if module.params["state"] == "gathered":
        return {"changed": False, **_told(keys)}
    given = _given(module.params["certificate"], module.params["private_key"])
    if mail.tls.certificate and not given:
        raise ResourceError("certificate: found none, and platform_mail.tls.certificate names one. Give what is in that file")
    want = wanted(mail, keys.given(*given, mail.hostname, now) if given else None)
    planned = plan(keys.read(), want, root, now)
    moved = keys.moved(given[0]) if given else None
    wrong = keys.rights()
    if not module.check_mode:
        if planned.changed:
            keys.apply(planned, want, given, now)
        keys.mend()
    for words in (*planned.warnings, *([moved] if moved else [])):
        module.warn(words)
    answer = result(planned.before, planned.after, planned.commands, module._diff, "mail keys", changed=planned.changed or bool(wrong))
    return {**answer, "renewed": planned.certificate is not None, **_told(keys)}


def _given(chain: Optional[str], key: Optional[str]) -> Optional[tuple[str, str]]:
    if bool(chain) != bool(key):
        raise ResourceError("certificate and private_key: found one without the other. Give both, or none for a certificate of the host's own CA")
    return (_lines(chain), _lines(key)) if chain and key else None


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").rstrip("\n") + "\n"


def _told(keys: Keys) -> dict[str, Any]:
    current = keys.read().certificate
    return {"dkim": keys.public_keys(), "tlsa": keys.tlsa(), "until": current.until.strftime("%Y-%m-%d") if current else None}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "dict", "required": True},
            "directory": {"type": "path"},
            "certificate": {"type": "str"},
            "private_key": {"type": "str", "no_log": True},
            "state": {"type": "str", "choices": ["present", "gathered"], "default": "present"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (ModelError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
