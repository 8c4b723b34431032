# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cloud-init does in a guest: users, packages, commands and further keys. No secret is ever shown in a finding."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core import check_values as values
from ansible_collections.hybridlab.platform.plugins.module_utils.core.check_shape import HIDDEN, Faults, Table, as_text, labels, meant
from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_guests import GuestUser

USER_KEYS = ("name", "ssh_keys", "groups", "sudo", "shell")
LOGIN_KEYS = ("users", "packages", "commands", "user_data")

# OpenSSH's public key types that its servers still take by default (sshd_config(5), PubkeyAcceptedAlgorithms; ssh-dss is gone).
KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
# PEM headers; and how the base64 of OpenSSH's own format begins ("openssh-key-v1").
_PRIVATE = re.compile(r"PRIVATE KEY|b3BlbnNzaC1rZXktdjE")
_PUBLIC_CURE = "Give the public half, one line: the type, the key and a comment (a file ~/.ssh/*.pub)"

# useradd(8): what every shadow-utils takes; login names are at most 32 characters.
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
# A package of apt or dnf, a version after '=' and a group after '@' included; never an option.
_PACKAGE = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9.+_:~=^-]*\Z")
# Keys of user_data by which somebody else than `users` gets a way in.
_OTHER_LOGINS = ("users", "ssh_authorized_keys", "chpasswd", "password")
# cloud-init's lists that start with items of ours.
_LISTS = ("users", "packages", "bootcmd", "runcmd", "write_files")


def read_login(faults: Faults, table: Table, cloud_init: bool) -> dict[str, Any]:
    """users, packages, commands and user_data of a guest's table, as Guest has them."""
    if not cloud_init:
        for key in (key for key in LOGIN_KEYS if key in table.value):
            reason = "is done by cloud-init, and the guest has cloud_init: false"
            faults.add("cloud-init-off", table.at(key), HIDDEN, reason, f"Remove {key}, or cloud_init")
        return {}
    before = len(faults.items)
    users = _read_users(faults, table)
    user_data = _read_user_data(faults, table)
    if len(faults.items) == before:
        _check_way_in(faults, table, users, user_data)
    return {"users": users, "packages": _read_packages(faults, table), "commands": _read_commands(faults, table), "user_data": user_data}


def _check_way_in(faults: Faults, table: Table, users: Sequence[GuestUser], user_data: Mapping[str, Any]) -> None:
    if any(user.ssh_keys for user in users) or any(key in user_data for key in _OTHER_LOGINS):
        return
    found = [user.name for user in users] or None
    cure = "Give a user ssh_keys (the lines of your *.pub files), or write cloud_init: false for an image that brings its own logins"
    faults.add("guest-no-key", table.at("users"), found, "no user of the guest has a key, so that nobody could enter it", cure)


def _read_users(faults: Faults, table: Table) -> tuple[GuestUser, ...]:
    rows = table.rows("users")
    read = [_read_user(faults, path, row) for path, row in zip(labels(table.at("users"), rows), rows)]
    users = [user for user in read if user is not None]
    for index, user in enumerate(users):
        if user.name in [other.name for other in users[:index]]:
            faults.add("user-twice", table.at("users"), user.name, "is listed twice", "Join the two entries")
    return tuple(users)


def _read_user(faults: Faults, path: str, raw: Any) -> Optional[GuestUser]:
    if isinstance(raw, str) and _PRIVATE.search(raw):
        raw = HIDDEN
    table = Table.read(faults, path, raw, USER_KEYS, ("name",))
    if table is None:
        return None
    name = login_name(faults, table.at("name"), table.text("name"))
    groups = [login_name(faults, f"{table.at('groups')}[{index}]", word) for index, word in enumerate(table.words("groups"))]
    user = GuestUser(
        name=name or "",
        ssh_keys=tuple(read_keys(faults, table)),
        groups=tuple(group for group in groups if group),
        sudo=table.flag("sudo", default=True),
        shell=values.directory(faults, table.at("shell"), table.text("shell"), "shell"),
    )
    return user if name else None


def login_name(faults: Faults, path: str, text: Optional[str]) -> Optional[str]:
    if text is None or _LOGIN.match(text):
        return text
    cure = "Use 1 to 32 of a-z, 0-9, '_' and '-', the first a letter or '_'"
    faults.add("login-name", path, text, "is no name that useradd and groupadd take everywhere", cure)
    return None


