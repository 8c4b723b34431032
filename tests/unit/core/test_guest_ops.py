# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell lines are read by bash, and those that make files are really run."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import (
    AttachDevice,
    DetachDevice,
    Forget,
    GrowLive,
    GrowVolume,
    GuestOperation,
    MakeVolume,
    RemoveFiles,
    Resume,
    SetMark,
    SetMemory,
    SetVcpus,
    ShutDown,
    Suspend,
    WriteSeed,
    shell,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_format import HEADER_BYTES, read_qcow2
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Autostart, Backup, Define, Start
from ansible_collections.hybridlab.platform.tests.unit.core.guest_values import URI

XML = "<a name='it''s'>$(touch owned)\n</a>"
TEXTS = {"meta-data": "instance-id: x\n", "user-data": "#cloud-config\nruncmd:\n- EOF\nEOF\n'$HOME`id`\n", "network-config": "no newline at its end"}
OPERATIONS: list[GuestOperation] = [
    Backup("web", XML),
    Define("web", XML),
    Autostart("web", True),
    Autostart("web", False),
    Start("web"),
    MakeVolume("/p/web-root.qcow2", 2**30, "/p/it's.raw", "raw"),
    MakeVolume("/p/web-data.qcow2", None),
    GrowVolume("/p/web-root.qcow2", 2**31),
    GrowLive("web", "root", "vda", 2**31, True),
    WriteSeed("/p/web seed.iso", TEXTS, TEXTS),
    RemoveFiles(("/p/a b", "/p/$(id)")),
    Forget("web"),
    ShutDown("web", 5),
    Suspend("web"),
    Resume("web"),
    SetMemory("web", 512),
    SetVcpus("web", 2),
    AttachDevice("web", "disk data", XML),
    DetachDevice("web", "disk data", XML),
    SetMark("web", XML),
]


def bash(*argv: str, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", *argv], input=line, capture_output=True, text=True, check=False, timeout=60, env={"PATH": "/usr/bin:/bin:/usr/sbin", **more})


def paste(operation: GuestOperation, folder: Path, **more: str) -> None:
    done = bash("-e", line=shell(operation, URI, str(folder)), **more)
    assert done.returncode == 0, done


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: type(operation).__name__)
def test_bash_reads_every_line(operation: GuestOperation) -> None:
    done = bash("-n", line=shell(operation, "qemu+ssh://root@host/system?a=b&c=d", "/var/back up"))
    assert (done.returncode, done.stderr) == (0, "")


def test_virsh_is_given_what_libvirt_is() -> None:
    """By a virsh that tells its arguments and its input."""
    told = 'virsh() { printf \'[%s]\' "$@"; case "$*" in */dev/stdin*) cat;; esac; echo; }\n'
    for operation, expected in (
        (Define("web", XML), f"[-c][{URI}][define][/dev/stdin]{XML}\n\n"),
        (AttachDevice("web", "x", XML), f"[-c][{URI}][attach-device][web][/dev/stdin][--live]{XML}\n\n"),
        (SetMark("web", XML), f"[-c][{URI}][metadata][web][urn:hybridlab:platform:1][--key][hybridlab][--set][{XML}][--live]\n"),
        (SetMemory("web", 512), f"[-c][{URI}][setmem][web][512M][--live]\n"),
        (GrowLive("web", "root", "vda", 2**31, True), f"[-c][{URI}][blockresize][web][vda][2147483648B]\n"),
        (Suspend("web"), f"[-c][{URI}][suspend][web]\n"),
    ):
        assert bash(line=told + shell(operation, URI, "/backup")).stdout == expected


def test_a_guest_that_does_not_go_is_switched_off() -> None:
    line = shell(ShutDown("web", 1), URI, "/backup")
    for state, verbs in (("running", "shutdown destroy "), ("shut off", "shutdown ")):
        told = f"virsh() {{ case \"$3\" in domstate) echo '{state}';; *) printf '%s ' \"$3\";; esac; }}\n"
        assert bash(line=told + line).stdout == verbs


def test_volumes_are_made_and_grown(tmp_path: Path) -> None:
    base, volume, empty = tmp_path / "it's base.qcow2", tmp_path / "web-root.qcow2", tmp_path / "web-data.qcow2"
    paste(MakeVolume(str(base), 2**28), tmp_path)
    paste(MakeVolume(str(volume), None, str(base), "qcow2"), tmp_path)
    paste(MakeVolume(str(empty), 2**20), tmp_path)
    paste(GrowVolume(str(volume), 2**29), tmp_path)
    found = {path: read_qcow2(path.read_bytes()[:HEADER_BYTES]) for path in (volume, empty)}
    assert {path.name: (header.virtual_size, header.backing) for path, header in found.items() if header} == {
        "web-root.qcow2": (2**29, str(base)),
        "web-data.qcow2": (2**20, None),
    }
    # As the module makes them: a disk is nobody else's to read.
    assert stat.S_IMODE(volume.stat().st_mode) == 0o600
    paste(RemoveFiles((str(volume), str(empty), str(tmp_path / "not there"))), tmp_path)
    assert list(tmp_path.iterdir()) == [base]


def test_the_seed_has_the_documents_to_the_last_byte(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    seed = tmp_path / "web seed.iso"
    for texts in ({"meta-data": "old\n"}, TEXTS):
        paste(WriteSeed(str(seed), {}, texts), tmp_path, TMPDIR=str(tmp_path / "scratch"))
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600
    assert list((tmp_path / "scratch").iterdir()) == []
    out = tmp_path / "out"
    subprocess.run(["xorriso", "-osirrox", "on", "-indev", str(seed), "-extract", "/", str(out)], capture_output=True, check=True, timeout=60)
    assert {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()} == {**TEXTS, "network-config": "no newline at its end\n"}
    assert b"cidata" in seed.read_bytes()[32768 : 32768 + 2048]


def test_a_backup_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "back up"
    done = bash(line='virsh() { echo "$*"; }\n' + shell(Backup("web", XML), URI, str(folder)))
    assert done.returncode == 0
    (kept,) = folder.iterdir()
    assert kept.read_text(encoding="utf-8") == f"-c {URI} dumpxml --inactive --security-info web\n"
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(kept.stat().st_mode)) == (0o700, 0o600)


def test_what_is_hidden_is_in_no_line() -> None:
    line = shell(WriteSeed("/p/seed.iso", {"user-data": "password: secret"}, {"user-data": "# and user_data"}), URI, "/backup")
    assert "secret" not in line
    assert "# and user_data" in line
