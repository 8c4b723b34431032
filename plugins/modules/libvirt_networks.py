#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libvirt_networks
short_description: Reconcile a list of libvirt networks
version_added: 0.1.0
description:
  - Brings libvirt networks to a declared state, all in one process. No XML is written by hand.
  - >-
    Every network has a bridge of its own, forward mode C(open), and a dnsmasq that answers for its domain and leases its addresses.
    In that mode libvirt adds no firewall rule at all. What may pass between segments is decided by the segment firewall alone,
    which must be loaded before the networks start. libvirt's mode C(nat) rejects connections from one network to another, and
    puts its rules back each time a network starts.
  - >-
    DHCP ranges, reservations and DNS names of a running network are changed in place, in the running and the kept definition at once.
    A change of bridge, address, prefix, domain or MTU needs the network stopped and started. Such a step is called disruptive.
  - >-
    A network made by this module carries an element of the XML namespace C(urn:hybridlab:platform:1) in its metadata.
    Only networks with that mark are ever removed.
  - >-
    Networks are changed one at a time. Each is read back and compared before the next one. When a restart fails halfway,
    the old definition is put back and started. A run that was cut short is completed by the next one.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
  - hybridlab.platform.libvirt
options:
  config:
    description:
      - The networks.
      - A list inside an entry (O(config[].dhcp), O(config[].hosts), O(config[].dns)) is always the whole list. V([]) means none.
      - >-
        What is left out of an entry keeps its value on a network that exists, with O(state=merged). With O(state=overridden)
        it is empty, and O(config[].bridge), O(config[].address) and O(config[].prefix) must be set.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the network.
        type: str
        required: true
      bridge:
        description: Name of the bridge, at most 15 characters. Needed for a new network.
        type: str
      address:
        description: IPv4 address of the host in this network, the gateway of its guests. Needed for a new network.
        type: str
      prefix:
        description: Length of the network's prefix, 8 to 30. Needed for a new network.
        type: int
      domain:
        description: DNS domain. Names below it are answered here and asked nowhere else.
        type: str
      mtu:
        description: MTU of the bridge in bytes.
        type: int
      dhcp:
        description: Ranges of addresses to lease.
        type: list
        elements: dict
        suboptions:
          first:
            description: First address of the range.
            type: str
            required: true
          last:
            description: Last address of the range.
            type: str
            required: true
      hosts:
        description: Addresses kept for one interface each.
        type: list
        elements: dict
        suboptions:
          mac:
            description: MAC address of the interface.
            type: str
            required: true
          address:
            description: Address that it gets.
            type: str
            required: true
          name:
            description: Host name that it gets.
            type: str
      dns:
        description:
          - Names that dnsmasq answers. Each dnsmasq knows its own network only, so give the hosts of all segments to each network.
        type: list
        elements: dict
        suboptions:
          address:
            description: The address.
            type: str
            required: true
          names:
            description: Its names. The first one is the answer to a reverse look-up.
            type: list
            elements: str
            required: true
      autostart:
        description: Whether the network starts with libvirt.
        type: bool
        default: true
      active:
        description: Whether the network runs. Stopping it is disruptive when running guests have interfaces in it.
        type: bool
        default: true
  state:
    description:
      - V(merged) makes the named networks as declared and leaves all others alone.
      - V(overridden) does the same, and removes the networks of ours that are not named.
      - V(deleted) removes the named networks, or all of ours when O(config) is empty.
      - V(gathered) reports the networks of ours, or the named ones whosever they are, and the DHCP leases.
      - V(rendered) returns the XML without touching any host.
    type: str
    choices: [merged, overridden, deleted, gathered, rendered]
    default: merged
  adopt:
    description:
      - Whether a named network that this module did not make may be taken over, or removed with O(state=deleted).
      - Otherwise it is an error. Adoption keeps the UUID and all that this module does not manage.
    type: bool
    default: false
  decommission:
    description:
      - Networks of somebody else, such as libvirt's own V(default), that are to be stopped and no longer started with libvirt. Their definitions are kept.
      - When any defined guest, running or not, has an interface in one of them, the run fails before its first change and names the guests.
      - A network that does not exist is no error.
    type: list
    elements: str
    default: []
notes:
  - >-
    A restart of a network unplugs the interfaces of running guests from its bridge. libvirt alone plugs them in again only when its daemon
    (libvirtd, or virtqemud) or the guest is restarted. So this module does it, right after the start, with C(ip link set).
    Interfaces of running guests in a declared network that are found in no bridge are plugged in too.
  - >-
    When that fails for a guest, and always with a O(uri) of another host, a warning names the guest and the command to run there.
"""

EXAMPLES = r"""
- name: Two segments, and the default network out of the way
  hybridlab.platform.libvirt_networks:
    config:
      - name: public
        bridge: br-public
        address: 10.0.1.1
        prefix: 24
        domain: lab.local
        dhcp:
          - {first: 10.0.1.100, last: 10.0.1.200}
        hosts:
          - {mac: "52:54:00:00:01:10", name: web, address: 10.0.1.10}
        dns:
          - {address: 10.0.3.10, names: [db.lab.local, db]}
      - name: database
        bridge: br-database
        address: 10.0.3.1
        prefix: 24
        domain: lab.local
        dns:
          - {address: 10.0.3.10, names: [db.lab.local, db]}
    decommission: [default]

