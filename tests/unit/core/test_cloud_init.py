# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from ansible_collections.hybridlab.platform.plugins.module_utils.core.cloud_init import DONE, FAILED, SSHD_DROP_IN, digest, documents, retell_sshd
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from hypothesis import given
from hypothesis import strategies as st

STATIC = {"segment": "public", "mac": "52:54:00:00:00:10", "address": "10.0.1.20", "prefix": 24, "gateway": "10.0.1.1", "dhcp": False}
DHCP = {"segment": "private", "mac": "52:54:00:00:00:11", "address": None, "prefix": None, "gateway": "10.0.2.1", "dhcp": True}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB ops@lab"

TEXTS = st.text(max_size=12)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-(2**31), 2**31), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def made(**changes: Any) -> dict[str, str]:
    arguments: dict[str, Any] = {
        "name": "web",
        "domain": "lab.example",
        "users": [],
        "packages": [],
        "commands": [],
        "ssh_port": None,
        "interfaces": [STATIC],
        "user_data": None,
        "instance_id": "i-1",
        **changes,
    }
    return documents(**arguments)


def user_data(**changes: Any) -> dict[str, Any]:
    text = made(**changes)["user-data"]
    assert text.startswith("#cloud-config\n")
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def written(path: str, **changes: Any) -> Optional[str]:
    return next((entry["content"] for entry in user_data(**changes)["write_files"] if entry["path"] == path), None)


def test_meta_data_names_the_guest() -> None:
    assert yaml.safe_load(made()["meta-data"]) == {"instance-id": "i-1", "local-hostname": "web"}
    assert user_data()["fqdn"] == "web.lab.example"


def test_users() -> None:
    users = [{"name": "ops", "ssh_keys": [KEY], "groups": ["adm"], "shell": "/bin/sh"}, {"name": "guest", "ssh_keys": [], "sudo": False}]
    assert user_data(users=users)["users"] == [
        {"name": "ops", "lock_passwd": True, "shell": "/bin/sh", "groups": ["adm"], "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [KEY]},
        {"name": "guest", "lock_passwd": True, "shell": "/bin/bash"},
    ]
    assert "users" not in user_data()
    # An init without a YAML reader finds each key on a line of its own.
    assert f'      - "{KEY}"' in made(users=users)["user-data"].splitlines()


def test_nobody_logs_in_with_a_password_or_as_root() -> None:
    data = user_data()
    assert (data["ssh_pwauth"], data["disable_root"], data["locale"]) == (False, True, "false")
    assert data["updates"] == {"network": {"when": ["boot-new-instance", "boot"]}}
    assert data["growpart"]["devices"] == ["/"]


def test_sshd_listens_on_the_forwarded_port_too(tmp_path: Path) -> None:
    drop_in = tmp_path / Path(SSHD_DROP_IN).name

    def boot(port: int) -> str:
        listen = user_data(ssh_port=port)["bootcmd"][0]
        assert {"Port 22", f"Port {port}"} < set(listen.splitlines())
        for folder in (str(Path(SSHD_DROP_IN).parent), "/var/lib/cloud/instance"):
            listen = listen.replace(folder, str(tmp_path))
        subprocess.run(["/bin/sh", "-c", listen], check=True)
        return drop_in.read_text()

    assert boot(2211) == "Port 22\nPort 2211\n"
    # A guest that was told while it ran boots again with the seed that QEMU was started with.
    drop_in.write_text("Port 22\nPort 2299\n")
    assert boot(2211) == "Port 22\nPort 2299\n"
    assert boot(2300) == "Port 22\nPort 2300\n"
    assert written(SSHD_DROP_IN, ssh_port=2211) is None
    for port in (22, None):
        assert "bootcmd" not in user_data(ssh_port=port)


@pytest.mark.parametrize(("sound", "reloaded"), [(True, "reload sshd\n"), (False, "")])
def test_a_running_sshd_is_told_unless_it_would_not_come_back(tmp_path: Path, sound: bool, reloaded: str) -> None:
    log = tmp_path / "log"
    log.touch()
    # Its unit has either name.
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\n[ "$2" = sshd ] && echo "$@" >> {log}\n')
    (tmp_path / "sshd").write_text(f"#!/bin/sh\nexit {0 if sound else 1}\n")
    (tmp_path / "semanage").write_text("#!/bin/sh\n")
    for program in ("systemctl", "sshd", "semanage"):
        (tmp_path / program).chmod(0o755)
    folder = tmp_path / "conf"
    script = retell_sshd(2211).replace("PATH=", f"PATH={tmp_path}:").replace(str(Path(SSHD_DROP_IN).parent), str(folder))
    done = subprocess.run(["/bin/sh", "-c", script], check=False)
    assert (done.returncode == 0) is sound
    assert (folder / Path(SSHD_DROP_IN).name).read_text() == "Port 22\nPort 2211\n"
    assert log.read_text() == reloaded


def test_selinux_lets_sshd_have_the_port(tmp_path: Path) -> None:
    _listen, line = user_data(ssh_port=2211)["bootcmd"]
    # Without SELinux's tools nothing is done, and nothing fails.
    subprocess.run(["/bin/sh", "-c", line], env={"PATH": str(tmp_path)}, check=True)
    log = tmp_path / "log"
    (tmp_path / "cloud-init-per").write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    (tmp_path / "semanage").write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ "$2" = -m ]\n')
    for program in ("cloud-init-per", "semanage"):
        (tmp_path / program).chmod(0o755)
    subprocess.run(["/bin/sh", "-c", line], env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, check=True)
    assert log.read_text() == "port -a -t ssh_port_t -p tcp 2211\nport -m -t ssh_port_t -p tcp 2211\n"


