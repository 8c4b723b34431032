#!/usr/bin/python
# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libvirt_images
short_description: Reconcile a list of images as base volumes of guests
version_added: 0.1.0
description:
  - Brings images into libvirt storage pools of type C(dir), as base volumes that disks of guests are overlays on, all in one process.
  - >-
    A base volume is the file C(image-<name>-<first 12 digits of the checksum>.<format>) in the directory of the pool, with mode 0444.
    Another content has another checksum, so it is another volume, and none is ever written again.
  - >-
    An image is streamed into a file beside the volume, hashed while it is written, flushed, judged, and only then renamed.
    So there is either all of a base volume or nothing. What a killed run left is deleted by the next one.
  - >-
    An image is refused when its checksum differs, when it is not of the declared format, when it reads from another file (a backing file or
    an external data file: a guest could read any file of the host through it), or when there is no room for it.
  - A run that finds the volume does not read its content again, unless O(verify=true). It compares the file's size with the one noted in the
    extended attribute C(user.hybridlab.image), where the file system keeps such attributes.
  - A base volume that something reads from is never removed. It is kept, with a warning.
author:
  - hybridlab.platform contributors (@hybridlab)
extends_documentation_fragment:
  - hybridlab.platform.resource
options:
  config:
    description: The images.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the image, such as V(debian-12).
        type: str
        required: true
      url:
        description:
          - Address that the image is fetched from, with V(https://) or V(http://). Needs O(config[].checksum).
          - A user with a password before the host, and everything after a question mark, is masked in all that the module returns.
        type: str
      path:
        description:
          - Absolute path of the image on the managed host. Exactly one of O(config[].url) and O(config[].path) is needed.
          - With O(config[].checksum) the file is needed only until the base volume is there.
        type: str
      checksum:
        description:
          - C(sha256:) or C(sha512:), and the hexadecimal digits.
          - When not given, the SHA-256 of O(config[].path) is computed, in each run.
        type: str
      format:
        description: Format of the image.
        type: str
        choices: [qcow2, raw]
        default: qcow2
      pool:
        description: Storage pool of type C(dir) that the base volume belongs in. Needed, except for O(state=deleted) and O(state=gathered).
        type: str
  state:
    description:
      - V(merged) brings the images that are not there yet, and leaves all other base volumes alone.
      - V(overridden) does the same, and removes base volumes that are not declared, also former contents of declared images.
      - V(deleted) removes the base volumes of the named images, or all when O(config) is empty.
      - V(gathered) reports the base volumes, or those of the named images.
      - V(rendered) returns what would be made, without touching any host. O(config[].checksum) and O(pools) are needed for it.
      - Base volumes are looked for in the pools that M(hybridlab.platform.libvirt_pools) made, and in those that O(config) and O(pools) name.
    type: str
    choices: [merged, overridden, deleted, gathered, rendered]
    default: merged
  uri:
    description: Which libvirt to connect to. It must be one of the managed host itself.
    type: str
    default: qemu:///system
  pools:
    description:
      - Pools to look into, whoever made them.
      - In check mode those that libvirt does not have yet count as if it had them. In a real run only what libvirt has counts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the pool.
        type: str
        required: true
      path:
        description: Absolute path of its directory.
        type: str
        required: true
  verify:
    description:
      - Whether the content of declared base volumes that are there is hashed again.
      - One that differs counts as damaged. It is made anew, or, when something reads from it, named in an error.
    type: bool
    default: false
  timeout:
    description: How many seconds a server may be silent.
    type: int
    default: 60
requirements:
  - python3-libvirt on the managed host (libvirt 9.0 or later)
  - C(qemu-img) on the managed host
seealso:
  - module: hybridlab.platform.libvirt_pools
"""

EXAMPLES = r"""
- name: An image of a server and one of our own
  hybridlab.platform.libvirt_images:
    config:
      - name: debian-12
        url: https://images.example/debian-12-genericcloud-amd64.qcow2
        checksum: "sha512:{{ debian_checksum }}"
        pool: fast
      - {name: small, path: /var/lib/hybridlab/images/small.raw, format: raw, pool: fast}

- name: What is there, and who reads from it
  hybridlab.platform.libvirt_images:
    state: gathered

- name: Remove what is no longer declared
  hybridlab.platform.libvirt_images:
    config: "{{ images }}"
    state: overridden
"""

RETURN = r"""
before:
  description: The base volumes, sorted by name.
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
    - name: debian-12
      pool: fast
      format: qcow2
      volume: image-debian-12-0123456789ab.qcow2
      path: /var/lib/libvirt/images/image-debian-12-0123456789ab.qcow2
commands:
  description: The shell lines that do the same by hand. Credentials in addresses are masked.
  returned: when O(state) is not V(gathered)
  type: list
  elements: str
  sample: [virsh -c qemu:///system pool-refresh fast]
volumes:
  description: The base volume of each declared image, as in RV(after), without former contents of it that are still read from.
  returned: when O(state) is V(merged) or V(overridden)
  type: list
  elements: dict
fetched:
  description: Names of the images that were brought; in check mode, that would be.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: str
  sample: [debian-12]
kept:
  description: Base volumes that were to be removed and stay, C(path), and C(used_by), the guests or volumes that read from them.
  returned: when O(state) is V(merged), V(overridden) or V(deleted)
  type: list
  elements: dict
  sample: [{name: debian-11, path: /var/lib/libvirt/images/image-debian-11-ba9876543210.qcow2, used_by: [web]}]
gathered:
  description:
    - The base volumes, as in RV(before), with C(size) of the file and C(virtual_size) in bytes, the noted C(checksum) (null where there is none),
      C(damage) (null when nothing speaks against the volume) and C(used_by).
  returned: when O(state) is V(gathered)
  type: list
  elements: dict
  sample:
    - name: debian-12
      pool: fast
      format: qcow2
      volume: image-debian-12-0123456789ab.qcow2
      path: /var/lib/libvirt/images/image-debian-12-0123456789ab.qcow2
      size: 347078656
      virtual_size: 2147483648
      checksum: null
      damage: null
      used_by: [web]
rendered:
  description: The base volumes that would be made, as in RV(after).
  returned: when O(state) is V(rendered)
  type: list
  elements: dict
"""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hybridlab.platform.plugins.module_utils.core.images import (
    BaseVolume,
    Fetch,
    Image,
    Operation,
    Plan,
    Remove,
    Sweep,
    check_sources,
    declare_images,
    describe,
    describe_wanted,
    mask_url,
    plan_images,
    shell,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.core.pools import ObservedPool
from ansible_collections.hybridlab.platform.plugins.module_utils.core.resource import ResourceError, result
from ansible_collections.hybridlab.platform.plugins.module_utils.host.images import (
    fetch_image,
    find_leftovers,
    find_readers,
    hash_file,
    observe_images,
    refresh,
    remove_file,
)
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt import observe_guests, observe_pools
from ansible_collections.hybridlab.platform.plugins.module_utils.host.libvirt_run import open_connection


class Images:
    """The states of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.config: list[dict[str, Any]] = self.params["config"]
        self.named = [entry["name"] for entry in self.config]

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        if state in ("merged", "overridden", "rendered"):
            check_sources(self.config)
        if state == "rendered":
            return self._rendered()
        with ExitStack() as stack:
            conn = open_connection(self.module, stack)
            pools = self._pools(conn)
            found = self._observe(conn, pools)
            if state == "gathered":
                return {"changed": False, "gathered": [describe(volume, details=True) for volume in found if not self.named or volume.name in self.named]}
            return self._reconcile(conn, pools, found)

    def _rendered(self) -> dict[str, Any]:
        for entry in self.config:
            if not entry["checksum"]:
                raise ResourceError(f"config[{entry['name']}].checksum: found nothing: write it, because no file is read for state rendered.")
        plan = plan_images("merged", declare_images(self.config, self._declared_pools(), {}), [], [])
        return {"changed": False, "rendered": plan.after, "commands": self._commands(plan)}

    def _reconcile(self, conn: Optional[Any], pools: dict[str, str], found: list[BaseVolume]) -> dict[str, Any]:
        declared = self._declare(pools)
        if self.params["verify"]:
            found = self._verify(declared, found)
        plan = plan_images(self.params["state"], declared, self.named, found, find_leftovers(pools))
        self._check_means(plan)
        for volume in plan.kept:
            self.module.warn(f"base volume {volume.path} is not declared any more, and stays because {', '.join(volume.used_by)} read from it.")
        if not self.module.check_mode:
            self._apply(conn, plan)
        answer = result(plan.before, plan.after, self._commands(plan), diff=self.module._diff, header=f"images of {self.params['uri']}")
        kept = [{"name": volume.name, "path": volume.path, "used_by": list(volume.used_by)} for volume in plan.kept]
        return {**answer, "fetched": plan.fetched, "kept": kept, "volumes": [describe_wanted(image) for image in declared]}

    def _pools(self, conn: Optional[Any]) -> dict[str, str]:
        """Directories of the pools that may hold base volumes, by name."""
        observed = self._observed_pools(conn)
        if conn is not None and urlsplit(conn.getURI()).hostname:
            raise ResourceError(f"uri: found {self.params['uri']!r}, which is another host. Run the module on that host, because it writes files there.")
        wanted = {entry["pool"] for entry in self.config if entry["pool"]}
        foreseen = self._declared_pools() if self.module.check_mode else {}
        if self.params["state"] in ("merged", "overridden"):
            for pool in observed:
                if pool.name in wanted and not pool.active and pool.name not in foreseen:
                    raise ResourceError(
                        f"pool {pool.name}: it is not active, so its directory {pool.path} may not be mounted. Start it (virsh pool-start {pool.name})."
                    )
        named = wanted | set(self._declared_pools())
        return {**foreseen, **{pool.name: str(pool.path) for pool in observed if pool.owned or pool.name in named}}

    def _observed_pools(self, conn: Optional[Any]) -> list[ObservedPool]:
        return [pool for pool in observe_pools(conn) if pool.kind == "dir" and pool.path] if conn is not None else []

    def _declared_pools(self) -> dict[str, str]:
        return {entry["name"]: entry["path"] for entry in self.params["pools"]}

    def _observe(self, conn: Optional[Any], pools: dict[str, str]) -> list[BaseVolume]:
        everywhere = {*pools.values(), *(str(pool.path) for pool in self._observed_pools(conn))}
        return observe_images(pools, find_readers(everywhere, observe_guests(conn) if conn is not None else []))

    def _declare(self, pools: dict[str, str]) -> list[Image]:
        if self.params["state"] == "deleted":
            return []
        computed = {entry["name"]: hash_file(f"config[{entry['name']}].path", entry["path"], "sha256") for entry in self.config if not entry["checksum"]}
        return declare_images(self.config, pools, computed)

    def _verify(self, declared: list[Image], found: list[BaseVolume]) -> list[BaseVolume]:
        wanted = {image.target: image.checksum for image in declared}

        def judged(volume: BaseVolume) -> BaseVolume:
            checksum = wanted.get(volume.path)
            if checksum is None:
                return volume
            content = hash_file(volume.path, volume.path, checksum.partition(":")[0])
            return volume if content == checksum else replace(volume, damage=f"its content has {content}")

        return [judged(volume) for volume in found]

    def _check_means(self, plan: Plan) -> None:
        """Before the first change: whether everything that the run needs is there. Roles may still bring it after check mode."""
        if self.module.check_mode or not plan.fetched:
            return
        if shutil.which("qemu-img") is None:
            raise ResourceError(
                "qemu-img is missing on the managed host; install qemu-utils (Debian) or qemu-img (Red Hat) there (role kvm_host does). Nothing was changed."
            )
        for image in (operation.image for operation in plan.operations if isinstance(operation, Fetch)):
            path = image.path
            if path is not None and not Path(path).is_file():
                raise ResourceError(f"config[{image.name}].path: found {path!r}: there is no such file on the managed host. Nothing was changed. Put it there.")

    def _apply(self, conn: Optional[Any], plan: Plan) -> None:
        done: list[str] = []
        for position, operation in enumerate(plan.operations):
            try:
                self._do(operation)
            except ResourceError as error:
                rest = ", ".join(_label(later) for later in plan.operations[position + 1 :]) or "none"
                raise ResourceError(f"{error} Done before it: {', '.join(done) or 'none'}. Not begun: {rest}.") from None
            done.append(_label(operation))
        for pool in sorted({_pool(operation) for operation in plan.operations}):
            try:
                refresh(conn, pool)
            except ResourceError as error:
                # A busy pool refuses; the volumes are there all the same.
                self.module.warn(f"pool {pool}: libvirt did not look into its directory: {error}. Run virsh pool-refresh {pool} to see the volumes there.")

    def _do(self, operation: Operation) -> None:
        if isinstance(operation, Fetch):
            fetch_image(operation.image, self.params["timeout"])
        else:
            remove_file(operation.volume.path if isinstance(operation, Remove) else operation.path)

    def _commands(self, plan: Plan) -> list[str]:
        return [shell(operation, self.params["uri"]) for operation in plan.operations]


def _label(operation: Operation) -> str:
    if isinstance(operation, Fetch):
        return operation.image.name
    return f"removal of {operation.volume.path if isinstance(operation, Remove) else operation.path}"


def _pool(operation: Operation) -> str:
    if isinstance(operation, Sweep):
        return operation.pool
    return operation.image.pool if isinstance(operation, Fetch) else operation.volume.pool


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "url": {"type": "str"},
                    "path": {"type": "str"},
                    "checksum": {"type": "str"},
                    "format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
                    "pool": {"type": "str"},
                },
            },
            "state": {"type": "str", "default": "merged", "choices": ["merged", "overridden", "deleted", "gathered", "rendered"]},
            "uri": {"type": "str", "default": "qemu:///system"},
            "pools": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "path": {"type": "str", "required": True}},
            },
            "verify": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
        # Else the arguments, with the credentials of an address, go to the journal before anything can mask them.
        no_log=True,
    )
    # An address with credentials is masked wherever else it appears, such as among the arguments in the result.
    module.no_log_values.update(entry["url"] for entry in module.params["config"] if entry["url"] and mask_url(entry["url"]) != entry["url"])
    try:
        module.exit_json(**Images(module).run())
    except ResourceError as error:
        module.fail_json(msg=str(error), **error.facts)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}. Let the module read it, as root (become: true).")


if __name__ == "__main__":
    main()
