# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup tool on real files, with the real rsync, to a disk of its own."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hybridlab.platform.tests.unit.backup.backup_host import SIZE_MB, Host


def fill(data: Path) -> None:
    """Files of every kind, with all that a file can carry."""
    (data / "plain").write_text("one", encoding="utf-8")
    (data / "plain").chmod(0o640)
    os.chown(data / "plain", 1001, 1002)
    (data / "deep/er").mkdir(parents=True)
    (data / "deep").chmod(0o2750)
    (data / "deep/er/secret").write_text("two", encoding="utf-8")
    (data / "deep/er/secret").chmod(0)
    (data / "deep/manifest.jsonl").write_text("a file of somebody else with the manifest's name", encoding="utf-8")
    (data / "manifest.jsonl").write_text("another", encoding="utf-8")
    os.link(data / "plain", data / "deep/hard")
    (data / "soft").symlink_to("./no//where")
    (data / "program").write_bytes(b"#!")
    (data / "program").chmod(0o4755)
    os.setxattr(data / "program", "user.note", b"kept \xff")
    os.setxattr(data / "program", "trusted.overlay.opaque", b"y")
    subprocess.run(["setfacl", "-m", "u:1234:r", str(data / "program")], check=True)
    subprocess.run(["setfacl", "-d", "-m", "g:77:rx", str(data / "deep")], check=True)
    with (data / "sparse").open("wb") as stream:
        stream.seek(512 << 20)
        stream.write(b"end")
    (data / "new\nline and \t").write_text("three", encoding="utf-8")
    Path(os.fsdecode(os.fsencode(str(data)) + b"/\xff\xfe")).write_text("four", encoding="utf-8")
    os.mkfifo(data / "fifo")
    os.mknod(data / "null", 0o20666, os.makedev(1, 3))
    os.utime(data / "plain", ns=(1, 1_000_000_007))


def differences(one: Path, other: Path) -> str:
    """What the judge finds: rsync comparing every byte, owner, mode, time, ACL, attribute and link."""
    argv = ["rsync", "-aHAXn", "--delete", "--checksum", "--numeric-ids", "--itemize-changes", f"{one}/", f"{other}/"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, errors="backslashreplace").stdout


def test_everything_that_a_file_carries_comes_back(host: Host, tmp_path: Path) -> None:
    fill(host.data)
    generation = host.run()

    assert "0 differences" in host.done("verify", generation)
    host.done("restore", "--all", "--to", str(tmp_path / "back"))

    back = tmp_path / "back" / "files" / host.data.relative_to("/")
    assert differences(host.data, back) == ""
    assert (back / "sparse").stat().st_blocks * 512 < 1 << 20
    assert host.status()["ok"] is True and host.status()["generation"].endswith(generation)
    assert "allowed" in host.done("status")


def test_unchanged_files_are_shared_and_older_generations_stay_what_they_were(host: Host) -> None:
    fill(host.data)
    first = host.run()
    (host.data / "plain").write_text("changed", encoding="utf-8")
    (host.data / "program").chmod(0o700)
    (host.data / "soft").unlink()
    second = host.run()

    def inode(generation: str, name: str) -> int:
        return (host.target / generation / "files" / host.data.relative_to("/") / name).lstat().st_ino

    assert inode(first, "sparse") == inode(second, "sparse")
    assert inode(first, "plain") != inode(second, "plain") and inode(first, "program") != inode(second, "program")
    assert "0 differences" in host.done("verify", first) and "0 differences" in host.done("verify", second)
    assert first in host.done("list") and second in host.done("list")


def test_as_many_generations_as_the_model_says_are_kept(host: Host) -> None:
    host.settings["keep"] = 2
    made = [host.run() for _count in range(3)]

    assert host.generations() == made[1:]


def test_a_smaller_count_makes_room_for_the_run_that_needs_it(host: Host) -> None:
    (host.data / "file").write_bytes(b"1" * (12 << 20))
    first = host.run()
    (host.data / "file").write_bytes(b"2" * ((12 << 20) + 1))
    host.run()
    (host.data / "file").write_bytes(b"3" * ((12 << 20) + 2))
    refused = host.tool("run")
    assert refused.returncode == 3 and "too small" in refused.stderr and "remove NAME" in refused.stderr
    host.settings["keep"] = 1

    host.run()

    assert first not in host.generations() and "0 differences" in host.done("verify")


def test_the_last_good_generation_outlives_those_that_lack_something(host: Host) -> None:
    host.settings["keep"] = 1
    good = host.run()
    host.settings["paths"].append(str(host.root / "none"))
    assert [host.tool("run").returncode for _again in range(2)] == [1, 1]
    assert len(host.generations()) == 2 and host.generations()[0] == good


