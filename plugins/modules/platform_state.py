#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_state
short_description: Read the state of a KVM host and everything on it
version_added: 0.1.0
description:
  - Returns host, networks, pools, guests, loaded forwards and the use of the host's means in one call, and what a person should look at.
  - C(make status) and C(make capacity) print it.
  - Nothing is changed. libvirt is asked to look at the pools' directories again, since it knows only the volumes that it made itself.
author:
  - hybridlab.platform contributors (@hybridlab)
attributes:
  check_mode:
    description: Can run without changing anything. Check mode and the real run are the same.
    support: full
  diff_mode:
    description: Nothing is ever changed, so there is no difference to report.
    support: none
  idempotent:
    description: Never changes anything.
    support: full
options:
  uri:
    description: Which libvirt to connect to, from the managed host.
    type: str
    default: qemu:///system
  capacity:
    description:
      - What guests may take together. A limit that is left out does not limit; of several of a kind the lowest wins.
      - A guest counts with the largest number of vCPUs and the largest memory of its definition.
    type: dict
    default: {}
    suboptions:
      guests:
        description: Guests that run at once.
        type: int
      vcpus:
        description: vCPUs of all running guests.
        type: int
      vcpus_per_core:
        description: vCPUs for each physical core that is not reserved.
        type: float
      memory_mb:
        description: Memory of all running guests in MiB.
        type: int
      memory_percent:
        description: The same as a percentage of the host's memory.
        type: int
      reserve_cores:
        description: Cores that are the host's own.
        type: int
      reserve_memory_mb:
        description: Memory in MiB that is the host's own.
        type: int
  rules_table:
    description: The nftables table of family inet that has the forwards.
    type: str
    default: hybridlab_segments
  stock_networks:
    description: Networks that libvirt brings along and that should be out of service.
    type: list
    elements: str
    default: [default]
  snapshot_days:
    description: A snapshot that is older draws a warning.
    type: int
    default: 30
requirements:
  - python3-libvirt on the managed host (libvirt 9.0 or later)
seealso:
  - module: hybridlab.platform.libvirt_networks
  - module: hybridlab.platform.libvirt_pools
"""

EXAMPLES = r"""
- name: Everything about the host
  hybridlab.platform.platform_state:
    capacity: {guests: 8, vcpus: 8, memory_percent: 70, reserve_cores: 2, reserve_memory_mb: 8192}
  register: found

- name: Stop where something is over its limit
  ansible.builtin.assert:
    that: found.capacity.ok
    fail_msg: "{{ found.capacity.table }}"
"""

RETURN = r"""
host:
  description:
    - The host. Memory in KiB; C(cores) are physical ones.
    - Of a libvirt that is not this host's own, C(load) and C(filesystems) are empty, and C(uptime_seconds), C(memory_available_kib) and C(kernel) are null.
    - C(filesystems) has C(mount), and C(size) and C(available) in bytes, of C(/) and of those that hold a pool.
  returned: success
  type: dict
  sample:
    name: dell
    kernel: 5.14.0-570.el9.x86_64
    libvirt: 10.10.0
    cores: 6
    threads: 12
    load: [0.52, 0.4, 0.31]
    uptime_seconds: 86400
    memory_kib: 32768000
    memory_available_kib: 21000000
    filesystems: [{mount: /, size: 69793218560, available: 41875931136}]
networks:
  description: All networks. C(ours) are those that this collection made. C(address) is the host's address with the prefix.
  returned: success
  type: list
  elements: dict
  sample: [{name: public, ours: true, active: true, autostart: true, bridge: br-public, address: 10.0.1.1/24}]
pools:
  description:
    - All pools. C(volumes) is their number, all else is in bytes.
    - C(available) is what guests may take, without what the file system keeps for root.
    - C(virtual) is what the guests see of all volumes together.
    - C(promised) is what thin volumes may still take when all are filled, the worst case; base images are only read and promise nothing.
  returned: success
  type: list
  elements: dict
  sample:
    - name: fast
      ours: true
      active: true
      path: /var/lib/libvirt/images
      capacity: 69793218560
      allocation: 27917287424
      available: 41875931136
      volumes: 3
      virtual: 32212254720
      promised: 25769803776
