# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Terraform provider for tests: reads a live libvirt in the way of dmacvicar/libvirt 0.8, with its omissions. It can plan, and change nothing.

Started by Terraform as a plug-in (protocol 5, github.com/hashicorp/terraform docs/plugin-protocol). ``python -m ... NAME``, NAME of schemas.PROVIDERS.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from concurrent import futures
from ipaddress import ip_interface
from typing import Any

import grpc
import libvirt

from tests.integration.terraform.schemas import PROVIDERS, Provider, empty, plan, replaced, with_id
from tests.integration.terraform.wire import decode, dynamic, encode, read_dynamic


def parse(thing: Any) -> Any:
    """The XML of a network, pool, volume or domain. Any: an element that has to be there and is not is an error."""
    return ET.fromstring(thing.XMLDesc(0))


def read_network(conn: Any, identifier: str) -> dict[str, Any]:
    """resourceLibvirtNetworkRead."""
    network = conn.networkLookupByUUIDString(identifier)
    root = parse(network)
    state: dict[str, Any] = {"name": network.name(), "bridge": root.find("bridge").get("name"), "autostart": bool(network.autostart())}
    if root.find("mtu") is not None:
        state["mtu"] = int(root.find("mtu").get("size"))
    if root.find("forward") is not None:
        state["mode"] = root.find("forward").get("mode")
    block: dict[str, Any] = {}
    if root.find("domain") is not None:
        state["domain"] = root.find("domain").get("name")
        block = {"enabled": False, "local_only": (root.find("domain").get("localOnly") or "").lower() == "yes"}
    # The netmask is not looked at.
    state["addresses"] = [str(ip_interface(f"{entry.get('address')}/{entry.get('prefix', '0')}").network) for entry in root.iterfind("ip")] or None
    if root.find("ip/dhcp") is not None:
        state["dhcp"] = [{"enabled": True}]
    if root.find("dns") is not None:
        block = {"enabled": root.find("dns").get("enable") == "yes", "local_only": block.get("local_only", False)}
        block["hosts"] = [{"ip": entry.get("ip"), "hostname": name.text} for entry in root.iterfind("dns/host") for name in entry.iterfind("hostname")]
        block["forwarders"] = [{"address": entry.get("addr"), "domain": entry.get("domain")} for entry in root.iterfind("dns/forwarder")]
    if block:
        state["dns"] = [{"forwarders": [], "srvs": [], "hosts": [], **block}]
    state["routes"] = [{"cidr": f"{entry.get('address')}/{entry.get('prefix', '0')}", "gateway": entry.get("gateway")} for entry in root.iterfind("route")]
    return state


def read_pool(conn: Any, identifier: str) -> dict[str, Any]:
    """resourceLibvirtPoolRead."""
    pool = conn.storagePoolLookupByUUIDString(identifier)
    root = parse(pool)
    _state, capacity, allocation, available = pool.info()
    state = {"name": pool.name(), "type": root.get("type"), "capacity": capacity, "allocation": allocation, "available": available}
    state["target"] = [{"path": root.findtext("target/path")}]
    return state


def read_volume(conn: Any, identifier: str) -> dict[str, Any]:
    """resourceLibvirtVolumeRead: never the base volume."""
    volume = conn.storageVolLookupByKey(identifier)
    kind = parse(volume).find("target/format")
    return {
        "name": volume.name(),
        "pool": volume.storagePoolLookupByVolume().name(),
        "size": volume.info()[1],
        "format": None if kind is None else kind.get("type"),
    }


def read_domain(conn: Any, identifier: str) -> dict[str, Any]:
    """resourceLibvirtDomainRead: never the type, consoles, displays, the TPM, the boot order or the agent."""
    domain = conn.lookupByUUIDString(identifier)
    root = parse(domain)
    kind, cpu, loader, nvram = root.find("os/type"), root.find("cpu"), root.find("os/loader"), root.find("os/nvram")
    state: dict[str, Any] = {
        "name": domain.name(),
        "description": root.findtext("description", ""),
        "vcpu": int(root.findtext("vcpu", "0")),
        "memory": int(root.findtext("memory", "0")) // 1024,
        "arch": kind.get("arch"),
        "machine": _machine(conn, kind.get("machine")),
        "autostart": bool(domain.autostart()),
        "running": domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING,
        "kernel": root.findtext("os/kernel", ""),
        "initrd": root.findtext("os/initrd", ""),
        "cmdline": [{"_": root.findtext("os/cmdline")}] if root.findtext("os/cmdline") else [],
        "emulator": root.findtext("devices/emulator", ""),
        "disk": [_disk(conn, entry) for entry in root.iterfind("devices/disk")],
        "network_interface": [_interface(conn, entry) for entry in root.iterfind("devices/interface")],
    }
    if loader is not None:
        state["firmware"] = loader.text
    if nvram is not None:
        state["nvram"] = [{"file": nvram.text, "template": nvram.get("template")}]
    if cpu is not None and cpu.get("mode"):
        state["cpu"] = [{"mode": cpu.get("mode")}]
    return state


