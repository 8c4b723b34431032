# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers of a sandbox: the hosts, and the small one that plays the Internet; their network and their volumes."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ansible_collections.hybridlab.platform.plugins.module_utils.host.accelerator import kvm_works

from tools.sandbox.addresses import gateway
from tools.sandbox.errors import SandboxError
from tools.sandbox.names import INIT, INTERNET, Identity
from tools.sandbox.progress import Step

RESPONDER = Path(__file__).with_name("responder.py")
# Each host downloads into a directory of its own, as apt's lock has no patience; packages are shared by hard links.
APT_POOL = "/var/cache/hybridlab-apt"
VOLUMES = {"docker": "/var/lib/docker", "data": "/data/docker", "images": "/var/lib/libvirt/images"}
NETWORK_SYSCTLS = {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "0"}
BOOTED = ("running", "degraded")

# A host lives for a test: dpkg need not wait for the disk after each file, nor unpack what nobody reads there.
DPKG_CONF = b"""force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
"""

# Rules of tmpfiles.d for the machine's /dev/kvm, which a privileged container has too. One that only seems to work makes libvirt ask QEMU anew at each call.
KVM_IS_SOUND = b"z /dev/kvm 0666\n"
KVM_IS_HIDDEN = b"L+ /dev/kvm - - - - /dev/hidden-kvm\n"


@dataclass(frozen=True)
class Ran:
    """What a command inside a container did."""

    code: int
    text: str


def find(client: Any, name: str) -> Optional[Any]:
    """The container, or None."""
    import docker.errors

    try:
        return client.containers.get(name)
    except docker.errors.NotFound:
        return None


def run(container: Any, argv: list[str]) -> Ran:
    code, text = container.exec_run(argv)
    return Ran(code, text.decode(errors="replace"))


