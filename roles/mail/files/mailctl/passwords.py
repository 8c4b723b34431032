# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a password comes from: the prompt, standard input, or a hash on standard input. Never from the command line, which everybody can read."""

from __future__ import annotations

import getpass
import sys
from argparse import Namespace
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.mail_accounts import check_passwords, is_hash
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError

SHORTEST = 10


def asked(given: Namespace, address: str) -> Optional[str]:
    """The password or hash that the options speak of; None with --no-password. ResourceError for one that must not be."""
    if getattr(given, "no_password", False):
        return None
    if given.stdin or given.hash:
        value = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        value = getpass.getpass(f"Password of {address}: ")
        if value != getpass.getpass("Again: "):
            raise ResourceError("the two differ. Nothing was changed")
    else:
        raise ResourceError("there is no terminal to ask for the password. Give it on standard input, with --stdin")
    check_passwords({address: value})
    if given.hash and not is_hash(value):
        raise ResourceError("found no hash on standard input. Give {ARGON2ID}$argon2id$..., which doveadm pw -s ARGON2ID makes")
    if not given.hash and is_hash(value):
        raise ResourceError("found a hash, which nobody could log in with. Say --hash, and give it on standard input")
    if not given.hash and len(value) < SHORTEST:
        raise ResourceError(f"has {len(value)} characters. Take {SHORTEST} or more: this login is open to the Internet")
    return value
