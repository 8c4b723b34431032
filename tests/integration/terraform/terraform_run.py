# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs terraform with the providers of these tests in place of those of the registry."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.playbook import CHECKOUT

SOURCES = {"libvirt": "dmacvicar/libvirt", "aws": "hashicorp/aws"}


def binary() -> str:
    """Path of terraform, or empty where the machine has none."""
    return os.environ.get("HYBRIDLAB_TERRAFORM") or shutil.which("terraform") or ""


@dataclass(frozen=True)
class Terraform:
    """terraform in one directory."""

    program: str
    settings: Path
    folder: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        # go-plugin offers a certificate unless it is told not to; the providers of these tests speak over a socket of their own.
        environment.update(TF_CLI_CONFIG_FILE=str(self.settings), TF_DISABLE_PLUGIN_TLS="1", TF_IN_AUTOMATION="1", CHECKPOINT_DISABLE="1")
        # gRPC's handlers for fork break a libvirt URI for which the provider starts a helper program.
        environment["GRPC_ENABLE_FORK_SUPPORT"] = "0"
        command = [self.program, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def done(self, *arguments: str) -> str:
        """Standard output of a command that has to succeed."""
        result = self(*arguments)
        assert result.returncode == 0, f"{shlex.join(['terraform', *arguments])} ended with {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout


def terraform(folder: Path, scratch: Path) -> Terraform:
    """terraform for the configuration in ``folder``; ``scratch`` gets the providers and the settings that name them."""
    overrides = ""
    for name, source in SOURCES.items():
        home = scratch / name
        home.mkdir(parents=True, exist_ok=True)
        program = home / f"terraform-provider-{name}"
        run = shlex.join([sys.executable, "-m", "tests.integration.terraform.fake_provider", name])
        program.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(CHECKOUT))}:$PYTHONPATH exec {run}\n", encoding="utf-8")
        program.chmod(0o755)
        overrides += f'    "{source}" = "{home}"\n'
    settings = scratch / "terraform.rc"
    settings.write_text(f"provider_installation {{\n  dev_overrides {{\n{overrides}  }}\n  direct {{}}\n}}\n", encoding="utf-8")
    return Terraform(binary(), settings, folder)