def put_file(container: Any, path: str, content: bytes, mode: int = 0o644) -> None:
    """Writes one file into a container, running or not."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(Path(path).name)
        member.size, member.mode = len(content), mode
        archive.addfile(member, io.BytesIO(content))
    container.put_archive(str(Path(path).parent), stream.getvalue())


def ensure_network(client: Any, identity: Identity, cidr: str, mtu: int) -> None:
    """The uplink: a bridge of our own in the engine."""
    import docker.types

    if client.networks.list(names=[f"^{identity.tag}$"]):
        return
    client.networks.create(
        identity.tag,
        driver="bridge",
        labels=identity.labels,
        options={"com.docker.network.bridge.name": identity.bridge, "com.docker.network.driver.mtu": str(mtu)},
        ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=cidr, gateway=gateway(cidr))]),
    )


def remove_container(container: Any, seconds: float = 60) -> None:
    """Ends and removes a container with its anonymous volumes; one that another run is removing is waited for."""
    import docker.errors

    deadline = time.monotonic() + seconds
    while True:
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def subnets(client: Any) -> list[str]:
    """IPv4 CIDRs of every network of the engine."""
    found = []
    for network in client.networks.list():
        configs = (network.attrs.get("IPAM") or {}).get("Config") or []
        found += [config["Subnet"] for config in configs if ":" not in config.get("Subnet", ":")]
    return found


class Container:
    """One container of the sandbox at a fixed address of the uplink."""

    def __init__(self, client: Any, identity: Identity, name: str, address: str) -> None:
        self.client = client
        self.identity = identity
        self.name = name
        self.address = address
        self.full_name = identity.container(name)

    def found(self) -> Optional[Any]:
        return find(self.client, self.full_name)

    def create(self, image: str, **options: Any) -> Any:
        endpoint = self.client.api.create_endpoint_config(ipv4_address=self.address)
        return self.client.containers.create(
            image,
            name=self.full_name,
            hostname=self.name,
            labels=self.identity.labels,
            network=self.identity.tag,
            networking_config={self.identity.tag: endpoint},
            **options,
        )

    def remove(self) -> None:
        found = self.found()
        if found:
            remove_container(found)


class Internet(Container):
    """Answers on port 7 and says from which address it was asked."""

    def __init__(self, client: Any, identity: Identity, address: str) -> None:
        super().__init__(client, identity, INTERNET, address)

    def ensure(self, image: str) -> None:
        found = self.found()
        if found and found.status == "running":
            return
        self.remove()
        made = self.create(image, command=["python3", "/responder.py"], init=True, cap_add=["NET_ADMIN"])
        put_file(made, "/responder.py", RESPONDER.read_bytes())
        made.start()


class SystemHost(Container):
    """A bare Debian 12 with systemd: one KVM host to be."""

    def create_and_start(self, image: str, resolv_conf: Path) -> None:
        """From nothing; a half-made one of the same name is removed first."""
        self.remove()
        self.remove_volumes()
        volumes = {str(resolv_conf): {"bind": "/etc/resolv.conf", "mode": "rw"}}
        for use, path in VOLUMES.items():
            made = self.client.volumes.create(self.identity.volume(self.name, use), labels=self.identity.labels)
            volumes[made.name] = {"bind": path, "mode": "rw"}
        pool = self.client.volumes.create(self.identity.volume("shared", "apt"), labels=self.identity.labels)
        volumes[pool.name] = {"bind": APT_POOL, "mode": "rw"}
        if Path("/lib/modules").is_dir():
            volumes["/lib/modules"] = {"bind": "/lib/modules", "mode": "ro"}
        container = self.create(
            image,
            command=[INIT],
            privileged=True,
            cgroupns="private",
            environment={"container": "docker"},
            stop_signal="SIGRTMIN+3",
            sysctls={key: value for key, value in NETWORK_SYSCTLS.items() if Path("/proc/sys", *key.split(".")).exists()},
            tmpfs={"/run": "rw,nosuid,nodev,mode=755", "/run/lock": "rw,nosuid,nodev,noexec,mode=1777"},
            volumes=volumes,
        )
        put_file(container, "/etc/machine-id", b"")
        put_file(container, "/etc/apt/apt.conf.d/80hybridlab-sandbox", self._apt_conf().encode())
        put_file(container, "/etc/dpkg/dpkg.cfg.d/hybridlab-sandbox", DPKG_CONF)
        put_file(container, "/etc/tmpfiles.d/hybridlab-kvm.conf", KVM_IS_SOUND if kvm_works() else KVM_IS_HIDDEN)
        container.start()

    def _apt_conf(self) -> str:
        own = f"{APT_POOL}/{self.name}"
        return (
            f'Dir::Cache::archives "{own}";\nAPT::Keep-Downloaded-Packages "true";\nBinary::apt::APT::Keep-Downloaded-Packages "true";\n'
            f'DPkg::Pre-Invoke {{ "cp -ln {own}/*.deb {APT_POOL}/pool/ 2>/dev/null || true"; }};\n'
        )

    def fill_apt_pool(self) -> None:
        """What any host of this sandbox has downloaded is at hand; the package lists count as old, so that the first update is not skipped."""
        own = f"{APT_POOL}/{self.name}"
        script = f"rm -rf {own} && mkdir -p {own}/partial {APT_POOL}/pool && cp -ln {APT_POOL}/pool/*.deb {own}/ 2>/dev/null; touch -d @0 /var/lib/apt/lists"
        ran = run(self._existing(), ["sh", "-c", script])
        if ran.code:
            raise SandboxError(f"{self.name}: its package cache could not be made ({ran.text.strip()})", "Remove the host with the down verb and try again")

    def wait_booted(self, seconds: int) -> str:
        """Returns ``running`` or ``degraded``.

        :raises SandboxError: systemd did not get so far in time; with the journal's last lines
        """
        deadline = time.monotonic() + seconds
        with Step(f"{self.name}: systemd"):
            while True:
                container = self._existing()
                if container.status != "running":
                    logs = container.logs(tail=20).decode(errors="replace")
                    raise SandboxError(f"{self.name} stopped while it booted:\n{logs}\n", "Look at the engine's log, then remove it with the down verb")
                state = self.system_state(container)
                if state in BOOTED:
                    return state
                if time.monotonic() > deadline:
                    journal = run(container, ["journalctl", "--no-pager", "--lines=20"]).text
                    raise SandboxError(
                        f"{self.name}: systemd is '{state}' after {seconds} s; the journal ends with:\n{journal}\n",
                        "Allow more by HYBRIDLAB_BOOT_SECONDS, or cure what the journal names",
                    )
                time.sleep(0.3)

    def system_state(self, container: Any) -> str:
        return run(container, ["systemctl", "is-system-running"]).text.strip()

    def failed_units(self) -> list[str]:
        text = run(self._existing(), ["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).text
        return [line.split()[0] for line in text.splitlines() if line.strip()]

    def restart(self) -> None:
        with Step(f"{self.name}: stop and start"):
            self._existing().restart(timeout=60)

    def remove_volumes(self) -> None:
        import docker.errors

        for use in VOLUMES:
            try:
                self.client.volumes.get(self.identity.volume(self.name, use)).remove(force=True)
            except docker.errors.NotFound:
                continue

    def _existing(self) -> Any:
        found = self.found()
        if not found:
            raise SandboxError(f"there is no host '{self.name}'", f"Run: up --name {self.name}")
        return found


def owned(client: Any, identity: Identity) -> Iterator[tuple[str, Any]]:
    """(kind, object) of everything in the engine that carries our label, in the order of removal."""
    query = {"label": identity.label}
    yield from (("container", found) for found in client.containers.list(all=True, filters=query))
    yield from (("network", found) for found in client.networks.list(filters=query))
    yield from (("volume", found) for found in client.volumes.list(filters=query))
    yield from (("image", found) for found in client.images.list(filters=query))
