#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewalld_direct_rules
short_description: Keep rules among firewalld's permanent direct rules
version_added: 0.1.0
description:
  - Adds rules to iptables' IPv4 filter chains by way of firewalld's permanent direct rules, or takes them out. The rules of others in the file stay.
  - >-
    firewalld empties iptables when it starts and at a complete reload, and puts back what stands in its direct rules.
    A rule that must be in Docker's chain C(DOCKER-USER) has to stand there, or the next start of firewalld takes it away.
  - Writes the file alone, so it works before firewalld is installed. Let firewalld read it afterwards.
    The option O(hybridlab.platform.systemd_units#module:config[].watch) does that.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The rules.
    type: list
    elements: dict
    required: true
    suboptions:
      chain:
        description: Name of the chain. firewalld makes it when it is missing.
        type: str
        required: true
      rule:
        description: Match and target, word by word as iptables takes them.
        type: list
        elements: str
        required: true
  path:
    description: firewalld's file.
    type: path
    default: /etc/firewalld/direct.xml
  state:
    description:
      - V(merged) puts each rule into the file once.
      - V(deleted) takes them out, their chain with the last rule in it, and the file with the last chain.
    type: str
    choices: [merged, deleted]
    default: merged
"""

EXAMPLES = r"""
- name: Packets with our mark pass Docker's FORWARD chain, also after firewalld was started again
  hybridlab.platform.firewalld_direct_rules:
    config:
      - chain: DOCKER-USER
        rule: [-m, mark, --mark, 0x1000/0x1000, -j, ACCEPT]
"""

RETURN = r"""
before:
  description: The file's text as found; null when there was none.
  returned: always
  type: str
after:
  description: The text after the run; in check mode, as it would be.
  returned: always
  type: str
commands:
  description: The shell lines that do the same by hand.
  returned: always
  type: list
  elements: str
  sample: [firewall-cmd --permanent --direct --add-rule ipv4 filter DOCKER-USER 0 -m mark --mark 0x1000/0x1000 -j ACCEPT]
"""

import stat
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewalld_direct import commands, with_rule, without_rule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import result
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files

# As firewalld writes its own settings.
FILE_MODE = 0o640


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    path, adding = params["path"], params["state"] == "merged"
    before = after = files.read_text(path)
    lines: list[str] = []
    for entry in params["config"]:
        changed = with_rule(after, entry["chain"], entry["rule"]) if adding else without_rule(after, entry["chain"], entry["rule"])
        if changed != after:
            lines += commands(entry["chain"], entry["rule"], adding)
        after = changed
    if after != before and not module.check_mode:
        write(path, after)
    answer = result(before, after, lines, changed=after != before)
    if module._diff:
        answer["diff"] = {"before": before or "", "after": after or "", "before_header": path, "after_header": path}
    return answer


def write(path: str, text: Optional[str]) -> None:
    if text is None:
        files.remove(path)
        return
    found = Path(path)
    files.write_text(path, text, stat.S_IMODE(found.stat().st_mode) if found.exists() else FILE_MODE)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"chain": {"type": "str", "required": True}, "rule": {"type": "list", "elements": "str", "required": True}},
            },
            "path": {"type": "path", "default": "/etc/firewalld/direct.xml"},
            "state": {"type": "str", "choices": ["merged", "deleted"], "default": "merged"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (ValueError, OSError) as error:
        module.fail_json(msg=f"{module.params['path']}: {error}")


if __name__ == "__main__":
    main()
