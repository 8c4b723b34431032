# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real terraform validates the export, and plans nothing but imports of a live libvirt."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import libvirt
import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.hcl import Attribute, Block, write
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform_aws import ENVIRONMENTS, export_aws
from ansible_collections.hybridlab.platform.plugins.module_utils.core.terraform_domain import export_lab
from ansible_collections.hybridlab.platform.plugins.module_utils.host.export import observe_everything
from ansible_collections.hybridlab.platform.tests.unit.core.export_host import export_host

from tests.integration.terraform.terraform_run import Terraform, terraform
from tools.playbook import CHECKOUT


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return export_host(tmp_path)


def observed(uri: str) -> dict[str, Any]:
    conn = libvirt.open(uri)
    try:
        return observe_everything(conn)
    finally:
        conn.close()


def written(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def lab(uri: str, folder: Path, everything: bool = False) -> tuple[Terraform, int]:
    """terraform in an export of that libvirt, and the number of things to import."""
    export = export_lab(observed(uri), uri, everything)
    written(export.files, folder)
    return terraform(folder / "lab", folder / "providers"), export.imports


@pytest.mark.parametrize("everything", [False, True])
def test_the_plan_imports_all_and_changes_nothing(uri: str, tmp_path: Path, everything: bool) -> None:
    run, imports = lab(uri, tmp_path, everything)
    run.done("fmt", "-check")
    run.done("validate", "-no-color")
    plan = run.done("plan", "-no-color", "-input=false")
    assert f"Plan: {imports} to import, 0 to add, 0 to change, 0 to destroy." in plan, plan
    assert imports == (18 if everything else 13)


def test_after_the_import_there_is_nothing_to_do(uri: str, tmp_path: Path) -> None:
    run, imports = lab(uri, tmp_path)
    assert f"Apply complete! Resources: {imports} imported, 0 added, 0 changed, 0 destroyed." in run.done("apply", "-no-color", "-auto-approve")
    assert len(run.done("state", "list").splitlines()) == imports
    assert "No changes." in run.done("plan", "-no-color", "-input=false", "-detailed-exitcode")


def test_the_default_host_of_libvirt(tmp_path: Path) -> None:
    """A network with a netmask, which the provider does not read; its guest's disk is in no pool."""
    run, imports = lab("test:///default", tmp_path, everything=True)
    assert f"Plan: {imports} to import, 0 to add, 0 to change" in run.done("plan", "-no-color", "-input=false")
    assert imports == 2


@pytest.mark.parametrize(
    ("ignored", "found"),
    [
        # A volume's base, a guest's type, a network's mode: each would replace what is there, were it not ignored, and is then refused.
        ("base_volume_id", "Instance cannot be destroyed"),
        ("type, fw_cfg_name, ", "Instance cannot be destroyed"),
        ("mode, ", "Instance cannot be destroyed"),
        ("dns[0].enabled", "to change"),
    ],
)
def test_each_ignored_attribute_is_needed(uri: str, tmp_path: Path, ignored: str, found: str) -> None:
    run, imports = lab(uri, tmp_path)
    for path in (tmp_path / "lab").glob("*.tf"):
        lines = [line.replace(ignored, "") if "ignore_changes" in line else line for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]
        path.write_text("".join(lines).replace("[, ", "["), encoding="utf-8")
    result = run("plan", "-no-color", "-input=false")
    assert found in result.stdout + result.stderr
    assert f"Plan: {imports} to import, 0 to add, 0 to change" not in result.stdout


def test_a_changed_host_shows_as_a_change(uri: str, tmp_path: Path) -> None:
    run, _imports = lab(uri, tmp_path)
    guests = tmp_path / "lab" / "guests.tf"
    guests.write_text(re.sub(r"autostart +=.*", "autostart = true", guests.read_text(encoding="utf-8")), encoding="utf-8")
    assert "0 to add, 2 to change" in run.done("plan", "-no-color", "-input=false")


@pytest.mark.parametrize("everything", [False, True])
def test_aws_is_formatted_and_valid(uri: str, tmp_path: Path, everything: bool) -> None:
    written(export_aws(observed(uri), "lab", everything).files, tmp_path)
    terraform(tmp_path / "aws", tmp_path / "providers").done("fmt", "-check", "-recursive")
    for environment in ENVIRONMENTS:
        run = terraform(tmp_path / "aws" / "environments" / environment, tmp_path / "providers")
        run.done("get")
        run.done("validate", "-no-color")


def test_a_misspelt_argument_is_found(uri: str, tmp_path: Path) -> None:
    run, _imports = lab(uri, tmp_path)
    pools = tmp_path / "lab" / "pools.tf"
    pools.write_text(pools.read_text(encoding="utf-8").replace("type =", "typo ="), encoding="utf-8")
    result = run("validate", "-no-color")
    assert result.returncode == 1
    assert 'An argument named "typo" is not expected here' in result.stderr


def test_terraform_reads_texts_as_they_were_meant(tmp_path: Path) -> None:
    texts = ['a"b\\c', "line\nbreak\ttab\r", "${x}", "%{if}", "$${x}", "$$$", "%%{x}", "\x00\x08\x0c\x1b\x7f", "ünï→\U0001f600", "$", "{", ""]
    (tmp_path / "main.tf").write_text(write([Block("locals", body=(Attribute("texts", texts),))]), encoding="utf-8")
    run = terraform(tmp_path, tmp_path / "providers")
    command = [run.program, "console"]
    done = subprocess.run(command, cwd=tmp_path, input="base64encode(jsonencode(local.texts))\n", capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(base64.b64decode(done.stdout.strip().strip('"'))) == texts
    run.done("fmt", "-check")


def test_the_tool_reads_a_host_and_writes_its_export(uri: str, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "platform_name": "lab",
        "export_uri": uri,
    }
    inventory.write_text(json.dumps({"kvm_hosts": {"hosts": {"here": variables}}}), encoding="utf-8")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "tools.export_terraform", "-i", str(inventory), "--output", str(output)]
    for _again in range(2):
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
        assert re.search(rf"export ok: 13 to import, files \d+, left out \d+, in {output}$", done.stdout.rstrip()), done.stdout + done.stderr
    assert "serial numbers of its disks: vda=root, vdb=seed" in done.stdout
    plan = terraform(output / "lab", tmp_path / "providers").done("plan", "-no-color", "-input=false")
    assert "Plan: 13 to import, 0 to add, 0 to change" in plan
    command[command.index(str(inventory))] = str(tmp_path / "none.yml")
    failed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode == 1
    assert "export FAILED: " in failed.stdout
