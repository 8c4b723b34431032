#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libvirt_guests
short_description: Reconcile a list of guests of libvirt
version_added: 0.1.0
description:
  - Brings guests to a declared state, all in one process. No XML is written by hand.
  - >-
    A guest is a domain of machine type q35 with virtio devices, disks that are qcow2 overlays on one base image, and a cloud-init seed (NoCloud).
    Networks, pools and base images have to be there; the modules M(hybridlab.platform.libvirt_networks), M(hybridlab.platform.libvirt_pools)
    and M(hybridlab.platform.libvirt_images) make them.
  - >-
    Everything is resolved and judged before the first change: names, addresses, space in the pools, and what all guests together, also those that
    nobody declared, may take of the host (O(capacity)).
  - >-
    What libvirt can change while a guest runs is changed so: memory and vCPUs within their maximum, larger disks with the file system on them, further
    disks, the network of an interface that asks DHCP, the SSH port, metadata. What QEMU or the guest takes up at its start alone is disruptive, and so is
    the removal of a disk in use: it is refused unless O(allow_disruption=true).
  - >-
    Every guest made by this module carries an element of the XML namespace C(urn:hybridlab:platform:1) in its metadata, which also remembers its address,
    its SSH port and its names. A guest without that mark is never changed.
  - Guests are changed one at a time. All that were started are then waited for together. A run that was cut short is completed by the next one.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
  - hybridlab.platform.libvirt
