# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of ``python -m tools.sandbox``, and what a person reads."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any, Optional

from docker.errors import DockerException

from tools.sandbox.errors import SandboxError
from tools.sandbox.machine import capability_report
from tools.sandbox.names import DEFAULT_NAME, INTERNET, Identity, Settings, checked_name
from tools.sandbox.state import only_one
from tools.sandbox.verbs import Sandbox

PROGRAM = "python -m tools.sandbox"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog=PROGRAM, description="Throw-away KVM hosts: bare Debian 12 system containers on this machine.")
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")

    up = verbs.add_parser("up", help="make a host and boot it (repeatable)")
    up.add_argument("--name", default=DEFAULT_NAME, help="the host's name (default: %(default)s)")
    up.add_argument("--from", dest="source", default="", metavar="IMAGE", help="start from a committed tag, or from an image of the engine")
    up.add_argument("--install", action="store_true", help="install the Debian packages that this machine lacks (root)")

    down = verbs.add_parser("down", help="remove everything and prove it, or one host by name")
    down.add_argument("--name", default="", help="only this host")
    down.add_argument("--purge", action="store_true", help="the cached base image too")

    status = verbs.add_parser("status", help="what runs")
    status.add_argument("--json", action="store_true")

    execute = verbs.add_parser("exec", help="run a command in a host, or in 'internet'")
    execute.add_argument("name")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")

    relay = verbs.add_parser("relay", help="standard input and output <-> a TCP connection made inside a host, or in 'internet' (for ssh's ProxyCommand)")
    relay.add_argument("name")
    relay.add_argument("address")
    relay.add_argument("port", type=int)

    for verb, text in (("shell", "an interactive shell in a host"), ("restart", "reboot a host"), ("inventory", "connection variables of a host as JSON")):
        named = verbs.add_parser(verb, help=text)
        named.add_argument("name", nargs="?", default=DEFAULT_NAME, help="(default: %(default)s)")
        named.add_argument("--name", dest="named", metavar="NAME", help="the same")

    commit = verbs.add_parser("commit", help="turn a prepared host into an image for up --from")
    commit.add_argument("name")
    commit.add_argument("tag")

    verbs.add_parser("capabilities", help="what this machine lacks and what is done instead")
    return root


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Exit code: 0 done, 1 failed (or leftovers), 2 wrong arguments; exec, shell and relay return their command's own."""
    arguments = parser().parse_args(argv)
    if getattr(arguments, "named", None):
        arguments.name = arguments.named
    try:
        return int(globals()[f"_{arguments.verb}"](arguments, Identity.of(), Settings.read(os.environ)))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except (OSError, DockerException) as error:
        print(f"sandbox: {arguments.verb}: {error}. Cure that and repeat the verb, or run the down verb", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox: interrupted; up continues from here, down removes what is there", file=sys.stderr)
        return 130


def _up(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    begin = time.monotonic()
    name = checked_name(arguments.name)
    with only_one(identity):
        sandbox = Sandbox(identity, settings)
        connection = sandbox.up(name, arguments.source, arguments.install)
        failed = sandbox.failed_units(name)
        engine = sandbox.state.engine
    for line in capability_report(engine):
        print(f"  {line}")
    if failed:
        print(f"  units that failed: {', '.join(failed)}")
    print(f"sandbox up: {name} {connection['address']} (Internet is {connection['internet_address']}), seconds {time.monotonic() - begin:.1f}")
    print(f"  look around: {PROGRAM} shell {name}    remove: {PROGRAM} down")
    return 0


def _down(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    with only_one(identity):
        sandbox = Sandbox(identity, settings)
        if arguments.name:
            sandbox.down_one(checked_name(arguments.name))
            print(f"sandbox down: {arguments.name}")
            return 0
        found = sandbox.down(arguments.purge)
    for line in found:
        print(f"  left: {line}")
    kept = sorted(identity.base_dir.glob("*.tar"))
    if kept:
        print(f"  kept for the next time: {', '.join(str(path) for path in kept)} (down --purge removes it)")
    print(f"lab down: leftovers {len(found)}")
    return 1 if found else 0


def _status(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    status = Sandbox(identity, settings).status()
    if arguments.json:
        print(json.dumps(status, indent=2))
        return 0
    if not status["up"]:
        print(f"sandbox {identity.id}: down ({status.get('reason', 'no host runs')})")
        return 0
    print(f"sandbox {identity.id}: engine {status['docker_host']}, uplink {status['uplink']}")
    rows: dict[str, dict[str, Any]] = {**status["hosts"], INTERNET: {**status["internet"], "systemd": "-", "image": "-"}}
    for name, row in rows.items():
        print(f"  {name:16} {row['address']:16} {row['container']:10} {row['systemd']:10} {row['image']}")
    return 0


def _exec(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    from tools.sandbox.terminal import execute

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise SandboxError("exec was given no command", "Write: exec NAME -- COMMAND")
    return execute(Sandbox(identity, settings).container(arguments.name), command)


def _relay(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    from tools.sandbox.relay import relay

    return relay(Sandbox(identity, settings).container(arguments.name), arguments.address, arguments.port)


def _shell(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    from tools.sandbox.terminal import shell

    if not sys.stdin.isatty():
        raise SandboxError("shell needs a terminal", f"Use: exec {shlex.quote(arguments.name)} -- COMMAND")
    return shell(Sandbox(identity, settings).container(arguments.name), ["/bin/bash", "-l"])


def _restart(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    with only_one(identity):
        state = Sandbox(identity, settings).restart(checked_name(arguments.name))
    print(f"sandbox restarted: {arguments.name} is {state}")
    return 0


def _commit(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    with only_one(identity):
        image = Sandbox(identity, settings).commit(checked_name(arguments.name), arguments.tag)
    print(f"sandbox image: {image}; use it by: up --name NAME --from {arguments.tag}")
    return 0


def _inventory(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    print(json.dumps(Sandbox(identity, settings).connection(arguments.name), indent=2))
    return 0


def _capabilities(arguments: argparse.Namespace, identity: Identity, settings: Settings) -> int:
    for line in capability_report(Sandbox(identity, settings).state.engine or settings.engine):
        print(line)
    return 0
