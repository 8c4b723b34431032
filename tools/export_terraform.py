# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes Terraform configuration of what runs on a KVM host, with import blocks, and a sketch of its guests in AWS. Changes nothing on the host.

What Terraform's provider cannot express is listed, and stands as comments in the files. The last line is for scripts:
``export ok: N to import, files N, left out N, in DIR``, or ``export FAILED: <why>`` with a non-zero exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform import Export, Note
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform_aws import export_aws
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform_domain import export_lab

from tools import playbook

PLAYBOOK = "playbooks/export.yml"
CONNECTION_TASK = "Say how the host is reached"
FACTS_TASK = "Read networks, pools, volumes and guests"


class ExportFailed(Exception):
    """One line that says what was wrong."""


@dataclass(frozen=True)
class Host:
    """A KVM host as it was read. facts: of the module libvirt_export; connection: host, user, port, connection, platform, uri of libvirt there."""

    name: str
    connection: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def uri(self) -> str:
        """Of its libvirt, for the machine that this runs on."""
        uri = str(self.connection["uri"])
        if self.connection["connection"] not in ("ssh", "smart", "ansible.builtin.ssh"):
            return uri
        driver, _colon, path = uri.partition("://")
        user = f"{quote(self.connection['user'])}@" if self.connection["user"] else ""
        port = "" if self.connection["port"] == 22 else f":{self.connection['port']}"
        return f"{driver}+ssh://{user}{self.connection['host']}{port}{path}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.export_terraform", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--inventory", default="inventories/lab", help="the platform's inventory")
    parser.add_argument("--host", help="which KVM host, where the inventory has several")
    parser.add_argument("--output", type=Path, help="directory for the files (default: .cache/terraform/<inventory>)")
    parser.add_argument("--all", action="store_true", help="also what this collection did not make")
    options = parser.parse_args()
    output = options.output or playbook.CHECKOUT / ".cache" / "terraform" / Path(options.inventory).resolve().name
    try:
        host = read_host(options.inventory, options.host)
        exports = write_export(host, output, options.all)
    except (ExportFailed, ResourceError, OSError) as error:
        print(f"export FAILED: {error}")
        return 1
    print(report(exports, output))
    return 0


def read_host(inventory: str, name: str | None = None) -> Host:
    """Run the playbook that reads the host. ExportFailed says why it could not be read."""
    outcome = playbook.run(PLAYBOOK, inventory, *(["--limit", name] if name else []))
    if outcome.rc != 0:
        raise ExportFailed(outcome.failures() or outcome.output[-2000:])
    found = {task.host: task.result["gathered"] for task in outcome.tasks if task.name == FACTS_TASK}
    if len(found) != 1:
        raise ExportFailed(f"{inventory}: found {len(found)} KVM hosts ({', '.join(sorted(found)) or 'group kvm_hosts is empty'}); name one with --host")
    ((host, facts),) = found.items()
    return Host(host, outcome.task(CONNECTION_TASK).result["ansible_facts"]["export_host"], facts)


def write_export(host: Host, output: Path, everything: bool = False) -> Sequence[Export]:
    """Write lab/ and aws/ below ``output``. Other files there, such as Terraform's state, stay."""
    exports = (export_lab(host.facts, host.uri, everything), export_aws(host.facts, host.connection["platform"], everything))
    for export in exports:
        for name, text in export.files.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return exports


def report(exports: Sequence[Export], output: Path) -> str:
    """For a person: what is left out, what to do next, and the line for scripts."""
    notes: list[Note] = [note for export in exports for note in export.notes]
    lines = ["left out, because Terraform's providers cannot express it or the export does not take it along:"] if notes else []
    where = ""
    for note in notes:
        lines += [] if note.where == where else [f"  {note.where}"]
        lines.append(f"    - {note.text}")
        where = note.where
    lines += [
        "",
        "next:",
        f"  terraform -chdir={output / 'lab'} init",
        f"  terraform -chdir={output / 'lab'} plan",
        f"  read {output / 'aws' / 'README.md'}",
        "",
    ]
    imports = sum(export.imports for export in exports)
    files = sum(len(export.files) for export in exports)
    return "\n".join([*lines, f"export ok: {imports} to import, files {files}, left out {len(notes)}, in {output}"])


if __name__ == "__main__":
    sys.exit(main())
