# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a guest image where it is missing, and prints its path."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from tools.guest_image.images import ensure
from tools.guest_image.recipes import RECIPES
from tools.sandbox.errors import SandboxError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tools.guest_image", description=__doc__)
    made.add_argument("kind", choices=sorted(RECIPES), help="; ".join(f"{kind}: {recipe.summary}" for kind, recipe in sorted(RECIPES.items())))
    made.add_argument("--output", type=Path, metavar="PATH", help="copy the image there (a file, or a directory that exists)")
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Exit code: 0 done, 1 failed, 2 wrong arguments."""
    arguments = parser().parse_args(argv)
    try:
        path = ensure(arguments.kind)
        if arguments.output:
            path = _copied(path, arguments.output)
    except SandboxError as error:
        print(f"guest_image: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"guest_image: {error}. Cure that and repeat the command", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("guest_image: interrupted; the next run begins anew", file=sys.stderr)
        return 130
    print(path)
    return 0


def _copied(image: Path, output: Path) -> Path:
    target = output / image.name if output.is_dir() else output
    partial = target.with_name(f"{target.name}.new")
    shutil.copyfile(image, partial)
    partial.replace(target)
    return target