def read_keys(faults: Faults, table: Table) -> list[str]:
    path = table.at("ssh_keys")
    raw = table.value.get("ssh_keys", [])
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        if isinstance(raw, str):
            _read_key(faults, path, raw)
        faults.add("type", path, HIDDEN, "must be a list of keys, each one text", "Write a list, a key a line; [] or no ssh_keys for none")
        return []
    read = [_read_key(faults, f"{path}[{index}]", item) for index, item in enumerate(raw)]
    return [key for key in read if key is not None]


def _read_key(faults: Faults, path: str, text: str) -> Optional[str]:
    """A line of an authorized_keys file without options. Of one that is none, only the beginning is shown: it may be a secret by mistake."""
    line = text.strip()
    if _PRIVATE.search(line):
        faults.add("private-key", path, HIDDEN, "holds a PRIVATE key, which belongs on the machine that logs in and nowhere else", _PUBLIC_CURE)
        return None
    shown = line if len(line) <= 24 else f"{line[:16]}..."
    kind, _blank, rest = line.partition(" ")
    body = rest.strip().partition(" ")[0]
    if "\n" in line:
        faults.add("ssh-key", path, shown, "holds several lines", "Make each line an entry of its own (lookup('file', ...).splitlines())")
    elif kind not in KEY_TYPES:
        cure = meant(kind, KEY_TYPES, "types") if kind.startswith(("ssh-", "ecdsa-", "sk-")) else _PUBLIC_CURE
        faults.add("ssh-key", path, shown, "does not begin with the type of a public SSH key", cure)
    elif not _is_blob(kind, body):
        faults.add("ssh-key", path, shown, f"has no whole {kind} key after its type: a part is missing or changed", _PUBLIC_CURE)
    else:
        return line
    return None


def _is_blob(kind: str, body: str) -> bool:
    """Whether the base64 decodes to a key of that type: length-prefixed strings without a rest, the first one the type (RFC 4253, section 6.6)."""
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return False
    parts = []
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "big")
        parts.append(data[4 : 4 + size])
        if len(parts[-1]) < size:
            return False
        data = data[4 + size :]
    return not data and len(parts) >= 2 and parts[0] == kind.encode()


def _read_packages(faults: Faults, table: Table) -> tuple[str, ...]:
    packages = table.words("packages")
    for index, package in enumerate(packages):
        if not _PACKAGE.match(package):
            cure = "Write one package an entry: letters, digits and . + _ - : ~ =, beginning with a letter or digit"
            faults.add("package", f"{table.at('packages')}[{index}]", package, "is no name of a package", cure)
    return tuple(packages)


def _read_commands(faults: Faults, table: Table) -> tuple[Union[str, tuple[str, ...]], ...]:
    found: list[Union[str, tuple[str, ...]]] = []
    for index, item in enumerate(table.rows("commands")):
        path = f"{table.at('commands')}[{index}]"
        if isinstance(item, list) and item and all(isinstance(word, str) for word in item):
            found.append(tuple(item))
        elif isinstance(item, (list, Mapping)):
            reason = "is no command: neither a line of text nor a list of texts"
            cure = "Write a line for the shell, or [command, argument, ...]; numbers in quotes, and a line with ': ' in quotes"
            faults.add("command", path, HIDDEN, reason, cure)
        else:
            line = as_text(faults, path, item)
            found += [] if line is None else [line]
    return tuple(found)


def _read_user_data(faults: Faults, table: Table) -> Mapping[str, Any]:
    raw = table.value.get("user_data", {})
    path = table.at("user_data")
    if not isinstance(raw, Mapping):
        faults.add("user-data", path, HIDDEN, "must be a mapping of #cloud-config keys", "Write the keys themselves, not the text of a file")
        return {}
    for key, value in raw.items():
        if not isinstance(key, str):
            faults.add("user-data", path, key, "is no key of #cloud-config", "Put it in quotes")
        elif key in _LISTS and not isinstance(value, list):
            faults.add("user-data", f"{path}.{key}", HIDDEN, "must be a list: its items come after those that the guest's own keys make", "Write a list")
    return raw
