#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libvirt_export
short_description: Read all that another tool needs to take a libvirt host over
version_added: 0.1.0
description:
  - >-
    Returns the networks, storage pools, volumes and guests of a host as plain data, those that this collection made and all others, with the
    UUIDs and keys by which libvirt knows them. C(make export-terraform) writes Terraform configuration from it.
  - Changes nothing. Reads no volume's content, and no cloud-init document.
  - Transient guests are left out. Volumes are listed only for pools that run.
author:
  - hybridlab.platform contributors (@hybridlab)
options:
  uri:
    description: Which libvirt to connect to, from the managed host.
    type: str
    default: qemu:///system
requirements:
  - python3-libvirt on the managed host (libvirt 9.0 or later)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what would change, without changing anything.
    support: full
  diff_mode:
    description: Returns what has changed, or would change, when in C(diff_mode).
    support: N/A
    details:
      - Nothing is ever changed.
  idempotent:
    description: A second run with the same arguments, and no other change in between, changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: What is there
  hybridlab.platform.libvirt_export:
  register: libvirt

- name: UUIDs of the guests of this collection
  ansible.builtin.debug:
    msg: "{{ libvirt.gathered.domains | selectattr('owned') | items2dict(key_name='name', value_name='uuid') }}"
"""

RETURN = r"""
gathered:
  description:
    - C(networks), C(pools), C(volumes) and C(domains), each a list sorted by name. Sizes are bytes, memory is KiB.
    - C(owned) says whether this collection made it. C(machines) has the host's alias of each versioned machine type.
  returned: success
  type: dict
  sample:
    networks:
      - {name: public, uuid: 0b1b6ed2-3a7a-5cb7-8a4d-16e3f5f4c1de, owned: true, mode: open, bridge: br-public, active: true, autostart: true}
    pools:
      - {name: fast, uuid: 6f0c6d0e-3c55-5d0e-bd0c-8b4d1e0e8a51, owned: true, kind: dir, path: /var/lib/libvirt/images, active: true}
    volumes:
      - {name: web-root.qcow2, key: /var/lib/libvirt/images/web-root.qcow2, pool: fast, format: qcow2, capacity: 10737418240}
    domains:
      - {name: web, uuid: 5f3c2d76-6a2b-5f5e-9a0d-6f7d2b1c0e9f, owned: true, state: running, vcpus: 2, memory_kib: 1048576}
    machines: {pc-q35-7.2: q35}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError
from ansible_collections.hybridlab.platform.plugins.module_utils.host.export import observe_everything
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import connection


def main() -> None:
    module = AnsibleModule(argument_spec={"uri": {"type": "str", "default": "qemu:///system"}}, supports_check_mode=True)
    try:
        with connection(module.params["uri"]) as conn:
            gathered = observe_everything(conn)
        module.exit_json(changed=False, gathered=gathered)
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)


if __name__ == "__main__":
    main()
