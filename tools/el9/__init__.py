# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that Ansible sees as Rocky Linux 9.6, made of Debian's packages: ``python -m tools.el9 VERB`` (see docs/el9-proof.md)."""
