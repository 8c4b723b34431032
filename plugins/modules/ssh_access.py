#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_access
short_description: Change sshd's ports, settings and keys without being locked out
version_added: 0.1.0
description:
  - >-
    Makes the accounts' C(authorized_keys) exactly the declared keys, and sshd's settings, ports and users those declared,
    in the drop-in C(/etc/ssh/sshd_config.d/00-hybridlab.conf). sshd takes the first value that it reads, and that file is read first.
  - >-
    Lines of other files that would add to it (C(Port), C(ListenAddress), C(HostKey), C(AllowUsers) and their like) are set aside as comments.
    A Match block that would override a declared setting is refused, with its file and line.
  - sshd itself reads the new files before they are in their place, and what it makes of them is compared with what is declared.
  - >-
    A change is a trial. Old and new ports answer, and what was there is put by. Unless O(state=confirmed) follows within O(seconds), the host puts it back
    by itself. Between the two, log in over the new port.
  - >-
    Weak Diffie-Hellman groups are taken out of C(/etc/ssh/moduli). Where the host's RSA key has less than 4096 bits, a longer one is made beside it.
    Its ED25519 key, which clients prefer, stays.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  authorized_keys:
    description:
      - Account to all lines of its C(authorized_keys). Accounts with a key may log in, nobody else.
      - The accounts must exist, except in check mode.
    type: dict
    required: true
  ports:
    description: Ports of sshd.
    type: list
    elements: int
    required: true
  options:
    description: Further settings, keyword of C(sshd_config) to value.
    type: dict
    default: {}
  unit:
    description: sshd's service. Debian names it C(ssh.service), the Red Hat family C(sshd.service).
    type: str
    required: true
  socket_unit:
    description: Its socket. Where that is enabled, systemd listens in the place of sshd, and gets the ports.
    type: str
    required: true
  seconds:
    description: How long a trial waits for O(state=confirmed).
    type: int
    default: 180
  state:
    description:
      - V(merged) begins a trial where something is to be changed. One that an earlier run has left behind is taken back first.
      - V(confirmed) ends the trial, and closes the old ports.
      - V(reverted) takes the trial back.
      - V(gathered) only reports.
    type: str
    choices: [merged, confirmed, reverted, gathered]
    default: merged
requirements:
  - OpenSSH 8.2 or later with its client, and ss of iproute2, on the managed host
"""

EXAMPLES = r"""
- name: Move sshd to another port
  hybridlab.platform.ssh_access:
    authorized_keys:
      admin: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
    ports: [2201]
    options: {PasswordAuthentication: "no", KbdInteractiveAuthentication: "no", PermitRootLogin: "no"}
    unit: ssh.service
    socket_unit: ssh.socket
"""

RETURN = r"""
before:
  description: Keys of the accounts, lines of the drop-in, lines set aside in other files, and whether weak groups are offered, as found.
  returned: always
  type: dict
  sample: {accounts: {admin: []}, settings: [], set_aside: {}, weak_groups: true}
after:
  description: The same after the trial is confirmed; in check mode, as it would be.
  returned: when O(state) is V(merged)
  type: dict
  sample: {accounts: {admin: [ssh-ed25519 AAAA admin]}, settings: [Port 2201], set_aside: {}, weak_groups: false}
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [systemctl reload-or-restart ssh.service]
trial:
  description: Whether a trial runs.
  returned: always
  type: bool
  sample: true
old_ports:
  description: Ports that sshd answers on and that are not declared.
  returned: always
  type: list
  elements: int
  sample: [22]
host_keys:
  description: The host's public keys, to know it by at the login that proves the trial.
  returned: always
  type: list
  elements: str
  sample: [ssh-ed25519 AAAA root@host]
new_host_key:
  description: Whether a longer RSA key was made, or would be. Clients that know the host by its RSA key alone have to learn it.
  returned: when O(state) is V(merged)
  type: bool
  sample: false
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ssh_access import Found, Plan, Wanted, commands, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.host.ssh_access import Host


