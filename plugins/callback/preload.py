# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads before the first task what each task's process would load again for itself, and keeps built modules for the next run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preload
type: aggregate
short_description: Tasks begin sooner
version_added: "0.1.0"
author: hybridlab.platform contributors (@hybridlab)
description:
  - Ansible runs each task in a process of its own, a copy of the one that runs the playbook. What that one has not loaded, each task loads anew,
    for a connection through Docker's API about a seventh of a second.
  - At the beginning of each play this loads the connection plugins of its hosts, and the actions and filters that most tasks use. It prints nothing.
  - Modules of Ansible itself and of this collection, once packed for the journey to a host, are kept beside O(ignore:local_tmp) for the next run.
requirements:
  - Is enabled in C(ansible.cfg) by C(callbacks_enabled = hybridlab.platform.preload).
"""

import importlib
from pathlib import Path
from typing import Any, Optional

import ansible
from ansible import constants
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__
from ansible_collections.hybridlab.platform.plugins.plugin_utils import built_modules

ACTIONS = ("normal", "copy", "template", "file", "gather_facts", "command", "include_vars", "set_fact", "assert", "debug")
# What actions import when they first build a module, and what renders a template.
LIBRARIES = ("ansible.executor.module_common", "ansible.template", "zipfile")
FILTERS = ("ansible.builtin.bool", "hybridlab.platform.with_guests")


class CallbackModule(CallbackBase):
    """An enabled callback beside any output."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "hybridlab.platform.preload"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Ansible's own directory of this run, removed at its end.
        self.run_directory = Path(constants.DEFAULT_LOCAL_TMP)
        self.store: Optional[Path] = None

    def v2_playbook_on_start(self, playbook: Any) -> None:
        # Modules that find other module_utils first are not what the key says.
        if any(Path(path).is_dir() for path in constants.DEFAULT_MODULE_UTILS_PATH):
            return
        key = built_modules.key(__version__, Path(ansible.__file__), Path(__file__).resolve().parents[1])
        self.store = self.run_directory.parent.parent / "built-modules" / key
        built_modules.bring(self.store, self._work())

    def v2_playbook_on_play_start(self, play: Any) -> None:
        for name in sorted(connections(play)):
            loader.connection_loader.get(name, class_only=True)
        for name in ACTIONS:
            loader.action_loader.get(name, class_only=True)
        for library in LIBRARIES:
            importlib.import_module(library)
        loader.become_loader.get("sudo", class_only=True)
        loader.shell_loader.get("sh", class_only=True)
        loader.test_loader.get("ansible.builtin.defined")
        for name in FILTERS:
            loader.filter_loader.get(name)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self.store is not None:
            built_modules.keep(self._work(), self.store)

    def _work(self) -> Path:
        return self.run_directory / "ansiballz_cache"


def connections(play: Any) -> set[str]:
    """Names of the connection plugins that the play's hosts ask for in plain words; one that comes of a template is loaded when it is used."""
    variables = play.get_variable_manager().get_vars(play=play)
    wanted = {str(host.get("ansible_connection", "ssh")) for host in variables.get("hostvars", {}).values()}
    return {name for name in wanted if name.replace("_", "").replace(".", "").isalnum()}
