#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Reconcile a list of files and directories on the host
version_added: 0.1.0
description:
  - Brings many files to a declared content and mode in one process, each in one step that survives a power cut. They belong to root.
  - A task for each file would take a hundred times as long.
  - Sets single values in files that belong to somebody else, and the modes of files and directories that are there.
  - After a change below C(/etc/systemd/system) systemd reads its units anew, so that the next restart of a unit is one with the new files.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The files, in the order in which they are written.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where the file stands, or a directory of which only the mode is kept.
        type: path
        required: true
      content:
        description: Its whole text.
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
          - Its permissions, in octal digits.
          - Left out, a file with O(config[].content) gets V(0644). One with O(config[].values) keeps its own, and a new one gets V(0644).
          - With neither O(config[].content) nor O(config[].values) only the mode is kept, of what is there.
        type: str
      validate:
        description:
          - A command that must accept the text before the file is replaced. The word C(%s) becomes the name of a file with the text.
          - What comes earlier in the list is in its place by then.
        type: list
        elements: str
        default: []
  secrets:
    description:
      - Further files with secrets in them, as the JSON text of a list like O(config).
      - Their contents are neither shown nor logged. They come after those of O(config); their default mode is C(0600).
    type: str
  directories:
    description: Directories, made before the files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where the directory is.
        type: path
        required: true
      mode:
        description: Its permissions, in octal digits. Left out, a directory that is there keeps its own, and a new one gets V(0755).
        type: str
      uid:
        description: Number of the user whose it is; with O(directories[].gid). The host need not have a name for it, such as for a user of a container.
        type: int
      gid:
        description: Number of its group; with O(directories[].uid).
        type: int
      exclusive:
        description: Whether what is in it and not declared is removed, such as a module of an older version.
        type: bool
        default: false
  state:
    description:
      - V(merged) makes the files as declared.
      - V(deleted) removes the files with O(config[].content), and the exclusive directories. Other people's files stay as they are.
      - V(gathered) only reports.
    type: str
    choices: [merged, deleted, gathered]
    default: merged
"""

EXAMPLES = r"""
- name: A tool and its settings
  hybridlab.platform.host_files:
    directories:
      - {path: /usr/local/lib/hybridlab/tool, exclusive: true}
    config:
      - path: /usr/local/lib/hybridlab/tool/main.py
        content: "{{ lookup('ansible.builtin.file', 'main.py', rstrip=false) }}"
      - path: /etc/logrotate.d/tool
        content: "{{ lookup('ansible.builtin.template', 'tool.logrotate.j2') }}"
        validate: [/usr/sbin/logrotate, --debug, "%s"]
      - path: /etc/login.defs
        values: {PASS_MAX_DAYS: 365, UMASK: "027"}
        separator: "\t"
      - path: /etc/crontab
        mode: "0600"
    secrets: "{{ [{'path': '/etc/hybridlab/tool.json', 'content': {'token': tool_token} | to_json}] | to_json }}"
"""

RETURN = r"""
before:
  description: Each path as found, without those of which only the mode is kept and that are not there. Of a content a digest is given.
  returned: always
  type: list
  elements: dict
  sample: [{path: /etc/logrotate.d/tool, state: absent}]
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is not V(gathered)
  type: list
  elements: dict
  sample: [{path: /etc/logrotate.d/tool, mode: "0644", content: 0a1b2c3d4e5f}]
commands:
  description: The shell lines that do the same by hand; secret contents are left out.
  returned: always
  type: list
  elements: str
  sample: ["chmod 0600 /etc/hybridlab/tool.json"]
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.host_files import Directory, File, plan, plan_removal
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.host import host_files


def _mode(path: str, text: str) -> int:
    try:
        found = int(text, 8)
    except ValueError:
        found = -1
    if not 0 <= found <= 0o7777:
        raise ResourceError(f"{path}.mode: found {text!r}, which is no mode. Write octal digits in quotes, such as '0644'")
    return found


def _file(row: dict[str, Any], secret: bool) -> File:
    path, content, values = row["path"], row.get("content"), row.get("values") or {}
    mode = row.get("mode") or (None if content is None else "0600" if secret else "0644")
    if content is not None and values:
        raise ResourceError(f"config[{path}]: has content and values. Give the whole text, or single values of it")
    if content is None and not values and mode is None:
        raise ResourceError(f"config[{path}]: says nothing of the file. Give its content, values or mode")
    return File(
        path=path,
        content=content,
        mode=None if mode is None else _mode(f"config[{path}]", mode),
        values={key: str(value) for key, value in values.items()},
        separator=row.get("separator") or " ",
        secret=secret,
        validate=tuple(row.get("validate") or ()),
    )


def _directory(row: dict[str, Any]) -> Directory:
    mode, uid, gid = row["mode"], row["uid"], row["gid"]
    owner = None if uid is None or gid is None else (uid, gid)
    return Directory(row["path"], None if mode is None else _mode(f"directories[{row['path']}]", mode), row["exclusive"], owner)


def _secret_files(text: str) -> list[File]:
    try:
        rows = json.loads(text)
        return [_file({**row, "content": str(row["content"])}, True) for row in rows]
    except (ValueError, TypeError, KeyError):
        raise ResourceError('secrets: is not the JSON text of a list of files. Write {{ [{"path": ..., "content": ...}] | to_json }}') from None


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    files = [_file(row, False) for row in params["config"]] + (_secret_files(params["secrets"]) if params["secrets"] else [])
    directories = [_directory(row) for row in params["directories"]]
    unique([{"path": path} for path in [*(item.path for item in directories), *(file.path for file in files)]], "path", "config")
    found, strays = host_files.read(files, directories)
    planned = (plan_removal if params["state"] == "deleted" else plan)(files, directories, found, strays)
    if params["state"] == "gathered":
        return {"changed": False, "before": planned.before, "commands": []}
    if not module.check_mode:
        for step in planned.steps:
            host_files.apply(step)
    answer = result(planned.before, planned.after, planned.commands, changed=bool(planned.steps))
    if module._diff:
        answer["diff"] = planned.diffs
    return answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "values": {"type": "dict"},
                    "separator": {"type": "str", "default": " "},
                    "mode": {"type": "str"},
                    "validate": {"type": "list", "elements": "str", "default": []},
                },
            },
            "secrets": {"type": "str", "no_log": True},
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "mode": {"type": "str"},
                    "uid": {"type": "int"},
                    "gid": {"type": "int"},
                    "exclusive": {"type": "bool", "default": False},
                },
                "required_together": [("uid", "gid")],
            },
            "state": {"type": "str", "choices": ["merged", "deleted", "gathered"], "default": "merged"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (ResourceError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
