# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps one nftables table, its file and, where wanted, Docker's chain as declared."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_plan import (
    FILE_MODE,
    DockerUser,
    Found,
    Plan,
    describe,
    plan_deleted,
    plan_merged,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.nftables import Ruleset, render
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files
from ansible_collections.hybridlab.platform.plugins.module_utils.host.nft import DockerUserChain, Nft, read_file

# Refuses a change of what was found.
Guard = Callable[[Found], None]


class FirewallTable:
    """The states of a module that has one table. ``path`` and ``state`` are parameters of the module."""

    def __init__(self, module: AnsibleModule, table: str, docker_user: bool = False) -> None:
        """docker_user: whether Docker's chain gets our rule, where there is iptables"""
        self.module = module
        self.table = table
        self.path: str = module.params["path"]
        module.run_command_environ_update = {"LC_ALL": "C"}
        nft, unshare = module.get_bin_path("nft"), module.get_bin_path("unshare")
        self.nft: Optional[Nft] = Nft(module.run_command, nft, unshare, table) if nft and unshare else None
        iptables = module.get_bin_path("iptables") if docker_user else None
        self.docker = DockerUserChain(module.run_command, iptables) if iptables else None
        self._docker_user = docker_user

    def merged(self, ruleset: Ruleset, guard: Optional[Guard] = None) -> dict[str, Any]:
        """Makes all of it as declared, and looks again. The module's answer. guard: asked before a change, given what was found; refuses by ResourceError"""
        found = self._found(ruleset)
        answer = self._reconcile(plan_merged(ruleset, found, self.path), found, guard)
        if not self.module.check_mode and answer["changed"]:
            self._verify(ruleset)
        return {**answer, "rules": ruleset.rule_count()}

    def deleted(self, guard: Optional[Guard] = None) -> dict[str, Any]:
        """Takes all of it away. The module's answer. guard: as with ``merged``"""
        found = self._found(None)
        return self._reconcile(plan_deleted(self.table, found, self.path), found, guard)

    def rendered(self, ruleset: Ruleset) -> dict[str, Any]:
        """The text alone. The module's answer."""
        plan = plan_merged(ruleset, Found(), self.path)
        return {"changed": False, "rendered": render(ruleset), "rules": ruleset.rule_count(), "commands": plan.commands}

    def gathered(self) -> dict[str, Any]:
        """What is there, for a person."""
        return describe(Ruleset(self.table, (), ()), self._found(None), self.path, None)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Name -> packets and bytes, sorted by name."""
        return dict(sorted(self.nft.counters().items())) if self.nft else {}

    def _found(self, ruleset: Optional[Ruleset]) -> Found:
        text, mode = read_file(self.path)
        if self.nft is None:
            self._without_nft()
            # A host that still gets nft gets iptables in the same step.
            assumed = DockerUser() if self._docker_user and self.module.params["state"] == "merged" else None
            return Found(file_text=text, file_mode=mode, docker=self.docker.found() if self.docker else assumed)
        return Found(
            live=self.nft.live(),
            canonical=self.nft.canonical(render(ruleset)) if ruleset is not None else None,
            file_text=text,
            file_mode=mode,
            docker=self.docker.found() if self.docker else None,
        )

    def _without_nft(self) -> None:
        missing = "nft and unshare (packages nftables, util-linux) are not both installed on this host"
        if self.module.params["state"] == "merged" and not self.module.check_mode:
            raise ResourceError(f"{missing}. Nothing was changed. Install them first; the role kvm_host does.")
        self.module.warn(f"{missing}. Planned as if the host had no table yet.")

    def _reconcile(self, plan: Plan, found: Found, guard: Optional[Guard]) -> dict[str, Any]:
        if guard is not None and plan.commands:
            guard(found)
        if not self.module.check_mode:
            self._apply(plan)
        return result(plan.before, plan.after, plan.commands, diff=self.module._diff, header=f"table inet {self.table}")

    def _apply(self, plan: Plan) -> None:
        if plan.load is not None and self.nft is not None:
            self.nft.load(plan.load)
        if plan.write is not None:
            files.write_text(self.path, plan.write, FILE_MODE)
        if plan.remove_file:
            files.remove(self.path)
            with contextlib.suppress(OSError):  # somebody else's files are in it
                Path(self.path).parent.rmdir()
        for arguments in plan.docker:
            if self.docker is not None:
                self.docker.apply(arguments)

    def _verify(self, ruleset: Ruleset) -> None:
        again = plan_merged(ruleset, self._found(ruleset), self.path)
        if again.commands:
            raise ResourceError(f"every step succeeded, yet this is still to be done: {'; '.join(line.splitlines()[0] for line in again.commands)}. Run again.")
