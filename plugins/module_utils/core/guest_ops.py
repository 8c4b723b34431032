# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done to a guest, one operation at a time, and the shell lines that do the same by hand. No I/O."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional, Union

from ansible_collections.hybridlab.platform.plugins.module_utils.core.cloud_init import retell_sshd
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import NAMESPACE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import here_document, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Autostart, Backup, Define, Start

# Of our metadata; libvirt wants one beside the URI.
MARK_KEY = "hybridlab"


@dataclass(frozen=True)
class MakeVolume:
    """A qcow2 file, made beside its place and renamed. size: bytes; None for that of the backing image."""

    path: str
    size: Optional[int]
    backing: Optional[str] = None
    backing_format: Optional[str] = None


@dataclass(frozen=True)
class GrowVolume:
    """A disk of a guest that is off. size: bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class GrowLive:
    """A disk of a running guest, and the file system on it where the agent answers. target: such as vda; first: whether the guest's root is on it."""

    name: str
    disk: str
    target: str
    size: int
    first: bool


@dataclass(frozen=True)
class WriteSeed:
    """documents: of cloud_init.documents; shown: the same for a person's eyes, without what the model keeps to itself."""

    path: str
    documents: Mapping[str, str]
    shown: Mapping[str, str]


@dataclass(frozen=True)
class RemoveFiles:
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Forget:
    """Takes the definition away, with the firmware's variables, the TPM's state and a saved memory image."""

    name: str


@dataclass(frozen=True)
class ShutDown:
    """Asks the guest to go; switched off when it is still there after ``seconds``."""

    name: str
    seconds: int


@dataclass(frozen=True)
class Suspend:
    name: str


@dataclass(frozen=True)
class Resume:
    name: str


@dataclass(frozen=True)
class SetMemory:
    """Of a running guest, in MiB; its kept definition follows."""

    name: str
    memory_mb: int


@dataclass(frozen=True)
class SetVcpus:
    """Of a running guest; its kept definition follows."""

    name: str
    vcpus: int


@dataclass(frozen=True)
class AttachDevice:
    """Into a running guest. device: in words; xml: its element."""

    name: str
    device: str
    xml: str


@dataclass(frozen=True)
class DetachDevice:
    """Out of a running guest; done when the guest has let go of it."""

    name: str
    device: str
    xml: str


@dataclass(frozen=True)
class SetMark:
    """Our metadata of a running guest; its kept definition follows."""

    name: str
    xml: str


@dataclass(frozen=True)
class TellSsh:
    """Lets the sshd of a running guest listen on another port too, through the guest agent."""

    name: str
    port: int

    @property
    def argv(self) -> list[str]:
        """The command in the guest."""
        return ["/bin/sh", "-c", retell_sshd(self.port)]


GuestOperation = Union[
    Backup,
    Define,
    Autostart,
    Start,
    MakeVolume,
    GrowVolume,
    GrowLive,
    WriteSeed,
    RemoveFiles,
    Forget,
    ShutDown,
    Suspend,
    Resume,
    SetMemory,
    SetVcpus,
    AttachDevice,
    DetachDevice,
    SetMark,
    TellSsh,
]


def shell(operation: GuestOperation, uri: str, backup_dir: str) -> str:
    """The line for a shell that does ``operation`` by hand."""
    if isinstance(operation, (MakeVolume, GrowVolume, WriteSeed, RemoveFiles)):
        return _file_line(operation)
    return _virsh_line(operation, ["virsh", "-c", uri], backup_dir)


def _file_line(operation: Union[MakeVolume, GrowVolume, WriteSeed, RemoveFiles]) -> str:
    if isinstance(operation, MakeVolume):
        backing = [] if operation.backing is None else ["-b", operation.backing, "-F", str(operation.backing_format)]
        size = [] if operation.size is None else [str(operation.size)]
        make = shell_line(["qemu-img", "create", "-q", "-f", "qcow2", *backing, operation.path, *size])
        return f"{make} && {shell_line(['chmod', '0600', operation.path])}"
    if isinstance(operation, GrowVolume):
        return shell_line(["qemu-img", "resize", "-q", operation.path, str(operation.size)])
    if isinstance(operation, RemoveFiles):
        return shell_line(["rm", "-f", *operation.paths])
    folder = "$(mktemp -d)"
    lines = [f"seed={folder}", *(f'cat > "$seed/{name}" {here_document([], text).lstrip()}' for name, text in operation.shown.items())]
    image = shell_line(["xorrisofs", "-quiet", "-joliet", "-rock", "-volid", "cidata", "-output", operation.path])
    return "\n".join([*lines, f'(umask 077 && {image} "$seed") && rm -r "$seed"'])


def _virsh_line(operation: GuestOperation, virsh: list[str], backup_dir: str) -> str:
    name = operation.name  # type: ignore[union-attr]
    if isinstance(operation, Backup):
        target = f"{shlex.quote(f'{backup_dir}/{name}')}-$(date -u +%Y%m%dT%H%M%SZ).xml"
        dump = shell_line([*virsh, "dumpxml", "--inactive", "--security-info", name])
        return f"install -d -m 0700 {shlex.quote(backup_dir)} && (umask 077 && {dump} > {target})"
    if isinstance(operation, (Define, AttachDevice, DetachDevice)):
        words = {
            Define: ["define", "/dev/stdin"],
            AttachDevice: ["attach-device", name, "/dev/stdin", "--live"],
            DetachDevice: ["detach-device", name, "/dev/stdin", "--live"],
        }
        return here_document([*virsh, *words[type(operation)]], operation.xml)
    if isinstance(operation, ShutDown):
        stop = shell_line([*virsh, "shutdown", name])
        state = f"$({shell_line([*virsh, 'domstate', name])})"
        wait = f'for second in $(seq {operation.seconds}); do [ "{state}" = "shut off" ] && break; sleep 1; done'
        return f'{stop}; {wait}; [ "{state}" = "shut off" ] || {shell_line([*virsh, "destroy", name])}'
    if isinstance(operation, GrowLive):
        return shell_line([*virsh, "blockresize", name, operation.target, f"{operation.size}B"])
    if isinstance(operation, TellSsh):
        question = {"execute": "guest-exec", "arguments": {"path": operation.argv[0], "arg": operation.argv[1:]}}
        return shell_line([*virsh, "qemu-agent-command", name, json.dumps(question)])
    if isinstance(operation, Forget):
        return shell_line([*virsh, "undefine", name, "--nvram", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata"])
    return shell_line([*virsh, *_words(operation)])


def _words(operation: GuestOperation) -> list[str]:
    if isinstance(operation, Autostart):
        return ["autostart", operation.name, *([] if operation.enabled else ["--disable"])]
    if isinstance(operation, SetMemory):
        return ["setmem", operation.name, f"{operation.memory_mb}M", "--live"]
    if isinstance(operation, SetVcpus):
        return ["setvcpus", operation.name, str(operation.vcpus), "--live"]
    if isinstance(operation, SetMark):
        return ["metadata", operation.name, NAMESPACE, "--key", MARK_KEY, "--set", operation.xml, "--live"]
    if isinstance(operation, (Start, Suspend, Resume)):
        return [type(operation).__name__.lower(), operation.name]
    raise TypeError(f"no line for {operation!r}")
