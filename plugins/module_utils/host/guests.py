# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests' host as it is, and one operation on a guest at a time."""

from __future__ import annotations

import os
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Means, Policy, read_means
from ansible_collections.hybridlab.platform.plugins.module_utils.core.domain_read import file_of, mac_of
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import BaseImage, Facts, Volume
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import (
    MARK_KEY,
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
    TellSsh,
    WriteSeed,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.image_format import HEADER_BYTES, read_qcow2
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_xml import NAMESPACE
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, shell_line
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Autostart, Define, Start
from ansible_collections.hybridlab.platform.plugins.module_utils.core.volumes import PoolSpace
from ansible_collections.hybridlab.platform.plugins.module_utils.host import guest_agent
from ansible_collections.hybridlab.platform.plugins.module_utils.host.accelerator import kvm_works
from ansible_collections.hybridlab.platform.plugins.module_utils.host.domains import observe_domain, observe_domains
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import errors, observe_networks, observe_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.host.platform_state import is_local, uptime
from ansible_collections.hybridlab.platform.plugins.module_utils.host.seed import write_seed

try:
    import libvirt
except ImportError:
    libvirt = None

_DETACH_LIMIT_S = 40.0
_DETACH_AGAIN_S = 8.0  # a guest that was still booting has not heard the first request
_SHUTDOWN_AGAIN_S = 10.0
_GROW_LIMIT_S = 120.0
_SSH_LIMIT_S = 60.0  # semanage takes some

# As root in the guest. $1: serial of the disk, $2: yes when the root file system is on it. Partition tables are grown only where they hold the root.
_GROW = r"""
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
grow_fs() {
    case $3 in
    ext2 | ext3 | ext4) resize2fs "$1" ;;
    xfs) xfs_growfs "$2" ;;
    btrfs) btrfs filesystem resize max "$2" ;;
    esac
}
if [ "$2" = yes ]; then
    if command -v grow-root >/dev/null; then exec grow-root; fi
    device=$(readlink -f "$(findmnt -no SOURCE /)")
    name=${device#/dev/}
    if [ -e "/sys/class/block/$name/partition" ]; then
        parent=$(basename "$(dirname "$(readlink -f "/sys/class/block/$name")")")
        growpart "/dev/$parent" "$(cat "/sys/class/block/$name/partition")" || [ $? = 1 ]
    fi
    grow_fs "$device" / "$(findmnt -no FSTYPE /)"
else
    for disk in /sys/block/vd*; do
        [ "$(cat "$disk/serial")" = "$1" ] || continue
        device=/dev/$(basename "$disk")
        while read -r source mount type rest; do
            if [ "$source" = "$device" ]; then grow_fs "$device" "$mount" "$type"; break; fi
        done </proc/mounts
    done
fi
"""


def observe(
    conn: Optional[Any],
    pools: Iterable[Mapping[str, Any]],
    images: Iterable[Mapping[str, Any]],
    policy: Policy,
    accelerator: str,
    networks: Iterable[str] = (),
) -> Facts:
    """The host as the plan needs to know it; without a connection, as if it had nothing yet.

    pools:    name, path of pools that may not be there yet; images: name, path, format of base volumes, likewise
    networks: names of networks that may not be there yet
    """
    observed = observe_pools(conn) if conn else []
    directories = {pool["name"]: pool["path"] for pool in pools}
    directories.update({pool.name: pool.path for pool in observed if pool.kind == "dir" and pool.path is not None})
    paths = [path for directory in sorted(set(directories.values())) for path in _files(directory)]
    volumes = {volume.path: volume for path in paths for volume in [_volume(path)] if volume is not None}
    return Facts(
        domains=tuple(observe_domains(conn)) if conn else (),
        networks=frozenset((*(network.name for network in observe_networks(conn)), *networks)) if conn else frozenset(),
        pools=directories,
        space={name: space for name, path in directories.items() for space in [_space(name, path)] if space is not None},
        volumes=volumes,
        files=frozenset(str(path) for path in paths if str(path) not in volumes),
        images={image["name"]: _base(image) for image in images},
        policy=policy,
        means=read_host_means(),
        accelerator=choose_accelerator(accelerator),
        accelerator_said=accelerator != "auto",
        blind=conn is None,
    )


def read_host_means() -> Means:
    return read_means(Path("/proc/cpuinfo").read_text(encoding="utf-8"), Path("/proc/meminfo").read_text(encoding="utf-8"))


def choose_accelerator(wanted: str) -> str:
    """kvm or qemu (emulation). wanted: one of these, or auto."""
    if wanted != "auto":
        return wanted
    return "kvm" if kvm_works() else "qemu"


def _base(image: Mapping[str, Any]) -> BaseImage:
    path, kind = image["path"], image["format"]
    try:
        with Path(path).open("rb") as stream:
            header = read_qcow2(stream.read(HEADER_BYTES))
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        return BaseImage(path, kind)
    return BaseImage(path, kind, header.virtual_size if header is not None else size)


def _files(directory: str) -> list[Path]:
    """What is named as volumes and seeds are, whatever it is; a link that leads nowhere too, for nothing can be made in its place."""
    return sorted(path for pattern in ("*.qcow2", "*-seed.iso") for path in Path(directory).glob(pattern))


def _volume(path: Path) -> Optional[Volume]:
    """None for what is no qcow2 file."""
    if not path.is_file() or path.suffix != ".qcow2":
        return None
    try:
        with path.open("rb") as stream:
            header = read_qcow2(stream.read(HEADER_BYTES))
            blocks = os.fstat(stream.fileno()).st_blocks
    except FileNotFoundError:
        return None
    # A relative name is meant from the file's own directory (qemu-img(1)).
    backing = os.path.normpath(path.parent / header.backing) if header is not None and header.backing else None
    return None if header is None else Volume(str(path), header.virtual_size, blocks * 512, backing)


def _space(name: str, directory: str) -> Optional[PoolSpace]:
    try:
        figures = os.statvfs(directory)
    except FileNotFoundError:
        return None
    block = figures.f_frsize
    # What others than root may still take: QEMU does not run as root.
    return PoolSpace(name, figures.f_blocks * block, (figures.f_blocks - figures.f_bfree) * block, figures.f_bavail * block)


def apply(conn: Any, operation: GuestOperation, warn: Callable[[str], None]) -> None:
    """ResourceError says what failed. warn: takes what went another way than planned, and does no harm."""
    try:
        _apply(conn, operation, warn)
    except OSError as error:
        raise ResourceError(f"{error.filename}: {error.strerror}") from None


def refresh_pools(conn: Any, names: Iterable[str], warn: Callable[[str], None]) -> None:
    """Lets libvirt look again what volumes the pools have; its own list is only for people and other programs."""
    for name in names:
        try:
            with errors():
                conn.storagePoolLookupByName(name).refresh(0)
        except ResourceError as error:
            # A busy pool refuses.
            warn(f"pool {name}: libvirt did not look into its directory: {error}. Run virsh pool-refresh {name} to see the volumes there")


def _apply(conn: Any, operation: GuestOperation, warn: Callable[[str], None]) -> None:
    if isinstance(operation, MakeVolume):
        _make_volume(operation)
    elif isinstance(operation, GrowVolume):
        _run(["qemu-img", "resize", "-q", operation.path, str(operation.size)])
    elif isinstance(operation, WriteSeed):
        write_seed(operation.path, operation.documents)
    elif isinstance(operation, RemoveFiles):
        for path in operation.paths:
            Path(path).unlink(missing_ok=True)
    else:
        with errors():
            _apply_domain(conn, operation, warn)


def _apply_domain(conn: Any, operation: GuestOperation, warn: Callable[[str], None]) -> None:
    if isinstance(operation, Define):
        conn.defineXML(operation.xml)
        return
    domain = conn.lookupByName(operation.name)  # type: ignore[union-attr]
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if isinstance(operation, Start):
        domain.create()
    elif isinstance(operation, Autostart):
        domain.setAutostart(int(operation.enabled))
    elif isinstance(operation, Suspend):
        domain.suspend()
    elif isinstance(operation, Resume):
        domain.resume()
    elif isinstance(operation, ShutDown):
        _shut_down(domain, operation, warn)
    elif isinstance(operation, Forget):
        _forget(domain)
    elif isinstance(operation, SetMemory):
        domain.setMemoryFlags(operation.memory_mb * 1024, live)
    elif isinstance(operation, SetVcpus):
        _set_vcpus(domain, operation, warn)
    elif isinstance(operation, AttachDevice):
        domain.attachDeviceFlags(operation.xml, live)
    elif isinstance(operation, DetachDevice):
        _detach(conn, domain, operation)
    elif isinstance(operation, SetMark):
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, operation.xml, MARK_KEY, NAMESPACE, live)
    elif isinstance(operation, GrowLive):
        _grow(domain, operation, warn)
    elif isinstance(operation, TellSsh):
        _tell_ssh(domain, operation, warn)
    else:
        raise TypeError(f"no way to apply {operation!r}")