def _machine(conn: Any, name: str) -> str:
    entries = ET.fromstring(conn.getCapabilities()).iterfind("guest/arch/machine")
    return next((str(entry.text) for entry in entries if entry.get("canonical") == name), name)


def _disk(conn: Any, entry: Any) -> dict[str, Any]:
    source, target = entry.find("source"), entry.find("target")
    state: dict[str, Any] = {"volume_id": "", "url": "", "file": "", "block_device": "", "scsi": False, "wwn": ""}
    if entry.get("device") == "cdrom":
        state["file"] = source.get("file")
    elif source.get("dev"):
        state["block_device"] = source.get("dev")
    elif source.get("file"):
        state["volume_id"] = conn.storageVolLookupByPath(source.get("file")).key()
    else:
        state["volume_id"] = conn.storagePoolLookupByName(source.get("pool")).storageVolLookupByName(source.get("volume")).key()
    if target.get("bus") == "scsi":
        state.update(scsi=True, wwn=entry.findtext("wwn", ""))
    return state


def _interface(conn: Any, entry: Any) -> dict[str, Any]:
    source, mac = entry.find("source"), entry.find("mac").get("address").upper()
    state: dict[str, Any] = dict.fromkeys(("network_id", "network_name", "bridge", "vepa", "macvtap", "passthrough", "hostname"), "")
    state.update(mac=mac, wait_for_lease=False, addresses=[])
    if entry.get("type") == "network":
        network = conn.networkLookupByName(source.get("network"))
        hosts = parse(network).iterfind("ip/dhcp/host")
        hostname = next((host.get("name", "") for host in hosts if (host.get("mac") or "").upper() == mac), "")
        state.update(network_id=network.UUIDString(), network_name=network.name(), hostname=hostname)
    elif entry.get("type") == "bridge":
        state["bridge"] = source.get("bridge")
    elif entry.get("type") == "direct":
        state[{"vepa": "vepa", "bridge": "macvtap", "passthrough": "passthrough"}[source.get("mode")]] = source.get("dev")
    return state


READERS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "libvirt_network": read_network,
    "libvirt_pool": read_pool,
    "libvirt_volume": read_volume,
    "libvirt_domain": read_domain,
}


class Service(grpc.GenericRpcHandler):
    """The calls of tfplugin5.Provider that validate and plan make."""

    def __init__(self, provider: Provider, stopped: threading.Event) -> None:
        self.provider, self.stopped = provider, stopped
        self.uri = ""
        self.calls: dict[str, Callable[[dict[int, Any]], bytes]] = {
            "GetSchema": lambda _request: provider.message(),
            "PrepareProviderConfig": lambda request: encode([(1, request[1])]),
            "ValidateResourceTypeConfig": lambda _request: b"",
            "ValidateDataSourceConfig": lambda _request: b"",
            "Configure": self.configure,
            "ImportResourceState": self.import_state,
            "ReadResource": self.read,
            "UpgradeResourceState": lambda request: encode([(1, encode([(2, decode(request[3])[1])]))]),
            "PlanResourceChange": self.plan,
            "Stop": lambda _request: b"",
            "Shutdown": self.shutdown,
        }

    def service(self, details: Any) -> Any:
        call = self.calls.get(details.method.rpartition("/")[2])
        return None if call is None else grpc.unary_unary_rpc_method_handler(lambda request, _context: call(decode(request)))

    def fields(self, kind: bytes) -> Mapping[str, Any]:
        return with_id(self.provider.resources[kind.decode()])

    def configure(self, request: dict[int, Any]) -> bytes:
        self.uri = read_dynamic(request[2])["uri"]
        return b""

    def import_state(self, request: dict[int, Any]) -> bytes:
        state = {**empty(self.fields(request[1])), "id": request[2].decode()}
        return encode([(1, encode([(1, request[1]), (2, dynamic(state))]))])

    def read(self, request: dict[int, Any]) -> bytes:
        state = read_dynamic(request[2])
        conn = libvirt.open(self.uri)
        try:
            found = READERS[request[1].decode()](conn, state["id"])
        finally:
            conn.close()
        return encode([(1, dynamic({**state, **found}))])

    def plan(self, request: dict[int, Any]) -> bytes:
        fields = self.fields(request[1])
        prior, config = read_dynamic(request[2]), read_dynamic(request[4])
        if prior is None or config is None:
            return encode([(1, request[3]), (5, 1)])
        planned = plan(fields, config, prior)
        paths = [(2, encode([(1, encode([(1, name)]))])) for name in replaced(fields, planned, prior)]
        # 5: legacy_type_system, as the SDK says of itself.
        return encode([(1, dynamic(planned)), *paths, (5, 1)])

    def shutdown(self, _request: dict[int, Any]) -> bytes:
        self.stopped.set()
        return b""


def main() -> None:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    stopped = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((Service(PROVIDERS[sys.argv[1]], stopped),))
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        server.add_insecure_port(f"unix:{address}")
        server.start()
        # Versions of the handshake and of the protocol, then where and how (github.com/hashicorp/go-plugin).
        print(f"1|5|unix|{address}|grpc", flush=True)
        stopped.wait()
        server.stop(None)


if __name__ == "__main__":
    main()