def test_one_generation_is_removed_by_its_name_but_not_the_last_good_one(host: Host) -> None:
    made = [host.run() for _count in range(3)]
    assert "removed" in host.done("remove", made[1])
    assert host.generations() == [made[0], made[2]]

    refused = host.tool("remove", made[2])
    assert refused.returncode == 3 and "is the last good one" in refused.stderr
    assert host.tool("remove", "latest").returncode == 2
    before = host.status()["last_good"]
    host.done("remove", made[2], "--force")
    assert host.generations() == [made[0]] and host.status()["last_good"] < before
    host.done("remove", made[0], "--force")
    assert host.status()["last_good"] is None


# rsync is called first for the estimate, then for the copy; sync stands between the manifest and the generation's name.
@pytest.mark.parametrize(
    ("command", "call", "action"),
    [
        ("rsync", 1, "kill -9 $PPID; exit 0"),
        ("rsync", 2, "kill -9 $PPID; exit 0"),
        ("rsync", 2, '/usr/bin/rsync "$@"; kill -9 $PPID; exit 0'),
        ("sync", 1, "kill -9 $PPID; exit 0"),
        ("rsync", 2, "kill -15 $PPID; sleep 1; exit 0"),
    ],
    ids=["judging", "before the copy", "after the copy", "before the name", "asked to end"],
)
def test_a_killed_run_harms_no_older_generation_and_the_next_one_builds_on_it(host: Host, command: str, call: int, action: str) -> None:
    fill(host.data)
    first = host.run()
    (host.data / "late").write_bytes(os.urandom(1 << 20))
    host.meddle(command, call, action)

    killed = host.tool("run")
    host.unmeddle()
    assert killed.returncode in (-9, 1), killed.stderr
    assert host.status()["ok"] is False
    host.done("release", "--after-run")
    assert "ended" in host.status()["error"]
    assert "0 differences" in host.done("verify")
    assert host.done("list").count(first) == 1 and host.status()["last_good"] is not None
    # What the killed run has in common with the older generation must not be changed in place.
    (host.data / "plain").chmod(0o600)
    os.chown(host.data / "program", 5, 5)
    second = host.run()

    assert host.generations() == [first, second]
    assert "0 differences" in host.done("verify", first) and "0 differences" in host.done("verify", second)


def test_a_copy_of_before_a_power_cut_is_not_built_on(host: Host) -> None:
    (host.data / "file").write_text("whole", encoding="utf-8")
    host.meddle("sync", 1, "kill -9 $PPID; exit 0")
    host.tool("run")
    host.unmeddle()
    (partial,) = host.target.iterdir()
    (partial / ".boot").write_text("another boot", encoding="ascii")
    # Its size and time, and not its content, as a file system may leave it behind.
    lost = partial / "files" / host.data.relative_to("/") / "file"
    time = lost.stat().st_mtime_ns
    lost.write_text("\0\0\0\0\0", encoding="ascii")
    os.utime(lost, ns=(time, time))

    generation = host.run()

    assert (host.target / generation / "files" / host.data.relative_to("/") / "file").read_text(encoding="utf-8") == "whole"


def test_a_disk_that_fills_up_leaves_the_older_generation_and_no_rubbish(host: Host) -> None:
    (host.data / "file").write_text("old", encoding="utf-8")
    first = host.run()
    # What grows after the estimate.
    host.meddle("rsync", 2, f"head -c {(SIZE_MB + 8) << 20} /dev/urandom >'{host.data}/big'")

    failed = host.tool("run")

    assert failed.returncode == 1 and "disk is full" in failed.stderr and "Older generations are untouched" in failed.stderr
    assert host.generations() == [first] and "0 differences" in host.done("verify")
    assert "disk is full" in host.status()["error"] and host.status()["last_good"] is not None
    host.unmeddle()
    refused = host.tool("run")
    assert refused.returncode == 3 and "too small" in refused.stderr and "platform_backup.keep" in refused.stderr
    (host.data / "big").unlink()
    host.run()


def test_what_must_stay_free_is_not_used(host: Host) -> None:
    (host.data / "file").write_bytes(os.urandom(4 << 20))
    host.settings["reserve_bytes"] = (SIZE_MB - 2) << 20

    refused = host.tool("run")

    assert refused.returncode == 3 and "30.0 MiB stay free" in refused.stderr and host.generations() == []


def test_a_directory_that_is_no_mount_point_is_refused_before_anything_is_written(host: Host) -> None:
    bare = host.root / "bare"
    bare.mkdir()
    host.settings.update(mount=str(bare), target=str(bare / "docker"))

    refused = host.tool("run")

    assert refused.returncode == 3 and "is no mount point" in refused.stderr and list(bare.iterdir()) == []
    assert "is no mount point" in host.status()["error"] and host.status()["ok"] is False