- name: See what else would have to go, and what would be interrupted
  hybridlab.platform.libvirt_networks:
    config: "{{ networks }}"
    state: overridden
  check_mode: true
  diff: true

- name: Move a segment to another bridge, in a maintenance window
  hybridlab.platform.libvirt_networks:
    config:
      - {name: public, bridge: br-dmz}
    allow_disruption: true

- name: Networks of ours and their leases
  hybridlab.platform.libvirt_networks:
    state: gathered
"""

RETURN = r"""
before:
  description:
    - Networks of ours, and those named, as entries of O(config), sorted by name.
    - C(drift) names the fields whose kept value is not the running one, C(deviations) what is not in the form of our networks.
    - Networks in O(decommission) have C(name), C(autostart) and C(active) only, and are listed only where they are retired by this run.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  sample: []
after:
  description: The same after the run; in check mode, as it would be.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  sample:
    - name: database
      bridge: br-database
      address: 10.0.3.1
      prefix: 24
      domain: lab.local
      mtu: null
      dhcp: []
      hosts: []
      dns: []
      autostart: true
      active: true
commands:
  description: The shell lines that do the same by hand.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [virsh -c qemu:///system net-start public]
disruptive:
  description: Steps that interrupt what is in use.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  contains:
    name:
      description: The network.
      type: str
    reason:
      description: What has to change, and which running guests are cut off.
      type: str
  sample: [{name: public, reason: "bridge is br-public, wanted br-dmz"}]
backups:
  description: Files that keep the definitions that were replaced or removed. Empty in check mode.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: str
  sample: [/var/lib/hybridlab/rollback/public-20261103T101112.123456789Z.xml]
gathered:
  description: The networks as entries of O(config).
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
leases:
  description: DHCP leases of the running ones among them. C(expiry) is in seconds since the epoch.
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
  sample: [{network: public, mac: "52:54:00:00:01:10", address: 10.0.1.10, hostname: web, expiry: 1793700000}]
rendered:
  description: C(name) and C(xml) of each network.
  returned: when O(state) is V(rendered)
  type: list
  elements: dict
"""

from contextlib import ExitStack
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.network_plan import plan_network, plan_networks
from ansible_collections.hybridlab.platform.plugins.module_utils.core.networks import describe_observed
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.core.virsh import Plan, Step
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import (
    apply_network,
    leases,
    observe_guests,
    observe_network,
    observe_networks,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt_run import ARGUMENTS, Kind, open_connection, reconcile, rendered


class Networks:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params

    def run(self) -> dict[str, Any]:
        if self.params["state"] == "rendered":
            return rendered(self.module, "net", plan_networks("overridden", self.params["config"], []))
        if self.params["state"] == "gathered":
            return self._gathered()
        return reconcile(self.module, Kind("network", "net", self._plan, apply_network, self._remains))

    def _plan(self, conn: Optional[Any]) -> Plan:
        return plan_networks(
            self.params["state"],
            self.params["config"],
            observe_networks(conn) if conn else [],
            observe_guests(conn) if conn else [],
            adopt=self.params["adopt"],
            decommission=self.params["decommission"],
        )

    def _remains(self, conn: Any, step: Step) -> list[str]:
        found = observe_network(conn, step.name)
        if step.wanted is None:
            return ["it is still running"] if found is not None and found.active else []
        again = plan_network(step.wanted, found)
        return [f"{type(operation).__name__.lower()} is still needed" for operation in again.operations]

    def _gathered(self) -> dict[str, Any]:
        named = {entry["name"] for entry in self.params["config"]}
        with ExitStack() as stack:
            conn = open_connection(self.module, stack)
            networks = [network for network in observe_networks(conn) if (network.name in named if named else network.owned)] if conn else []
            found = leases(conn, {network.name for network in networks}) if conn else []
        return {"changed": False, "gathered": [describe_observed(network) for network in networks], "leases": found}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "bridge": {"type": "str"},
                    "address": {"type": "str"},
                    "prefix": {"type": "int"},
                    "domain": {"type": "str"},
                    "mtu": {"type": "int"},
                    "dhcp": {
                        "type": "list",
                        "elements": "dict",
                        "options": {"first": {"type": "str", "required": True}, "last": {"type": "str", "required": True}},
                    },
                    "hosts": {
                        "type": "list",
                        "elements": "dict",
                        "options": {"mac": {"type": "str", "required": True}, "address": {"type": "str", "required": True}, "name": {"type": "str"}},
                    },
                    "dns": {
                        "type": "list",
                        "elements": "dict",
                        "options": {"address": {"type": "str", "required": True}, "names": {"type": "list", "elements": "str", "required": True}},
                    },
                    "autostart": {"type": "bool", "default": True},
                    "active": {"type": "bool", "default": True},
                },
            },
            **ARGUMENTS,
            "adopt": {"type": "bool", "default": False},
            "decommission": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Networks(module).run())
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)


if __name__ == "__main__":
    main()
