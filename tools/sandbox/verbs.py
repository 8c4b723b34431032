# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sandbox can be asked to do; each verb is given names and returns data, and may be repeated."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, Optional

from tools.sandbox import guest_key
from tools.sandbox import leftovers as left
from tools.sandbox.addresses import choose_inner, choose_uplink, internet_address, next_host_address
from tools.sandbox.base import Base
from tools.sandbox.containers import Internet, SystemHost, ensure_network, find, owned, remove_container, subnets
from tools.sandbox.engine import MACHINE_SOCKETS, OWN, OwnEngine, connect, decide, existing, started
from tools.sandbox.errors import SandboxError
from tools.sandbox.machine import OWN_ENGINE_NEEDS, machine_mtu, machine_routes, require, resolvers
from tools.sandbox.names import INTERNET, Identity, Settings
from tools.sandbox.progress import Step
from tools.sandbox.record import Record
from tools.sandbox.state import HostState, Store, write_atomically


class Sandbox:
    """All verbs of one checkout."""

    def __init__(self, identity: Identity, settings: Settings) -> None:
        self.identity = identity
        self.settings = settings
        self.store = Store(identity)

    @property
    def state(self) -> Any:
        return self.store.state

    # -- making -----------------------------------------------------------------------------------

    def up(self, name: str, source: str = "", install: bool = False) -> dict[str, Any]:
        """A booted host of that name; returns its connection (see ``connection``)."""
        base = Base(self.identity, self.settings)
        needs = {**guest_key.NEEDS, **base.needs(), **(OWN_ENGINE_NEEDS if decide(self.settings, self.store) == OWN else {})}
        require(needs, install, self.identity.log_dir / "apt.log")
        taken = [] if self.state.uplink and self.state.pool else self._taken(base)
        if not self.state.pool:
            self.state.link, self.state.pool = choose_inner(self.identity.id, taken)
            self.store.save()
        if os.geteuid() == 0:
            Record(self.identity.run_root).note()
        client = started(self.identity, self.settings, self.state)
        if not self.state.uplink:
            self.state.uplink = choose_uplink(self.settings.uplink, [*taken, *subnets(client)])
            self.store.save()
        base_image = base.ensure(client)
        ensure_network(client, self.identity, self.state.uplink, machine_mtu())
        Internet(client, self.identity, internet_address(self.state.uplink)).ensure(base_image)
        host = self._host(client, name)
        self._ensure_host(host, self._image(client, source) if source else base_image)
        guest_key.ensure_guest_key(self.identity.state_dir)
        # Playbooks write there what the inventory reads.
        (self.identity.state_dir / "guests").mkdir(exist_ok=True)
        write_atomically(self.identity.hosts_dir / f"{name}.json", json.dumps(self.connection(name), indent=2) + "\n")
        return self.connection(name)

    def _taken(self, base: Base) -> list[str]:
        """CIDRs that the machine reaches, or that hosts must be able to reach."""
        return [*machine_routes(), *base.reached(), *(f"{address}/32" for address in resolvers(self.settings.dns))]

    def _ensure_host(self, host: SystemHost, image: str) -> None:
        known = self.state.hosts[host.name]
        found = host.found()
        if not (found and known.ready):
            known.image = image
            self.store.save()
            resolv_conf = self.identity.state_dir / "resolv.conf"
            write_atomically(resolv_conf, "".join(f"nameserver {address}\n" for address in resolvers(self.settings.dns)))
            host.create_and_start(image, resolv_conf)
        elif found.status != "running":
            found.start()
        host.wait_booted(self.settings.boot_seconds)
        if not known.ready:
            host.fill_apt_pool()
            known.ready = True
            self.store.save()

    def _host(self, client: Any, name: str) -> SystemHost:
        """The host with its address, which is reserved in the state at first sight."""
        if name not in self.state.hosts:
            address = next_host_address(self.state.uplink, (host.address for host in self.state.hosts.values()))
            self.state.hosts[name] = HostState(address)
            self.store.save()
        return SystemHost(client, self.identity, name, self.state.hosts[name].address)

    def _image(self, client: Any, source: str) -> str:
        import docker.errors

        for name in (f"{self.identity.tag}/prepared:{source}", source):
            try:
                client.images.get(name)
                return name
            except (docker.errors.ImageNotFound, docker.errors.APIError):
                continue
        raise SandboxError(f"there is no image '{source}' in the engine", "Make one with: commit NAME TAG")

    def commit(self, name: str, tag: str) -> str:
        """A prepared host becomes an image for ``up --from TAG``; what lies in its volumes is not part of it."""
        repository = f"{self.identity.tag}/prepared"
        container = self._container(name)
        with Step(f"{name}: image {tag}"):
            container.commit(repository, tag, changes=[f"LABEL {'='.join(next(iter(self.identity.labels.items())))}"])
        return f"{repository}:{tag}"

    def restart(self, name: str) -> str:
        self._container(name)
        host = SystemHost(self._client(), self.identity, name, self.state.hosts[name].address)
        host.restart()
        return host.wait_booted(self.settings.boot_seconds)

    # -- looking ----------------------------------------------------------------------------------

    def connection(self, name: str) -> dict[str, Any]:
        """What Ansible and tests need to reach a host."""
        if name not in self.state.hosts:
            raise SandboxError(f"there is no host '{name}'", f"Run: up --name {name}")
        return {
            "docker_host": OwnEngine(self.identity).url if self.state.engine == OWN else self.state.engine,
            "container": self.identity.container(name),
            "address": self.state.hosts[name].address,
            "uplink": self.state.uplink,
            "internet_address": internet_address(self.state.uplink),
            "internet_container": self.identity.container(INTERNET),
        }

    def status(self) -> dict[str, Any]:
        """``up`` is false where nothing runs; ``hosts`` maps each name to address, image, container state and systemd state."""
        result: dict[str, Any] = {"id": self.identity.id, "up": False, "engine": self.state.engine, "uplink": self.state.uplink, "hosts": {}}
        try:
            client = self._client()
        except SandboxError as error:
            return {**result, "reason": error.cause}
        for name, host in sorted(self.state.hosts.items()):
            found = find(client, self.identity.container(name))
            running = bool(found and found.status == "running")
            system = SystemHost(client, self.identity, name, host.address).system_state(found) if running else ""
            result["hosts"][name] = {"address": host.address, "image": host.image, "container": found.status if found else "absent", "systemd": system}
        internet = find(client, self.identity.container(INTERNET))
        result["internet"] = {"address": internet_address(self.state.uplink), "container": internet.status if internet else "absent"}
        result["up"] = any(host["systemd"] for host in result["hosts"].values())
        result["docker_host"] = OwnEngine(self.identity).url if self.state.engine == OWN else self.state.engine
        return result

    def container(self, name: str) -> Any:
        """The engine's object of a running host, or of ``internet``."""
        return self._container(name)

    def failed_units(self, name: str) -> list[str]:
        return SystemHost(self._client(), self.identity, name, self.state.hosts[name].address).failed_units()

    def _client(self) -> Any:
        return connect(existing(self.identity, self.state), timeout=600)

    def _container(self, name: str) -> Any:
        found = find(self._client(), self.identity.container(name))
        if not found:
            raise SandboxError(f"there is no host '{name}'", f"Run: up --name {name}")
        return found

    # -- removing ---------------------------------------------------------------------------------

    def down_one(self, name: str) -> None:
        """One host with its volumes; the others stay."""
        if self.state.engine and name in self.state.hosts:
            host = SystemHost(self._client(), self.identity, name, self.state.hosts[name].address)
            host.remove()
            host.remove_volumes()
        (self.identity.hosts_dir / f"{name}.json").unlink(missing_ok=True)
        (self.identity.state_dir / "guests" / f"{name}.json").unlink(missing_ok=True)
        self.state.hosts.pop(name, None)
        if self.identity.state_dir.exists():
            self.store.save()

    def down(self, purge: bool = False) -> list[str]:
        """Everything; returns what is left all the same."""
        if self.state.engine == OWN and os.geteuid() != 0:
            raise SandboxError("this sandbox has an engine of its own, started by root", "Run the down verb as root")
        client = self._machine_engine()
        with Step("removal"):
            if client:
                self._remove_owned(client)
            if os.geteuid() == 0:
                self._remove_own(OwnEngine(self.identity))
            left.sweep(self.identity)
            if purge and self.identity.base_dir.exists():
                shutil.rmtree(self.identity.base_dir)
        return left.leftovers(self.identity, client)

    def _machine_engine(self) -> Optional[Any]:
        """The machine's engine, where our label may be found: the one in the state, else any that answers."""
        urls = [self.state.engine] if self.state.engine not in ("", OWN) else [f"unix://{socket}" for socket in MACHINE_SOCKETS if socket.exists()]
        for url in urls:
            try:
                return connect(url, timeout=600)
            except SandboxError:
                if self.state.engine == url:
                    raise
        return None

    def _remove_own(self, engine: OwnEngine) -> None:
        """Containers end by the engine's hand where it still answers; else ``sweep`` finds their processes."""
        if engine.alive():
            client = connect(engine.url, timeout=600)
            for kind, thing in owned(client, self.identity):
                if kind == "container":
                    remove_container(thing)
        engine.stop()
        engine.namespace.down()

    def _remove_owned(self, client: Any) -> None:
        for kind, thing in owned(client, self.identity):
            if kind == "container":
                remove_container(thing)
            elif kind == "network":
                thing.remove()
            elif kind == "volume":
                thing.remove(force=True)
            else:
                client.images.remove(thing.id, force=True)
