#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_accounts
short_description: Say who has mail, and where it goes
version_added: 0.1.0
description:
  - >-
    Makes domains, mailboxes, aliases, groups and first passwords those of the model, in the two SQLite files that Dovecot and Postfix read while they run.
    A change is one transaction over both, and is live at once. Nothing is restarted.
  - >-
    A password is stored only for a mailbox that has none, as an ARGON2ID hash: from then on it belongs to the mailbox's owner. A mailbox without a password
    receives mail, and nobody can log in to it.
  - >-
    A mailbox that is not enabled can neither be logged in to nor sent from, and its open sessions are ended. It goes on receiving.
    What C(mailctl disable) has shut stays shut until C(mailctl enable), whatever the model says.
  - A run that was killed is continued by the next one.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: C(platform_mail) of the inventory. Only O(state=deleted) and O(state=gathered) can do without.
    type: dict
  directory:
    description: Where the mail host keeps its data. Without it what O(config) says, or C(/data/mail).
    type: path
  passwords:
    description: >-
      First passwords by address, in clear or as C({ARGON2ID}$argon2id$...): one JSON text. They are hashed by C(doveadm pw),
      in Dovecot's running container or in O(image), and go there by standard input.
    type: str
    default: "{}"
  update_passwords:
    description:
      - V(on_create) gives a password to mailboxes that have none.
      - >-
        V(always) also sets the given one again where it is not the one that was set last, or was changed since. That takes some 50 ms for each at each run.
    type: str
    choices: [on_create, always]
    default: on_create
  image:
    description:
      - What the engine knows Dovecot's image by, for hashes while Dovecot does not run yet. M(hybridlab.platform.container_images) returns it.
      - Left out, it is the one of Dovecot's service.
    type: str
  removed_mail:
    description:
      - What becomes of the mail of a removed mailbox. V(archive) packs it into C(archive/<address>-<time>.tar.gz).
      - V(keep) leaves it where it is. A later mailbox of the same address has it.
    type: str
    choices: [archive, keep, delete]
    default: archive
  allow_disruption:
    description:
      - Whether mailboxes, aliases, groups and domains may be removed. RV(disruptive) names them.
      - When V(false) and one would be, the run fails before its first change. Check mode only warns.
    type: bool
    default: false
  record:
    description: Where O(update_passwords=always) keeps what it set last. It is made with mode 0600.
    type: path
    default: /var/lib/hybridlab/mail/declared.json
  state:
    description:
      - V(merged) makes the declared addresses as declared. Others stay, and a warning names them.
      - V(overridden) also removes what O(config) does not name.
      - V(deleted) removes the domains of O(config) with all their addresses, or everything when it is not given.
      - V(gathered) only reports.
    type: str
    choices: [merged, overridden, deleted, gathered]
    default: merged
requirements:
  - Docker and the image of Dovecot on the managed host, where passwords are given in clear
"""

EXAMPLES = r"""
- name: The inventory's accounts and no others
  hybridlab.platform.mail_accounts:
    config: "{{ platform_mail }}"
    passwords: "{{ {'anna@example.com': lookup('ansible.builtin.file', '~/anna.hash')} | to_json }}"
    state: overridden

- name: What is there
  hybridlab.platform.mail_accounts:
    state: gathered
"""

RETURN = r"""
before:
  description: Domains, mailboxes, aliases and groups as found. Of a password nothing but whether there is one.
  returned: when O(state) is not V(gathered)
  type: dict
  sample: {domains: [], mailboxes: [], aliases: [], groups: []}
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is not V(gathered)
  type: dict
  sample:
    domains: [{name: example.com, relay: null, catch_all: null}]
    mailboxes: [{address: anna@example.com, name: Anna, quota_mb: 500, enabled: true, forward_to: [], keep_copy: true, password: set}]
    aliases: []
    groups: []
commands:
  description: The lines of C(mailctl) that do the same by hand. Passwords are asked for at the prompt.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [mailctl add anna@example.com --no-password --quota 500]
disruptive:
  description: Mailboxes, other addresses and domains (C(@domain)) that are, or would be, removed.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: []
held:
  description: Mailboxes that C(mailctl disable) has shut.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: []
without_password:
  description: Mailboxes that nobody can log in to, for want of a password.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [archive@example.com]