def _set_vcpus(domain: Any, operation: SetVcpus, warn: Callable[[str], None]) -> None:
    try:
        domain.setVcpusFlags(operation.vcpus, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        # Taking one away is a request, and not every guest answers it.
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_TIMEOUT:
            raise
        warn(f"guest {operation.name}: it has not given all vCPUs back, and will have {operation.vcpus} after its next start")


def _make_volume(operation: MakeVolume) -> None:
    """Under its own name only when it is whole, and never in the place of another file."""
    target = Path(operation.path)
    part = target.with_name(f".{target.name}.part")
    backing = [] if operation.backing is None else ["-b", operation.backing, "-F", str(operation.backing_format)]
    size = [] if operation.size is None else [str(operation.size)]
    try:
        _run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(part), *size])
        part.chmod(0o600)
        if os.path.lexists(target):
            raise ResourceError(f"{target}: it has come to be since the plan was made, and is left as it is")
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _run(argv: Sequence[str]) -> None:
    try:
        subprocess.run(argv, capture_output=True, text=True, check=True, timeout=600)
    except subprocess.CalledProcessError as error:
        raise ResourceError(f"{shell_line(argv)}: {error.stderr.strip()}") from None
    except subprocess.TimeoutExpired:
        raise ResourceError(f"{shell_line(argv)}: no end within 600 s") from None
    except OSError as error:
        raise ResourceError(f"{shell_line(argv)}: {error.strerror} (package qemu-utils, or qemu-img)") from None


