# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a sandbox is still on the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any, Optional

from tools.sandbox.containers import owned
from tools.sandbox.errors import SandboxError
from tools.sandbox.machine import find_command
from tools.sandbox.names import Identity
from tools.sandbox.netns import Namespace
from tools.sandbox.processes import ancestors, command_line, end, in_namespace, inside, processes_with, same_sessions
from tools.sandbox.progress import output
from tools.sandbox.record import Record

CGROUPS = Path("/sys/fs/cgroup")


def processes(identity: Identity) -> list[int]:
    """Of the engine, of its shims, of a base image being built, and whatever runs in the namespace."""
    found = set(in_namespace(Namespace(identity).path))
    found.update(build_processes(identity))
    for group in control_groups(identity):
        for listed in group.rglob("cgroup.procs"):
            found.update(int(pid) for pid in listed.read_text(encoding="ascii").split())
    for directory in (identity.run_dir, identity.engine_data):
        found.update(processes_with(f"{directory}/"))
    return sorted(found)


def build_processes(identity: Identity) -> list[int]:
    """mmdebstrap, what it started, and what runs in the root that it builds."""
    named = processes_with(f"{identity.build_dir}/")
    return sorted({*named, *same_sessions(named), *inside(identity.build_dir)} - set(ancestors()))


def end_build(identity: Identity) -> None:
    """Ends a build that a killed run left behind, and removes its directory."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        end(build_processes(identity), signal_number, 15)
    _unmount(identity.build_dir)
    _remove(identity.build_dir)


def mounts(*roots: Path) -> list[Path]:
    """Mount points at or below the given directories, the deepest first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if any(point == root or root in point.parents for root in roots):
            points.append(point)
    return sorted(set(points), key=lambda path: len(path.parts), reverse=True)


def _roots(identity: Identity) -> tuple[Path, ...]:
    return identity.run_dir, identity.state_dir, identity.build_dir


def control_groups(identity: Identity) -> list[Path]:
    name = identity.cgroup.lstrip("/")
    return [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]


def directories(identity: Identity) -> list[Path]:
    return [path for path in _roots(identity) if path.exists()]


def sweep(identity: Identity) -> None:
    """Removes processes, mounts, control groups and directories, and takes back what the machine lent; the engine has been stopped before.

    :raises SandboxError: something is still mounted below a directory that would be removed
    """
    end_build(identity)
    end(processes(identity), signal.SIGKILL, 10)
    _unmount(*_roots(identity))
    if os.geteuid() == 0:
        for top in control_groups(identity):
            for path, _directories, _files in os.walk(top, topdown=False):
                Path(path).rmdir()
    for directory in directories(identity):
        _remove(directory)
    for partial in identity.base_dir.glob("*.new"):
        partial.unlink()
    record = Record(identity.run_root)
    if os.geteuid() == 0 and not record.in_use_by_others(identity.run_dir):
        record.take_back()
        with contextlib.suppress(OSError):  # absent, or it holds what is not ours
            identity.run_root.rmdir()


def _unmount(*roots: Path) -> None:
    if os.geteuid() == 0:
        for point in mounts(*roots):
            output([find_command("umount"), "--lazy", str(point)])


def _remove(directory: Path) -> None:
    mounted = mounts(directory)
    if mounted:
        raise SandboxError(f"{mounted[0]} is still mounted, so {directory} is left alone", "Unmount it, then run the down verb again")
    if directory.exists():
        shutil.rmtree(directory)


def leftovers(identity: Identity, client: Optional[Any]) -> list[str]:
    """One line for each thing that is still there.

    :param client: the machine's engine, where that was used
    """
    namespace, found = Namespace(identity), []
    found += [f"process {pid}: {command_line(pid)[:120]}" for pid in processes(identity)]
    if client:
        found += [f"{kind} {getattr(thing, 'name', '') or thing.id}" for kind, thing in owned(client, identity)]
    found += [f"network namespace {namespace.path}"] if namespace.bound() else []
    found += [f"interface {name}" for _index, name in socket.if_nameindex() if name in (identity.link, identity.peer, identity.bridge)]
    if os.geteuid() == 0:
        found += [f"nftables table ip {identity.tag}"] if namespace.table_exists() else []
        found += [f"iptables rule {rule}" for rule in namespace.forward_rules()]
    found += [f"mount {point}" for point in mounts(*_roots(identity))]
    found += [f"control group {path}" for path in control_groups(identity)]
    found += [f"directory {path}" for path in directories(identity)]
    found += [f"file {path}" for path in identity.base_dir.glob("*.new")]
    return found
