# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sshd's settings as text: what we declare, what other files say against it, and what sshd makes of both (sshd_config(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

HEADER = "# Managed by hybridlab.platform, changes are lost. sshd takes the first value that it reads, and this file is read first.\n"
INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf"
SET_ASIDE = "# set aside by hybridlab.platform: "

# Keywords that add up instead of being decided by the first file: what other files say would be added to ours.
ADDING = frozenset(("port", "listenaddress", "hostkey", "allowusers", "denyusers", "allowgroups", "denygroups"))

# What `sshd -T` calls a value that has two names.
_OTHER_NAMES = {("permitrootlogin", "prohibit-password"): "without-password"}

_LINE = re.compile(r"\s*([A-Za-z]+)[\s=]+(.*?)\s*\Z")
# A line of `ss -Hltnp`: state, two queue lengths, address:port, peer, users:(("name",pid=..,fd=..)).
_LISTENER = re.compile(r'\S+\s+\S+\s+\S+\s+(\S+):(\d+)\s+\S+\s*(?:users:\(\("([^"]*)")?')
# What a session forwards listens there too, in sshd's name.
_LOOPBACK = ("127.", "[::1]")


def render(options: Mapping[str, str], ports: Iterable[int], users: Iterable[str], host_keys: Iterable[str]) -> str:
    """Our drop-in.

    options:   keyword to value
    users:     accounts that may log in
    host_keys: paths of the private keys, the preferred one first
    """
    lines = [f"Port {port}" for port in ports]
    lines += [f"HostKey {path}" for path in host_keys]
    lines += [f"AllowUsers {user}" for user in users]
    lines += [f"{keyword} {value}" for keyword, value in options.items()]
    return HEADER + "".join(line + "\n" for line in lines)


def keyword_of(line: str) -> str:
    """The keyword of a line, in lower case; empty for a comment or an empty line."""
    found = _LINE.match(line)
    return found.group(1).lower() if found else ""


def set_aside(text: str) -> str:
    """Somebody else's file without the lines that would add to ours; they stay in it as comments."""
    lines = []
    inside_match = False
    for line in text.splitlines():
        keyword = keyword_of(line)
        inside_match = inside_match or keyword == "match"
        lines.append(SET_ASIDE + line.strip() if keyword in ADDING and not inside_match else line)
    return "".join(line + "\n" for line in lines)


def with_include(text: str) -> str:
    """The main file, reading the directory of our drop-in before all else."""
    for line in text.splitlines():
        keyword = keyword_of(line)
        if keyword == "include" and "/etc/ssh/sshd_config.d/" in line:
            return text
        if keyword and keyword != "include":
            break
    return f"{INCLUDE}\n{text}"


def weakened(text: str, options: Mapping[str, str]) -> list[tuple[int, str]]:
    """Lines of Match blocks that would override what we declare: (line number, line). They hold for those whom they match, whatever stands before."""
    owned = {keyword.lower(): value for keyword, value in options.items()}
    found = []
    inside_match = False
    for number, line in enumerate(text.splitlines(), start=1):
        keyword = keyword_of(line)
        inside_match = inside_match or keyword == "match"
        if inside_match and keyword in owned and _value_of(line) != owned[keyword].lower():
            found.append((number, line.strip()))
    return found


def _value_of(line: str) -> str:
    found = _LINE.match(line)
    return found.group(2).strip('"').lower() if found else ""


def parse_effective(text: str) -> dict[str, list[str]]:
    """`sshd -T`: keyword in lower case to its values, one for each line."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _blank, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


def differences(effective: Mapping[str, Sequence[str]], options: Mapping[str, str], ports: Iterable[int], users: Iterable[str]) -> list[str]:
    """Where sshd would do something else than declared, in words."""
    wanted = {keyword.lower(): [_OTHER_NAMES.get((keyword.lower(), value), value)] for keyword, value in options.items()}
    wanted["port"] = [str(port) for port in ports]
    wanted["allowusers"] = list(users)
    found = []
    for keyword, values in wanted.items():
        has = list(effective.get(keyword, []))
        if sorted(value.lower() for value in has) != sorted(value.lower() for value in values):
            found.append(f"{keyword} is {', '.join(has) or 'not known to this sshd'}, declared is {', '.join(values)}")
    return found


def strong_moduli(text: str, least: int) -> str:
    """moduli(5) without the groups below ``least`` bits. The fifth column is the size less one."""
    kept = []
    for line in text.splitlines():
        columns = line.split()
        if line.startswith("#") or len(columns) < 7 or int(columns[4]) + 1 >= least:
            kept.append(line)
    return "".join(line + "\n" for line in kept)


def socket_dropin(ports: Iterable[int]) -> str:
    """Where systemd listens for sshd: its own list replaced."""
    return "[Socket]\nListenStream=\n" + "".join(f"ListenStream={port}\n" for port in ports)


def listeners(text: str) -> dict[int, set[str]]:
    """`ss -Hltnp`: port to the names of the programs that answer others than the host itself there; root sees all of them."""
    found: dict[int, set[str]] = {}
    for line in text.splitlines():
        match = _LISTENER.match(line)
        if match and not match.group(1).startswith(_LOOPBACK):
            found.setdefault(int(match.group(2)), set()).add(match.group(3) or "the kernel")
    return found


def authorized_keys(keys: Iterable[str]) -> str:
    """An account's whole authorized_keys."""
    return "".join(key + "\n" for key in keys)


def key_bits(text: str) -> int:
    """Size of a key as `ssh-keygen -lf` prints it: bits, fingerprint, comment, type."""
    first = text.split(" ", 1)[0]
    return int(first) if first.isdecimal() else 0
