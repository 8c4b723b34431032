# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's own test driver as the host: an in-memory libvirt with the real network and storage code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import libvirt
import pytest
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module

URI = "test:///default"


@contextmanager
def libvirt_host() -> Iterator[Any]:
    """A connection to a fresh host. All connections of the process share it while this one is open."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    conn = libvirt.open(URI)
    try:
        for domain in conn.listAllDomains():
            if domain.isActive():
                domain.destroy()
            domain.undefine()
        yield conn
    finally:
        conn.close()


class Caller:
    """Calls a module's main() as a task would."""

    def __init__(self, module: ModuleType, capsys: pytest.CaptureFixture[str], backup_dir: Path) -> None:
        self.module = module
        self.capsys = capsys
        self.backup_dir = backup_dir

    def __call__(self, config: Any = (), check: bool = False, **params: Any) -> dict[str, Any]:
        """The module's result; ``failed`` is true in it when it failed."""
        args = {
            "config": list(config),
            "uri": URI,
            "backup_dir": str(self.backup_dir),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": str(self.backup_dir.parent),
            **params,
        }
        return call_module(self.module, args, self.capsys)

    def same_in_check_mode(self, config: Any = (), **params: Any) -> dict[str, Any]:
        """The result of a real run, which a check before it has foretold, and after which nothing is left to do."""
        foretold = self(config, check=True, **params)
        done = self(config, **params)
        assert not done.get("failed"), done
        for key in ("before", "after", "diff", "commands", "changed", "disruptive"):
            assert done[key] == foretold[key], key
        again = self(config, **params)
        assert again["changed"] is False, again
        assert again["commands"] == []
        # A network of somebody else is reported by the run that retires it, and by no later one.
        assert again["before"] == again["after"] == [item for item in done["after"] if item["name"] not in params.get("decommission", ())]
        return done


def define_guest(conn: Any, name: str, interface: str = "", disk: str = "", running: bool = False) -> Any:
    """A domain with that <interface> or <disk> element."""
    xml = (
        f"<domain type='test'><name>{name}</name><memory unit='MiB'>64</memory><os><type arch='i686'>hvm</type></os>"
        f"<devices>{interface}{disk}</devices></domain>"
    )
    domain = conn.defineXML(xml)
    if running:
        domain.create()
    return domain