options:
  config:
    description:
      - The guests, as the filter P(hybridlab.platform.guests_config#filter) makes them of the model.
      - Lists inside an entry are always the whole list.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the guest, also its host name.
        type: str
        required: true
      platform:
        description: Name of the platform that it belongs to. With the name it makes up the UUID.
        type: str
      state:
        description:
          - V(stopped) asks the guest to shut down and switches it off after O(shutdown_seconds).
          - >-
            V(absent) does so too, and removes the definition with the firmware's variables, the TPM's state and the seed; of the disks,
            see O(config[].remove_disks).
        type: str
        choices: [running, stopped, suspended, absent]
        default: running
      remove_disks:
        description:
          - Whether volumes go with an absent guest, which must be said; points of time kept of them go too.
          - Of a guest that stays, whether a disk that is no longer declared is unplugged and removed. Otherwise it stays.
        type: bool
      vcpus:
        description: vCPUs that the guest has now.
        type: int
      vcpus_max:
        description: vCPUs that it may have without a restart. When left out, O(config[].vcpus).
        type: int
      memory_mb:
        description: Memory in MiB that the guest has now.
        type: int
      memory_max_mb:
        description: Memory in MiB that it may have without a restart. When left out, O(config[].memory_mb).
        type: int
      interfaces:
        description: Its interfaces. The first one carries the default route.
        type: list
        elements: dict
        suboptions:
          segment:
            description: Name of the libvirt network.
            type: str
            required: true
          mac:
            description: MAC address.
            type: str
            required: true
          address:
            description: Reserved or static IPv4 address. When left out, it is leased from the network's range.
            type: str
          prefix:
            description: Length of the network's prefix.
            type: int
          gateway:
            description: Gateway and resolver of a static address.
            type: str
          dhcp:
            description: Whether the guest asks DHCP; otherwise cloud-init sets O(config[].interfaces[].address).
            type: bool
            default: true
      disks:
        description: Its disks. It boots from the first one.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the disk, its serial number in the guest. The volume is C(GUEST-NAME.qcow2).
            type: str
            required: true
          pool:
            description: Name of the pool.
            type: str
            required: true
          size_gb:
            description: Size in GiB. When left out, that of the image; an empty disk needs one.
            type: int
          image:
            description: Name of the image in O(images) that it is an overlay on. An empty disk has none.
            type: str
      image:
        description: Name of the image of the first disk. It cannot be changed.
        type: str
      ssh_port:
        description: Port of the host that is forwarded to the guest, on which its sshd listens beside port 22.
        type: int
      names:
        description: Further names of the guest.
        type: list
        elements: str
        default: []
      cloud_init:
        description: What cloud-init is told. When left out, the guest has no seed.
        type: dict
        suboptions:
          domain:
            description: Domain of the guest's name.
            type: str
            required: true
          users:
            description: Users with C(name), C(ssh_keys), C(groups), C(sudo) and C(shell).
            type: list
            elements: dict
            default: []
          packages:
            description: Packages to install.
            type: list
            elements: str
            default: []
          commands:
            description: Commands to run once, each a line for the shell or a list.
            type: list
            elements: raw
            default: []
          user_data:
            description:
              - Further keys of C(#cloud-config), as the text of one JSON object. They are never shown.
              - The filter P(hybridlab.platform.guests_config#filter) writes it; by hand, use P(ansible.builtin.to_json#filter).
            type: str
      firmware:
        description: V(uefi-secure) is UEFI with Secure Boot and the distributions' keys.
        type: str
        choices: [bios, uefi, uefi-secure]
        default: bios
      tpm:
        description: Whether it has an emulated TPM 2.0 (package swtpm).
        type: bool
        default: false
      boot:
        description: What it boots from, in this order.
        type: list
        elements: str
        choices: [disk, cdrom, network]
        default: [disk]
      agent:
        description: Whether it has a channel for the guest agent.
        type: bool
        default: true
      console:
        description: Whether it has a serial console, which is also logged to a file.
        type: bool
        default: true
      autostart:
        description: Whether it starts with libvirt.
        type: bool
        default: true
      wait_for:
        description:
          - What has to be reached after a start. V(address) is a lease or an answer from the address, V(ssh) a greeting of the SSH server,
            V(agent) an answer of the guest agent, V(cloud_init) the end of cloud-init without error.
          - A guest that runs already is looked at too, for at most 20 seconds, since the run that started it may have been cut short.
          - When left out, nothing is waited for.
        type: str
        choices: [address, ssh, agent, cloud_init]
      wait_seconds:
        description: How long that may take.
        type: int
        default: 300
  state:
    description:
      - V(merged) makes the named guests as declared and leaves all others alone.
      - V(overridden) does the same, and removes the guests of ours that are not named, as O(remove_disks) says.
      - V(deleted) removes the named guests, or all of ours when O(config) is empty.
      - V(gathered) reports the guests of ours, or the named ones whosever they are.
      - V(rendered) returns the XML without touching any host.
    type: str
    choices: [merged, overridden, deleted, gathered, rendered]
    default: merged
  pools:
    description: Pools with C(name) and C(path), so that check mode can plan before they are there.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the pool.
        type: str
        required: true
      path:
        description: Its directory.
        type: str
        required: true
  networks:
    description: Names of networks, so that check mode can plan before they are there. A real run takes those that are.
    type: list
    elements: str
    default: []
  images:
    description: Base volumes, as RV(hybridlab.platform.libvirt_images#module:volumes) has them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the image.
        type: str
        required: true
      path:
        description: Path of its base volume.
        type: str
        required: true
      pool:
        description: Name of its pool.
        type: str
      volume:
        description: Its file name.
        type: str
      format:
        description: Format of the base volume.
        type: str
        choices: [qcow2, raw]
        default: qcow2
  capacity:
    description:
      - What all running guests together may take, with the keys C(guests), C(vcpus), C(vcpus_per_core), C(memory_mb), C(memory_percent),
        C(reserve_cores) and C(reserve_memory_mb). The lowest limit counts. A guest counts with the most that it may grow to.
    type: dict
    default: {}
  accelerator:
    description:
      - V(qemu) is emulation.
      - V(auto) gives new guests V(kvm) where KVM really runs a processor on this host, which is tried, and V(qemu) elsewhere.
      - A guest that exists keeps what it has with V(auto). The others are said of all guests.
    type: str
    choices: [kvm, qemu, auto]
    default: auto
  platform:
    description:
      - Name of the platform whose guests are ours. Guests of other platforms on the same host are then neither removed, nor reported, unless they are named.
      - When left out, the guests of every platform are ours.
    type: str
  remove_disks:
    description: Whether volumes go with guests that are removed without an entry of their own in O(config). It must be said when there are any.
    type: bool
  shutdown_seconds:
    description: How long a guest may take to shut down before it is switched off.
    type: int
    default: 120
requirements:
  - qemu-img and xorrisofs on the managed host
"""

EXAMPLES = r"""
- name: Two guests
  hybridlab.platform.libvirt_guests:
    config: "{{ platform_guests | hybridlab.platform.guests_config(platform_segments, platform_name, platform_domain, platform_pools) }}"
    images: "{{ base_volumes.volumes }}"
    capacity: {guests: 8, vcpus_per_core: 2, memory_percent: 70, reserve_cores: 2}

- name: One more GiB for a running guest
  hybridlab.platform.libvirt_guests:
    config:
      - name: web
        platform: lab
        vcpus: 2
        memory_mb: 3072
        memory_max_mb: 4096
        image: debian-12
        interfaces: [{segment: public, mac: "52:54:00:00:01:10", address: 10.0.1.10, prefix: 24, gateway: 10.0.1.1}]
        disks: [{name: root, pool: fast, size_gb: 20, image: debian-12}]
    images: [{name: debian-12, path: /var/lib/libvirt/images/image-debian-12-0123456789ab.qcow2}]

- name: A guest goes, its disks stay
  hybridlab.platform.libvirt_guests:
    config: [{name: web, remove_disks: false}]
    state: deleted

- name: What there is
  hybridlab.platform.libvirt_guests:
    state: gathered
"""

RETURN = r"""
before:
  description: Guests that were named or removed, as entries of O(config), sorted by name. C(cloud_init) is the SHA-256 of the seed's documents.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  sample: []
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
commands:
  description: The shell lines that do the same by hand. What O(config[].cloud_init.user_data) says is left out of them.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [virsh -c qemu:///system start web]
disruptive:
  description: What interrupts a running guest.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  contains:
    name: {description: The guest., type: str}
    reason: {description: What has to change., type: str}
  sample: [{name: web, reason: "memory_max_mb is 2048, wanted 4096: the guest is restarted"}]
backups:
  description: Files that keep the definitions that were replaced or removed. Empty in check mode.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: str
rollback:
  description: The shell line that brings each of them back, by the name of the guest. A running guest takes it up at its next start.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: dict
  sample: {web: virsh -c qemu:///system define /var/lib/hybridlab/rollback/web-20261121T101112.123456789Z.xml}
guests:
  description: Where each declared guest is found. In check mode, as it would be.
  returned: when O(state) is V(merged) or V(overridden)
  type: list
  elements: dict
  sample:
    - {name: web, state: running, segment: public, segments: [public], addresses: [10.0.1.10], mac: "52:54:00:00:01:10", ssh_port: 2211,
       names: [www], image: debian-12, autostart: true, console_log: /var/log/libvirt/qemu/web-console.log, accelerator: kvm}
reached:
  description: For each guest that was waited for, how it answered.
  returned: when O(state) is V(merged) or V(overridden)
  type: dict
  sample: {web: SSH-2.0-OpenSSH_9.2 at 10.0.1.10 port 2211}
undeclared:
  description: Guests of ours that O(config) does not name, and that were left alone.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: str
gathered:
  description:
    - The guests as entries of O(config), with what RV(guests) has and C(leases).
    - Of running ones also C(cpu_seconds), C(memory_rss_mb) and C(uptime_seconds); null where that is not known.
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
rendered:
  description: C(name) and C(xml) of each guest.
  returned: when O(state) is V(rendered)
  type: list
  elements: dict
"""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import PolicyError, read_policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_declare import Facts
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_ops import shell
from ansible_collections.hybridlab.platform.plugins.module_utils.core.guest_plan import GuestPlan, describe, plan_guests, whereabouts
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result, unique
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Define
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guest_run import Run, words
from ansible_collections.hybridlab.platform.plugins.module_utils.host.guests import observe, usage
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import leases
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt_run import ARGUMENTS, open_connection


class Guests:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.config: list[dict[str, Any]] = self.params["config"]
        unique(self.params["images"], "name", "images")
        self.policy = read_policy(self.params["capacity"], "capacity")

    def run(self) -> dict[str, Any]:
        if self.params["state"] == "rendered":
            return self._rendered()
        if self.params["state"] == "gathered":
            return self._gathered()
        with ExitStack() as stack:
            return self._reconciled(open_connection(self.module, stack))

    def _facts(self, conn: Optional[Any]) -> Facts:
        coming = self.params["networks"] if self.module.check_mode else []
        return observe(conn, self.params["pools"], self.params["images"], self.policy, self.params["accelerator"], coming)

    def _plan(self, facts: Facts, state: str) -> GuestPlan:
        return plan_guests(state, self.config, facts, self.params["remove_disks"], self.params["shutdown_seconds"], self.params["platform"])

    def _reconciled(self, conn: Optional[Any]) -> dict[str, Any]:
        facts = self._facts(conn)
        plan = self._plan(facts, self.params["state"])
        for warning in plan.warnings:
            self.module.warn(f"{warning}.")
        if plan.disruptive and not self.params["allow_disruption"]:
            self._refuse(plan)
        run = Run(conn, facts.pools, self.params["backup_dir"], lambda text: self.module.warn(f"{text}."))
        if conn and not self.module.check_mode:
            run.go(plan)
            if plan.operations:
                self._verify(conn, run)
        uri = self.params["uri"]
        answer = result(plan.before, plan.after, self._commands(plan), diff=self.module._diff, header=f"guests of {uri}")
        return {
            **answer,
            "disruptive": plan.disruptive,
            "backups": sorted(run.backups.values()),
            "rollback": {name: f"virsh -c {uri} define {path}" for name, path in run.backups.items()},
            "guests": [whereabouts(entry, leases(conn, set(facts.networks)) if conn else ()) for entry in plan.after],
            "reached": run.reached,
            "undeclared": list(plan.undeclared),
        }

    def _verify(self, conn: Any, run: Run) -> None:
        plan = self._plan(self._facts(conn), self.params["state"])
        rest = [f"guest {step.name}: {', '.join(words(operation) for operation in step.operations)}" for step in plan.steps if step.operations]
        if rest:
            raise ResourceError(
                f"everything was accepted, but reading back shows that there is still to do: {'; '.join(rest)}. A guest that does not stay up says why on "
                "its console. Run again when the cause is repaired.",
                backups=sorted(run.backups.values()),
            )

    def _refuse(self, plan: GuestPlan) -> None:
        reasons = "; ".join(f"guest {entry['name']}: {entry['reason']}" for entry in plan.disruptive)
        message = f"this would interrupt what is in use: {reasons}"
        if not self.module.check_mode:
            raise ResourceError(f"{message}. Nothing was changed. Set allow_disruption: true when that is acceptable.", disruptive=plan.disruptive)
        self.module.warn(f"{message}. The real run refuses it as long as allow_disruption is not true.")

    def _commands(self, plan: GuestPlan) -> list[str]:
        return [shell(operation, self.params["uri"], self.params["backup_dir"]) for operation in plan.operations]

    def _rendered(self) -> dict[str, Any]:
        # Of the machine that this runs on, nothing counts.
        facts = replace(self._facts(None), volumes={}, files=frozenset(), space={}, means=None)
        plan = self._plan(facts, "merged")
        definitions = [{"name": operation.name, "xml": operation.xml} for operation in plan.operations if isinstance(operation, Define)]
        return {"changed": False, "rendered": definitions, "commands": self._commands(plan)}

    def _gathered(self) -> dict[str, Any]:
        named = {entry["name"] for entry in self.config}
        with ExitStack() as stack:
            conn = open_connection(self.module, stack)
            facts = self._facts(conn)
            found = [domain for domain in facts.domains if (domain.name in named if named else domain.of(self.params["platform"]))]
            leased = leases(conn, set(facts.networks)) if conn else []
            rows = []
            for domain in found:
                definition = domain.kept or domain.live
                if definition is None:
                    continue
                entry = describe(definition, domain.power, domain.autostart, facts)
                macs = {nic.mac for nic in definition.nics}
                own = [lease for lease in leased if lease["mac"] in macs]
                rows.append({**entry, **whereabouts(entry, own), "leases": own, **(usage(conn, domain.name) if domain.active else {})})
        return {"changed": False, "gathered": rows}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "platform": {"type": "str"},
                    "state": {"type": "str", "default": "running", "choices": ["running", "stopped", "suspended", "absent"]},
                    "remove_disks": {"type": "bool"},
                    "vcpus": {"type": "int"},
                    "vcpus_max": {"type": "int"},
                    "memory_mb": {"type": "int"},
                    "memory_max_mb": {"type": "int"},
                    "interfaces": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "segment": {"type": "str", "required": True},
                            "mac": {"type": "str", "required": True},
                            "address": {"type": "str"},
                            "prefix": {"type": "int"},
                            "gateway": {"type": "str"},
                            "dhcp": {"type": "bool", "default": True},
                        },
                    },
                    "disks": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "name": {"type": "str", "required": True},
                            "pool": {"type": "str", "required": True},
                            "size_gb": {"type": "int"},
                            "image": {"type": "str"},
                        },
                    },
                    "image": {"type": "str"},
                    "ssh_port": {"type": "int"},
                    "names": {"type": "list", "elements": "str", "default": []},
                    "cloud_init": {
                        "type": "dict",
                        "options": {
                            "domain": {"type": "str", "required": True},
                            "users": {"type": "list", "elements": "dict", "default": []},
                            "packages": {"type": "list", "elements": "str", "default": []},
                            "commands": {"type": "list", "elements": "raw", "default": []},
                            "user_data": {"type": "str", "no_log": True},
                        },
                    },
                    "firmware": {"type": "str", "default": "bios", "choices": ["bios", "uefi", "uefi-secure"]},
                    "tpm": {"type": "bool", "default": False},
                    "boot": {"type": "list", "elements": "str", "default": ["disk"], "choices": ["disk", "cdrom", "network"]},
                    "agent": {"type": "bool", "default": True},
                    "console": {"type": "bool", "default": True},
                    "autostart": {"type": "bool", "default": True},
                    "wait_for": {"type": "str", "choices": ["address", "ssh", "agent", "cloud_init"]},
                    "wait_seconds": {"type": "int", "default": 300},
                },
            },
            **ARGUMENTS,
            "pools": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "path": {"type": "str", "required": True}},
            },
            "networks": {"type": "list", "elements": "str", "default": []},
            "images": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "path": {"type": "str", "required": True},
                    "pool": {"type": "str"},
                    "volume": {"type": "str"},
                    "format": {"type": "str", "default": "qcow2", "choices": ["qcow2", "raw"]},
                },
            },
            "capacity": {"type": "dict", "default": {}},
            "accelerator": {"type": "str", "default": "auto", "choices": ["kvm", "qemu", "auto"]},
            "platform": {"type": "str"},
            "remove_disks": {"type": "bool"},
            "shutdown_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Guests(module).run())
    except (ResourceError, PolicyError) as error:
        module.fail_json(msg=str(error), **getattr(error, "facts", {}))


if __name__ == "__main__":
    main()