guests:
  description:
    - All guests, running or not. C(rss_kib), C(cpu_percent) (an average since its start) and C(uptime_seconds) are null where they are not known.
    - C(agent) is C(connected), C(silent), or null for a guest without a channel for it or that does not run.
    - An interface's C(address) is null when it is not known; C(source) says how it is known, C(lease), C(agent) or C(declared).
    - A snapshot's C(created) is in seconds since the epoch.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web
      ours: true
      platform: lab
      ssh_port: 2211
      state: running
      autostart: true
      accelerator: kvm
      vcpus: 1
      vcpus_max: 2
      memory_mb: 512
      memory_max_mb: 1024
      rss_kib: 262144
      cpu_percent: 1.3
      uptime_seconds: 3600
      agent: connected
      interfaces: [{network: public, mac: "52:54:00:aa:bb:cc", address: 10.0.1.20, source: lease}]
      snapshots: []
forwards:
  description: Ports of the host that the loaded rules forward, and to where.
  returned: success
  type: list
  elements: dict
  sample: [{port: 2211, address: 10.0.1.20, to_port: 2211}]
capacity:
  description:
    - The running guests against O(capacity). C(table) is for a person, C(excesses) says what is over its limit.
    - C(use) has C(used) and the lowest C(limit) of guests, vCPUs and memory (in KiB); null where nothing limits.
    - C(hook) tells whether libvirt checks starts by hand, C(on), C(off) for a while, or C(absent); null of a libvirt that is not this host's own.
  returned: success
  type: dict
  sample:
    ok: true
    table: "..."
    excesses: []
    use: {guests: {used: 1, limit: 8}, vcpus: {used: 2, limit: 8}, memory: {used: 1048576, limit: 22937600}}
    hook: "on"
attention:
  description: What a person should look at, a line for each.
  returned: success
  type: list
  elements: str
  sample: ["guest web: its agent is silent"]
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.capacity import Policy, PolicyError, read_policy
from ansible_collections.hybridlab.platform.plugins.module_utils.core.platform_state import find_warnings
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host import platform_state as host
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import connection


def gather(module: AnsibleModule, policy: Policy) -> dict[str, Any]:
    """Everything but the warnings."""
    with connection(module.params["uri"]) as conn:
        found, means = host.read_host(conn)
        host.refresh_pools(conn)
        pools = host.read_pools(conn)
        local = host.is_local(conn)
        paths = ["/", *(pool["path"] for pool in pools if pool["active"] and pool["path"])] if local else []
        forwards = host.read_loaded_forwards(module.run_command, module.get_bin_path("nft"), module.params["rules_table"]) if local else []
        return {
            "host": {**found, "filesystems": host.read_filesystems(paths)},
            "networks": host.read_networks(conn),
            "pools": pools,
            "guests": host.read_guests(conn),
            "forwards": forwards,
            "capacity": host.read_capacity(conn, policy, means),
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "uri": {"type": "str", "default": "qemu:///system"},
            "capacity": {
                "type": "dict",
                "default": {},
                "options": {
                    "guests": {"type": "int"},
                    "vcpus": {"type": "int"},
                    "vcpus_per_core": {"type": "float"},
                    "memory_mb": {"type": "int"},
                    "memory_percent": {"type": "int"},
                    "reserve_cores": {"type": "int"},
                    "reserve_memory_mb": {"type": "int"},
                },
            },
            "rules_table": {"type": "str", "default": "hybridlab_segments"},
            "stock_networks": {"type": "list", "elements": "str", "default": ["default"]},
            "snapshot_days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        state = gather(module, read_policy(module.params["capacity"], "capacity"))
    except (ResourceError, PolicyError) as error:
        module.fail_json(msg=str(error))
    attention = find_warnings(state, time.time(), module.params["stock_networks"], module.params["snapshot_days"])
    module.exit_json(changed=False, **state, attention=attention)


if __name__ == "__main__":
    main()
