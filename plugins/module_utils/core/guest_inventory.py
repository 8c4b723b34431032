# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as hosts of an inventory: from the snapshot of a KVM host to groups and variables. No I/O."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

CONNECTIONS = ("forward", "jump", "proxy")
# Nothing that a file name, an option of ssh or a group could take for something else.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SSH = 22


class SnapshotError(ValueError):
    """A snapshot that cannot be read; where and what, in words."""


@dataclass(frozen=True)
class Snapshot:
    """written: epoch seconds, 0 when the file does not say. guests: by name, as they stand in the file."""

    platform: str
    kvm_host: str
    written: float
    guests: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Connection:
    """How guests are reached.

    connect:       one of CONNECTIONS
    host_address:  of the KVM host, for forward
    jump:          [user@]host[:port], for jump
    proxy_command: for proxy; ssh replaces %h and %p
    ssh_args:      further arguments of ssh
    known_hosts:   path of a file of the guests' own
    """

    connect: str
    host_address: Optional[str] = None
    jump: Optional[str] = None
    proxy_command: Optional[str] = None
    ssh_args: str = ""
    user: Optional[str] = None
    private_key_file: Optional[str] = None
    known_hosts: Optional[str] = None


def read_snapshot(text: str) -> Snapshot:
    """The snapshot that role guests writes. SnapshotError."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SnapshotError(f"it is not JSON ({error})") from None
    if not isinstance(data, Mapping) or not isinstance(data.get("guests"), list):
        raise SnapshotError("it has no list `guests`")
    guests: dict[str, dict[str, Any]] = {}
    for index, guest in enumerate(data["guests"]):
        name = guest.get("name") if isinstance(guest, Mapping) else None
        if not isinstance(name, str) or not _NAME.match(name):
            raise SnapshotError(f"guests[{index}].name is {name!r}, which is no name of a guest")
        if name in guests:
            raise SnapshotError(f"guests[{index}].name is {name!r}, which an earlier guest has too")
        guests[name] = dict(guest)
    return Snapshot(str(data.get("platform") or ""), str(data.get("kvm_host") or ""), _epoch(data.get("written")), guests)


def group_name(*words: Any) -> str:
    """A name that Ansible takes for a group: letters, digits, underscores."""
    return re.sub(r"[^A-Za-z0-9_]", "_", "_".join(str(word) for word in words))


def groups_of(guest: Mapping[str, Any]) -> list[str]:
    found = [group_name("segment", segment) for segment in _segments(guest)]
    found += [group_name("guest_state", guest["state"])] if guest.get("state") else []
    found += [group_name("image", guest["image"])] if guest.get("image") else []
    return found


def variables_of(snapshot: Snapshot, name: str, connection: Connection) -> dict[str, Any]:
    """Facts of the guest and how ssh gets there. A guest without an address has no ansible_host."""
    guest = snapshot.guests[name]
    facts = {
        "guest_platform": snapshot.platform,
        "guest_kvm_host": snapshot.kvm_host,
        "guest_state": guest.get("state"),
        "guest_segment": guest.get("segment"),
        "guest_segments": _segments(guest),
        "guest_addresses": _addresses(guest),
        "guest_ssh_port": guest.get("ssh_port"),
        "guest_aliases": list(guest.get("aliases") or []),
        "guest_image": guest.get("image"),
        "guest_autostart": guest.get("autostart"),
    }
    return {**facts, **_reached(snapshot, name, connection)}


def _reached(snapshot: Snapshot, name: str, connection: Connection) -> dict[str, Any]:
    guest = snapshot.guests[name]
    addresses = _addresses(guest)
    options = []
    found: dict[str, Any] = {}
    if connection.connect == "forward" and guest.get("ssh_port") and connection.host_address:
        found.update(ansible_host=connection.host_address, ansible_port=int(guest["ssh_port"]))
    elif addresses:
        found.update(ansible_host=addresses[0], ansible_port=_SSH)
        if connection.connect == "jump" and connection.jump:
            options.append(f"ProxyJump={connection.jump}")
        if connection.connect == "proxy" and connection.proxy_command:
            options.append(f"ProxyCommand={connection.proxy_command}")
    if connection.known_hosts:
        # Its own name in that file: several guests are one address with different ports, and an address is given to another guest one day.
        options += [f'UserKnownHostsFile="{connection.known_hosts}"', "StrictHostKeyChecking=accept-new", f"HostKeyAlias={_key_alias(snapshot, name)}"]
    words = [connection.ssh_args] if connection.ssh_args else []
    words += [f"-o {shlex.quote(option)}" for option in options]
    if words:
        found["ansible_ssh_common_args"] = " ".join(words)
    user = guest.get("user") or connection.user
    if user:
        found["ansible_user"] = user
    if connection.private_key_file:
        found["ansible_ssh_private_key_file"] = connection.private_key_file
    return found


def _key_alias(snapshot: Snapshot, name: str) -> str:
    """Another one for a guest that was made anew, whose key is another one too, as far as the snapshot tells them apart."""
    parts = [name, snapshot.platform or "guest", str(snapshot.guests[name].get("instance") or "")]
    return re.sub(r"[^A-Za-z0-9.-]", "-", ".".join(part for part in parts if part))


def _segments(guest: Mapping[str, Any]) -> list[str]:
    listed = list(guest.get("segments") or [])
    first = guest.get("segment")
    return listed if first is None or first in listed else [first, *listed]


def _addresses(guest: Mapping[str, Any]) -> list[str]:
    return [str(address).partition("/")[0] for address in guest.get("addresses") or [] if address]


def _epoch(written: Any) -> float:
    """Seconds, or a time of ISO 8601; one without a zone is UTC."""
    if isinstance(written, (int, float)):
        return float(written)
    if not written:
        return 0.0
    try:
        # Python reads a final Z only from 3.11 on.
        moment = datetime.fromisoformat(re.sub(r"Z\Z", "+00:00", str(written)))
    except ValueError:
        raise SnapshotError(f"written is {written!r}, which is no time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
