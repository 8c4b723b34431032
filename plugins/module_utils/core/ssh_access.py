# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets into a host by SSH, and how: planned as files that change together, and that go back together unless a login has proven them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core import sshd
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, here_document, shell_line

MAIN = "/etc/ssh/sshd_config"
DROPIN_DIRECTORY = "/etc/ssh/sshd_config.d"
DROPIN = f"{DROPIN_DIRECTORY}/00-hybridlab.conf"
MODULI = "/etc/ssh/moduli"
ED25519 = "/etc/ssh/ssh_host_ed25519_key"
# The distribution's RSA key, and one beside it where that is too short: the old one stays for whoever wants it back.
RSA = "/etc/ssh/ssh_host_rsa_key"
RSA_LONG = "/etc/ssh/ssh_host_rsa4096_key"
RSA_BITS = 4096
# What a trial needs to be taken back. It is there from before the first change until a login has proven the last one.
PENDING = "/var/lib/hybridlab/ssh/pending"
REVERT = f"{PENDING}/revert"
# ssh-audit's hardened policies: diffie-hellman-group-exchange-sha256 with 3072 bits or more.
LEAST_MODULUS = 3072


@dataclass(frozen=True)
class Wanted:
    """accounts: name to its keys. An account without a key may not log in."""

    accounts: Mapping[str, Sequence[str]]
    ports: tuple[int, ...]
    options: Mapping[str, str]

    @property
    def users(self) -> list[str]:
        return [name for name, keys in self.accounts.items() if keys]


@dataclass(frozen=True)
class Found:
    """The host.

    texts:     path to text, None where there is no such file; of the main file, all drop-ins and the moduli
    keys:      account to the path and the text of its authorized_keys
    rsa_bits:  of the distribution's key; 0 where there is none
    has_long:  whether there is a long RSA key beside it
    socket:    path of the drop-in of sshd's socket unit where systemd listens, else None
    listening: port to the programs that listen there
    """

    texts: Mapping[str, Optional[str]]
    keys: Mapping[str, tuple[str, Optional[str]]]
    rsa_bits: int = 0
    has_long: bool = False
    socket: Optional[str] = None
    listening: Mapping[int, set[str]] = field(default_factory=dict)

    @property
    def ssh_ports(self) -> list[int]:
        """Ports on which sshd answers now."""
        programs = {"sshd", "systemd"} if self.socket else {"sshd"}
        return sorted(port for port, names in self.listening.items() if names & programs and (names & {"sshd"} or port in self._socket_ports()))

    def _socket_ports(self) -> set[int]:
        text = (self.texts.get(self.socket) if self.socket else None) or ""
        listed = {int(line.rpartition("=")[2]) for line in text.splitlines() if line.startswith("ListenStream=") and line[-1].isdecimal()}
        return listed or {22}


@dataclass(frozen=True)
class Plan:
    """files: path to its new text, for what changes. trial: the same while old and new ports answer. kept: the old ports."""

    before: dict[str, Any]
    after: dict[str, Any]
    files: Mapping[str, str]
    trial: Mapping[str, str]
    kept: tuple[int, ...]
    make_key: bool
    changed: bool
    host_keys: tuple[str, ...]


def plan(wanted: Wanted, found: Found) -> Plan:
    """What becomes of the host. ResourceError when nobody could enter, somebody else's file would weaken this, or another program has the port."""
    if not wanted.users:
        raise ResourceError("authorized_keys: no account has a key, so that nobody could log in any more. Nothing was changed. Give one of them a key")
    _check_matches(wanted, found)
    _check_free(wanted, found)
    long_key = found.rsa_bits < RSA_BITS
    host_keys = (ED25519, RSA_LONG if long_key else RSA)
    kept = tuple(port for port in found.ssh_ports if port not in wanted.ports)
    files = {path: text for path, text in _texts(wanted, found, host_keys, wanted.ports).items() if text != _now(found, path)}
    trial = {path: text for path, text in _texts(wanted, found, host_keys, (*wanted.ports, *kept)).items() if text != _now(found, path)}
    make_key = long_key and not found.has_long
    running = bool(found.ssh_ports) and not kept and set(wanted.ports) <= set(found.ssh_ports)
    return Plan(
        before=_describe(found, {}),
        after=_describe(found, files),
        files=files,
        trial=trial,
        kept=kept,
        make_key=make_key,
        changed=bool(files) or make_key or not running,
        host_keys=host_keys,
    )


def _now(found: Found, path: str) -> Optional[str]:
    for place, text in found.keys.values():
        if place == path:
            return text
    return found.texts.get(path)


