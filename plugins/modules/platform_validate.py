#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_validate
short_description: Compare a host with its model, check by check, and change nothing
version_added: 0.1.0
description:
  - >-
    Asks the host about its hypervisor, networks, guests, container engine, workloads, hardening, backup and monitoring, and judges each answer
    against the model. Only layers that the model describes are judged.
  - >-
    The commands only read, each has a time limit, and one that is missing or does not end is a failed check. The module itself fails only when the model
    is wrong; whoever calls it decides by RV(failed_checks).
author:
  - hybridlab.platform contributors (@hybridlab)
options:
  model:
    description:
      - The variables of the model (all C(platform_*) of the inventory) as one JSON text.
      - It may hold secrets, and is therefore not logged.
    type: str
    required: true
  measured:
    description:
      - Results of M(hybridlab.platform.reachability) and M(hybridlab.platform.port_probes) that are judged too, by the area under which they are listed.
    type: dict
    default: {}
  title:
    description: Heading of RV(html).
    type: str
    default: Validation of the platform
  seconds:
    description: How long each command may take.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
  diff_mode:
    support: none
    description: There is nothing to compare with.
  idempotent:
    support: full
    description: Changes nothing.
"""

EXAMPLES = r"""
- name: Judge the host
  hybridlab.platform.platform_validate:
    model: "{{ model }}"
  register: validation

- name: Show the table
  ansible.builtin.debug:
    msg: "{{ validation.text }}"
"""

RETURN = r"""
rows:
  description: The checks, in the order of the layers.
  returned: success
  type: list
  elements: dict
  sample: [{area: docker, check: storage driver, expected: overlay2, found: overlay2, ok: true}]
failed_checks:
  description: How many of them are not as expected.
  returned: success
  type: int
  sample: 0
summary:
  description: The verdict in one line.
  returned: success
  type: str
  sample: "validation ok: 61/61 checks"
text:
  description: The table for a terminal; long values are cut.
  returned: success
  type: str
html:
  description: The table as a page of its own.
  returned: success
  type: str
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core import validate
from ansible_collections.hybridlab.platform.plugins.module_utils.core.findings import ModelError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.parse import parse_platform
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation_report import as_html, as_text, summary
from ansible_collections.hybridlab.platform.plugins.module_utils.host.questions import ask


def judge(module: AnsibleModule) -> dict[str, Any]:
    """The rows of this host, and the reports made of them."""
    platform = parse_platform(json.loads(module.params["model"]))
    answers = ask(module.run_command, validate.questions(platform), module.params["seconds"])
    found = validate.rows(platform, answers)
    for area, result in module.params["measured"].items():
        found += validate.measured_rows(area, result)
    rows = [row.to_dict() for row in found]
    return {
        "changed": False,
        "rows": rows,
        "failed_checks": sum(1 for row in rows if not row["ok"]),
        "summary": summary(rows),
        "text": as_text(rows),
        "html": as_html(rows, module.params["title"]),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "model": {"type": "str", "required": True, "no_log": True},
            "measured": {"type": "dict", "default": {}},
            "title": {"type": "str", "default": "Validation of the platform"},
            "seconds": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    try:
        module.exit_json(**judge(module))
    except (ModelError, ValueError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