def test_a_failing_command_ends_the_commands() -> None:
    assert user_data(commands=["false", ["touch", "/x"]])["runcmd"] == ["set -e", "false", ["touch", "/x"]]
    assert "runcmd" not in user_data()


def test_user_data_comes_last() -> None:
    theirs = {"users": ["default"], "packages": ["vim"], "runcmd": ["true"], "write_files": [{"path": "/x"}], "locale": "C.UTF-8", "growpart": {"mode": "off"}}
    data = user_data(users=[{"name": "ops"}], packages=["curl"], commands=["date"], user_data=theirs)
    assert [user if isinstance(user, str) else user["name"] for user in data["users"]] == ["ops", "default"]
    assert data["packages"] == ["curl", "vim"]
    assert data["runcmd"] == ["set -e", "date", "true"]
    assert data["write_files"][-1] == {"path": "/x"}
    assert len(data["write_files"]) == 2
    assert (data["locale"], data["growpart"]) == ("C.UTF-8", {"mode": "off"})
    assert user_data(user_data={"packages": ["vim"]})["packages"] == ["vim"]


def test_a_list_is_asked_for_where_ours_is_one() -> None:
    with pytest.raises(ResourceError, match=r"user_data\.write_files: found 'x': write a list"):
        made(user_data={"write_files": "x"})


@given(st.dictionaries(TEXTS.filter(lambda key: key not in ("users", "packages", "bootcmd", "runcmd", "write_files")), VALUES, max_size=3), st.lists(TEXTS))
def test_a_yaml_reader_gets_what_was_declared(theirs: dict[str, Any], commands: list[str]) -> None:
    data = user_data(user_data=theirs, commands=commands)
    assert {key: data[key] for key in theirs} == theirs
    if commands and "runcmd" not in theirs:
        assert data["runcmd"] == ["set -e", *commands]


def test_network_of_a_static_and_a_leased_interface() -> None:
    assert yaml.safe_load(made(interfaces=[STATIC, DHCP])["network-config"]) == {
        "version": 2,
        "ethernets": {
            "nic0": {
                "match": {"macaddress": "52:54:00:00:00:10"},
                "dhcp4": False,
                "addresses": ["10.0.1.20/24"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.0.1.1"}],
                "nameservers": {"addresses": ["10.0.1.1"], "search": ["lab.example"]},
            },
            "nic1": {"match": {"macaddress": "52:54:00:00:00:11"}, "dhcp4": True, "dhcp4-overrides": {"use-routes": False, "use-dns": False}},
        },
    }


def test_only_the_first_interface_carries_the_default_route() -> None:
    first, second = yaml.safe_load(made(interfaces=[DHCP, STATIC])["network-config"])["ethernets"].values()
    assert first == {"match": {"macaddress": "52:54:00:00:00:11"}, "dhcp4": True}
    assert second == {"match": {"macaddress": "52:54:00:00:00:10"}, "dhcp4": False, "addresses": ["10.0.1.20/24"]}


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ([], DONE),
        (
            ["('scripts-user', RuntimeError('1 of 1 failed'))"],
            f'{FAILED} {{ "v1": {{ "errors": [ "(\'scripts-user\', RuntimeError(\'1 of 1 failed\'))" ] }} }} ',
        ),
    ],
)
def test_the_console_learns_the_outcome_that_is_written_later(tmp_path: Path, errors: list[str], line: str) -> None:
    content = written("/var/lib/cloud/scripts/per-boot/hybridlab-outcome")
    assert content is not None
    result, script, console = tmp_path / "result.json", tmp_path / "script", tmp_path / "console"
    script.write_text(content.replace("/run/cloud-init/result.json", str(result)))
    # cloud-init waits for its scripts, so this one must end before there is a result.
    subprocess.run(["/bin/sh", str(script), str(console)], check=True, timeout=10)
    # As cloud-init's atomic_helper.write_json does: under another name, then renamed.
    (tmp_path / "new").write_text(json.dumps({"v1": {"errors": errors}}, indent=1) + "\n")
    (tmp_path / "new").rename(result)
    deadline = time.monotonic() + 10
    while not (console.exists() and console.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert console.read_text() == f"{line}\n"


def test_digest_changes_with_every_text() -> None:
    usual = made()
    assert digest(usual) == digest(dict(reversed(list(made().items()))))
    assert len(digest(usual)) == 64
    others = [made(instance_id="i-2"), made(packages=["curl"]), made(interfaces=[DHCP])]
    assert len({digest(texts) for texts in (usual, *others)}) == 4
    # The border between two texts counts.
    assert digest({"a": "xb", "b": ""}) != digest({"a": "x", "b": "b"})