archives:
  description: Archives that were made of removed mailboxes.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: []
gathered:
  description: What is there, as in RV(before).
  returned: when O(state) is V(gathered)
  type: dict
"""

import json
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import (
    Found,
    Plan,
    check_passwords,
    plan,
    report,
    target_rows,
    undeclared,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_store import Rows, no_rows, wanted_rows
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_mail import Mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse_mail import parse_mail
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_change import Changer
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_declared import DeclaredPasswords
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_server import Server
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_store import Store

_NAMED = 20


class MailAccounts:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.passwords: dict[str, str] = json.loads(self.params["passwords"])
        check_passwords(self.passwords)
        self.mail: Optional[Mail] = parse_mail(self.params["config"]) if self.params["config"] else None
        self.root: str = self.params["directory"] or (self.mail.directory if self.mail else Mail.directory)
        self.store = Store(self.root)
        self.record = DeclaredPasswords(self.params["record"]) if self.params["update_passwords"] == "always" else None

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        found = self.store.read()
        if state == "gathered":
            return {"changed": False, "gathered": report(found.rows, found.passwords)}
        if self.mail is None and state != "deleted":
            raise ResourceError(f"config: found nothing, and state {state} makes what it says. Give platform_mail")
        declared = wanted_rows(self.mail) if self.mail else no_rows()
        unfinished = bool(found.rows["removals"])
        wrong = bool(self.store.wrong_files())
        if self.module.check_mode:
            planned = self._plan(found, declared)
            archives: list[str] = []
        else:
            changer = Changer(self.root, self.store, Server(self.mail.stack if self.mail else "mail", self.params["image"]))
            planned, archives = changer.change(lambda now: self._plan(now, declared), self.passwords, self.record)
        left = undeclared(found.rows, declared) if state == "merged" else []
        if left:
            self.module.warn(f"not in the model, and left as they are: {', '.join(left[:_NAMED])}. mailctl (alias, group, domain) remove ends that")
        return self._report(planned, unfinished, wrong, archives)

    def _plan(self, found: Found, declared: Rows) -> Plan:
        replaced = self.record.other(self.passwords, found.passwords) if self.record else set()
        wanted = target_rows(found.rows, declared, self.params["state"])
        planned = plan(found, wanted, self.passwords, replaced, self.params["removed_mail"])
        if (planned.gone or planned.lost) and not self.params["allow_disruption"]:
            self._refuse((*planned.gone, *planned.lost))
        return planned

    def _refuse(self, gone: tuple[str, ...]) -> None:
        more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
        message = f"{len(gone)} mailboxes, addresses or domains would be removed: {', '.join(gone[:_NAMED])}{more}"
        if not self.module.check_mode:
            raise ResourceError(f"{message}. Nothing was changed. Declare them in platform_mail, or set allow_disruption: true.", disruptive=list(gone))
        self.module.warn(f"{message}. The real run refuses it as long as allow_disruption is not true.")

    def _report(self, planned: Plan, unfinished: bool, wrong: bool, archives: list[str]) -> dict[str, Any]:
        lines = [*(["mailctl tidy"] if unfinished else []), *planned.commands]
        answer = result(planned.before, planned.after, lines, self.module._diff, "mail accounts", changed=planned.changed or unfinished or wrong)
        without = [mailbox["address"] for mailbox in planned.after["mailboxes"] if mailbox["password"] == "none"]
        answer.update(disruptive=[*planned.gone, *planned.lost], held=list(planned.held), without_password=without, archives=archives)
        if planned.held:
            self.module.warn(f"shut by hand, and left so: {', '.join(planned.held[:_NAMED])}. mailctl enable ends that.")
        return answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "dict"},
            "directory": {"type": "path"},
            "passwords": {"type": "str", "default": "{}", "no_log": True},
            "update_passwords": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
            "image": {"type": "str"},
            "removed_mail": {"type": "str", "choices": ["archive", "keep", "delete"], "default": "archive"},
            "allow_disruption": {"type": "bool", "default": False},
            "record": {"type": "path", "default": "/var/lib/hybridlab/mail/declared.json"},
            "state": {"type": "str", "choices": ["merged", "overridden", "deleted", "gathered"], "default": "merged"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**MailAccounts(module).run())
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)
    except (ModelError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
