# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validates what stands on the hosts of an inventory against its model, and changes nothing.

Prints a table (or JSON), and writes it as text, JSON and HTML for each host. Exit code: 0 when all checks pass, 1 when one does not,
2 when the validation could not be made.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools import playbook

TASK = "Judge the host"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.validate", description=__doc__)
    parser.add_argument("-i", "--inventory", default="inventories/lab", help="directory of the inventory")
    parser.add_argument("-o", "--output", help="directory of the reports (default: .cache/validation/<name of the inventory>)")
    parser.add_argument("--json", action="store_true", help="the checks by host, for programs")
    parser.add_argument("-e", "--extra-vars", action="append", default=[], help="as ansible-playbook takes them")
    options = parser.parse_args()
    output = Path(options.output or playbook.CHECKOUT / ".cache" / "validation" / Path(options.inventory).name).resolve()
    given = [argument for value in options.extra_vars for argument in ("-e", value)]
    outcome = playbook.run("playbooks/validate.yml", options.inventory, *given, "-e", json.dumps({"validate_reports": str(output)}))
    hosts = {task.host: task.result for task in outcome.tasks if task.name == TASK and "rows" in task.result}
    if not hosts:
        print(f"validate: no verdict on {options.inventory}: {outcome.failures() or outcome.output[-2000:].strip()}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({name: {"summary": result["summary"], "checks": result["rows"]} for name, result in hosts.items()}, indent=2))
    else:
        print("\n\n".join(f"{name}\n{result['text']}" for name, result in hosts.items()))
        print(f"reports: {output}/")
    if any(result["failed_checks"] for result in hosts.values()):
        return 1
    # Every check passed, and yet the run failed: such as on a host that could not be reached.
    return 0 if outcome.rc == 0 else 2


if __name__ == "__main__":
    sys.exit(main())