def _texts(wanted: Wanted, found: Found, host_keys: Sequence[str], ports: Sequence[int]) -> dict[str, str]:
    """Every managed file as it shall be, accounts first: a key is there before sshd asks for it."""
    texts = {found.keys[name][0]: sshd.authorized_keys(keys) for name, keys in wanted.accounts.items()}
    texts[DROPIN] = sshd.render(wanted.options, ports, wanted.users, host_keys)
    for path, text in found.texts.items():
        if text is None or path in (DROPIN, found.socket):
            continue
        if path == MODULI:
            texts[path] = sshd.strong_moduli(text, LEAST_MODULUS)
        else:
            cleaned = sshd.set_aside(text)
            texts[path] = sshd.with_include(cleaned) if path == MAIN else cleaned
            if texts[path] == text + "\n":
                texts[path] = text  # a missing newline at the end is not ours to mend
    if found.socket:
        texts[found.socket] = sshd.socket_dropin(ports)
    return texts


def _describe(found: Found, files: Mapping[str, str]) -> dict[str, Any]:
    """Keys of the accounts, our drop-in, lines set aside in other files, and whether weak groups are offered."""
    texts = {**found.texts, **files}
    moduli = texts.get(MODULI)
    others = {path: [line for line in (text or "").splitlines() if line.startswith(sshd.SET_ASIDE)] for path, text in texts.items() if path != DROPIN}
    return {
        "accounts": {name: (files.get(path, text) or "").splitlines() for name, (path, text) in found.keys.items()},
        "settings": (texts.get(DROPIN) or "").splitlines()[1:],
        "set_aside": {path: lines for path, lines in others.items() if lines and path != MODULI},
        # Before the package is there, its own are assumed, which have weak groups.
        "weak_groups": not files and (moduli is None or sshd.strong_moduli(moduli, LEAST_MODULUS) != moduli),
    }


def _check_matches(wanted: Wanted, found: Found) -> None:
    for path, text in found.texts.items():
        if text is not None and path not in (DROPIN, MODULI, found.socket):
            for number, line in sshd.weakened(text, wanted.options):
                raise ResourceError(
                    f"{path}, line {number}: {line!r} in a Match block would hold for those whom it matches, whatever platform_security says. "
                    f"Nothing was changed. Remove the line, or the block"
                )


def _check_free(wanted: Wanted, found: Found) -> None:
    for port in wanted.ports:
        others = found.listening.get(port, set())
        if others and port not in found.ssh_ports:
            raise ResourceError(
                f"platform_host.ssh_ports: port {port} is taken by {', '.join(sorted(others))} on this host, so sshd cannot answer there. "
                f"Nothing was changed. Stop that program (ss -ltnp 'sport = :{port}'), or choose another port"
            )


def revert_script(saved: Mapping[str, Optional[str]], unit: str, socket_unit: Optional[str]) -> str:
    """A shell script that takes a trial back, run in its own directory; cut short, it can run again.

    saved: path to the name under which the file was put by, None for one that was not there
    """
    lines = ["#!/bin/sh", "# Takes sshd's settings and the accounts' keys back to what they were before an unproven change.", "set -eu", 'cd "${0%/*}"']
    for path, name in saved.items():
        kept = shell_line(["cp", "-a", "--remove-destination", str(name), f"{path}.hybridlab-revert"])
        lines.append(shell_line(["rm", "-f", path]) if name is None else f"{kept}\n{shell_line(['mv', '-f', f'{path}.hybridlab-revert', path])}")
    # Not waited for: at boot this runs before sshd.
    lines += ["systemctl daemon-reload"] if socket_unit else []
    lines += [f"systemctl --no-block try-restart {socket_unit}" if socket_unit else f"systemctl --no-block try-reload-or-restart {unit}"]
    return "\n".join([*lines, f"rm -rf {PENDING}", ""])


def known_hosts(alias: str, public_keys: Sequence[str]) -> list[str]:
    """Lines of a known_hosts file that names the host ``alias``. public_keys: the host's *.pub files."""
    return [" ".join([alias, *key.split()[:2]]) for key in public_keys]


def commands(plan_: Plan, found: Found, unit: str, socket_unit: str) -> list[str]:
    """The shell lines that do the same by hand; whoever pastes them keeps a session open."""
    lines = []
    if plan_.make_key:
        lines.append(shell_line(["ssh-keygen", "-q", "-t", "rsa", "-b", str(RSA_BITS), "-N", "", "-f", RSA_LONG]))
    if plan_.before["weak_groups"] and not plan_.after["weak_groups"]:
        lines.append(f"awk '/^#/ || $5 >= {LEAST_MODULUS - 1}' {MODULI} >{MODULI}.strong && mv {MODULI}.strong {MODULI}")
    owners = {path: name for name, (path, _text) in found.keys.items()}
    for path, text in plan_.files.items():
        if path == MODULI:
            continue
        if path in owners:
            owner = ["-o", owners[path], "-g", owners[path]]
            lines.append(shell_line(["install", "-d", "-m", "0700", *owner, path.rpartition("/")[0]]))
            lines.append(here_document(["install", "-m", "0600", *owner, "/dev/stdin", path], text))
        else:
            lines.append(here_document(["install", "-D", "-m", "0644" if path == found.socket else "0600", "/dev/stdin", path], text))
    if plan_.changed:
        lines += ["sshd -t", *(["systemctl daemon-reload", f"systemctl restart {socket_unit}"] if found.socket else [f"systemctl reload-or-restart {unit}"])]
    return lines
