# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of ``python -m tools.el9``; the one place where errors become a line."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from docker.errors import DockerException

from tools.el9.image import Lookalike
from tools.sandbox.errors import SandboxError
from tools.sandbox.names import Identity, Settings, checked_name
from tools.sandbox.state import only_one
from tools.sandbox.verbs import Sandbox


class LookalikeSandbox(Sandbox):
    """The sandbox, with hosts that start as the look-alike."""

    def _image(self, client: Any, source: str) -> str:
        return Lookalike(self.identity, self.settings).ensure(client)


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.el9", description="An EL9 look-alike made of Debian's packages; see docs/el9-proof.md.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    build = verbs.add_parser("build", help="make the root tarball where it is missing, and print its path")
    build.add_argument("--output", type=Path, help="copy it to this path too")
    verbs.add_parser("key", help="print the hash of everything that goes into it")
    up = verbs.add_parser("up", help="boot it as a host of the sandbox (remove it with: python -m tools.sandbox down --name NAME)")
    up.add_argument("--name", default="el9", help="the host's name (default: %(default)s)")
    up.add_argument("--install", action="store_true", help="install the Debian packages that this machine lacks (root)")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> str:
    identity, settings = Identity.of(), Settings.read(os.environ)
    lookalike = Lookalike(identity, settings)
    if arguments.verb == "key":
        return lookalike.key()
    with only_one(identity):
        if arguments.verb == "up":
            begin = time.monotonic()
            name = checked_name(arguments.name)
            connection = LookalikeSandbox(identity, settings).up(name, "el9", arguments.install)
            return f"el9 up: {name} {connection['address']}, seconds {time.monotonic() - begin:.1f}"
        tarball = lookalike.tarball()
    if arguments.output and arguments.output.resolve() != tarball.resolve():
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tarball, arguments.output)
        return str(arguments.output)
    return str(tarball)


def main(argv: Optional[Sequence[str]] = None) -> int:
    try:
        print(_run(_arguments(argv)))
    except SandboxError as error:
        print(f"el9: {error}", file=sys.stderr)
        return 1
    except (OSError, DockerException) as error:
        print(f"el9: {error}. Cure that and repeat the command", file=sys.stderr)
        return 1
    return 0
