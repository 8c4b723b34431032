#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_queue
short_description: Tell what waits in the mail queue, for how long, and why
version_added: 0.1.0
description:
  - Asks the running Postfix of the mail host with C(postqueue -j). Nothing is changed.
  - Where no container of it runs, RV(running) is false and nothing else is told.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  stack:
    description: Stack of the mail containers, C(platform_mail.stack).
    type: str
    default: mail
requirements:
  - Docker on the managed host
"""

EXAMPLES = r"""
- name: Look at the queue
  hybridlab.platform.mail_queue:
  register: queue

- name: Complain about mail that waits for an hour
  ansible.builtin.assert:
    that: (queue.queue.oldest_seconds or 0) < 3600
    fail_msg: "{{ queue.queue.reasons }}"
  when: queue.running
"""

RETURN = r"""
running:
  description: Whether there was a Postfix to ask.
  returned: always
  type: bool
  sample: true
queue:
  description:
    - >-
      How many messages there are and of how many bytes, the age of the oldest in seconds (null for an empty queue), how many each of Postfix's queues holds,
      and the commonest reasons for waiting. Addresses and ids are taken out of a reason, so that equal causes count together.
  returned: when RV(running)
  type: dict
  sample:
    count: 1
    bytes: 2100
    oldest_seconds: 61
    queues: {deferred: 1}
    reasons: [{count: 1, reason: "connect to mx.example.net[...]: Connection timed out"}]
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_queue import facts, read_queue
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.mail_server import Server


def main() -> None:
    module = AnsibleModule(argument_spec={"stack": {"type": "str", "default": "mail"}}, supports_check_mode=True)
    server = Server(module.params["stack"])
    try:
        if server.container("postfix") is None:
            module.exit_json(changed=False, running=False)
        module.exit_json(changed=False, running=True, queue=facts(read_queue(server.execute("postfix", ["postqueue", "-j"])), time.time()))
    except ResourceError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
