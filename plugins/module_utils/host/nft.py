# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nft and iptables on the managed host."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.firewall_plan import DOCKER_CHAIN, DOCKER_RULE, DockerUser, Listing, parse_listing
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.host import files

# (argument list, standard input) -> return code, output, error output; AnsibleModule.run_command has this form.
Run = Callable[..., tuple[int, str, str]]

_NO_SUCH = "No such file or directory"


class Nft:
    """One table of family inet, through the program ``nft``."""

    def __init__(self, run: Run, nft: str, unshare: str, table: str) -> None:
        self._run = run
        self._nft = nft
        self._unshare = unshare
        self._table = table

    def live(self) -> Optional[Listing]:
        """The table in the kernel, None when there is none."""
        rc, out, err = self._run([self._nft, "-s", "list", "table", "inet", self._table])
        if rc == 0:
            return parse_listing(out)
        if _NO_SUCH in err:
            return None
        raise ResourceError(f"nft list table inet {self._table}: {err.strip()}. Run as root, on a kernel with nf_tables.")

    def canonical(self, text: str) -> Listing:
        """How this host's nft prints the table that ``text`` makes. It is loaded for real, in a network namespace of its own that ends with the call."""
        script = f'"$0" -f - && "$0" -s list table inet {self._table}'
        return parse_listing(self._checked([self._unshare, "--net", "sh", "-c", script, self._nft], text))

    def load(self, text: str) -> None:
        """One transaction: all of ``text`` or nothing."""
        self._checked([self._nft, "-f", "-"], text)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Name -> packets and bytes of each named counter; empty when there is no table."""
        rc, out, err = self._run([self._nft, "-j", "list", "counters", "table", "inet", self._table])
        if rc != 0:
            if _NO_SUCH in err:
                return {}
            raise ResourceError(f"nft list counters table inet {self._table}: {err.strip()}. Run as root.")
        rows: list[dict[str, Any]] = [item["counter"] for item in json.loads(out)["nftables"] if "counter" in item]
        return {row["name"]: (row["packets"], row["bytes"]) for row in rows if row["table"] == self._table}

    def _checked(self, argv: Sequence[str], text: str) -> str:
        rc, out, err = self._run(list(argv), data=text)
        if rc != 0:
            raise ResourceError(
                f"{shell_line(argv)}: {err.strip() or out.strip()}. Nothing was changed. "
                "The kernel needs nf_tables with nat, reject, fib and conntrack, and the caller root's rights."
            )
        return out


class DockerUserChain:
    """Docker's chain for the rules of others."""

    def __init__(self, run: Run, iptables: str) -> None:
        self._run = run
        self._iptables = iptables

    def found(self) -> DockerUser:
        if self._run([self._iptables, "-w", "-S", DOCKER_CHAIN])[0] != 0:
            return DockerUser()
        return DockerUser(chain=True, rule=self._run([self._iptables, "-w", "-C", DOCKER_CHAIN, *DOCKER_RULE])[0] == 0)

    def apply(self, arguments: Sequence[str]) -> None:
        rc, _out, err = self._run([self._iptables, *arguments])
        if rc != 0:
            raise ResourceError(
                f"{shell_line([self._iptables, *arguments])}: {err.strip()}. The segments' own table is loaded. Repair iptables, or set docker_user: never."
            )


def read_file(path: str) -> tuple[Optional[str], Optional[int]]:
    """Text and permission bits of the file; None and None when there is none."""
    text = files.read_text(path)
    return (None, None) if text is None else (text, stat.S_IMODE(Path(path).stat().st_mode))
