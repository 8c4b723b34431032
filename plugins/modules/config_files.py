#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Reconcile a list of small configuration files
version_added: 0.1.0
description:
  - Writes many small files in one process, each in one step. A task for each of them takes twenty times as long.
  - Sets single values in files that belong to somebody else, and the modes of files and directories that are there.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The files, in the order in which they are written. All of them belong to root.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path of the file, or of a directory of which only the mode is kept.
        type: path
        required: true
      content:
        description: Text of the whole file.
        type: str
      values:
        description: Keys with the values that they shall have in the file. Other lines stay.
        type: dict
      separator:
        description: What stands between a key and its value in a line that is written.
        type: str
        default: " "
      mode:
        description:
          - Mode in octal digits, such as V(0600). Without it an existing file keeps its own, and a new one gets 0644.
          - With neither O(config[].content) nor O(config[].values) only the mode is kept, of what is there.
        type: str
      validate:
        description: Command that has to accept a new text before it is in its place. C(%s) stands for a file with that text.
        type: str
"""

EXAMPLES = r"""
- name: A few files at once
  hybridlab.platform.config_files:
    config:
      - path: /etc/sudoers.d/admins
        content: "admin ALL=(ALL) NOPASSWD: ALL\n"
        mode: "0440"
        validate: visudo -cf %s
      - path: /etc/login.defs
        values: {PASS_MAX_DAYS: 365, UMASK: "027"}
        separator: "\t"
      - path: /etc/crontab
        mode: "0600"
"""

RETURN = r"""
before:
  description: The files as found, without those of which only the mode is kept and which are not there.
  returned: always
  type: list
  elements: dict
  sample: [{path: /etc/crontab, mode: "0644"}]
after:
  description: The same after the run; in check mode, as they would be.
  returned: always
  type: list
  elements: dict
  sample: [{path: /etc/crontab, mode: "0600"}]
commands:
  description: The shell lines that do the same by hand.
  returned: always
  type: list
  elements: str
  sample: [chmod 0600 /etc/crontab]
"""

import shlex
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.config_files import Change, Entry, Place, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files


def run(module: AnsibleModule) -> dict[str, Any]:
    items = unique(module.params["config"], "path", "config")
    entries = [_entry(item) for item in items.values()]
    planned = plan(entries, {entry.path: read(entry.path) for entry in entries})
    if not module.check_mode:
        for change in planned.changes:
            validate(module, change)
        for change in planned.changes:
            apply(change)
    return result(planned.before, planned.after, planned.commands, diff=module._diff)


def read(path: str) -> Place:
    found = Path(path)
    if not found.exists():
        return Place()
    return Place(files.read_text(path) if found.is_file() else None, f"{stat.S_IMODE(found.stat().st_mode):04o}")


def validate(module: AnsibleModule, change: Change) -> None:
    if change.text is None or not change.entry.validate:
        return
    with tempfile.TemporaryDirectory() as directory:
        candidate = f"{directory}/candidate"
        files.write_text(candidate, change.text, 0o600)
        command = [word.replace("%s", candidate) for word in shlex.split(change.entry.validate)]
        rc, out, err = module.run_command(command)
    if rc != 0:
        raise ResourceError(f"{change.entry.path}: {change.entry.validate} refuses its new text: {(err or out).strip()}. No file was changed")


def apply(change: Change) -> None:
    mode = int(change.mode, 8)
    if change.text is None:
        Path(change.entry.path).chmod(mode)
    else:
        files.write_text(change.entry.path, change.text, mode)


def _entry(item: Mapping[str, Any]) -> Entry:
    if item["content"] is not None and item["values"]:
        raise ResourceError(f"config[{item['path']}]: has content and values; give the whole text, or single values of it")
    return Entry(
        path=item["path"],
        mode=item["mode"],
        content=item["content"],
        values={key: str(value) for key, value in (item["values"] or {}).items()},
        separator=item["separator"],
        validate=item["validate"] or "",
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "values": {"type": "dict"},
                    "separator": {"type": "str", "default": " "},
                    "mode": {"type": "str"},
                    "validate": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (ResourceError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