def test_a_mount_of_the_sources_own_disk_is_refused(host: Host) -> None:
    inner = host.disk / "inner"
    inner.mkdir()
    (host.disk / "data").mkdir()
    subprocess.run(["mount", "--bind", str(inner), str(inner)], check=True)
    try:
        host.settings.update(mount=str(inner), target=str(inner / "docker"), paths=[str(host.disk / "data")])
        refused = host.tool("run")
    finally:
        subprocess.run(["umount", str(inner)], check=True)

    assert refused.returncode == 3 and f"lies on the disk that holds {host.disk}/data" in refused.stderr


def test_a_disk_mounted_read_only_is_refused(host: Host) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(host.disk)], check=True)

    refused = host.tool("run")

    assert refused.returncode == 3 and "read-only" in refused.stderr


def test_only_one_run_at_a_time(host: Host) -> None:
    with (host.root / "lock").open("w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        refused = host.tool("run")

    assert refused.returncode == 4 and "another run" in refused.stderr and not (host.root / "state").exists()


def test_only_root(host: Host) -> None:
    refused = host.tool("list", prefix=("setpriv", "--reuid=65534", "--clear-groups"))

    assert refused.returncode == 3 and "only root" in refused.stderr


def damage_content(copy: Path) -> None:
    place = random.Random(1).randrange(3)
    content = bytearray((copy / "plain").read_bytes())
    content[place] ^= 1
    time = (copy / "plain").stat().st_mtime_ns
    (copy / "plain").write_bytes(bytes(content))
    os.utime(copy / "plain", ns=(time, time))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_content, "sum "),
        (lambda copy: (copy / "program").chmod(0o755), "mode 0755, not 4755"),
        (lambda copy: os.chown(copy / "program", 9, 0), "uid 9"),
        (lambda copy: os.setxattr(copy / "program", "user.note", b"other"), "attributes "),
        (lambda copy: subprocess.run(["setfacl", "-b", str(copy / "program")], check=True), "attributes "),
        (lambda copy: (copy / "soft").unlink(), "is missing"),
        (lambda copy: (copy / "more").touch(), "is not in the manifest"),
        (lambda copy: os.utime(copy / "program", (1, 1)), "another time"),
    ],
    ids=["content", "mode", "owner", "attribute", "acl", "missing", "more", "time"],
)
def test_damage_is_found(host: Host, damage: object, words: str) -> None:
    fill(host.data)
    generation = host.run()
    assert callable(damage)
    damage(host.target / generation / "files" / host.data.relative_to("/"))

    found = host.tool("verify")

    assert found.returncode == 5 and words in found.stdout, found.stdout


def test_a_manifest_that_was_cut_off_is_no_manifest(host: Host) -> None:
    fill(host.data)
    path = host.target / host.run() / "manifest.jsonl"
    path.write_text("".join(path.read_text(encoding="ascii").splitlines(keepends=True)[:-2]), encoding="ascii")

    found = host.tool("verify")

    assert found.returncode == 1 and "is no whole manifest" in found.stderr


def test_a_directory_comes_back_where_it_was(host: Host, tmp_path: Path) -> None:
    fill(host.data)
    host.settings["services"] = [{"name": "files", "paths": [str(host.data)]}]
    host.settings["paths"] = []
    host.run()
    subprocess.run(["cp", "-a", str(host.data), str(tmp_path / "wanted")], check=True)
    (host.data / "plain").write_text("spoilt", encoding="utf-8")
    (host.data / "stray").touch()

    refused = host.tool("restore", "--service", "files")
    assert refused.returncode == 3 and "would be lost" in refused.stderr and (host.data / "stray").exists()
    assert "would be replaced" in host.done("restore", "--service", "files", "--force", "--check") and (host.data / "stray").exists()
    assert "equal to the manifest" in host.done("restore", "--service", "files", "--force")
    assert differences(tmp_path / "wanted", host.data) == ""


def test_a_damaged_generation_replaces_nothing(host: Host) -> None:
    fill(host.data)
    generation = host.run()
    damage_content(host.target / generation / "files" / host.data.relative_to("/"))

    failed = host.tool("restore", "--all", "--force")

    assert failed.returncode == 1 and "is damaged" in failed.stderr
    assert (host.data / "plain").read_text(encoding="utf-8") == "one"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "20200101T000000Z"), "There are: "),
        (("restore", "--service", "web"), "Services: there is none"),
        (("restore", "--all", "--generation", "yesterday"), "no such one"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_that_are(host: Host, arguments: tuple[str, ...], words: str) -> None:
    host.run()
    refused = host.tool(*arguments)

    assert refused.returncode == 2 and words in refused.stderr


def test_an_old_last_run_is_a_bad_status(host: Host) -> None:
    assert host.tool("status").returncode == 1
    host.run()
    path = host.root / "state/status.json"
    path.write_text(path.read_text(encoding="utf-8").replace(host.status()["last_good"], "2020-01-01T00:00:00Z"), encoding="utf-8")

    late = host.tool("status")

    assert late.returncode == 1 and "more than the 8" in late.stdout