class AccessManager:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        params = module.params
        options = {key: _word(value) for key, value in params["options"].items()}
        self.wanted = Wanted(params["authorized_keys"], tuple(params["ports"]), options)
        self.host = Host(module.run_command, params["unit"], params["socket_unit"])

    def run(self) -> dict[str, Any]:
        state, check = self.module.params["state"], self.module.check_mode
        pending = self.host.pending()
        if state == "reverted" or (state == "merged" and pending):
            if pending and not check:
                self.host.revert()
            if state == "reverted":
                return self._report({"changed": pending, "commands": ["/bin/sh /var/lib/hybridlab/ssh/pending/revert"] if pending else []})
            self.module.warn("an earlier change was never proven by a login; it was taken back first")
        if state == "gathered":
            return self._report({"changed": False})
        found = self.host.read(self.wanted)
        planned = plan(self.wanted, found)
        return self.confirm(planned, found) if state == "confirmed" else self.merge(planned, found)

    def merge(self, planned: Plan, found: Found) -> dict[str, Any]:
        if planned.changed and not self.module.check_mode:
            self.begin(planned, found)
        lines = commands(planned, found, self.host.unit, self.host.socket_unit)
        answer = result(planned.before, planned.after, lines, changed=planned.changed, diff=self.module._diff)
        answer.update(
            trial=planned.changed and not self.module.check_mode,
            old_ports=list(planned.kept),
            host_keys=self.host.host_keys(planned.host_keys),
            new_host_key=planned.make_key,
        )
        return answer

    def begin(self, planned: Plan, found: Found) -> None:
        ports = (*self.wanted.ports, *planned.kept)
        if planned.make_key:
            self.host.make_key()
        self.host.check(self.wanted, found, planned.trial, ports)
        self.host.arm([*planned.trial, *(path for path in planned.files if path not in planned.trial)], self.module.params["seconds"])
        try:
            self.host.write(planned.trial, found)
            self.host.activate(ports)
            self.host.probe(self.wanted.ports, self.host.host_keys(planned.host_keys), self.wanted.users[0])
        except BaseException as error:
            self.host.revert()
            if isinstance(error, (ResourceError, OSError)):
                raise ResourceError(f"{error}\nEverything was taken back; the old settings, keys and ports hold.") from error
            raise

    def confirm(self, planned: Plan, found: Found) -> dict[str, Any]:
        if not self.host.pending():
            if planned.changed:
                raise ResourceError("there is no trial to confirm: it was taken back, or never begun. Run with state: merged")
            return self._report({"changed": False, "before": planned.before, "commands": []})
        if not self.module.check_mode:
            self.host.disarm()
            if planned.changed:
                self.host.write(planned.files, found)
                self.host.activate(self.wanted.ports)
            self.host.forget()
        return self._report({"changed": True, "before": planned.before, "commands": commands(planned, found, self.host.unit, self.host.socket_unit)})

    def _report(self, answer: dict[str, Any]) -> dict[str, Any]:
        found = self.host.read(self.wanted)
        planned = plan(self.wanted, found)
        answer.setdefault("before", planned.before)
        answer.update(trial=self.host.pending(), old_ports=list(planned.kept), host_keys=self.host.host_keys(planned.host_keys))
        return answer


def _word(value: Any) -> str:
    """sshd's own words for what YAML reads as a boolean."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "authorized_keys": {"type": "dict", "required": True, "no_log": False},
            "ports": {"type": "list", "elements": "int", "required": True},
            "options": {"type": "dict", "default": {}},
            "unit": {"type": "str", "required": True},
            "socket_unit": {"type": "str", "required": True},
            "seconds": {"type": "int", "default": 180},
            "state": {"type": "str", "choices": ["merged", "confirmed", "reverted", "gathered"], "default": "merged"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**AccessManager(module).run())
    except (ResourceError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