def _shut_down(domain: Any, operation: ShutDown, warn: Callable[[str], None]) -> None:
    end = time.monotonic() + operation.seconds
    ask_again = 0.0
    while _is_active(domain):
        if time.monotonic() >= end:
            _switch_off(domain)
            warn(f"guest {operation.name}: it did not shut down within {operation.seconds} s, and was switched off")
            return
        if time.monotonic() >= ask_again:
            _ask_to_go(domain)
            ask_again = time.monotonic() + _SHUTDOWN_AGAIN_S
        time.sleep(0.2)


def _is_active(domain: Any) -> bool:
    """A transient guest is gone altogether when it stops."""
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return False


def _switch_off(domain: Any) -> None:
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        # It went in this very moment.
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
            raise


def _ask_to_go(domain: Any) -> None:
    """The power button; a guest that is just booting, or going, may refuse, and is asked again."""
    try:
        domain.shutdown()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (
            libvirt.VIR_ERR_OPERATION_INVALID,
            libvirt.VIR_ERR_OPERATION_FAILED,
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
            libvirt.VIR_ERR_NO_DOMAIN,
        ):
            raise


def _forget(domain: Any) -> None:
    flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    flags |= libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    try:
        domain.undefineFlags(flags)
    except libvirt.libvirtError as error:
        # The test driver knows none of them.
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        domain.undefine()


def _detach(conn: Any, domain: Any, operation: DetachDevice) -> None:
    end = time.monotonic() + _DETACH_LIMIT_S
    ask_again = 0.0
    while _has(conn, operation):
        if time.monotonic() >= end:
            raise ResourceError(f"the guest does not let go of its {operation.device}: nothing happened within {_DETACH_LIMIT_S:.0f} s. Is its system up?")
        if time.monotonic() >= ask_again:
            _ask_to_let_go(domain, operation)
            ask_again = time.monotonic() + _DETACH_AGAIN_S
        time.sleep(0.2)


def _ask_to_let_go(domain: Any, operation: DetachDevice) -> None:
    try:
        domain.detachDeviceFlags(operation.xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        # "already in the process of unplug", or gone since we looked.
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_DEVICE_MISSING, libvirt.VIR_ERR_INTERNAL_ERROR):
            raise


def _has(conn: Any, operation: DetachDevice) -> bool:
    found = observe_domain(conn, operation.name)
    if found is None or found.live is None:
        return False
    device = ET.fromstring(operation.xml)
    if device.tag == "interface":
        return mac_of(device) in {nic.mac for nic in found.live.nics}
    return file_of(device) in {disk.path for disk in found.live.disks}


def _grow(domain: Any, operation: GrowLive, warn: Callable[[str], None]) -> None:
    domain.blockResize(operation.target, operation.size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    by_itself = "the file system on it follows at the guest's next boot, or by hand"
    try:
        code, _output, said = guest_agent.execute(
            domain, ["/bin/sh", "-c", _GROW, "grow", operation.disk, "yes" if operation.first else "no"], timeout=_GROW_LIMIT_S
        )
    except ResourceError as error:
        warn(f"guest {operation.name}: disk {operation.disk} is larger now; {by_itself} ({error})")
        return
    if code:
        warn(f"guest {operation.name}: disk {operation.disk} is larger now; {by_itself} (growing it ended with {code}: {' '.join(said.split())[-300:]})")


def _tell_ssh(domain: Any, operation: TellSsh, warn: Callable[[str], None]) -> None:
    try:
        code, _output, said = guest_agent.execute(domain, operation.argv, timeout=_SSH_LIMIT_S)
        trouble = f"telling it ended with {code}: {' '.join(said.split())[-300:]}" if code else ""
    except ResourceError as error:
        trouble = str(error)
    if trouble:
        warn(f"guest {operation.name}: its sshd listens on port {operation.port} from its next start on ({trouble})")


def usage(conn: Any, name: str) -> dict[str, Any]:
    """Of a running guest: processor time, and seconds since its start (None on another host than this); memory of its process on the host, in MiB."""
    with errors():
        domain = conn.lookupByName(name)
        try:
            resident = domain.memoryStats().get("rss", 0) // 1024
        except libvirt.libvirtError as error:
            # The test driver keeps none.
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            resident = None
        up = uptime(name) if is_local(conn) else None
        return {"cpu_seconds": domain.info()[4] / 1e9, "memory_rss_mb": resident, "uptime_seconds": up}
