# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of cloud-init's data source NoCloud for a guest. No I/O, and no YAML library.

Read against cloud-init 22.4 (Debian 12): bootcmd runs at each boot, in cloud-init.service, which is ordered before sysinit.target and sshd.service.
So a drop-in of sshd that it writes is there before sshd starts, and follows the seed of that boot.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, to_yaml

# The console's line about the outcome starts with one of these. After FAILED follow cloud-init's errors as JSON.
DONE = "hybridlab: cloud-init done"
FAILED = "hybridlab: cloud-init failed:"

SSHD_DROP_IN = "/etc/ssh/sshd_config.d/50-hybridlab.conf"

# The port that the seed said last, in the directory of the instance.
_TOLD = "/var/lib/cloud/instance/hybridlab-ssh-port"

# Debian's unit is ssh, that of others sshd; a drop-in that sshd refuses must not cost the way in.
_RELOAD_SSHD = "sshd -t && (systemctl reload ssh || systemctl reload sshd)"

# Keys of user_data whose items come after ours; any other key replaces ours.
APPENDED = ("users", "packages", "bootcmd", "runcmd", "write_files")

# What YAML has in double quotes only as escapes (YAML 1.1, 5.1), and JSON as it is.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

# cloud-init writes result.json when its last stage ends (with the errors of all stages); nothing that is part of a stage can know its outcome.
# So a process that the last stage leaves behind (cloud-final.service: KillMode=process) waits for it, at most an hour.
_REPORT = f"""\
#!/bin/sh
# Tells the console how cloud-init ended.
result=/run/cloud-init/result.json
(
    waited=0
    while [ ! -s "$result" ] && [ "$waited" -lt 3600 ]; do
        sleep 1
        waited=$((waited + 1))
    done
    if grep -q '"errors": \\[\\]' "$result"; then
        echo '{DONE}'
    else
        echo "{FAILED} $(tr -s '\\n ' '  ' <"$result")"
    fi
) </dev/null >"${{1:-/dev/console}}" 2>&1 &
"""


def documents(
    name: str,
    domain: str,
    users: Sequence[Mapping[str, Any]],
    packages: Sequence[str],
    commands: Sequence[Any],
    ssh_port: Optional[int],
    interfaces: Sequence[Mapping[str, Any]],
    user_data: Optional[Mapping[str, Any]],
    instance_id: str,
) -> dict[str, str]:
    """The texts of meta-data, user-data and network-config, by those names.

    users:      name, ssh_keys (list), groups (list), sudo (default true), shell (default /bin/bash); none: cloud-init makes the image's default user
    commands:   run once by one shell, in order, after the packages are there; the first that fails ends them and makes cloud-init fail.
                A string is a line for the shell, a list a command with its arguments
    ssh_port:   sshd listens there too; None for 22 alone
    interfaces: mac, address and prefix (None when it asks DHCP), gateway, dhcp (bool); the first one carries the default route
    user_data:  further keys of #cloud-config. Its users, packages, bootcmd, runcmd and write_files come after ours, any other key replaces ours
    instance_id: cloud-init does its work anew when this changes

    Raises ResourceError when user_data has no list where ours is one.
    """
    data = _user_data(name, domain, users, packages, commands, ssh_port)
    return {
        "meta-data": _text({"instance-id": instance_id, "local-hostname": name}),
        "user-data": "#cloud-config\n" + _text(_merged(data, user_data or {})),
        "network-config": _text(_network(domain, interfaces)),
    }


def digest(texts: Mapping[str, str]) -> str:
    """SHA-256 of the documents, hexadecimal."""
    found = hashlib.sha256()
    for name in sorted(texts):
        body = texts[name].encode()
        # With its length in front, no text can pass for the next one's beginning.
        found.update(f"{name} {len(body)}\n".encode() + body)
    return found.hexdigest()


def _text(value: Mapping[str, Any]) -> str:
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", to_yaml(value))


