# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sshd's settings as text, and the plan of who gets in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core import sshd
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.ssh_access import (
    DROPIN,
    ED25519,
    MAIN,
    MODULI,
    RSA,
    RSA_LONG,
    Found,
    Wanted,
    commands,
    plan,
    revert_script,
)

KEY = "ssh-ed25519 AAAA admin"
KEYS = "/home/admin/.ssh/authorized_keys"
STOCK = "# stock\nInclude /etc/ssh/sshd_config.d/*.conf\n#Port 22\nUsePAM yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
CLOUD = "/etc/ssh/sshd_config.d/50-cloud-init.conf"
WEAK = "20231011 2 6 100 2047 2 ABC\n"
STRONG = "20231011 2 6 100 3071 2 ABC\n20231011 2 6 100 4095 5 DEF\n"
MODULI_TEXT = f"# Time Type Tests Tries Size Generator Modulus\n{WEAK}{STRONG}"
WANTED = Wanted({"admin": [KEY], "watcher": []}, (2201,), {"PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password"})
WATCHER = "/home/watcher/.ssh/authorized_keys"
FOUND = Found(
    texts={MAIN: STOCK, DROPIN: None, MODULI: MODULI_TEXT},
    keys={"admin": (KEYS, "ssh-ed25519 BBBB former\n"), "watcher": (WATCHER, "")},
    rsa_bits=3072,
    listening={22: {"sshd"}},
)


def after(wanted: Wanted, found: Found) -> Found:
    """The host once the plan is carried out."""
    planned = plan(wanted, found)
    keys = {name: (path, planned.files.get(path, text)) for name, (path, text) in found.keys.items()}
    texts = {path: planned.files.get(path, text) for path, text in found.texts.items()}
    return replace(found, texts=texts, keys=keys, has_long=found.has_long or planned.make_key, listening={port: {"sshd"} for port in wanted.ports})


def test_moves_and_then_rests() -> None:
    planned = plan(WANTED, FOUND)
    assert planned.changed and planned.make_key
    assert planned.kept == (22,)
    assert planned.files[KEYS] == KEY + "\n"
    assert planned.files[MODULI] == MODULI_TEXT.replace(WEAK, "")
    assert planned.files[DROPIN].splitlines()[1:] == [
        "Port 2201",
        f"HostKey {ED25519}",
        f"HostKey {RSA_LONG}",
        "AllowUsers admin",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
    ]
    assert "Port 2201\nPort 22\n" in planned.trial[DROPIN]
    assert MAIN not in planned.files and WATCHER not in planned.files
    again = plan(WANTED, after(WANTED, FOUND))
    assert (again.changed, again.files, again.before) == (False, {}, planned.after)


def test_a_long_key_of_the_distribution_is_kept() -> None:
    planned = plan(WANTED, replace(FOUND, rsa_bits=4096))
    assert planned.host_keys == (ED25519, RSA)
    assert not planned.make_key


def test_a_host_without_sshd_is_planned_as_the_package_will_leave_it() -> None:
    bare = replace(FOUND, texts={MAIN: None, DROPIN: None, MODULI: None}, rsa_bits=0, listening={})
    for found in (bare, FOUND):
        assert plan(WANTED, found).before == plan(WANTED, FOUND).before
        assert plan(WANTED, found).after == plan(WANTED, FOUND).after
        assert commands(plan(WANTED, found), found, "ssh.service", "ssh.socket") == commands(plan(WANTED, FOUND), FOUND, "ssh.service", "ssh.socket")


def test_files_right_and_ports_wrong_is_no_rest() -> None:
    done = after(WANTED, FOUND)
    assert plan(WANTED, replace(done, listening={22: {"sshd"}})).changed
    assert plan(WANTED, replace(done, listening={22: {"sshd"}, 2201: {"sshd"}})).changed
    assert plan(WANTED, replace(done, listening={})).changed


