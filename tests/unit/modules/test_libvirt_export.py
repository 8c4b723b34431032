# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.host import libvirt as host_libvirt
from ansible_collections.hybridlab.platform.plugins.modules import libvirt_export
from ansible_collections.hybridlab.platform.tests.unit.core.export_host import export_host
from ansible_collections.hybridlab.platform.tests.unit.modules.module_call import call_module


@pytest.mark.parametrize("check", [False, True])
def test_everything_is_gathered(tmp_path: Path, capsys: pytest.CaptureFixture[str], check: bool) -> None:
    args: dict[str, Any] = {"uri": export_host(tmp_path), "_ansible_check_mode": check, "_ansible_remote_tmp": str(tmp_path)}
    answer = call_module(libvirt_export, args, capsys)
    assert answer["changed"] is False
    gathered = answer["gathered"]
    assert {kind: len(entries) for kind, entries in gathered.items()} == {"networks": 4, "pools": 3, "volumes": 8, "domains": 4, "machines": 0}
    assert [pool["name"] for pool in gathered["pools"] if pool["owned"]] == ["fast", "large"]
    assert [domain["state"] for domain in gathered["domains"]] == ["running"] * 4
    overlay = next(volume for volume in gathered["volumes"] if volume["name"] == "web-root@before.qcow2")
    assert (overlay["pool"], overlay["backing"], overlay["capacity"]) == ("fast", "/srv/fast/web-root.qcow2", 10 * 2**30)


def test_a_pool_that_does_not_run_has_no_volumes(conn: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conn.storagePoolLookupByName("default-pool").destroy()
    answer = call_module(libvirt_export, {"uri": "test:///default", "_ansible_remote_tmp": str(tmp_path)}, capsys)
    assert (answer["gathered"]["pools"][0]["active"], answer["gathered"]["volumes"]) == (False, [])


def test_a_host_without_libvirt_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_libvirt, "libvirt", None)
    answer = call_module(libvirt_export, {"_ansible_remote_tmp": str(tmp_path)}, capsys)
    assert answer["failed"] is True
    assert "python3-libvirt" in answer["msg"]
