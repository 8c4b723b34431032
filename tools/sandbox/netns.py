# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network namespace for the own engine: one veth pair and one masquerade rule on the machine, all removed again.

The namespace is bound at a file of ours: ``ip netns`` would leave its own mount behind, and remounts /sys in what it runs.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from tools.sandbox.addresses import ends
from tools.sandbox.machine import find_command
from tools.sandbox.names import Identity
from tools.sandbox.progress import output

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


class Namespace:
    """The own engine's network; each method may be repeated."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.path = identity.run_dir / "netns"

    def up(self, link: str, mtu: int) -> None:
        """Makes what is missing.

        :param link: CIDR (/30) between the machine and the namespace
        """
        machine, inside = ends(link)
        width = link.split("/")[1]
        if not self.bound():
            self.path.touch()
            output([find_command("unshare"), f"--net={self.path}", "true"])
        if not self.link_exists():
            self._ip("link", "add", self.identity.link, "mtu", str(mtu), "type", "veth", "peer", "name", self.identity.peer, "netns", str(self.path))
        self._ip("address", "replace", f"{machine}/{width}", "dev", self.identity.link)
        self._ip("link", "set", self.identity.link, "up")
        self._inside("link", "set", "lo", "up")
        self._inside("address", "replace", f"{inside}/{width}", "dev", self.identity.peer)
        self._inside("link", "set", self.identity.peer, "mtu", str(mtu), "up")
        self._inside("route", "replace", "default", "via", machine)
        self._masquerade(link)
        self._pass_forward_policy()
        IP_FORWARD.write_text("1\n", encoding="ascii")

    def down(self) -> None:
        """Removes what is there."""
        if self.link_exists():
            self._ip("link", "delete", self.identity.link)
        if self.bound():
            output([find_command("umount"), str(self.path)])
        self.path.unlink(missing_ok=True)
        if self.table_exists():
            output([find_command("nft"), "delete", "table", "ip", self.identity.tag])
        for rule in self.forward_rules():
            output([find_command("iptables"), "-w", "-D", *rule.split()[1:]])

    def bound(self) -> bool:
        """Whether the file is a namespace: a kill may have left it an ordinary file."""
        return self.path.exists() and self.path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev

    def link_exists(self) -> bool:
        return self.identity.link in (name for _index, name in socket.if_nameindex())

    def table_exists(self) -> bool:
        nft = find_command("nft")
        return bool(nft) and subprocess.run([nft, "list", "table", "ip", self.identity.tag], capture_output=True, check=False).returncode == 0

    def forward_rules(self) -> list[str]:
        """Our own lines of the machine's FORWARD chain, as iptables-save writes them."""
        iptables = find_command("iptables")
        if not iptables or not self._iptables_in_use():
            return []
        listed = subprocess.run([iptables, "-w", "-S", "FORWARD"], capture_output=True, text=True, check=False).stdout
        return [line for line in listed.splitlines() if line.startswith("-A FORWARD") and self.identity.link in line.split()]

    def _masquerade(self, link: str) -> None:
        tag = self.identity.tag
        table = f"""table ip {tag} {{ }}
delete table ip {tag}
table ip {tag} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {link} oifname != "{self.identity.link}" masquerade
  }}
}}
"""
        output([find_command("nft"), "-f", "-"], table)

    def _pass_forward_policy(self) -> None:
        """A FORWARD chain that drops by policy (a former Docker, ufw) would drop ours as well; an accept elsewhere cannot undo that."""
        if not self._iptables_in_use() or self.forward_rules():
            return
        iptables = find_command("iptables")
        if "-P FORWARD DROP" in output([iptables, "-w", "-S", "FORWARD"]):
            for direction in ("-i", "-o"):
                output([iptables, "-w", "-I", "FORWARD", direction, self.identity.link, "-j", "ACCEPT"])

    @staticmethod
    def _iptables_in_use() -> bool:
        """Asking iptables for a chain creates its tables; so nftables is asked whether they exist."""
        nft = find_command("nft")
        tables = subprocess.run([nft, "list", "tables", "ip"], capture_output=True, text=True, check=False).stdout if nft else ""
        legacy = Path("/proc/net/ip_tables_names")
        return "table ip filter" in tables.splitlines() or (legacy.exists() and "filter" in legacy.read_text(encoding="ascii").split())

    @staticmethod
    def _ip(*arguments: str) -> None:
        output([find_command("ip"), *arguments])

    def _inside(self, *arguments: str) -> None:
        output([find_command("nsenter"), f"--net={self.path}", find_command("ip"), *arguments])
