# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The platform's guests as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: guests
short_description: Guests of the platform as hosts of the inventory
version_added: 0.1.0
author: hybridlab.platform contributors (@hybridlab)
description:
  - Reads the snapshot that the role P(hybridlab.platform.guests#role) leaves on the controller after each of its runs, and makes a host of each guest.
  - Each guest is in the groups V(guests), V(segment_<name>) for each of its segments, V(guest_state_<state>) and V(image_<name>).
    Whatever is no letter, digit or underscore in a name becomes an underscore there.
  - Guests that do not run are hosts too. Leave them out by a pattern such as V(guests:!guest_state_stopped).
  - Each guest has the variables C(guest_state), C(guest_segment), C(guest_segments), C(guest_addresses), C(guest_ssh_port), C(guest_aliases),
    C(guest_image), C(guest_autostart), C(guest_platform) and C(guest_kvm_host), and what is needed to connect.
  - The snapshot is the cache. It is refreshed when it is older than O(max_age), with C(--flush-cache), and by C(meta) tasks that refresh the inventory,
    unless it was written since the present run began. What cannot be refreshed is used as it is, with a warning.
notes:
  - The name of the inventory file ends with C(guests.yml) or C(guests.yaml).
  - Ansible reads the files of an inventory directory in the order of their names. A guest cannot be kept from meeting a host that a later file defines,
    so give this file a name that comes after the other ones, such as C(platform.guests.yml).
  - Values may be templates. They know C(inventory_dir) (the directory of the inventory file), C(ansible_playbook_python) and extra variables; and lookups.
  - Relative paths start at the directory of the inventory file.
extends_documentation_fragment:
  - ansible.builtin.constructed
options:
  plugin:
    description: Marks a file as one for this plugin.
    type: str
    required: true
    choices: [hybridlab.platform.guests]
  snapshot:
    description:
      - Path of the snapshot, what the role's variable C(guests_snapshot) names. As long as there is no such file, there are no guests.
    type: str
    required: true
  max_age:
    description: How old a snapshot may be before it is refreshed, in seconds. V(0) means as old as it may be.
    type: int
    default: 3600
  hosts:
    description:
      - Inventory (a file or directory) that has the KVM host, for refreshing. Without it, a snapshot is never refreshed by this plugin.
    type: str
  kvm_host:
    description: Name of the KVM host in O(hosts), where that has several. By default it is the one that the snapshot names.
    type: str
  playbook:
    description: Playbook that writes the snapshot. It is run with the variable C(guests_snapshot) set to the path.
    type: str
    default: hybridlab.platform.guests_snapshot
  refresh_seconds:
    description: How long refreshing may take.
    type: int
    default: 120
  connect:
    description:
      - V(forward) goes to O(host_address) and the port that the host forwards to the guest. A guest that has no such port is reached as with V(jump),
        without a jump host.
      - V(jump) goes to the guest's own address, port 22, through O(jump).
      - V(proxy) goes to the guest's own address, port 22, through O(proxy_command).
    type: str
    choices: [forward, jump, proxy]
    default: forward
  host_address:
    description: Address or name of the KVM host. Required when O(connect=forward).
    type: str
  jump:
    description: C([user@]host[:port]) for the C(ProxyJump) of ssh. Required when O(connect=jump).
    type: str
  proxy_command:
    description:
      - For the C(ProxyCommand) of ssh, which replaces C(%h) and C(%p) in it. Required when O(connect=proxy).
      - ssh puts C(exec) before it, so it begins with a program and not with a word of the shell such as C(cd).
    type: str
  ssh_args:
    description: Further arguments of ssh, put before what this plugin adds. ssh takes the first value of an option.
    type: str
    default: ""
  user:
    description: User for guests whose snapshot names none.
    type: str
  private_key_file:
    description: Private key for ssh.
    type: str
  known_hosts:
    description:
      - File for the guests' host keys, so that guests that are made anew never meet what C(~/.ssh/known_hosts) says of an address.
        A new key is accepted, a changed one is refused.
      - By default it is O(snapshot) with C(.known_hosts) after it. Empty means that ssh is told nothing about host keys.
    type: str
"""

EXAMPLES = r"""
# inventories/lab/platform.guests.yml: through the ports that the KVM host forwards
plugin: hybridlab.platform.guests
snapshot: .guests-dell.json
hosts: hosts.yml
host_address: dell.lab.local

# through the KVM host's own SSH server
# plugin: hybridlab.platform.guests
# snapshot: .guests-dell.json
# hosts: hosts.yml
# connect: jump
# jump: admin@dell.lab.local
# private_key_file: ~/.ssh/lab

# in the sandbox
# plugin: hybridlab.platform.guests
# snapshot: .guests-sandbox.json
# hosts: hosts.yml
# connect: proxy
# proxy_command: "env -C '{{ inventory_dir }}/../..' '{{ ansible_playbook_python }}' -m tools.sandbox relay host %h %p"
# private_key_file: ../../.cache/sandbox/guest_key

# groups and variables of one's own
# plugin: hybridlab.platform.guests
# snapshot: .guests-dell.json
# host_address: dell.lab.local
# groups:
#   web: "'www' in guest_aliases"
# keyed_groups:
#   - {key: guest_aliases, prefix: alias}
# compose:
#   ansible_python_interpreter: "'/usr/bin/python3'"
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible import constants as C  # noqa: N812  # the name that Ansible itself gives it
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_inventory import (
    Connection,
    Snapshot,
    SnapshotError,
    groups_of,
    read_snapshot,
    variables_of,
)

# What was written since then needs no refreshing in this run.
_BEGUN = time.time()
# Set for the playbook that refreshes: its own inventory may hold the file that made us run it.
_GUARD = "HYBRIDLAB_GUESTS_REFRESH"
_NEEDED = {"forward": "host_address", "jump": "jump", "proxy": "proxy_command"}


class InventoryModule(BaseInventoryPlugin, Constructable):
    """The plugin; Ansible prescribes the class' name."""

    NAME = "hybridlab.platform.guests"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(("guests.yml", "guests.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self._source = Path(path).absolute()
        file = self._path("snapshot")
        connection = self._connection(file)
        snapshot = self._read(file)
        if self._is_old(file, snapshot, cache) and self._refresh(file, snapshot):
            snapshot = self._read(file)
        if snapshot is not None:
            self._refuse_collisions(snapshot)
            inventory.add_group("guests")
            for name in snapshot.guests:
                self._add(snapshot, name, connection)

    def _value(self, option: str) -> str:
        """An option as text, with its template filled in; empty when it is not set."""
        value = self.get_option(option)
        if value is None:
            return ""
        own = {"inventory_dir": str(self._source.parent), "inventory_file": str(self._source), "ansible_playbook_python": sys.executable}
        self.templar.available_variables = {**own, **self._vars}
        try:
            return str(self.templar.template(value))
        except Exception as error:
            raise AnsibleParserError(f"{self._source}: {option}: found {value!r}, which cannot be filled in: {error}") from error

    def _path(self, option: str) -> Path:
        return self._source.parent / Path(self._value(option)).expanduser()

    def _connection(self, file: Path) -> Connection:
        connect = self.get_option("connect")
        if not self._value(_NEEDED[connect]):
            raise AnsibleParserError(f"{self._source}: connect is {connect}, which needs {_NEEDED[connect]}. Set it, or another connect.")
        known_hosts = f"{file}.known_hosts" if self.get_option("known_hosts") is None else str(self._path("known_hosts"))
        return Connection(
            connect=connect,
            host_address=self._value("host_address") or None,
            jump=self._value("jump") or None,
            proxy_command=self._value("proxy_command") or None,
            ssh_args=self._value("ssh_args"),
            user=self._value("user") or None,
            private_key_file=str(self._path("private_key_file")) if self._value("private_key_file") else None,
            known_hosts=None if self.get_option("known_hosts") == "" else known_hosts,
        )

    def _read(self, file: Path) -> Optional[Snapshot]:
        """None as long as there is none."""
        try:
            return read_snapshot(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, SnapshotError) as error:
            raise AnsibleParserError(
                f"snapshot {file}: {error}. Remove the file and run the playbook hybridlab.platform.guests again, which writes it."
            ) from error

    def _is_old(self, file: Path, snapshot: Optional[Snapshot], cache: bool) -> bool:
        if os.environ.get(_GUARD):
            return False
        if snapshot is None:
            return not cache
        written = max(snapshot.written, file.stat().st_mtime)
        oldest = self.get_option("max_age")
        return written < _BEGUN if not cache else oldest > 0 and time.time() - written > oldest

    def _refresh(self, file: Path, snapshot: Optional[Snapshot]) -> bool:
        """Whether the snapshot was written anew."""
        if not self._value("hosts"):
            return False
        line = [sys.executable, "-m", "ansible", "playbook", self._value("playbook"), "-i", str(self._path("hosts"))]
        line += ["-e", json.dumps({"guests_snapshot": str(file)})]
        kvm_host = self._value("kvm_host") or (snapshot.kvm_host if snapshot else "")
        line += ["--limit", kvm_host] if kvm_host else []
        trouble = _run(line, self.get_option("refresh_seconds"))
        if not trouble:
            try:
                # Its writer leaves a file alone that says the same as before.
                os.utime(file)
            except OSError as error:
                trouble = f"the playbook {self._value('playbook')} ended well, but {error}"
        if trouble:
            known = "what it says is used as it is" if snapshot else "there are no guests without it"
            self.display.warning(f"{self._source}: snapshot {file} could not be refreshed: {trouble}; {known}.")
        return not trouble

    def _refuse_collisions(self, snapshot: Snapshot) -> None:
        """A guest that shared its name with another host would get that one's variables, and the plays that are meant for it."""
        for name in snapshot.guests:
            there = self.inventory.hosts.get(name)
            if there is not None and there.vars.get("guest_platform") != snapshot.platform:
                raise AnsibleParserError(
                    f"{self._source}: guest {name} has the name of a host that the inventory already has. "
                    "Rename one of them: the guest in platform_guests, or the host in its inventory file."
                )

    def _add(self, snapshot: Snapshot, name: str, connection: Connection) -> None:
        variables = variables_of(snapshot, name, connection)
        self.inventory.add_host(name, group="guests")
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        for group in groups_of(snapshot.guests[name]):
            self.inventory.add_group(group)
            self.inventory.add_child(group, name)
        self._construct(name, variables)

    def _construct(self, name: str, variables: Mapping[str, Any]) -> None:
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)


def _run(line: list[str], seconds: int) -> str:
    """Runs Ansible with the present settings. What went wrong, in words; empty when all went well."""
    environment = {**os.environ, _GUARD: "1", "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(C.COLLECTIONS_PATHS), "ANSIBLE_NOCOLOR": "1"}
    if C.CONFIG_FILE:
        environment["ANSIBLE_CONFIG"] = str(C.CONFIG_FILE)
    # A session of its own, so that all its processes can be ended together.
    with subprocess.Popen(
        line, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output, _none = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"it took longer than refresh_seconds ({seconds} s)"
    if process.returncode == 0:
        return ""
    telling = [text.strip() for text in output.splitlines() if text.strip()]
    reason = next((text for text in telling if "msg" in text or "ERROR" in text or "FAILED" in text or "UNREACHABLE" in text), telling[-1] if telling else "")
    return f"the playbook ended with code {process.returncode}: {reason}"