def _user_data(
    name: str,
    domain: str,
    users: Sequence[Mapping[str, Any]],
    packages: Sequence[str],
    commands: Sequence[Any],
    ssh_port: Optional[int],
) -> dict[str, Any]:
    data: dict[str, Any] = {"hostname": name, "fqdn": f"{name}.{domain}", "manage_etc_hosts": True}
    if users:
        data["users"] = [_user(user) for user in users]
    data.update(ssh_pwauth=False, disable_root=True)
    if packages:
        data.update(package_update=True, packages=list(packages))
    data.update(
        growpart={"mode": "auto", "devices": ["/"]},
        resize_rootfs=True,
        # None is set: an image without locale-gen would make cloud-init fail. A string, as the schema of 22.4 wants it.
        locale="false",
        # A changed network takes effect at the next boot, not only in a new instance.
        updates={"network": {"when": ["boot-new-instance", "boot"]}},
        write_files=[{"path": "/var/lib/cloud/scripts/per-boot/hybridlab-outcome", "permissions": "0755", "content": _REPORT}],
    )
    extra_port = ssh_port if ssh_port not in (None, 22) else None
    if extra_port is not None:
        data["bootcmd"] = [_listen_once(extra_port), _allow_once(extra_port)]
    if commands:
        # cloud-init makes one script for sh of them, whose outcome would be that of the last line.
        data["runcmd"] = ["set -e", *commands]
    data["final_message"] = "hybridlab: cloud-init ran its last stage after $uptime seconds"
    return data


def _user(user: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": user["name"], "lock_passwd": True, "shell": user.get("shell") or "/bin/bash"}
    if user.get("groups"):
        entry["groups"] = list(user["groups"])
    if user.get("sudo", True):
        entry["sudo"] = "ALL=(ALL) NOPASSWD:ALL"
    if user.get("ssh_keys"):
        entry["ssh_authorized_keys"] = list(user["ssh_keys"])
    return entry


def retell_sshd(port: int) -> str:
    """Script for the shell of a running guest, as root: its sshd listens on that port too. Fails when sshd does not take it up."""
    allow = f"if command -v semanage >/dev/null; then {_allow(port)}; fi"
    return "\n".join(["set -e", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", _listen(port), allow, _RELOAD_SSHD])


def _listen_once(port: int) -> str:
    """Only when the seed says another port than before: QEMU keeps the seed that it was started with, and the guest may have been told since."""
    return f'if [ "$(cat {_TOLD} 2>/dev/null)" != {port} ]; then\n{_listen(port)}\necho {port} >{_TOLD}\nfi'


def _listen(port: int) -> str:
    """Lines of their own: an init without a YAML reader finds the port by them."""
    return f"mkdir -p {posixpath.dirname(SSHD_DROP_IN)}\ncat >{SSHD_DROP_IN} <<'end'\nPort 22\nPort {port}\nend"


def _allow_once(port: int) -> str:
    return f"if command -v semanage >/dev/null; then cloud-init-per instance ssh-port-{port} sh -c '{_allow(port)}'; fi"


def _allow(port: int) -> str:
    """SELinux lets sshd listen on ports of its own type only; without SELinux there is no semanage."""
    # The second for a port that the policy knows as another service's.
    return " || ".join(f"semanage port {verb} -t ssh_port_t -p tcp {port}" for verb in ("-a", "-m"))


def _merged(ours: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in theirs.items():
        if key in APPENDED and key in ours:
            if not isinstance(value, (list, tuple)):
                raise ResourceError(f"user_data.{key}: found {value!r}: write a list; its items come after those that the guest's declaration makes.")
            merged[key] = [*ours[key], *value]
        else:
            merged[key] = value
    return merged


def _network(domain: str, interfaces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Network configuration version 2. The names are only labels: an interface keeps the name that the guest gives it."""
    ethernets = {f"nic{index}": _ethernet(domain, interface, first=index == 0) for index, interface in enumerate(interfaces)}
    return {"version": 2, "ethernets": ethernets}


def _ethernet(domain: str, interface: Mapping[str, Any], first: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"match": {"macaddress": interface["mac"]}}
    if interface["dhcp"]:
        entry["dhcp4"] = True
        if not first:
            entry["dhcp4-overrides"] = {"use-routes": False, "use-dns": False}
        return entry
    entry["dhcp4"] = False
    entry["addresses"] = [f"{interface['address']}/{interface['prefix']}"]
    gateway = interface.get("gateway")
    if first and gateway:
        entry["routes"] = [{"to": "0.0.0.0/0", "via": str(gateway)}]
        entry["nameservers"] = {"addresses": [str(gateway)], "search": [domain]}
    return entry
