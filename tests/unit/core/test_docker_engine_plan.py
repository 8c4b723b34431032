# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to an engine, from what was found of it; runs that were cut short among them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_daemon import daemon_json
from ansible_collections.hybridlab.platform.plugins.module_utils.core.docker_engine import Directory, Found, Move, Pending, Store, listening, opened, plan
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.tests.unit.core.test_docker_daemon import lab_docker

DOCKER = lab_docker()
CONFIG = daemon_json(DOCKER)
OURS = Directory(0o710, 0, 0, empty=False)
BUILT = Found(config=CONFIG, file_mode=0o600, target=OURS, members=("admin",), enabled=True, running=True, keep_as="/data/docker.backup-2026-01-01")
# An engine that ran with its own settings before.
OLD = Found(config={}, used=True, enabled=True, running=True, keep_as="/var/lib/docker.backup-2026-01-01")
BEGUN = Pending(old=None, action="restart", move=Move("/var/lib/docker", "/data/docker", counts={"images": 3}))


def test_nothing_is_done_to_what_is_as_declared() -> None:
    found = plan(DOCKER, BUILT)
    assert (found.commands, found.before, found.engine) == ([], found.after, False)


def test_a_fresh_engine_gets_its_file_and_a_restart() -> None:
    found = plan(DOCKER, replace(OLD, used=False))
    assert found.move is None
    assert [line.split()[0] for line in found.commands] == ["install", "install", "systemctl", "gpasswd"]
    assert found.commands[2] == "systemctl restart docker.service"


def test_an_engine_that_is_stopped_is_started_and_enabled() -> None:
    found = plan(DOCKER, replace(BUILT, enabled=False, running=False))
    assert found.commands == ["systemctl enable docker.service", "systemctl start docker.service"]


def test_data_are_copied_while_the_engine_is_stopped_and_the_old_are_kept() -> None:
    found = plan(DOCKER, OLD)
    assert found.move == Move("/var/lib/docker", "/data/docker")
    verbs = [line.splitlines()[0] for line in found.commands]
    assert verbs[1:3] == ["systemctl stop docker.socket docker.service", "rsync -aHAXS --numeric-ids --one-file-system --delete /var/lib/docker/ /data/docker/"]
    assert verbs[-3:] == ["systemctl start docker.service", "mv /var/lib/docker /var/lib/docker.backup-2026-01-01", "gpasswd -a admin docker"]


def test_a_mount_point_is_not_renamed() -> None:
    assert not any(line.startswith("mv ") for line in plan(DOCKER, replace(OLD, keep_as=None)).commands)


def test_data_are_not_mixed_with_what_is_there() -> None:
    with pytest.raises(ResourceError, match="holds something already"):
        plan(DOCKER, replace(OLD, target=OURS))
    inside = lab_docker(data_root="/var/lib/docker/new")
    with pytest.raises(ResourceError, match="lie one inside the other"):
        plan(inside, OLD)


def test_a_copy_that_was_cut_short_goes_on_into_what_it_has_made() -> None:
    found = plan(DOCKER, replace(OLD, target=OURS, running=False, pending=BEGUN))
    assert found.move == replace(BEGUN.move or Move("", ""), copied=False)
    assert any(line.startswith("rsync ") for line in found.commands)


def test_a_copy_in_use_is_only_taken_note_of() -> None:
    found = plan(DOCKER, replace(BUILT, pending=BEGUN, keep_as="/var/lib/docker.backup-2026-01-01"))
    assert found.move is not None
    assert found.move.copied
    assert found.commands == ["mv /var/lib/docker /var/lib/docker.backup-2026-01-01"]
    assert not found.disruptive


def test_a_restart_that_was_cut_short_is_made_up_for_once() -> None:
    pending = Pending(old="{}", action="restart")
    assert plan(DOCKER, replace(BUILT, pending=pending, restarted=False)).action == "restart"
    assert plan(DOCKER, replace(BUILT, pending=pending, restarted=True)).action is None


def test_a_move_is_given_up_by_going_back() -> None:
    stayed = lab_docker(data_root="/var/lib/docker")
    found = plan(stayed, replace(BUILT, config=daemon_json(stayed), running=False, pending=BEGUN))
    assert found.abandon == BEGUN.move
    assert found.commands == ["rm -rf --one-file-system /data/docker", "systemctl start docker.service"]
    with pytest.raises(ResourceError, match=r"was cut short, and platform_docker\.data_root is now /srv/docker"):
        plan(lab_docker(data_root="/srv/docker"), replace(OLD, pending=BEGUN))


def test_containers_that_would_stop_are_named() -> None:
    running = replace(BUILT, config={**CONFIG, "bip": "172.17.0.1/24"}, running_containers=("db", "web"))
    (told,) = plan(DOCKER, running).disruptive
    assert "restarts (bip)" in told["reason"]
    assert "db, web" in told["reason"]
    reloaded = plan(DOCKER, replace(running, config={**CONFIG, "debug": True}))
    assert (reloaded.action, reloaded.disruptive) == ("reload", [])


def test_images_in_containerd_s_store_are_not_lost_of_sight() -> None:
    found = replace(OLD, store=Store("overlayfs", containers=0, images=2))
    with pytest.raises(
        ResourceError, match=r"2 images of this engine.*start without them.*Nothing was changed.*\{containerd-snapshotter: true\}, storage-driver: overlayfs"
    ):
        plan(DOCKER, found)
    kept = lab_docker(daemon={"features": {"containerd-snapshotter": True}, "storage-driver": "overlayfs"})
    assert plan(kept, found).action == "restart"
    assert plan(DOCKER, replace(found, store=Store("overlayfs", 0, 0))).action == "restart"


def test_the_group_has_the_declared_members_and_no_others() -> None:
    found = plan(lab_docker(users=["operator"]), BUILT)
    assert found.commands == ["gpasswd -a operator docker", "gpasswd -d admin docker"]


def test_selinux_labels_the_new_place_like_the_old_one() -> None:
    found = plan(DOCKER, replace(BUILT, selinux=True))
    assert found.commands == ["semanage fcontext -a -e /var/lib/docker /data/docker", "restorecon -R /data/docker"]
    assert found.after["labelled_like"] == "/var/lib/docker"
    assert plan(DOCKER, replace(BUILT, selinux=True, equivalent="/var/lib/docker")).commands == []


def test_an_engine_that_is_told_to_answer_on_the_network_is_found_out() -> None:
    usual = "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS ; }"
    assert opened(usual, ["# -H tcp://0.0.0.0:2375\n"], "/run/docker.sock (Stream)") is None
    assert "ExecStart" in (opened("argv[]=/usr/bin/dockerd -H fd:// -H tcp://0.0.0.0:2376", [], "") or "")
    assert "environment" in (opened(usual, ['DOCKER_OPTS="-H tcp://127.0.0.1:2375"'], "") or "")
    assert "2375" in (opened(usual, [], "/run/docker.sock (Stream)\n0.0.0.0:2375 (Stream)") or "")


def test_a_listener_is_found_on_the_loopback_too() -> None:
    # Rows of /proc/net/tcp: 127.0.0.1:2375 listening (0A), 0.0.0.0:2376 established (01), 0.0.0.0:22 listening.
    table = "\n".join(
        [
            "  sl  local_address rem_address   st",
            "   0: 0100007F:0947 00000000:0000 0A 00000000:00000000",
            "   1: 00000000:0948 0100007F:9999 01 00000000:00000000",
            "   2: 00000000:0016 00000000:0000 0A 00000000:00000000",
        ]
    )
    assert listening(table) == [2375]
