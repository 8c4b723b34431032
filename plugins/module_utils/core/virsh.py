# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the libvirt planners speak in: operations, the steps and the plan they make up, and the virsh lines that do the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import here_document, shell_line


@dataclass(frozen=True)
class Backup:
    """Keeps the definition ``xml`` of ``name`` as a file, before something replaces or removes it."""

    name: str
    xml: str


@dataclass(frozen=True)
class Define:
    name: str
    xml: str


@dataclass(frozen=True)
class Undefine:
    name: str


@dataclass(frozen=True)
class Build:
    """Makes a pool's directory, or gives an existing one the declared mode."""

    name: str


@dataclass(frozen=True)
class Start:
    name: str


@dataclass(frozen=True)
class Destroy:
    """libvirt's word for stopping: the definition is kept."""

    name: str


@dataclass(frozen=True)
class Autostart:
    name: str
    enabled: bool


@dataclass(frozen=True)
class Update:
    """virNetworkUpdate.

    command: add-last, modify or delete; section: ip-dhcp-host, ip-dhcp-range or dns-host (names of virsh net-update)
    config:  whether the kept definition gets it too, not only the running one
    """

    name: str
    command: str
    section: str
    xml: str
    config: bool
    parent_index: int = -1


@dataclass(frozen=True)
class Attach:
    """Plugs a running guest's tap into the bridge of network ``name``.

    libvirt has no call for it: virDomainUpdateDeviceFlags compares an interface that stays in its network with the bridge noted when
    the guest started (qemuDomainChangeNet), so it does nothing. Only a start of the daemon looks (networkNotifyPort).

    mtu: to be set on the tap, in bytes; None leaves it as it is
    """

    name: str
    guest: str
    device: str
    bridge: str
    mtu: Optional[int] = None
    isolated: bool = False

    @property
    def lines(self) -> list[list[str]]:
        """Command lines that do it, one after the other."""
        # As libvirt does: the MTU first, else the bridge takes over that of its new port.
        size = [] if self.mtu is None else ["mtu", str(self.mtu)]
        plug = [["ip", "link", "set", "dev", self.device, *size], ["ip", "link", "set", "dev", self.device, "master", self.bridge]]
        isolate = ["ip", "link", "set", "dev", self.device, "type", "bridge_slave", "isolated", "on"]
        return [*(plug if size else plug[1:]), *([isolate] if self.isolated else [])]


Operation = Union[Backup, Define, Undefine, Build, Start, Destroy, Autostart, Update, Attach]


@dataclass(frozen=True)
class Step:
    """All that is done to one network or pool.

    wanted:     the declaration; None for what goes away or is only stopped
    disruptive: why something in use is interrupted; empty when it is not
    before, after: as an entry of ``config``; None when it does not exist
    """

    name: str
    operations: tuple[Operation, ...] = ()
    wanted: Any = None
    disruptive: tuple[str, ...] = ()
    before: Optional[dict[str, Any]] = None
    after: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they are done, each brought to its end before the next."""

    steps: tuple[Step, ...]

    @property
    def before(self) -> list[dict[str, Any]]:
        return _by_name(step.before for step in self.steps)

    @property
    def after(self) -> list[dict[str, Any]]:
        return _by_name(step.after for step in self.steps)

    @property
    def operations(self) -> list[Operation]:
        return [operation for step in self.steps for operation in step.operations]

    @property
    def disruptive(self) -> list[dict[str, str]]:
        return [{"name": step.name, "reason": reason} for step in self.steps for reason in step.disruptive]


def _by_name(entries: Iterable[Optional[dict[str, Any]]]) -> list[dict[str, Any]]:
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry["name"])


_VERBS = {Undefine: "undefine", Build: "build", Start: "start", Destroy: "destroy"}


def shell(operation: Operation, uri: str, kind: str, backup_dir: str) -> str:
    """The line for a shell that does ``operation`` by hand. ``kind`` is net or pool."""
    virsh = ["virsh", "-c", uri]
    if isinstance(operation, Backup):
        dump = shell_line([*virsh, f"{kind}-dumpxml", "--inactive", operation.name])
        target = f"{shlex.quote(f'{backup_dir}/{operation.name}')}-$(date -u +%Y%m%dT%H%M%SZ).xml"
        return f"install -d -m 0700 {shlex.quote(backup_dir)} && (umask 077 && {dump} > {target})"
    if isinstance(operation, Attach):
        return " && ".join(shell_line(line) for line in operation.lines)
    if isinstance(operation, Define):
        return here_document([*virsh, f"{kind}-define", "/dev/stdin"], operation.xml)
    if isinstance(operation, Autostart):
        return shell_line([*virsh, f"{kind}-autostart", operation.name, *([] if operation.enabled else ["--disable"])])
    if isinstance(operation, Update):
        parent = [] if operation.parent_index < 0 else ["--parent-index", str(operation.parent_index)]
        flags = ["--live", *(["--config"] if operation.config else [])]
        return shell_line([*virsh, "net-update", operation.name, operation.command, operation.section, operation.xml, *parent, *flags])
    return shell_line([*virsh, f"{kind}-{_VERBS[type(operation)]}", operation.name])