def test_lines_of_others_that_would_add_are_set_aside() -> None:
    others = "Port 2222\n  ListenAddress 10.0.0.1\nAllowUsers root\nPasswordAuthentication yes\nMatch User sftp\n  ForceCommand internal-sftp\n"
    planned = plan(WANTED, replace(FOUND, texts={**FOUND.texts, CLOUD: others}))
    assert planned.files[CLOUD].splitlines() == [
        f"{sshd.SET_ASIDE}Port 2222",
        f"{sshd.SET_ASIDE}ListenAddress 10.0.0.1",
        f"{sshd.SET_ASIDE}AllowUsers root",
        "PasswordAuthentication yes",
        "Match User sftp",
        "  ForceCommand internal-sftp",
    ]
    assert planned.after["set_aside"] == {CLOUD: planned.files[CLOUD].splitlines()[:3]}


def test_an_include_that_is_missing_or_comes_too_late_is_put_first() -> None:
    for text in ("UsePAM yes\n", "UsePAM yes\nInclude /etc/ssh/sshd_config.d/*.conf\n"):
        assert plan(WANTED, replace(FOUND, texts={**FOUND.texts, MAIN: text})).files[MAIN] == f"{sshd.INCLUDE}\n{text}"


def test_a_match_block_that_lets_passwords_in_is_refused() -> None:
    texts = {**FOUND.texts, CLOUD: "Match Address 10.0.0.0/8\n    PasswordAuthentication yes\n"}
    with pytest.raises(ResourceError, match=r"50-cloud-init.conf, line 2: 'PasswordAuthentication yes' in a Match block"):
        plan(WANTED, replace(FOUND, texts=texts))
    plan(WANTED, replace(FOUND, texts={**FOUND.texts, CLOUD: "Match Address 10.0.0.0/8\n    PasswordAuthentication no\n"}))


def test_a_port_of_another_program_is_refused() -> None:
    with pytest.raises(ResourceError, match="port 2201 is taken by nginx on this host"):
        plan(WANTED, replace(FOUND, listening={22: {"sshd"}, 2201: {"nginx"}}))


def test_nobody_is_refused() -> None:
    with pytest.raises(ResourceError, match="no account has a key"):
        plan(replace(WANTED, accounts={"admin": []}), FOUND)


def test_where_systemd_listens_the_socket_gets_the_ports() -> None:
    socket = "/etc/systemd/system/ssh.socket.d/hybridlab.conf"
    found = replace(FOUND, texts={**FOUND.texts, socket: None}, socket=socket, listening={22: {"systemd"}, 9090: {"systemd"}})
    planned = plan(WANTED, found)
    assert planned.kept == (22,)
    assert planned.files[socket] == "[Socket]\nListenStream=\nListenStream=2201\n"
    assert planned.trial[socket].endswith("ListenStream=2201\nListenStream=22\n")
    assert commands(planned, found, "ssh.service", "ssh.socket")[-1] == "systemctl restart ssh.socket"
    done = replace(after(WANTED, found), listening={2201: {"systemd"}, 9090: {"systemd"}})
    assert not plan(WANTED, done).changed


def test_differences_are_told_in_words() -> None:
    effective = sshd.parse_effective("port 2201\nport 22\npasswordauthentication no\npermitrootlogin without-password\nallowusers admin\n")
    assert sshd.differences(effective, WANTED.options, [2201], ["admin"]) == ["port is 2201, 22, declared is 2201"]
    assert sshd.differences(effective, {"Ciphers": "aes256-ctr"}, [2201, 22], ["admin"]) == ["ciphers is not known to this sshd, declared is aes256-ctr"]


def test_listeners_are_those_that_answer_others() -> None:
    text = (
        'LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=7,fd=3))\n'
        'LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=7,fd=4))\n'
        'LISTEN 0 128 127.0.0.1:6010 0.0.0.0:* users:(("sshd",pid=9,fd=9))\n'
        "LISTEN 0 64 *:2049 *:*\n"
    )
    assert sshd.listeners(text) == {22: {"sshd"}, 2049: {"the kernel"}}


def test_a_revert_restores_removes_and_ends() -> None:
    lines = revert_script({DROPIN: None, KEYS: "saved1"}, "ssh.service", None).splitlines()
    assert f"rm -f {DROPIN}" in lines
    assert f"cp -a --remove-destination saved1 {KEYS}.hybridlab-revert" in lines and f"mv -f {KEYS}.hybridlab-revert {KEYS}" in lines
    assert lines[-1] == "rm -rf /var/lib/hybridlab/ssh/pending"
