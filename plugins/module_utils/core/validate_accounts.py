# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of who may become root: sudo and groups against platform_security.accounts. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.model_security import Account, Security
from ansible_collections.hybridlab.platform.plugins.module_utils.core.validation import Answer, Answers, Questions, Row, judged

SECURITY = "security"

# Debian's and Red Hat's group whose members may do all by sudo.
ADMINS = ("sudo", "wheel")
# Whoever is a member of one of these can become root.
_POWERFUL = frozenset((*ADMINS, "disk", "docker", "libvirt", "lxd", "root", "shadow"))

_ALL, _ALL_BY_PASSWORD, _NONE = "all, without a password", "all, by password", "none"


def questions(security: Security) -> Questions:
    asked: dict[str, Sequence[str]] = {"sudoers": ("visudo", "-c"), "admins": ("getent", "group", *ADMINS)}
    for account in security.accounts:
        asked[f"groups {account.name}"] = ("id", "-nG", account.name)
        if account.name != "root":
            asked[f"sudo {account.name}"] = ("sudo", "-n", "-l", "-U", account.name)
    return asked


def rows(security: Security, docker_users: Sequence[str], answers: Answers) -> Iterator[Row]:
    """docker_users: the declared members of the group docker"""
    sudoers = answers["sudoers"]
    yield judged(SECURITY, "sudoers", "valid", sudoers, sudoers.rc == 0, "valid" if sudoers.rc == 0 else sudoers.why, (0, 1))
    yield _admins(security, answers["admins"])
    for account in security.accounts:
        if account.name != "root":
            answer = answers[f"sudo {account.name}"]
            found = _sudo(answer)
            yield judged(SECURITY, f"sudo of {account.name}", _declared(account), answer, found == _declared(account), found, (0, 1))
        yield _groups(account, account.name in docker_users, answers[f"groups {account.name}"])


def _admins(security: Security, answer: Answer) -> Row:
    """getent ends with 2 where a distribution lacks one of the groups."""
    members = {name for line in answer.lines for name in line.rpartition(":")[2].split(",") if name}
    declared = {account.name for account in security.accounts if set(account.groups) & set(ADMINS)}
    return judged(SECURITY, f"members of {', '.join(ADMINS)}", _words(declared), answer, members == declared, _words(members), (0, 2))


def _declared(account: Account) -> str:
    if account.sudo:
        return _ALL_BY_PASSWORD if account.sudo_password else _ALL
    return _ALL_BY_PASSWORD if set(account.groups) & set(ADMINS) else _NONE


def _sudo(answer: Answer) -> Optional[str]:
    """What ``sudo -l`` lists, from whichever file it comes."""
    rules = [line for line in answer.lines if line.startswith("(")]
    if any(rule.endswith("NOPASSWD: ALL") for rule in rules):
        return _ALL
    if any(rule.endswith(") ALL") for rule in rules):
        return _ALL_BY_PASSWORD
    if rules:
        return "; ".join(rules)
    return _NONE if "is not allowed to run sudo" in answer.out + answer.err else None


def _groups(account: Account, docker: bool, answer: Answer) -> Row:
    found = set(answer.out.split())
    declared = {*account.groups, *(["docker"] if docker else []), *(["root"] if account.name == "root" else [])}
    missing, extra = declared - found, (found - declared) & _POWERFUL
    differs = [*(f"not in {name}" for name in sorted(missing)), *(f"in {name}" for name in sorted(extra))]
    expected = f"in {_words(declared)}" if declared else "in none that leads to root"
    return judged(SECURITY, f"groups of {account.name}", expected, answer, not differs, ", ".join(differs) or expected)


def _words(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
