# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What the libvirt modules share."""

    DOCUMENTATION = r"""
options:
  uri:
    description: Which libvirt to connect to, from the managed host.
    type: str
    default: qemu:///system
  allow_disruption:
    description:
      - Whether steps may be done that interrupt what is in use. RV(ignore:disruptive) names them.
      - When V(false) and such a step is needed, the run fails before its first change. Check mode only warns.
    type: bool
    default: false
  backup_dir:
    description:
      - Directory on the managed host for old definitions.
      - Before a definition is replaced or removed, its XML is kept here with mode 0600, in a file named after the object and the time (UTC).
        The directory is made with, and set to, mode 0700.
      - C(virsh net-define) or C(virsh pool-define) of such a file brings the old definition back.
    type: path
    default: /var/lib/hybridlab/rollback
requirements:
  - python3-libvirt on the managed host (libvirt 9.0 or later)
"""
